import Foundation
import Glibc
import Testing
import Transport

extension System {
    /// Where a broker listens, and how many it lets in.
    @Suite struct `The listeners` {
        // MARK: Places

        @Test func `of every kind serve the same topics`() throws {
            let path = temporaryFile("sock")
            let sixPort = try freePort()
            let broker = try started(["log_type all", "listener \(sixPort) ::1", "listener 0 \(path)"])
            let clients = [
                try RawClient(port: broker.port), try RawClient(to: "::1", sixPort), try RawClient(path: path),
            ]
            for (number, client) in clients.enumerated() {
                try client.connect("kind-\(number)")
                try client.subscribe([("all", 1)])
            }
            for publisher in clients {
                try publisher.publish("all", "hello")
                for client in clients { #expect(try client.receive().text == "hello") }
            }
            // Each is known by where it came from.
            for (number, peer) in ["127.0.0.1:", "::1:", path].enumerated() {
                #expect(eventually { broker.lines(containing: "kind-\(number)").contains { $0.contains(peer) } })
            }
            try broker.stop()
        }

        @Test(arguments: [("ipv4", "127.0.0.1", "::1"), ("ipv6", "::1", "127.0.0.1")])
        func `of one socket_domain know nothing of the other`(_ domain: String, _ host: String, _ other: String) throws
        {
            let port = try freePort()
            let broker = try started(["listener \(port)", "socket_domain \(domain)", "bind_interface lo"])
            try RawClient(to: host, port).connect("here")
            #expect(throws: Unexpected.self) { try RawClient(to: other, port) }
            try broker.stop()
        }

        @Test func `without socket_domain have both`() throws {
            let port = try freePort()
            let broker = try started(["listener \(port)", "bind_interface lo"])
            for host in ["127.0.0.1", "::1"] { try RawClient(to: host, port).connect("here") }
            try broker.stop()
        }

        @Test(arguments: [
            ("an interface that is not there", ["listener PORT", "bind_interface nosuch0"], "nosuch0"),
            ("an address of another interface", ["listener PORT 192.0.2.77", "bind_interface lo"], "192.0.2.77"),
            ("an address of another machine", ["listener PORT 192.0.2.77"], "192.0.2.77"),
            ("an unknown name", ["listener PORT no-such-host.invalid"], "no-such-host.invalid"),
            ("a name of the other family", ["listener PORT 127.0.0.1", "socket_domain ipv6"], "127.0.0.1"),
            ("a directory that is not there", ["listener 0 /no/such/directory/s"], "/no/such/directory/s"),
            ("a path that is a file", ["listener 0 /etc/hostname"], "/etc/hostname"),
        ])
        func `that can't be opened end the start with status 1 and one line`(
            _ mistake: String, _ lines: [String], _ name: String
        ) throws {
            let port = try freePort()
            let good = temporaryFile("sock")
            let file = temporaryFile("conf")
            defer { unlink(file) }
            let text = (["listener 0 \(good)"] + lines).joined(separator: "\n")
                .replacingOccurrences(of: "PORT", with: "\(port)")
            try "\(text)\n".write(toFile: file, atomically: true, encoding: .utf8)
            let program = try Program(Martlet.binary, ["serve", "-c", file])
            #expect(try program.waitForEnd(within: 10) == .exited(1), "\(mistake)")
            let complaints = program.lines.filter { $0.contains("can't listen on") }
            #expect(complaints.count == 1 && complaints[0].contains(name), "\(mistake): \(program.output)")
            #expect(access(good, F_OK) != 0, "what was opened is cleaned up")
        }

        // MARK: Unix sockets

        @Test func `at a path serve mosquitto_sub and mosquitto_pub`() throws {
            let path = temporaryFile("sock")
            let broker = try started(["listener 0 \(path)"])
            let reader = try Program.unbuffered("mosquitto_sub", ["--unix", path, "-t", "a/b", "-C", "1"])
            let arrived = try eventually {
                let writer = try Program("mosquitto_pub", ["--unix", path, "-t", "a/b", "-m", "by path"])
                return try writer.waitForEnd() == .exited(0) && reader.output == "by path\n"
            }
            #expect(arrived, "\(reader.output)")
            try broker.stop()
            #expect(access(path, F_OK) != 0, "it goes with the broker")
        }

        @Test func `at a path have the rights that the umask leaves`() throws {
            for (mask, expected) in [(0o022, 0o755), (0o007, 0o770), (0o000, 0o777)] as [(mode_t, mode_t)] {
                let old = umask(mask)
                defer { umask(old) }
                let path = temporaryFile("sock")
                let broker = try started(["listener 0 \(path)"])
                var status = stat()
                #expect(lstat(path, &status) == 0)
                #expect(status.st_mode & 0o777 == expected)
                try broker.stop()
            }
        }

        @Test func `at a path take the place of a broker that was killed, not of one that lives`() throws {
            let path = temporaryFile("sock")
            let first = try started(["listener 0 \(path)"])
            let file = temporaryFile("conf")
            defer { unlink(file) }
            try "listener 0 \(path)\nallow_anonymous true\n\(stayingRoot([]).joined())\n".write(
                toFile: file, atomically: true, encoding: .utf8)

            let second = try Program(Martlet.binary, ["serve", "-c", file])
            #expect(try second.waitForEnd(within: 10) == .exited(1))
            #expect(second.output.contains("can't listen on \(path)"), "\(second.output)")
            try RawClient(path: path).connect("still there")

            first.program.signal(SIGKILL)
            _ = try first.program.waitForEnd()
            #expect(access(path, F_OK) == 0)
            let third = try Program(Martlet.binary, ["serve", "-c", file])
            #expect(eventually { (try? RawClient(path: path).connect("new")) != nil })
            third.signal(SIGTERM)
            #expect(try third.waitForEnd() == .exited(0))
            #expect(access(path, F_OK) != 0)
        }

        // MARK: How many

        @Test(arguments: [1, 2]) func `with max_connections let in so many, wherever they live`(_ shards: Int) throws {
            let free = try freePort()
            let path = temporaryFile("sock")
            let broker = try started([
                "shards \(shards)", "max_connections 5", "listener \(free) 127.0.0.1", "listener 0 \(path)",
                "max_connections 1",
            ])
            var clients = try fill(to: 5) { try RawClient(port: broker.port) }
            for _ in 0..<3 { #expect(try RawClient(port: broker.port).isClosed()) }
            #expect(eventually { broker.program.output.contains("max_connections") })
            for client in clients { try client.ping() }

            // Others have their own count.
            try RawClient(port: free).connect("elsewhere")
            var local = try fill(to: 1) { try RawClient(path: path) }
            #expect(try RawClient(path: path).isClosed())
            for client in local { try client.ping() }
            local = []

            for turn in 0..<10 {
                // By DISCONNECT, by a mistake, by closing.
                if turn % 3 == 0 { try clients[0].send(Packet.disconnect) }
                if turn % 3 == 1 { try clients[0].send([0xFF, 0xFF]) }
                clients.removeFirst()
                clients += try fill(to: 1) { try RawClient(port: broker.port) }
                #expect(try RawClient(port: broker.port).isClosed(), "turn \(turn)")
            }
            for client in clients { try client.ping() }
            try broker.stop()
        }

        @Test func `with max_connections are right after any churn`() throws {
            let broker = try started(["shards 2", "max_connections 6"])
            let port = broker.port
            let turns = isSanitized ? 40 : 200
            let bodies = (0..<8).map { worker in
                { @Sendable in
                    for turn in 0..<turns {
                        // Some take each other over, some are refused, some leave in the middle.
                        guard let client = try? RawClient(port: port) else { continue }
                        if turn % 4 > 0 { try? client.send(Packet.connect("shared-\(worker / 2)")) }
                        if turn % 4 > 1 { _ = try? client.receive() }
                        if turn % 4 > 2 { try? client.send(Packet.disconnect) }
                    }
                }
            }
            try concurrently(bodies)
            let clients = try fill(to: 6) { try RawClient(port: port) }
            for _ in 0..<3 { #expect(try RawClient(port: port).isClosed()) }
            for client in clients { try client.ping() }
            try broker.stop()
        }

        @Test func `together keep to global_max_connections`() throws {
            let other = try freePort()
            let broker = try started(["global_max_connections 4", "listener \(other) 127.0.0.1"])
            var first = try fill(to: 2) { try RawClient(port: broker.port) }
            let second = try fill(to: 2) { try RawClient(port: other) }
            for port in [broker.port, other] { #expect(try RawClient(port: port).isClosed()) }
            first.removeLast()
            let third = try fill(to: 1) { try RawClient(port: other) }
            #expect(try RawClient(port: broker.port).isClosed())
            for client in first + second + third { try client.ping() }
            try broker.program.waitForLine(containing: "global_max_connections")
            try broker.stop()
        }

        // MARK: Fairness

        /// Whoever storms one listener holds up neither another one nor those who are connected.
        @Test func `are not held up by a storm on another`() throws {
            let other = try freePort()
            let broker = try started(["shards 1", "listener \(other) 127.0.0.1"])
            let port = broker.port
            let established = try broker.client("established")
            let longest = try stormed(at: other, with: 4) {
                var longest = 0.0
                for turn in 0..<60 {
                    longest = max(longest, try seconds { try established.ping() })
                    longest = max(longest, try seconds { try RawClient(port: port).connect("quick-\(turn)") })
                }
                return longest
            }
            print("longest wait beside a storm of connections: \(Int(longest * 1000)) ms")
            #expect(longest < 1 * patience)
            try broker.stop()
        }

        /// As when a network goes away and all its devices with it.
        @Test(.enabled(if: Martlet.isFast)) func `go on while 8,000 connections end at once`() throws {
            let broker = try Martlet()
            let established = try broker.client("established")
            let port = broker.port
            let (isThere, isOver) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
            Thread {
                let clients = (0..<8_000).compactMap { number in
                    let client = try? RawClient(port: port)
                    let will = (topic: "wills/a", payload: "gone", qos: UInt8(1))
                    return (try? client?.connect("c\(number)", will: will)) == nil ? nil : client
                }
                #expect(clients.count == 8_000)
                isThere.signal()
                isOver.wait()
                withExtendedLifetime(clients) {}
            }.start()
            isThere.wait()
            isOver.signal()
            var longest = 0.0
            for turn in 0..<200 {
                longest = max(longest, try seconds { try established.ping() })
                longest = max(longest, try seconds { try RawClient(port: port).connect("late-\(turn)") })
            }
            print("longest wait while 8,000 connections end: \(Int(longest * 1000)) ms")
            #expect(longest < 1 * patience)
            try broker.stop()
        }
    }
}

/// A broker that serves: the first of its listeners can be connected to before the others are open.
private func started(_ lines: [String]) throws -> Martlet {
    let broker = try Martlet(lines)
    try broker.client().ping()
    return broker
}

/// Runs `body` while threads connect and close as fast as they can.
private func stormed(at port: UInt16, with threads: Int, _ body: () throws -> Double) throws -> Double {
    let isOver = Flag()
    let group = DispatchGroup()
    for _ in 0..<threads {
        group.enter()
        Thread {
            while !isOver.isRaised { _ = accepts(port) }
            group.leave()
        }.start()
    }
    defer {
        isOver.raise()
        group.wait()
    }
    return try body()
}

private final class Flag: Sendable {
    private let outcomes = Outcomes()
    var isRaised: Bool { outcomes.first != nil }
    func raise() { outcomes.record(Unexpected("over")) }
}

/// Connects until so many are in: whoever went just now may still be counted.
private func fill(to count: Int, _ open: () throws -> RawClient) throws -> [RawClient] {
    var clients: [RawClient] = []
    let isFull = try eventually {
        let client = try open()
        if (try? client.connect("filler-\(UInt32.random(in: 0...(.max)))")) != nil { clients.append(client) }
        return clients.count == count
    }
    guard isFull else { throw Unexpected("\(clients.count) of \(count) got in") }
    return clients
}

extension RawClient {
    /// Over TCP to an address.
    convenience init(to host: String, _ port: UInt16) throws {
        guard let address = try SocketAddress.resolve(host, port: port).first else { throw Unexpected("no \(host)") }
        try self.init(address)
    }

    /// Over a unix socket.
    convenience init(path: String) throws { try self.init(SocketAddress(path: path)) }

    private convenience init(_ address: SocketAddress) throws {
        let descriptor = socket(address.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Unexpected(errno: errno, during: "socket") }
        guard address.withPointer({ Glibc.connect(descriptor, $0, address.length) }) == 0 else {
            let code = errno
            close(descriptor)
            throw Unexpected(errno: code, during: "connect")
        }
        self.init(adopting: descriptor)
    }
}

extension Martlet {
    func lines(containing text: String) -> [String] { program.lines.filter { $0.contains(text) } }
}
