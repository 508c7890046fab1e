import Broker
import CLinux
import Glibc
import Logging
import MQTT
import Synchronization
import Transport

/// One event loop with the connections and sessions that live there. What it owns is in its core; here is only how it
/// is reached: by its loop, by mail from other shards, by `await` from the server.
actor Shard: LoopActor {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    private let number: Int
    private let backlogs: [Backlog]
    private var peers: [Shard] = []
    private var core: ShardCore

    init(_ state: consuming ShardState, backlogs: [Backlog], log: Logger) throws {
        number = state.shard
        loop = try EventLoop(label: "shard \(state.shard)")
        self.backlogs = backlogs
        core = ShardCore(state: state, loop: loop, backlogs: backlogs, log: log)
    }

    /// Begins to turn. `peers` are all shards, by number.
    nonisolated func start(with peers: [Shard], stopped: @escaping @Sendable () -> Void) {
        post { $0.peers = peers }
        loop.start({ events in self.assumeIsolated { $0.turn(events) } }, stopped: stopped)
    }

    private func turn(_ events: Span<readiness>) -> EventLoop.Wish {
        defer { postDepartures() }
        return core.turn(events)
    }

    /// Sends what the core has for other shards: one hop a batch.
    private func postDepartures() {
        for (shard, mail) in core.takeDepartures() {
            peers[shard].post { $0.receive(mail) }
        }
        for (shard, connection) in core.takeMovers() {
            peers[shard].post { $0.core.adopt(connection) }
        }
    }

    private func receive(_ mail: Mail) {
        core.receive(mail)
        let backlog = backlogs[number]
        let weight = mail.byteCount
        let left = backlog.bytes.subtract(weight, ordering: .sequentiallyConsistent).newValue
        guard left < Limits.mailboxBytes / 2, backlog.isAwaited.exchange(false, ordering: .sequentiallyConsistent)
        else { return }
        for peer in peers where peer !== self { peer.post { $0.core.releaseHeld() } }
    }

    // MARK: For the server

    func add(_ listener: Listener) { core.add(listener) }
    func counters() -> Counters { core.counters }

    nonisolated func publish(_ messages: [ApplicationMessage], qos: QoS, isRetained: Bool) {
        post { shard in
            for message in messages { shard.core.publish(message, qos: qos, isRetained: isRetained) }
        }
    }

    /// Ends all connections; wills for sessions on other shards leave as mail.
    func shutDown() {
        core.shutDown()
        postDepartures()
    }
}
