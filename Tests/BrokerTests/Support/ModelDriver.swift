import MQTT
import ReferenceModel
import Seeded

@testable import Broker

/// The deciding core as something to which programs can be done: what happens at once, and the mail between the shards,
/// goes in an order that the seed picks.
final class ModelDriver: BrokerDriver {
    let mayLoseTheLast = false

    private let program: ClientProgram
    private var random: SeededGenerator
    private var broker: ShardHarness
    private var connections: [TestConnection?]

    init(_ program: ClientProgram) {
        self.program = program
        random = SeededGenerator(seed: program.seed)
        broker = Self.broker(program, seed: program.seed)
        connections = Array(repeating: nil, count: ClientProgram.clients)
    }

    private static func broker(_ program: ClientProgram, seed: UInt64) -> ShardHarness {
        var limits = Broker.Limits()
        limits.inFlightMessages = program.limits.inFlight
        limits.inFlightBytes = program.limits.inFlightBytes
        limits.queuedMessages = program.limits.queued
        limits.queuedBytes = program.limits.queuedBytes
        limits.queuesAtMostOnce = program.limits.queuesAtMostOnce
        limits.messagesPerStep = program.limits.step
        limits.takeovers = 0  // The model knows no time between them.
        let broker = ShardHarness(shards: program.shards, limits: limits, seed: seed)
        broker.settlesAtOnce = false
        return broker
    }

    func perform(_ actions: [Action]) -> [[Seen]] {
        if actions == [.crash] { return crash() }
        if actions == [.stop] { return stop() }
        var pending = actions
        while true {
            // Of each client the next, unless its connection is on its way from shard to shard and can't be lost yet.
            var ready: [Int] = []
            for (index, action) in pending.enumerated()
            where !pending[..<index].contains(where: { $0.client == action.client }) && isPossible(action) {
                ready.append(index)
            }
            if !ready.isEmpty, random.happens(50) {
                perform(pending.remove(at: random.element(of: ready)))
            } else if !broker.step() {
                if ready.isEmpty { break }
                perform(pending.remove(at: random.element(of: ready)))
            }
        }
        precondition(pending.isEmpty, "what can't be done yet can be done when all has settled")
        return seen()
    }

    private func isPossible(_ action: Action) -> Bool {
        switch action {
        case .lose(let client), .fill(let client, _): connections[client]?.place != .moving
        default: true
        }
    }

    private func perform(_ action: Action) {
        switch action {
        case .open(let client):
            // Where it comes in; half of the time placement has chosen that shard already.
            let shard = random.below(program.shards)
            connections[client] =
                random.happens(50) ? broker.open(on: shard) : broker.open(on: shard, home: shard)
        case .send(let packet, let client): connections[client]?.send(packet.bytes)
        case .lose(let client): connections[client]?.drop()
        case .fill(let client, let isFull):
            if let connection = connections[client] { broker.setFull(connection, isFull) }
        case .expire, .stop, .crash: preconditionFailure("not an action of its own")
        }
    }

    func advance(seconds: Int, expiring: [Int]) -> [[Seen]] {
        let milliseconds = Int64(seconds) * 1000
        if random.happens(50) { broker.advance(milliseconds) } else { broker.advanceByDeadlines(milliseconds) }
        broker.settle()
        return seen()
    }

    private func crash() -> [[Seen]] {
        let seen = connections.map { $0 == nil ? [] : [Seen.closed] }
        abandon()
        broker = Self.broker(program, seed: random.next())
        return seen
    }

    /// Lets go of a broker: it and its open connections hold each other.
    private func abandon() {
        for connection in connections { connection?.drop() }
        connections = connections.map { _ in nil }
    }

    deinit { abandon() }

    private func stop() -> [[Seen]] {
        broker.settlesAtOnce = true
        broker.shutDown()
        let seen = seen()
        broker = Self.broker(program, seed: random.next())
        return seen
    }

    private func seen() -> [[Seen]] {
        connections.indices.map { client in
            guard let connection = connections[client] else { return [] }
            var seen = connection.take().map(Seen.init)
            if connection.isClosed {
                seen.append(.closed)
                connections[client] = nil
            }
            return seen
        }
    }
}

extension Seen {
    init(_ packet: ControlPacket) {
        switch packet {
        case .connectAcknowledgement(let acknowledgement):
            self = .connack(
                sessionPresent: acknowledgement.sessionPresent, code: acknowledgement.returnCode.rawValue)
        case .publish(let message, let qos, let identifier, let isDuplicate, let isRetained):
            self = .publish(
                ReferenceModel.Publish(
                    topic: String(decoding: message.topic, as: UTF8.self),
                    payload: String(decoding: message.payload, as: UTF8.self), qos: Int(qos.rawValue),
                    isRetained: isRetained, isDuplicate: isDuplicate, identifier: identifier))
        case .acknowledgement(let acknowledgement):
            let type: ReferenceModel.Acknowledgement? =
                switch acknowledgement.type {
                case .publishAcknowledgement: .puback
                case .publishReceived: .pubrec
                case .publishRelease: .pubrel
                case .publishComplete: .pubcomp
                case .unsubscribeAcknowledgement: .unsuback
                default: nil
                }
            self = type.map { .acknowledgement($0, acknowledgement.packetIdentifier) } ?? .unknown([])
        case .subscribeAcknowledgement(let acknowledgement):
            self = .suback(acknowledgement.packetIdentifier, acknowledgement.returnCodes.map(\.rawValue))
        case .pingResponse: self = .pingresp
        default: self = .unknown([])
        }
    }
}
