internal import ArgumentParser
internal import JSON
internal import Management

/// `martlet device ...`
struct DeviceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device", abstract: "Devices and their credentials.",
        subcommands: [Add.self, Import.self, List.self, Block.self, Credentials.self, Remove.self])

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register a device; prints what it signs in with, once.")

        @Argument(help: "Its deviceId, such as 0C5D32DD2568, in any case.") var deviceId: String
        @Option(help: "A name for people.") var name: String?
        @Option(help: "E-mail address of whom it belongs to.") var owner: String?
        @Option(help: "What kind of device it is: those of one model share firmware.") var model: String?
        @Option(name: .customLong("mac"), help: "Its MAC address.") var macAddress: String?
        @Option(name: .customLong("claim-code"), help: "For one that was imported: what it came with.")
        var claimCode: String?
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path, makesDirectory: true) { client in
                let answer = try await client.perform(
                    "registerDevice",
                    [
                        "deviceId": .string(deviceId), "name": .optional(name), "owner": .optional(owner),
                        "model": .optional(model), "macAddress": .optional(macAddress),
                        "claimCode": .optional(claimCode),
                    ])
                let canonical = answer["device"]?["deviceId"]?.string ?? deviceId
                ManagementOutput.print(
                    credentials: answer, json: json,
                    hint: [
                        "To try it:",
                        "  mosquitto_pub -h localhost -p 8883 --cafile \(data.path)/certs/ca.pem -u \(canonical) "
                            + "-P PASSWORD -t devices/\(canonical)/status -m ON",
                    ])
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List devices, and whether they are there.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listDevices", "devices"), json: json,
                    columns: [
                        ("DEVICE", "deviceId"), ("NAME", "name"), ("OWNER", "owner"), ("MODEL", "model"),
                        ("FIRMWARE", "firmwareVersion"), ("BLOCKED", "blocked"), ("STATE", "presence"),
                        ("LAST SEEN", "lastSeen"),
                    ])
            }
        }
    }

    struct Block: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shut a device out, at once.")

        @Argument(help: "Its deviceId.") var deviceId: String
        @Flag(help: "Let it in again.") var unblock = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform(
                    "blockDevice", ["deviceId": .string(deviceId), "blocked": .bool(!unblock)])
            }
        }
    }

    struct Credentials: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a new password for a device; the old one stops working.")

        @Argument(help: "Its deviceId.") var deviceId: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                let answer = try await client.perform("rotateDeviceCredentials", ["deviceId": .string(deviceId)])
                ManagementOutput.print(credentials: answer, json: json)
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a device; its password and certificates stop working.")

        @Argument(help: "Its deviceId.") var deviceId: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("deleteDevice", ["deviceId": .string(deviceId)])
            }
        }
    }
}
