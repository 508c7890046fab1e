import Foundation
import Glibc
import Testing

extension System {
    /// accept fails with EMFILE: the broker neither spins nor dies, and goes on when it can.
    @Suite struct `With too few descriptors` {
        @Test func `the broker waits for one to be closed`() throws {
            let limit = 96
            let broker = try Martlet(openFiles: limit)
            let reserved = limit - 16..<limit
            // What the tests have handed down.
            let inherited = broker.sockets.filter(reserved.contains)
            var waiting = try (0..<100).map { number in
                let client = try RawClient(port: broker.port)
                try client.send(Packet.connect("c\(number)"))
                return client
            }
            var connected: [RawClient] = []
            func collect() throws {
                var rest: [RawClient] = []
                for client in waiting {
                    // One that was accepted and closed at once has been refused, not kept waiting.
                    if client.hasInput {
                        if (try? client.receive().type) == 2 { connected.append(client) }
                    } else {
                        rest.append(client)
                    }
                }
                waiting = rest
            }
            #expect(
                try eventually {
                    try collect()
                    return connected.count >= 20
                })
            // Quiet for a while: no more are let in.
            var count = -1
            while count != connected.count {
                count = connected.count
                poll(nil, 0, 300)
                try collect()
            }
            #expect(connected.count < limit - 16)

            let before = broker.processorSeconds
            poll(nil, 0, 1_000)
            #expect(broker.processorSeconds - before < 0.3, "it spins")
            #expect(broker.program.output.contains("no new connections for now"))
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "configuration reloaded")
            // All are in use, and of the last 16, which are for whatever else opens a file, none by a connection.
            #expect(broker.openFiles.filter { $0 < reserved.lowerBound }.count == reserved.lowerBound)
            #expect(broker.sockets.filter(reserved.contains) == inherited)
            #expect(broker.openFiles.count <= reserved.lowerBound + 4, "the rest of them is free")
            for client in connected { try client.ping() }

            let stuck = waiting.count
            connected.removeFirst(connected.count / 2)
            count = connected.count
            if stuck > 0 {
                #expect(
                    try eventually {
                        try collect()
                        return connected.count > count
                    }, "those that wait get in")
            }
            connected = []
            waiting = []
            let isOpen = eventually {
                guard let client = try? RawClient(port: broker.port) else { return false }
                return (try? client.connect("new")) != nil
            }
            #expect(isOpen, "new ones get in")
            try broker.stop()
        }
    }
}

extension Martlet {
    fileprivate var openFiles: [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(program.pid)/fd")) ?? []
        return names.compactMap { Int($0) }.sorted()
    }

    fileprivate var sockets: [Int] {
        openFiles.filter { number in
            let path = "/proc/\(program.pid)/fd/\(number)"
            return (try? FileManager.default.destinationOfSymbolicLink(atPath: path))?.hasPrefix("socket:") == true
        }
    }
}
