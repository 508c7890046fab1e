internal import Locks

/// What happened that concerns a device.
package enum FleetEvent: Sendable, Equatable {
    /// What a message of a device is about.
    package enum Topic: Sendable, Equatable {
        case health, status, otaStatus
        /// Telemetry: that it came is all that is told.
        case other
    }

    /// `address`: where from, `host`: the address that it has connected to; nil: by a unix socket.
    case connected(String, Link, address: String?, host: String?)
    /// No reason: the same client has another connection from now on.
    case ended(String, Link, OfflineReason?)
    case message(String, Topic, payload: [UInt8])
    /// The device has acknowledged a command, by its number.
    case delivered(String, command: UInt64)
    /// An administrator, by e-mail, asks for something over MQTT.
    case request(person: String, address: String, payload: [UInt8])

    /// About what it takes in memory.
    fileprivate var byteCount: Int {
        switch self {
        case .message(_, _, let payload), .request(_, _, let payload): 128 + payload.count
        default: 128
        }
    }
}

/// Takes what happens from those who must not wait, and keeps it in order until somebody has time for it. From any thread.
package final class FleetFeed: Sendable {
    package enum Limits {
        /// Of what waits; past it messages are dropped and counted, presence never.
        package static let bytes = 16 << 20
    }

    private struct State {
        var events: [(event: FleetEvent, moment: Moment)] = []
        var bytes = 0
        var dropped: UInt64 = 0
    }

    private let state = Lock(State())
    private let now: @Sendable () -> Moment
    /// Something waits; looked for again after each.
    package let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    package init(now: @escaping @Sendable () -> Moment) {
        self.now = now
        (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    package func append(_ event: FleetEvent) {
        let moment = now()
        let isFirst = state.withLock { state in
            switch event {
            case .message, .request:
                guard state.bytes <= Limits.bytes else {
                    state.dropped += 1
                    return false
                }
            default: break
            }
            state.events.append((event, moment))
            state.bytes += event.byteCount
            return state.events.count == 1
        }
        if isFirst { signal.yield() }
    }

    /// All that waits, in order.
    package func take() -> [(event: FleetEvent, moment: Moment)] {
        state.withLock { state in
            defer { (state.events, state.bytes) = ([], 0) }
            return state.events
        }
    }

    /// Messages that nobody had time for.
    package var dropped: UInt64 { state.withLock { $0.dropped } }
}
