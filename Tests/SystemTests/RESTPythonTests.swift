import Foundation
import Testing

extension System {
    /// Each case is a function of a module in `rest`, which fails by its exit status.
    @Suite struct `The REST interface from Python` {
        @Test(arguments: ["ours", "attacks", "called_back", "many"])
        func `log-ins are PyJWT's, and forged ones are refused alike`(_ name: String) throws {
            try run("tokens", name)
        }

        @Test(arguments: [
            "block_person", "block_device", "delete_device", "delete_certified", "new_credentials", "log_out",
            "change_password",
            "last_admin", "throttled", "role_changed",
        ])
        func `what changes counts at once`(_ name: String) throws { try run("effects", name) }

        @Test(arguments: [
            "keep_alive", "pipelining", "half_close", "expect_continue", "chunked", "smuggling", "giant_heads",
            "slow", "stalled_body", "idle", "never_reads", "killed",
        ])
        func `HTTP holds on the wire`(_ name: String) throws { try run("wire", name) }

        @Test(arguments: ["administrator", "person"])
        func `schemathesis finds nothing that the description does not say`(_ name: String) throws {
            try run("description", name)
        }

        private func run(_ module: String, _ name: String) throws {
            let python = "\(packageRoot)/.venv/bin/python"
            guard FileManager.default.isExecutableFile(atPath: python) else {
                throw Unexpected("\(python) is missing: Tests/Support/install test makes it")
            }
            let lines = name == "throttled" ? ["login_attempts 3"] : module == "wire" ? ["connect_timeout 2"] : []
            let martlet = try RESTMartlet(lines, withPeople: false)
            let script = "\(packageRoot)/Tests/SystemTests/rest/run.py"
            let run = try Program(
                python, [script, module, name],
                environment: [
                    "PYTHONDONTWRITEBYTECODE": "1", "MARTLET_TEST_PATIENCE": "\(patience)", "REST_DATA": martlet.data,
                    "REST_PORT": "\(martlet.port)", "REST_MQTT_PORT": "\(martlet.mqttPort)",
                    "REST_PID": "\(martlet.program.pid)", "REST_BINARY": Martlet.binary,
                    "REST_SANITIZED": isSanitized ? "1" : "",
                ])
            let end = try run.waitForEnd(within: 150 * patience)
            #expect(end == .exited(0), "\(run.output.suffix(4_000))")
            try martlet.stop()
        }
    }
}
