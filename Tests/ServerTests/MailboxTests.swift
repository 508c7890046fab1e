import Broker
import Configuration
import Dispatch
import Logging
import MQTT
import Server
import Synchronization
import Testing
import Transport

@Suite struct `A mailbox between shards` {
    static let publishers = 4
    static let subscribers = 6
    static let messages = 1_500

    /// Publishers pipeline without waiting, so mailboxes of a few kilobytes fill; every subscriber acknowledges.
    @Test(.timeLimit(.minutes(2)), arguments: [QoS.atLeastOnce, .exactlyOnce])
    func `makes publishers wait when it is full, and loses nothing`(_ qos: QoS) async throws {
        var limits = Limits()
        limits.mailboxBytes = 4 << 10
        limits.inFlightMessages = 0
        limits.queuedMessages = 0
        var configuration = Configuration.defaults(port: 0)
        configuration.shards = 3
        let server = try BrokerServer(
            configuration: configuration, limits: limits,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        let port = try #require(server.addresses.first?.port)
        async let serving: Void = server.run()

        #expect(await withBlockingThreads { load(port, at: qos) } == [])
        let counters = await server.counters()
        #expect(counters.publishersHeld > 0)
        #expect(counters.publishesDropped == 0)
        server.stop()
        try await serving
    }
}

/// Work for another thread, done once there.
private final class Once: @unchecked Sendable {
    // One thread makes it, one other runs it, after the first has handed it over.
    private let body: () throws -> Void
    init(_ body: @escaping () throws -> Void) { self.body = body }
    func run() throws { try body() }
}

private typealias Load = `A mailbox between shards`

/// Runs `body`, which blocks, where the cooperative threads don't wait for it.
func withBlockingThreads<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    await withCheckedContinuation { continuation in
        DispatchQueue.global().async { continuation.resume(returning: body()) }
    }
}

/// All clients at once, each on a thread of its own. Returns what went wrong.
private func load(_ port: UInt16, at qos: QoS) -> [String] {
    let failures = Mutex<[String]>([])
    do {
        let readers = try (0..<Load.subscribers).map { number in
            let client = try PacketClient(port: port)
            try client.connect("subscriber \(number)")
            try client.subscribe("load/+", qos)
            return Once { try receiveAll(client) }
        }
        let work = readers + (0..<Load.publishers).map { number in Once { try publishAll(number, at: qos, to: port) } }
        let group = DispatchGroup()
        for item in work {
            DispatchQueue(label: "client").async(group: group) {
                do { try item.run() } catch { failures.withLock { $0.append("\(error)") } }
            }
        }
        group.wait()
    } catch {
        return ["\(error)"]
    }
    return failures.withLock { $0 }
}

private func publishAll(_ publisher: Int, at qos: QoS, to port: UInt16) throws {
    let client = try PacketClient(port: port)
    try client.connect("publisher \(publisher)")
    let filler = String(repeating: "x", count: 500)
    try client.send(
        (1...Load.messages).map { number in
            let message = ApplicationMessage(
                topic: "load/\(publisher)", payload: Array("\(publisher) \(number) \(filler)".utf8))
            return .publish(message, qos: qos, packetIdentifier: PacketIdentifier(number))
        }
    )
    var finished = 0
    while finished < Load.messages {
        guard case .acknowledgement(let answer) = try client.receive() else { continue }
        if answer.type == .publishReceived {
            try client.send([.acknowledgement(Acknowledgement(.publishRelease, answer.packetIdentifier))])
        } else {
            finished += 1
        }
    }
}

private func receiveAll(_ client: PacketClient) throws {
    var next = [Int](repeating: 1, count: Load.publishers)
    var left = Load.messages * Load.publishers
    while left > 0 {
        switch try client.receive() {
        case .publish(let message, let qos, let identifier, _, _):
            let words = String(decoding: message.payload, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
            guard words.count == 2, next[words[0]] == words[1] else {
                throw PacketClient.Failure(reason: "\(words) came when \(next) were next")
            }
            next[words[0]] += 1
            left -= 1
            let type = qos == .exactlyOnce ? ControlPacketType.publishReceived : .publishAcknowledgement
            try client.send([.acknowledgement(Acknowledgement(type, identifier))])
        case .acknowledgement(let release):
            try client.send([.acknowledgement(Acknowledgement(.publishComplete, release.packetIdentifier))])
        default: break
        }
    }
}
