import Foundation
import Testing

extension System {
    @Suite struct `The broker beside the specification` {
        private func run(_ broker: Martlet, _ arguments: [String] = []) throws -> (status: Program.End, output: String)
        {
            // A sanitizer slows the broker and, since it is the same binary, the suite.
            let patience = isSanitized ? ["--patience", "5", "--jobs", "8"] : []
            let program = try Program(
                Martlet.binary, ["conformance", "--port", "\(broker.port)"] + patience + arguments)
            let end = try program.waitForEnd(within: isSanitized ? 900 : 180)
            return (end, program.output)
        }

        @Test(arguments: [1, 2]) func `passes every case of the conformance suite`(_ shards: Int) throws {
            let broker = try Martlet(["shards \(shards)"])
            let (status, output) = try run(broker)
            #expect(status == .exited(0), "\(output.suffix(6_000))")
            // Statements: all, passed, failed, differing, waiting, not testable, not applicable.
            let line = output.split(separator: "\n").first { $0.hasPrefix("MQTT ") }
            print("conformance, \(shards) shards: \(line ?? "?"); \(output.split(separator: "\n").last ?? "?")")
            let counts = line?.split(separator: " ").dropFirst().compactMap { Int($0) } ?? []
            #expect(counts.count == 7 && counts.first == 141 && counts.dropFirst().reduce(0, +) == 141, "\(counts)")
            #expect(!output.contains("DIFFERS"), "a choice was taken otherwise than it is written down")
            // Nothing is left behind: no retained message comes before the PINGRESP.
            let visitor = try broker.client()
            _ = try visitor.subscribe([("#", 0)])
            try visitor.ping()
            try broker.stop()
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
