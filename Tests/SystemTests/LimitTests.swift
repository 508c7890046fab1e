import Foundation
import Glibc
import Testing

extension System {
    @Suite struct `Publishers with an allowance` {
        @Test func `wait for it, and lose nothing`() throws {
            let broker = try Martlet(["publish_rate 100", "sys_interval 1"])
            let subscriber = try broker.client()
            try subscriber.subscribe([("t", 0), ("free", 0)])
            let publisher = try RawClient(port: broker.port)
            try publisher.connect("fast", keepAlive: 1)
            let elapsed = try seconds {
                try publisher.send((1...500).flatMap { Packet.publish("t", "\($0)") } + Packet.pingRequest)
                let bystander = try broker.client()
                try bystander.publish("free", "at once")
                var next = 1
                while next <= 500 {
                    let text = try subscriber.receive(within: 20).text
                    if text == "at once" {
                        #expect(next < 250)
                        continue
                    }
                    guard text == "\(next)" else { throw Unexpected("\(text) came when \(next) was next") }
                    next += 1
                }
                // Its keep-alive of a second has passed several times.
                #expect(try publisher.receive() == Received(first: 0xd0, body: []))
            }
            #expect((3.5...8).contains(elapsed), "\(elapsed) s")
            try subscriber.subscribe([("$SYS/broker/limits/publishers/throttled", 0)])
            #expect(try eventually { Int(try subscriber.receive().text) ?? 0 > 0 })
            #expect(broker.processorSeconds < 2)
            try broker.stop()
        }

        @Test func `wait as long as their bytes want it`() throws {
            let broker = try Martlet(["publish_bandwidth 200000"])
            let subscriber = try broker.client()
            try subscriber.subscribe([("t", 0)])
            let publisher = try broker.client()
            let payload = [UInt8](repeating: 0x78, count: 10_000)
            let elapsed = try seconds {
                try publisher.send(Array(repeatElement(Packet.publish(Array("t".utf8), payload), count: 80).joined()))
                for _ in 1...80 { #expect(try subscriber.receive(within: 20).payload.count == 10_000) }
            }
            #expect((2.7...7).contains(elapsed), "\(elapsed) s")
            try broker.stop()
        }

        @Test func `are given up when they go, although they wait`() throws {
            let broker = try Martlet(["publish_bandwidth 100", "log_type all"])
            for _ in 1...3 {
                let publisher = try broker.client("gone")
                try publisher.send(Packet.publish("t", String(repeating: "x", count: 2_000)) + Packet.pingRequest)
            }
            let start = broker.processorSeconds
            #expect(eventually(within: 15) { broker.program.output.components(separatedBy: "disconnected").count > 3 })
            #expect(broker.processorSeconds - start < 1)
            try broker.stop()
        }
    }

    @Suite struct `Two clients with one identifier` {
        /// Connects again whenever it is thrown out; never blocks.
        private final class Fighter {
            let port: UInt16
            var client: RawClient?
            var accepted = 0

            init(_ port: UInt16) { self.port = port }

            func turn() throws {
                if client == nil {
                    client = try RawClient(port: port)
                    try client?.send(Packet.connect("one name", cleanSession: false))
                }
                while let client, client.hasInput {
                    guard let packet = try? client.receive(within: 0.1) else {
                        self.client = nil
                        return
                    }
                    if packet.type == 2 { accepted += 1 }
                }
            }
        }

        @Test func `are damped, and named in the log`() throws {
            let broker = try Martlet(["log_type all", "sys_interval 1"])
            let bystander = try broker.client()
            let fighters = [Fighter(broker.port), Fighter(broker.port)]
            let end = Deadline(after: 5)
            while !end.hasPassed {
                for fighter in fighters { try fighter.turn() }
                try bystander.ping()
            }
            let accepted = fighters[0].accepted + fighters[1].accepted
            #expect((150...220).contains(accepted), "\(accepted)")  // Undamped it is thousands.
            let lines = broker.program.output.split(separator: "\n").filter { $0.contains("fight over") }
            #expect(lines.count == 1)
            #expect(lines.first?.contains("one name") == true)
            let addresses = lines.first.map { $0.split(separator: "127.0.0.1").count - 1 }
            #expect(addresses == 2, "both are named")
            // One goes: who waits gets in without waiting to the end.
            fighters[0].client = nil
            fighters[1].client = nil
            try broker.program.waitForLine(containing: "fight no longer", within: 30)
            try bystander.ping()
            let calm = try broker.client("one name", cleanSession: false)
            let next = try seconds { _ = try broker.client("one name", cleanSession: false) }
            #expect(next < 1)
            #expect(calm.isClosed())
            try broker.stop()
        }
    }
}
