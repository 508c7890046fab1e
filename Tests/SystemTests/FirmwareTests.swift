import FirmwareImages
import Foundation
import Testing

extension System {
    /// Held against what Espressif's own tools read, write and sign.
    @Suite struct `martlet firmware verify` {
        private let directory: TemporaryDirectory

        init() throws { directory = try TemporaryDirectory() }

        private func path(_ name: String) -> String { "\(directory.path)/\(name)" }

        @discardableResult
        private func write(_ bytes: [UInt8], _ name: String) throws -> String {
            try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
            return path(name)
        }

        private func ended(_ tool: String, _ arguments: [String]) throws -> (end: Program.End, output: String) {
            let program = try Program(tool, arguments, environment: ["PYTHONDONTWRITEBYTECODE": "1"])
            return (try program.waitForEnd(within: 60 * patience), program.output)
        }

        private func verify(_ arguments: String...) throws -> (end: Program.End, output: String) {
            try ended(Martlet.binary, ["firmware", "verify"] + arguments)
        }

        /// The first line is JSON, whatever follows on standard error.
        private func json(_ file: String, _ arguments: String...) throws -> [String: Any] {
            let run = try ended(Martlet.binary, ["firmware", "verify", file, "--json"] + arguments)
            let line = try #require(run.output.split(separator: "\n").first, "\(run.output)")
            return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }

        private static let environment = "\(packageRoot)/.venv/bin"

        /// A program of the virtual environment, which has to succeed.
        @discardableResult
        private func tool(_ name: String, _ arguments: String...) throws -> String {
            let path = "\(Self.environment)/\(name)"
            guard FileManager.default.isExecutableFile(atPath: path) else {
                throw Unexpected("\(path) is missing: Tests/Support/install test makes it")
            }
            let run = try ended(path, arguments)
            guard run.end == .exited(0) else { throw Unexpected("\(name) \(arguments): \(run.output.suffix(2_000))") }
            return run.output
        }

        @Test func `reads what esptool reads, for every chip`() throws {
            let names = ImageBuilder.chips.map(\.name)
            for name in names { try write(ImageBuilder.large(name, codeBytes: 4_000).bytes(), "\(name).bin") }
            let python = "\(Self.environment)/python"
            let script = "\(packageRoot)/Tests/SystemTests/firmware/esptool_says.py"
            let run = try ended(python, [script] + names.map { path("\($0).bin") })
            let lines = run.output.split(separator: "\n")
            try #require(run.end == .exited(0) && lines.count == names.count, "\(run.output.suffix(2_000))")
            for (name, line) in zip(names, lines) {
                let its = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: String])
                let ours = try json(path("\(name).bin"), "--chip", name)
                let image = try #require(ours["image"] as? [String: Any])
                let descriptor = try #require(ours["descriptor"] as? [String: Any])
                #expect(its["Detected image type"] == name && image["chip"] as? String == name)
                #expect(its["Segments"] == "\((image["segments"] as? [Any])?.count ?? 0)")
                let checksum = try #require((image["checksum"] as? [String: Any])?["stored"] as? Int)
                #expect(its["Checksum"] == "0x\(String(format: "%02x", checksum)) (valid)", "\(name)")
                let hash = try #require((image["hash"] as? [String: Any])?["stored"] as? String)
                #expect(its["Validation hash"] == "\(hash) (valid)", "\(name)")
                #expect(its["App version"] == ours["version"] as? String)
                #expect(its["Project name"] == descriptor["project"] as? String)
                #expect(its["ELF file SHA256"] == descriptor["elfSha256"] as? String)
                #expect(its["ESP-IDF"] == descriptor["idf"] as? String)
                #expect(its["Flash size"] == "4MB" && image["flashBytes"] as? Int == 4 << 20)
                #expect(its["Flash mode"] == image["flashMode"] as? String)
                #expect(ours["isSound"] as? Bool == true && (ours["findings"] as? [Any])?.isEmpty == true, "\(ours)")
            }
        }

        private func sound() throws -> String { try write(ImageBuilder().bytes(), "app.bin") }

        @Test func `prints what an image says, and ends well`() throws {
            let run = try verify(
                try sound(), "--chip", "esp32-s3", "--partition-size", "1M", "--flash-size", "0x400000")
            #expect(run.end == .exited(0))
            for text in [
                "an application", "464", "ESP32-S3", "martlet-fixture", "1.2.3", "0x80, right", "54dcdf6e",
            ] {
                #expect(run.output.contains(text), "\(run.output)")
            }
        }

        @Test func `says what is wrong in one line, and fails`() throws {
            var bytes = ImageBuilder().bytes()
            bytes[200] ^= 1
            let run = try verify(try write(bytes, "bad.bin"))
            #expect(run.end == .exited(1))
            let said = run.output.split(separator: "\n").filter { $0.hasPrefix("martlet: ") }
            #expect(
                said == [
                    "martlet: \(path("bad.bin")): its checksum is 0x80, its segments come to 0x81 (and 1 more)"
                ])
        }

        private static let refused: [([String], Int32)] = [
            ([], 2), (["FILE", "FILE"], 2), (["FILE", "--chip", "esp9"], 2), (["FILE", "--partition-size", "0"], 2),
            (["FILE", "--flash-size", "4X"], 2), (["FILE", "--declared-version", "../x"], 2), (["/nowhere/file"], 1),
            (["/tmp"], 1), (["/dev/null"], 1),
        ]

        @Test(arguments: refused)
        func `refuses what it can't do in one line`(_ arguments: [String], _ status: Int32) throws {
            let file = try sound()
            let run = try ended(
                Martlet.binary, ["firmware", "verify"] + arguments.map { $0 == "FILE" ? file : $0 })
            #expect(run.end == .exited(status), "\(run.output)")
            #expect(run.output.split(separator: "\n").count == 1, "\(run.output)")
        }
    }
}
