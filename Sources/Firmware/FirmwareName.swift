/// The name of a model, or of a version of its firmware: 1 to 32 letters, digits, `.`, `_`, `+` or `-`, without a dot in front. So
/// it is the name of a directory as it stands, and a part of a path that is never percent-encoded.
package struct FirmwareName: Hashable, Sendable, CustomStringConvertible {
    package static let mostBytes = 32

    package let text: String

    package init?(_ text: some StringProtocol) {
        guard (1...Self.mostBytes).contains(text.utf8.count), !text.hasPrefix("."),
            text.utf8.allSatisfy(Self.isAllowed)
        else { return nil }
        self.text = String(text)
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "+"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }

    package var description: String { text }
}

/// One version of one model's firmware.
package struct ReleaseName: Hashable, Sendable, CustomStringConvertible {
    package let model: FirmwareName
    package let version: FirmwareName

    package init(model: FirmwareName, version: FirmwareName) {
        self.model = model
        self.version = version
    }

    /// Whose download this is: as `FirmwareURL` has it, without the query, and byte for byte. Nil: nobody's.
    package init?(downloadPath path: Substring) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "firmware", parts[4] == "firmware.bin",
            let model = FirmwareName(parts[2]), let version = FirmwareName(parts[3])
        else { return nil }
        self.init(model: model, version: version)
    }

    package var downloadPath: String { "/firmware/\(model)/\(version)/firmware.bin" }

    package var description: String { "\(model) \(version)" }
}
