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

        @Test(arguments: [("ESP32", "0x1000"), ("ESP32-C3", "0x0"), ("ESP32-P4", "0x2000")])
        func `tells what esptool has merged from an application`(_ chip: String, _ place: String) throws {
            var builder = ImageBuilder(chip: chip)
            let application = try write(builder.bytes(), "app.bin")
            builder.hasDescriptor = false
            builder.segments.removeFirst()
            let bootloader = try write(builder.bytes(), "bootloader.bin")
            #expect(try verify(bootloader).output.contains("but a bootloader"))
            let entry = [0xAA, 0x50, 0, 0x10] + little(UInt32(0x10000)) + little(UInt32(0x100000))
            let table = try write(padded(entry, 32) + [UInt8](repeating: 0xFF, count: 0xC00 - 32), "table.bin")
            for (format, text) in [
                ("raw", "bootloader at \(place), partition table at 0x8000): its application lies at 0x10000"),
                ("uf2", "a UF2 file"), ("hex", "Intel HEX"),
            ] {
                let merged = path("merged.\(format)")
                try tool(
                    "esptool", "--chip", chip.lowercased().replacing("-", with: ""), "merge-bin", "--format", format,
                    "--output", merged, place, bootloader, "0x8000", table, "0x10000", application)
                let run = try verify(merged)
                #expect(run.end == .exited(1) && run.output.contains(text), "\(run.output)")
            }
        }

        private func sound() throws -> String { try write(ImageBuilder().bytes(), "app.bin") }

        @Test func `prints what an image says, and ends well`() throws {
            let run = try verify(
                try sound(), "--chip", "esp32-s3", "--partition-size", "1M", "--flash-size", "0x400000")
            #expect(run.end == .exited(0))
            for text in [
                "an application\n", "464\n", "ESP32-S3", "martlet-fixture", "1.2.3", "0x80, right", "54dcdf6e",
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

        // MARK: - Signatures

        private func states(_ analysis: [String: Any]) throws -> [String] {
            let signature = try #require(analysis["signature"] as? [String: Any], "\(analysis)")
            let blocks = try #require(signature["blocks"] as? [[String: Any]])
            return blocks.map { "\($0["kind"] as? String ?? "-") \($0["state"] as? String ?? "-")" }
        }

        /// Its private key and its public one.
        private func makeKey(_ scheme: String, _ name: String, version: String = "2") throws -> (String, String) {
            let (key, publicKey) = (path("\(name).key"), path("\(name).pem"))
            let kind = version == "2" ? ["--scheme", scheme] : []
            let run = try ended(
                "\(Self.environment)/espsecure", ["generate-signing-key", "--version", version] + kind + [key])
            guard run.end == .exited(0) else { throw Unexpected("espsecure: \(run.output.suffix(2_000))") }
            let openssl = try ended("openssl", ["pkey", "-in", key, "-pubout", "-out", publicKey])
            guard openssl.end == .exited(0) else { throw Unexpected("openssl: \(openssl.output)") }
            return (key, publicKey)
        }

        @Test(arguments: [("rsa3072", "RSA-3072"), ("ecdsa256", "ECDSA P-256"), ("ecdsa384", "ECDSA P-384")])
        func `takes what espsecure signs, from keys that are trusted`(_ scheme: String, _ kind: String) throws {
            let image = try write(ImageBuilder.large("ESP32-C6", codeBytes: 10_000).bytes(), "app.bin")
            let (key, publicKey) = try makeKey(scheme, "signer")
            let (_, stranger) = try makeKey(scheme, "stranger")
            let signed = path("signed.bin")
            try tool("espsecure", "sign-data", "--version", "2", "--keyfile", key, "--output", signed, image)
            let trusted = try json(signed, "--key", publicKey)
            #expect(try states(trusted) == ["\(kind) trusted"] && trusted["isSound"] as? Bool == true)

            try tool("espsecure", "digest-sbv2-public-key", "--keyfile", key, "--output", path("digest"))
            let digest = try Data(contentsOf: URL(fileURLWithPath: path("digest")))
            let text = digest.map { String(format: "%02x", $0) }.joined()
            #expect(try verify(signed, "--key-digest", text).end == .exited(0))
            #expect(try verify(signed).output.contains(text))

            let unknown = try verify(signed, "--key", stranger)
            #expect(unknown.end == .exited(1) && unknown.output.contains("which is not trusted"), "\(unknown.output)")
            let unsigned = try verify(image, "--key", publicKey)
            #expect(unsigned.end == .exited(1) && unsigned.output.contains("[unsigned]"), "\(unsigned.output)")

            var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: signed)))
            bytes[bytes.count - 4096 + 150] ^= 1
            let broken = try verify(try write(bytes, "broken.bin"), "--key", publicKey)
            #expect(broken.end == .exited(1) && broken.output.contains("its CRC is wrong"), "\(broken.output)")
        }

        @Test func `takes several signatures of espsecure`() throws {
            let image = try write(ImageBuilder(chip: "ESP32-C6").bytes(), "app.bin")
            let keys = try ["rsa3072", "ecdsa256", "ecdsa384"].map { try makeKey($0, $0) }
            var signed = image
            for (number, (key, _)) in keys.enumerated() {
                let output = path("signed-\(number).bin")
                try tool(
                    "espsecure", "sign-data", "--version", "2", "--append-signatures", "--keyfile", key, "--output",
                    output, signed)
                signed = output
            }
            let analysis = try json(signed, "--key", keys[1].1, "--key", keys[2].1)
            let expected = ["RSA-3072 unknown_key", "ECDSA P-256 trusted", "ECDSA P-384 trusted"]
            #expect(try states(analysis) == expected && analysis["isSound"] as? Bool == true)
        }

        @Test func `takes a signature of Secure Boot v1`() throws {
            let image = try write(ImageBuilder(chip: "ESP32").bytes(), "app.bin")
            let (key, publicKey) = try makeKey("", "signer", version: "1")
            let signed = path("signed.bin")
            try tool("espsecure", "sign-data", "--version", "1", "--keyfile", key, "--output", signed, image)
            #expect(try states(try json(signed, "--key", publicKey)) == ["ECDSA P-256 trusted"])
            #expect(try verify(signed, "--key", try makeKey("", "stranger", version: "1").1).end == .exited(1))
        }

        @Test(arguments: [
            ("P-256", "dgst -sha256 -sign KEY -out SIGNATURE FILE"),
            ("P-384", "dgst -sha256 -sign KEY -out SIGNATURE FILE"),
            ("", "pkeyutl -sign -rawin -inkey KEY -in FILE -out SIGNATURE"),
        ])
        func `takes a detached signature of openssl`(_ curve: String, _ command: String) throws {
            let file = try sound()
            let (key, publicKey, signature) = (path("signer.key"), path("signer.pem"), path("signature"))
            func openssl(_ arguments: [String]) throws {
                let run = try ended("openssl", arguments)
                guard run.end == .exited(0) else { throw Unexpected("openssl \(arguments): \(run.output)") }
            }
            let kind = curve.isEmpty ? ["ed25519"] : ["EC", "-pkeyopt", "ec_paramgen_curve:\(curve)"]
            try openssl(["genpkey", "-algorithm"] + kind + ["-out", key])
            try openssl(["pkey", "-in", key, "-pubout", "-out", publicKey])
            let names = ["KEY": key, "SIGNATURE": signature, "FILE": file]
            try openssl(command.split(separator: " ").map { names[String($0)] ?? String($0) })
            let run = try verify(file, "--key", publicKey, "--signature", signature)
            #expect(run.end == .exited(0), "\(run.output)")
            let other = try write(ImageBuilder(chip: "ESP32").bytes(), "other.bin")
            let broken = try verify(other, "--key", publicKey, "--signature", signature)
            #expect(broken.end == .exited(1) && broken.output.contains("[broken_detached_signature]"))
            let secret = try verify(file, "--key", key)
            #expect(secret.end == .exited(1) && secret.output.contains("a private key"), "\(secret.output)")
        }

        private static let refused: [([String], Int32)] = [
            ([], 2), (["FILE", "FILE"], 2), (["FILE", "--chip", "esp9"], 2), (["FILE", "--partition-size", "0"], 2),
            (["FILE", "--flash-size", "4X"], 2), (["FILE", "--declared-version", "../x"], 2), (["/nowhere/file"], 1),
            (["/tmp"], 1), (["/dev/null"], 1), (["FILE", "--signature", "FILE"], 2), (["FILE", "--key", "FILE"], 1),
            (["FILE", "--key", "/nowhere/key"], 1), (["FILE", "--key-digest", "abc"], 2),
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
