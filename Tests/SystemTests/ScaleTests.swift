import Foundation
import Glibc
import Testing

extension System {
    /// Numbers that the issue promises; only with an optimised binary.
    @Suite(.enabled(if: Martlet.isFast)) struct `At scale` {
        @Test func `15,000 connections are held at once`() throws {
            let broker = try Martlet()
            let count = min(15_000, try raiseOpenFiles() - 2_000)
            var clients: [RawClient] = []
            clients.reserveCapacity(count)
            // In waves: a listener's queue of waiting connections is short.
            while clients.count < count {
                let wave = try (clients.count..<min(clients.count + 100, count)).map { number in
                    let client = try RawClient(port: broker.port)
                    try client.send(Packet.connect("c\(number)"))
                    return client
                }
                for client in wave { #expect(try client.receive() == Received(first: 0x20, body: [0, 0])) }
                clients += wave
            }
            let chosen = clients[count / 2]
            try chosen.subscribe([("to/one", 1)])
            try clients[count - 1].publish("to/one", "of \(count)")
            #expect(try chosen.receive().text == "of \(count)")
            try clients[0].ping()
            try broker.stop()
            #expect(clients[0].isClosed())
        }

        @Test func `1,000,000 subscriptions are held and matched`() throws {
            let broker = try Martlet()
            let clients = try (0..<10).map { try broker.client("s\($0)") }
            let perClient = 100_000
            let perPacket = 500
            for (number, client) in clients.enumerated() {
                for start in stride(from: 0, to: perClient, by: perPacket) {
                    let filters = (start..<start + perPacket).map {
                        (filter: "site/\(number)/device/\($0)/+", qos: UInt8(0))
                    }
                    let codes = try client.subscribe(filters, identifier: UInt16(start / perPacket + 1))
                    #expect(codes.count == perPacket && !codes.contains(0x80))
                }
            }
            let publisher = try broker.client()
            for device in [0, 4_711, perClient - 1] {
                for (number, client) in clients.enumerated() {
                    try publisher.publish("site/\(number)/device/\(device)/health", "\(device)")
                    #expect(try client.receive().text == "\(device)")
                }
            }
            for client in clients { try client.ping() }
            print("resident with 1,000,000 subscriptions: \(Int(broker.residentMegabytes)) MB")
            try broker.stop()
        }

        @Test func `100,000 retained messages reach a late subscriber, each once`() throws {
            let broker = try Martlet(["max_queued_messages 0", "max_queued_bytes 0"])
            let publisher = try broker.client()
            let count = 100_000
            for start in stride(from: 0, to: count, by: 1_000) {
                var packets: [UInt8] = []
                for number in start..<start + 1_000 {
                    packets += Packet.publish("kept/\(number % 100)/\(number)", "\(number)", retain: true)
                }
                try publisher.send(packets)
            }
            try publisher.ping()
            let subscriber = try broker.client()
            try subscriber.send(Packet.subscribe([(Array("kept/#".utf8), 0)]))
            var seen = [Bool](repeating: false, count: count)
            var received = 0
            var acknowledged = false
            while received < count || !acknowledged {
                let packet = try subscriber.receive()
                guard packet.type == 3 else {
                    #expect(packet == Received(first: 0x90, body: [0, 1, 0]))
                    acknowledged = true
                    continue
                }
                let number = try #require(Int(packet.text))
                if seen[number] || !packet.isRetained { Issue.record("\(number) again, or without RETAIN") }
                seen[number] = true
                received += 1
            }
            try subscriber.ping()
            try broker.stop()
        }

        /// Of "x", one level; of "/", 65,536 empty ones.
        @Test(arguments: ["x", "/"]) func `a topic of 65,535 bytes is published and received`(_ character: String)
            throws
        {
            let topic = [UInt8](repeating: character.utf8.first!, count: 65_535)
            let broker = try Martlet()
            let client = try broker.client()
            try client.subscribe([(topic, 0)])
            try client.send(Packet.publish(topic, Array(character.utf8), retain: true))
            var packet = try client.receive()
            #expect(packet.topic.elementsEqual(topic) && packet.text == character)

            let late = try broker.client()
            try late.send(Packet.subscribe([(Array("#".utf8), 0)]))
            #expect(try late.receive().type == 9)
            packet = try late.receive()
            #expect(packet.topic.elementsEqual(topic) && packet.isRetained)
            try broker.stop()
        }
    }
}

/// Raises this process's limit of open files as far as it goes and returns it.
private func raiseOpenFiles() throws -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
        throw Unexpected(errno: errno, during: "getrlimit")
    }
    limit.rlim_cur = limit.rlim_max
    guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
        throw Unexpected(errno: errno, during: "setrlimit")
    }
    return Int(clamping: limit.rlim_cur)
}
