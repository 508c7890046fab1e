internal import ArgumentParser
internal import Cryptography
internal import Firmware
internal import Glibc
internal import JSON
internal import Management

// The store of firmware: of the broker that runs, or on its files.

/// Which release it is about.
struct ReleaseArguments: ParsableArguments {
    @Argument(help: "The model of device.") var model: String
    @Argument(help: "Such as 1.2.0.") var version: String

    var members: [String: JSONValue] { ["model": .string(model), "version": .string(version)] }
}

extension FirmwareCommand {
    struct Upload: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hand in an image as a release, and verify it.",
            discussion: "Exit status: 0 devices may be given it once it is approved, 1 not; then it stays, as uploaded."
        )

        @OptionGroup var release: ReleaseArguments
        @Argument(help: "The image, as esptool or ESP-IDF writes it.") var file: String
        @Option(help: "What is new.") var description: String?
        @Option(help: ArgumentHelp("A detached signature of the file.", valueName: "file")) var signature: String?
        @OptionGroup var data: DataOption

        /// In Base64 well within what `control.sock` takes.
        private static let partBytes = 32 << 10

        func run() async throws {
            let signature = try signature.map { path in
                let bytes = try smallFile(path, atMost: Firmware.Limits.signatureBytes)
                return Base64.standard.encode(bytes)
            }
            try await managing(data.path, makesDirectory: true) { client in
                try await send(to: client, signature)
                try await client.perform("verifyFirmware", release.members)
                ManagementOutput.print("\(release.model) \(release.version) is verified; it waits to be approved")
            }
        }

        private func send(to client: ManagementClient, _ signature: String?) async throws {
            let image = try opened(file)
            var offset = 0
            repeat {
                let end = min(image.count, offset + Self.partBytes)
                let isLast = end == image.count
                var members = release.members
                members["offset"] = .integer(Int64(offset))
                members["data"] = .string(Base64.standard.encode(try part(of: image, offset..<end)))
                members["last"] = .bool(isLast)
                if isLast { members["description"] = .optional(description) }
                if isLast { members["signature"] = .optional(signature) }
                try await client.perform("uploadFirmware", members)
                offset = end
            } while offset < image.count
        }

        private func opened(_ path: String) throws(Failure) -> ImageFile {
            do throws(ReadFailure) { return try ImageFile(path) } catch { throw Failure(.failed, "\(path): \(error)") }
        }

        private func part(of image: borrowing ImageFile, _ range: Range<Int>) throws(Failure) -> [UInt8] {
            do throws(ReadFailure) { return try image.read(range) } catch {
                throw Failure(.failed, "\(file): \(error)")
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List releases, the latest first.")

        @Argument(help: "Of this model.") var model: String?
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listFirmware", "firmware", ["model": .optional(model)]), json: json,
                    columns: [
                        ("MODEL", "model"), ("VERSION", "version"), ("STATE", "state"), ("SIZE", "size"),
                        ("UPLOADED BY", "uploadedBy"), ("APPROVED BY", "approvedBy"), ("CREATED", "createdAt"),
                    ])
            }
        }
    }

    struct Approve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say that devices may have a release.",
            discussion: "Where there are several administrators, another than who uploaded it.")

        @OptionGroup var release: ReleaseArguments
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { try await $0.perform("approveFirmware", release.members) }
        }
    }

    struct Promote: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let devices of its model run a release from now on.")

        @OptionGroup var release: ReleaseArguments
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { try await $0.perform("promoteFirmware", release.members) }
        }
    }

    struct Block: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let no device get a version any more, at once.")

        @OptionGroup var release: ReleaseArguments
        @Option(help: "Why.") var reason: String?
        @Flag(help: "Let devices have it again.") var unblock = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                guard !unblock else {
                    try await client.perform("unblockFirmware", release.members)
                    return
                }
                try await client.perform(
                    "blockFirmware", release.members.merging(["reason": .optional(reason)]) { $1 })
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a release that devices shall not run.")

        @OptionGroup var release: ReleaseArguments
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { try await $0.perform("deleteFirmware", release.members) }
        }
    }

    /// `martlet firmware fsck`
    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "fsck", abstract: "Read all that lies in the store, and say what is damaged.",
            discussion: "Exit status: 0 nothing, 1 something.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                let answer = try await client.perform("examineFirmware")
                let problems = answer["problems"]?.array?.compactMap(\.string) ?? []
                let lines = json ? [answer.text] : problems
                for line in lines { ManagementOutput.print(line) }
                guard problems.isEmpty else { throw Failure(.failed, "\(problems.count) found") }
            }
        }
    }

    /// `martlet firmware model`
    struct Model: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Describe a model; what is left out is as if nobody had said it. Without options: show it.")

        @Argument(help: "What it is called.") var name: String
        @Option(help: "Its chip.") var chip: Chip?
        @Option(help: ArgumentHelp("Its flash: bytes, 0x400000 or 4M.", valueName: "size")) var flashSize: ByteCount?
        @Option(help: "What a device is told of an update: json, or the bare url.") var otaPayload: String?
        @Option(help: ArgumentHelp("The longest MQTT packet that it takes.", valueName: "bytes")) var packetLimit: Int?
        @Option(help: "A file with public keys (PEM), one of which signs its firmware; may be given several times.")
        var key: [String] = []
        @Option(
            help: ArgumentHelp(
                "The digest of a Secure Boot key, likewise: 64 hexadecimal digits.", valueName: "digest"))
        var keyDigest: [String] = []
        @OptionGroup var data: DataOption

        func run() async throws {
            let pem = try key.map {
                String(decoding: try smallFile($0, atMost: Firmware.Limits.keyBytes), as: UTF8.self)
            }
            let members: [String: JSONValue] = [
                "chip": .optional(chip?.name), "flashSize": flashSize.map { .integer(Int64($0.bytes)) } ?? .null,
                "otaPayload": .optional(otaPayload), "packetLimit": packetLimit.map { .integer(Int64($0)) } ?? .null,
                "keys": pem.isEmpty && keyDigest.isEmpty ? .null : .array((pem + keyDigest).map { .string($0) }),
            ]
            let isToSet = members.values.contains { $0 != .null }
            try await managing(data.path, makesDirectory: isToSet) { client in
                let named: [String: JSONValue] = ["model": .string(name)]
                let answer = try await client.perform(
                    isToSet ? "setModel" : "getModel", isToSet ? members.merging(named) { $1 } : named)
                ManagementOutput.print((answer["model"] ?? .null).text)
            }
        }
    }
}
