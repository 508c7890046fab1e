import Foundation
import Glibc
import Testing

extension System {
    /// Configuration, command line and signals, as a service manager and a person at a shell see them.
    @Suite struct `Starting and stopping` {
        @Test(arguments: [
            ("an unknown key", "no_such_key true"), ("a port that is none", "listener seventy"),
            ("a boolean that is none", "allow_anonymous perhaps"),
            ("a negative limit", "max_queued_messages -5"), ("a key without a value", "max_inflight_messages"),
            ("no shards", "shards 0"), ("a password file that is missing", "password_file /nonexistent/passwords"),
        ])
        func `a bad configuration ends with status 3 and names file and line`(_ mistake: String, _ line: String) throws
        {
            let file = temporaryFile("conf")
            defer { unlink(file) }
            try "# first line\n\(line)\nlog_dest stderr\n".write(toFile: file, atomically: true, encoding: .utf8)
            let program = try Program(Martlet.binary, ["serve", "-c", file])
            #expect(try program.waitForEnd(within: 5) == .exited(3), "\(mistake)")
            #expect(program.output.contains("\(file):2:"), "\(mistake): \(program.output)")
        }

        @Test func `a configuration file that is missing ends with status 3`() throws {
            let program = try Program(Martlet.binary, ["serve", "-c", "/nonexistent/martlet.conf"])
            #expect(try program.waitForEnd(within: 5) == .exited(3))
            #expect(program.output.contains("/nonexistent/martlet.conf"))
        }

        @Test func `an unknown flag ends with status 2`() throws {
            let program = try Program(Martlet.binary, ["serve", "--no-such-flag"])
            #expect(try program.waitForEnd(within: 5) == .exited(2))
            #expect(program.output.contains("no-such-flag"))
        }

        @Test func `an address in use ends with status 1 and is named`() throws {
            let first = try Martlet()
            let file = temporaryFile("conf")
            defer { unlink(file) }
            try "listener \(first.port) 127.0.0.1\n".write(toFile: file, atomically: true, encoding: .utf8)
            let second = try Program(Martlet.binary, ["serve", "-c", file])
            #expect(try second.waitForEnd(within: 5) == .exited(1))
            #expect(second.output.contains("\(first.port)"), "\(second.output)")
            try first.client().ping()
        }

        @Test func `without a file, -p names the port on the loopback`() throws {
            let broker = try StandardMartlet()
            try RawClient(port: broker.port).connect("local")
            try broker.stop()
        }

        @Test func `lines may end with CRLF`() throws {
            let broker = try Martlet(["max_inflight_messages 10\r", "\r", "# comment\r"])
            try broker.client().ping()
        }

        @Test(arguments: [SIGTERM, SIGINT]) func `a signal stops it in time, with clients connected`(_ signal: Int32)
            throws
        {
            let broker = try Martlet()
            let clients = try (0..<20).map { number in
                let client = try RawClient(port: broker.port)
                try client.connect("c\(number)", will: ("wills/\(number)", "stopped", UInt8(number % 3)))
                try client.subscribe([("wills/#", UInt8(number % 3))])
                return client
            }
            broker.program.signal(signal)
            var end: Program.End?
            let duration = try seconds { end = try broker.program.waitForEnd(within: 10) }
            #expect(end == .exited(0))
            #expect(duration < 10)
            for client in clients { #expect(client.isClosed()) }
        }

        @Test func `it listens within two seconds`() throws {
            let duration = try seconds { _ = try Martlet() }
            #expect(duration < 2 * patience)
        }

        @Test func `a client that left a half-sent packet does not keep it from stopping`() throws {
            let broker = try Martlet()
            let client = try broker.client()
            try client.send([0x30, 100, 0, 1, 0x61])
            let other = try RawClient(port: broker.port)
            try other.send([0x10])
            try broker.client().ping()
            try broker.stop()
        }
    }
}
