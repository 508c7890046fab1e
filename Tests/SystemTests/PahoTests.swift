import Foundation
import Testing

extension System {
    /// Each case is a function of that name in `paho/cases.py`, which fails by its exit status.
    @Suite struct `paho-mqtt` {
        static let cases = [
            "qos_matrix", "ordered_qos_2", "takeover", "redelivery", "large_payload", "large_packets", "wildcards",
            "overlapping_subscriptions", "unicode_topics", "retained", "will", "unsubscribe", "many_in_flight",
            "keep_alive",
        ]

        @Test(arguments: cases)
        func `passes`(_ name: String) throws {
            try run(name, [], over: "tcp")
        }

        @Test(arguments: cases)
        func `passes over WebSocket as well`(_ name: String) throws {
            try run(name, ["protocol websockets"], over: "websockets")
        }

        private func run(_ name: String, _ lines: [String], over transport: String) throws {
            let broker = try Martlet(lines)
            let python = "\(packageRoot)/.venv/bin/python"
            guard FileManager.default.isExecutableFile(atPath: python) else {
                throw Unexpected("\(python) is missing: Tests/Support/install test makes it")
            }
            let script = "\(packageRoot)/Tests/SystemTests/paho/cases.py"
            let run = try Program(
                python, [script, name, "\(broker.port)", transport],
                environment: ["PYTHONDONTWRITEBYTECODE": "1", "MARTLET_TEST_PATIENCE": "\(patience)"])
            let end = try run.waitForEnd(within: 60 * patience)
            #expect(end == .exited(0), "\(run.output.suffix(3_000))")
            try broker.stop()
        }
    }
}
