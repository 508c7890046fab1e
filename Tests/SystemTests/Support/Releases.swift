import Cryptography
import FirmwareImages
import Foundation

// What tests of firmware do with a broker. A release is written `MODEL/VERSION`.

extension RESTMartlet {
    /// A small sound one that says to be that version.
    static func image(_ version: String, chip: String = "ESP32-S3") -> [UInt8] {
        var builder = ImageBuilder(chip: chip)
        builder.version = version
        return builder.bytes()
    }

    /// By the administrator, unless somebody else's token is given.
    @discardableResult
    func upload(
        _ release: String, _ image: [UInt8], query: String = "", type: String = "application/octet-stream",
        token: String? = nil
    ) throws -> RESTClient.Answer {
        try client.ask(
            "POST", "/api/firmware/\(release)\(query)", token: token ?? admin, bytes: image,
            fields: ["Content-Type: \(type)"])
    }

    @discardableResult
    func step(
        _ name: String, _ release: String, body: String? = nil, token: String? = nil
    ) throws -> RESTClient.Answer {
        try client.ask("POST", "/api/firmware/\(release)/\(name)", token: token ?? admin, body: body)
    }

    /// A release that has come so far: `verify`, `approve` and `promote` are what may be done to it.
    @discardableResult
    func release(_ release: String, _ steps: [String] = ["verify", "approve"], image: [UInt8]? = nil) throws -> [UInt8]
    {
        let image = image ?? Self.image(String(release.split(separator: "/")[1]))
        let answer = try upload(release, image)
        guard answer.status == 201 else { throw Unexpected("\(release): \(answer.text)") }
        for name in steps {
            let answer = try step(name, release)
            guard answer.status == 200 else { throw Unexpected("\(name) \(release): \(answer.text)") }
        }
        return image
    }

    func firmware(_ release: String) throws -> RESTClient.Answer {
        try client.ask("GET", "/api/firmware/\(release)", token: admin)
    }

    /// Nil: there is none.
    func state(_ release: String) throws -> String? { try firmware(release)["firmware", "state"] as? String }

    /// Of all releases, as MODEL/VERSION.
    func states() throws -> [String: String] {
        let list = try client.get("GET", "/api/firmware?limit=500", token: admin)["firmware"] as? [[String: Any]] ?? []
        return Dictionary(
            uniqueKeysWithValues: list.map { entry in
                (
                    "\(entry["model"] as? String ?? "")/\(entry["version"] as? String ?? "")",
                    entry["state"] as? String ?? ""
                )
            })
    }

    func models() throws -> [String] {
        let list = try client.get("GET", "/api/models?limit=500", token: admin)["models"] as? [[String: Any]] ?? []
        return list.compactMap { $0["model"] as? String }
    }

    /// Entries of the activity log about firmware, the latest first: `FIRMWARE_UPLOADED user:admin@x m/1.0.0`.
    func firmwareActivity() throws -> [String] {
        let answer = try client.get("GET", "/api/admin/activity?limit=500", token: admin)
        return (answer["activity"] as? [[String: Any]] ?? []).compactMap { entry in
            guard let kind = entry["kind"] as? String, kind.hasPrefix("FIRMWARE_") else { return nil }
            let detail = entry["detail"] as? [String: Any] ?? [:]
            let release = "\(detail["model"] as? String ?? "")/\(detail["version"] as? String ?? "")"
            return "\(kind) \(entry["actor"] as? String ?? "") \(release)"
        }
    }

    // MARK: - The tree

    func firmwarePath(_ name: String) -> String { "\(data)/firmware/\(name)" }

    func firmwareBytes(_ name: String) -> [UInt8]? {
        FileManager.default.contents(atPath: firmwarePath(name)).map { Array($0) }
    }

    /// As somebody does by hand.
    func edit(_ name: String, _ bytes: [UInt8]) throws {
        let file = URL(filePath: firmwarePath(name))
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: file)
    }

    func edit(_ name: String, _ text: String) throws { try edit(name, Array(text.utf8)) }

    /// Everything in the tree, sorted.
    func firmwareFiles() -> [String] {
        (FileManager.default.enumerator(atPath: "\(data)/firmware")?.allObjects as? [String] ?? []).sorted()
    }

    /// How many lines of the log have all of these words in them.
    func logged(_ words: String...) -> Int {
        program.lines.count { line in words.allSatisfy(line.contains) }
    }

    var residentMegabytes: Double {
        let status = (try? String(contentsOfFile: "/proc/\(program.pid)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return (line?.split(separator: " ").compactMap { Double($0) }.first ?? .infinity) / 1024
    }

    // MARK: - Devices

    /// One of the owner's, or where there is none the administrator's, of that model.
    func addDevice(
        model: String?, id: String? = nil
    ) throws -> (id: String, secret: String) {
        let id = id ?? "DEVICE-\(next())"
        let members = model.map { #","model":"\#($0)""# } ?? ""
        let answer = try client.get(
            "POST", "/api/device/register", token: token(.owner) ?? admin, body: #"{"deviceId":"\#(id)"\#(members)}"#)
        guard let secret = answer["credentials", "password"] as? String else {
            throw Unexpected("no secret: \(answer.text)")
        }
        return (id, secret)
    }

    /// What a device is told that asks for itself, by HTTP Basic.
    func check(_ device: String, as userName: String? = nil, _ secret: String) throws -> RESTClient.Answer {
        let pair = Data("\(userName ?? device):\(secret)".utf8).base64EncodedString()
        return try client.ask("GET", "/api/ota/\(device)/check", fields: ["Authorization: Basic \(pair)"])
    }

    /// An address for that device to fetch what it shall run.
    func address(_ device: String, _ secret: String) throws -> String {
        let answer = try check(device, secret)
        guard let url = answer["url"] as? String else { throw Unexpected("no address: \(answer.text)") }
        return url
    }

    /// The device says over MQTT what it runs, and that is known.
    func report(_ version: String, by device: String, _ secret: String) throws {
        let mqtt = try signedIn(device, secret)
        try mqtt.send(Packet.publish("devices/\(device)/health", #"{"fw":"\#(version)"}"#, qos: 1))
        guard try mqtt.receive().type == 4 else { throw Unexpected("no PUBACK") }
        let isKnown = try eventually {
            let answer = try client.get("GET", "/api/device/\(device)", token: admin)
            return answer["device", "firmwareVersion"] as? String == version
        }
        guard isKnown else { throw Unexpected("nobody knows that \(device) runs \(version)") }
    }
}

func hexadecimalDigest(_ bytes: [UInt8]) -> String {
    sha256(bytes).map { String(format: "%02x", $0) }.joined()
}

/// Path and query of an address.
func target(_ url: String) -> String {
    guard let start = url.range(of: "/firmware/") else { return url }
    return String(url[start.lowerBound...])
}
