import Foundation
import Synchronization
import Testing

extension System {
    @Suite struct `The broker beside the specification` {
        private func run(_ broker: Martlet, _ arguments: [String] = []) throws -> (status: Program.End, output: String)
        {
            try run(broker.port, arguments)
        }

        private func run(_ port: UInt16, _ arguments: [String]) throws -> (status: Program.End, output: String) {
            // A sanitizer slows the broker; the suite's own client, which is to come in time, goes without.
            let patience = isSanitized ? ["--patience", "5", "--jobs", "8"] : []
            let program = try Program(
                Martlet.plainBinary, ["conformance", "--port", "\(port)"] + patience + arguments)
            let end = try program.waitForEnd(within: isSanitized ? 900 : 180)
            return (end, program.output)
        }

        /// One way to speak to a broker.
        private struct Way: Sendable {
            let name: String
            let lines: [String]
            var arguments: [String] = []
            /// Statements that wait: for a full disk, and but over WebSocket the four about it.
            var waiting = 5
            /// Each part is whole over another transport.
            var isWhole = true
        }

        @Test func `passes every case of the conformance suite, over TCP, TLS and WebSocket`() throws {
            let authority = try Authority()
            try authority.issue("suite", "/CN=suite")
            let secured = [
                "certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))",
                "cafile \(authority.file("ca.crt"))", "require_certificate true",
            ]
            let certificate = [
                "--tls", "--cafile", authority.file("ca.crt"), "--cert", authority.file("suite.crt"), "--key",
                authority.file("suite.key"),
            ]
            try run([
                Way(name: "TCP, one shard", lines: ["shards 1"]),
                Way(name: "TCP", lines: ["shards 2"]),
                Way(
                    name: "WebSocket", lines: ["shards 2", "protocol websockets"], arguments: ["--websocket"],
                    waiting: 1),
            ])
            // By itself: hundreds of handshakes leave nobody else the time that a case has.
            try run([Way(name: "TLS", lines: ["shards 2"] + secured, arguments: certificate)])
            try run([
                Way(
                    name: "WebSocket over TLS", lines: ["shards 2", "protocol websockets"] + secured,
                    arguments: ["--websocket", "--only", "6.0"] + certificate, isWhole: false)
            ])
        }

        /// All at once, for a run waits more than it works.
        private func run(_ ways: [Way]) throws {
            let brokers = try ways.map { try Martlet($0.lines) }
            let results = Mutex<[Int: (status: Program.End, output: String)]>([:])
            try concurrently(
                zip(ways, brokers).enumerated().map { place, pair in
                    let (arguments, port) = (pair.0.arguments, pair.1.port)
                    return {
                        let result = try self.run(port, arguments)
                        results.withLock { $0[place] = result }
                    }
                })
            for (place, way) in ways.enumerated() {
                let (status, output) = try #require(results.withLock { $0[place] })
                expectAll(way, status, output)
            }
            // Nothing is left behind: no retained message comes before the PINGRESP.
            for (way, broker) in zip(ways, brokers) where way.arguments.isEmpty {
                let visitor = try broker.client()
                _ = try visitor.subscribe([("#", 0)])
                try visitor.ping()
            }
            for broker in brokers { try broker.stop() }
        }

        private func expectAll(_ way: Way, _ status: Program.End, _ output: String) {
            #expect(status == .exited(0), "\(way.name): \(output.suffix(6_000))")
            // Statements: all, passed, failed, differing, waiting, not testable, not applicable.
            let line = output.split(separator: "\n").first { $0.hasPrefix("MQTT ") }
            print("conformance, \(way.name): \(line ?? "?"); \(output.split(separator: "\n").last ?? "?")")
            guard way.isWhole else { return }
            let counts = line?.split(separator: " ").dropFirst().compactMap { Int($0) } ?? []
            #expect(counts.count == 7 && counts.first == 141 && counts.dropFirst().reduce(0, +) == 141, "\(counts)")
            #expect(counts.count == 7 && counts[4] == way.waiting, "\(way.name): \(counts)")
            #expect(!output.contains("DIFFERS"), "a choice was taken otherwise than it is written down")
        }

        @Test func `over TLS it says what is wrong with the broker's certificate, or with its own files`() throws {
            let (authority, other) = (try Authority(), try Authority("another"))
            let broker = try Martlet([
                "certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))",
            ])
            let only = ["--only", "3.1.0-1", "--tls"]
            let (unknown, reason) = try run(broker, only + ["--cafile", other.file("ca.crt")])
            #expect(unknown == .exited(1))
            #expect(reason.contains("unable to get local issuer certificate"), "\(reason)")
            let (named, _) = try run(broker, only + ["--cafile", authority.file("ca.crt"), "--host", "localhost"])
            #expect(named == .exited(0))
            let (missing, file) = try run(broker, only + ["--cafile", "/nowhere"])
            #expect(missing == .exited(1) && file.contains("'/nowhere': No such file or directory"), "\(file)")
            let (half, usage) = try run(broker, only + ["--cert", authority.file("server.crt")])
            #expect(half == .exited(2) && usage.contains("--cert and --key"), "\(usage)")
            try broker.stop()

            try authority.issue("elsewhere", "/CN=127.0.0.1", "subjectAltName=DNS:elsewhere.invalid")
            let elsewhere = try Martlet([
                "certfile \(authority.file("elsewhere.crt"))", "keyfile \(authority.file("elsewhere.key"))",
            ])
            for (host, mismatch) in [("127.0.0.1", "IP address mismatch"), ("localhost", "hostname mismatch")] {
                let arguments = only + ["--cafile", authority.file("ca.crt"), "--host", host]
                let (misnamed, reason) = try run(elsewhere, arguments)
                #expect(misnamed == .exited(1) && reason.contains(mismatch), "\(reason)")
            }
            try elsewhere.stop()

            let plain = try Martlet()
            let (status, output) = try run(plain, only + ["--cafile", authority.file("ca.crt")])
            #expect(status == .exited(1) && output.contains("the TLS handshake"), "\(output)")
            try plain.stop()
        }

        @Test func `fails, with status 1, where it does otherwise`() throws {
            let broker = try Martlet(["max_packet_size 60"])  // So that long topics end their connections.
            let (status, output) = try run(broker, ["--only", "4.7.3-3"])
            #expect(status == .exited(1))
            #expect(output.contains("FAILED ") && output.contains("proves    MQTT-4.7.3-3"), "\(output.suffix(2_000))")
        }

        @Test func `is told apart from a broker that nobody runs, and from wrong use`() throws {
            let program = try Program(Martlet.binary, ["conformance", "--port", "\(try freePort())"])
            #expect(try program.waitForEnd(within: 20) == .exited(1))
            #expect(program.output.contains("nobody accepts connections"))
            let other = try Program(Martlet.binary, ["conformance", "--only", "nothing-of-that-name", "--list"])
            #expect(try other.waitForEnd(within: 20) == .exited(2))
        }
    }
}
