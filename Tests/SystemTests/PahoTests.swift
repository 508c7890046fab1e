import Foundation
import Testing

extension System {
    /// Each case is a function of that name in `paho/cases.py`, which fails by its exit status.
    @Suite struct `paho-mqtt` {
        @Test(arguments: [
            "qos_matrix", "ordered_qos_2", "takeover", "redelivery", "large_payload", "wildcards",
            "overlapping_subscriptions",
            "unicode_topics", "retained", "will", "unsubscribe", "many_in_flight",
        ])
        func `passes`(_ name: String) throws {
            let broker = try Martlet()
            let python = "\(packageRoot)/.venv/bin/python"
            guard FileManager.default.isExecutableFile(atPath: python) else {
                throw Unexpected("\(python) is missing: Tests/Support/install test makes it")
            }
            let script = "\(packageRoot)/Tests/SystemTests/paho/cases.py"
            let run = try Program(
                python, [script, name, "\(broker.port)"],
                environment: ["PYTHONDONTWRITEBYTECODE": "1", "MARTLET_TEST_PATIENCE": "\(patience)"])
            let end = try run.waitForEnd(within: 60 * patience)
            #expect(end == .exited(0), "\(run.output.suffix(3_000))")
            try broker.stop()
        }
    }
}
