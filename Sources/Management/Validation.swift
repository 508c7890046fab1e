// What may be stored, as values that can't be wrong.

internal import Access
internal import Cryptography
internal import Firmware
internal import FoundationEssentials
internal import Store

/// A device's canonical name: `[A-Z0-9_-]{1,64}`, not beginning with `ESP32_`, which stands before it in user names.
package struct DeviceId: Hashable, Sendable {
    package let text: String

    /// In any case.
    package init(_ text: String) throws(ManagementProblem) {
        guard let deviceId = DeviceName.deviceId(text.utf8) else {
            throw ManagementProblem(
                .invalidDeviceId,
                "a deviceId has 1 to 64 letters, digits, '_' or '-', such as 0C5D32DD2568, and does not begin with ESP32_"
            )
        }
        self.text = deviceId
    }
}

/// An e-mail address, in lower case. Narrower than RFC 5322: nothing that has to be quoted, and none of `/`, `#` and `$`,
/// which mean something in topics.
package struct Email: Hashable, Sendable {
    package let text: String

    /// In any case.
    package init(_ text: String) throws(ManagementProblem) {
        let lower = String(decoding: text.utf8.map { $0.isUpperCase ? $0 + 32 : $0 }, as: UTF8.self)
        let parts = lower.split(separator: "@", omittingEmptySubsequences: false)
        guard lower.utf8.count <= 254, parts.count == 2, (1...64).contains(parts[0].utf8.count),
            parts[0].utf8.allSatisfy({ $0.isLowerCase || $0.isDigit || ".!%&'*+=?^_{|}~-".utf8.contains($0) }),
            parts[1].split(separator: ".", omittingEmptySubsequences: false).allSatisfy(Self.isLabel)
        else { throw ManagementProblem(.invalidEmail, "this is not an e-mail address, such as ann@example.org") }
        self.text = lower
    }

    private static func isLabel(_ label: Substring) -> Bool {
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
            && label.utf8.allSatisfy { $0.isLowerCase || $0.isDigit || $0 == UInt8(ascii: "-") }
    }
}

/// A service's name: `[a-z0-9._-]{1,64}`, not beginning with `esp32_`, which is how devices may sign in.
package struct ServiceName: Hashable, Sendable {
    package let text: String

    package init(_ text: String) throws(ManagementProblem) {
        guard (1...64).contains(text.utf8.count),
            text.utf8.allSatisfy({ $0.isLowerCase || $0.isDigit || "._-".utf8.contains($0) })
        else {
            throw ManagementProblem(
                .invalidName, "a service's name has 1 to 64 small letters, digits, '.', '_' or '-'")
        }
        guard !text.hasPrefix("esp32_") else {
            throw ManagementProblem(.invalidName, "a service's name does not begin with esp32_: devices sign in so")
        }
        self.text = text
    }
}

/// Fields that need no type of their own.
enum Fields {
    static let nameBytes = 128
    static let passwordBytes = 6...128

    static func name(_ text: String) throws(ManagementProblem) -> String {
        let isPlain = text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
        guard text.utf8.count <= nameBytes, isPlain else {
            throw ManagementProblem(.invalidName, "a name has at most \(nameBytes) bytes and no control characters")
        }
        return text
    }

    static func password(_ text: String) throws(ManagementProblem) -> String {
        guard passwordBytes.contains(text.utf8.count) else {
            throw ManagementProblem(
                .invalidPassword,
                "a password has \(passwordBytes.lowerBound) to \(passwordBytes.upperBound) bytes")
        }
        return text
    }

    static func model(_ text: String) throws(ManagementProblem) -> String {
        guard (1...32).contains(text.utf8.count), !text.hasPrefix("."),
            text.utf8.allSatisfy({ $0.isLowerCase || $0.isUpperCase || $0.isDigit || "._+-".utf8.contains($0) })
        else {
            throw ManagementProblem(
                .invalidModel, "a model has 1 to 32 letters, digits, '.', '_', '+' or '-', and no '.' in front")
        }
        return text
    }

    static func modelName(_ text: String) throws(ManagementProblem) -> ModelName {
        guard let name = ModelName(try model(text)) else { throw ManagementProblem(.invalidModel, "no such model") }
        return name
    }

    static func version(_ text: String) throws(ManagementProblem) -> FirmwareVersion {
        guard let version = FirmwareVersion(text) else {
            throw ManagementProblem(
                .invalidVersion, "a version has 1 to 32 letters, digits, '.', '_', '+' or '-', and no '.' in front")
        }
        return version
    }

    /// As Espressif writes it.
    static func chip(_ text: String) throws(ManagementProblem) -> String {
        guard let chip = Chip(name: text) else {
            let names = Chip.allCases.map(\.name).joined(separator: ", ")
            throw ManagementProblem(.invalidRequest, "'chip' is one of \(names)")
        }
        return chip.name
    }

    /// Bytes.
    static let flashSizes: ClosedRange<Int64> = 262_144...1_073_741_824

    /// Keys that firmware is signed with: PEM, or digests of them.
    static func firmwareKeys(_ texts: [String]) throws(ManagementProblem) -> [String] {
        guard texts.count <= mostKeys else {
            throw ManagementProblem(.invalidRequest, "a model has at most \(mostKeys) keys")
        }
        var trusted = TrustedKeys()
        for text in texts {
            do throws(TrustedKeys.Refusal) {
                if text.hasPrefix("-----") {
                    try trusted.add(pem: Array(text.utf8))
                } else {
                    try trusted.add(digest: text)
                }
            } catch {
                throw ManagementProblem(.invalidRequest, "'keys': \(error)")
            }
        }
        return texts
    }

    static let mostKeys = 16

    /// Base64, of either alphabet.
    static func signature(_ text: String) throws(ManagementProblem) -> [UInt8] {
        let unpadded = text.utf8.prefix { $0 != UInt8(ascii: "=") }
        guard let bytes = Base64.standard.decode(text.utf8) ?? Base64.url.decode(unpadded),
            (1...Firmware.Limits.signatureBytes).contains(bytes.count)
        else { throw ManagementProblem(.invalidRequest, "'signature' is a detached signature in Base64") }
        return bytes
    }

    /// What somebody says about something.
    static func remark(_ text: String) throws(ManagementProblem) -> String {
        let isPlain = text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control || $0 == "\n" }
        guard text.utf8.count <= FirmwareDesk.Limits.textBytes, isPlain else {
            throw ManagementProblem(
                .invalidRequest, "a text has at most \(FirmwareDesk.Limits.textBytes) bytes and no control characters")
        }
        return text
    }

    /// 22 characters are what 128 bits take at least, in Base64.
    static let claimCodeBytes = 22...128

    static func claimCode(_ text: String) throws(ManagementProblem) -> String {
        guard claimCodeBytes.contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw ManagementProblem(
                .invalidRequest,
                "a claim code has \(claimCodeBytes.lowerBound) to \(claimCodeBytes.upperBound) characters of ASCII "
                    + "and no spaces")
        }
        return text
    }

    static let mostTags = 32
    static let tagBytes = 64

    /// Each once.
    static func tags(_ texts: [String]) throws(ManagementProblem) -> [String] {
        var tags: [String] = []
        for text in texts where !tags.contains(text) {
            let isPlain = text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
            guard (1...tagBytes).contains(text.utf8.count), isPlain else {
                throw ManagementProblem(
                    .invalidTag, "a tag has 1 to \(tagBytes) bytes and no control characters")
            }
            tags.append(text)
        }
        guard tags.count <= mostTags else {
            throw ManagementProblem(.invalidTag, "a device has at most \(mostTags) tags")
        }
        return tags
    }

    static func activityKind(_ text: String) throws(ManagementProblem) -> String {
        guard Activity.Kind(rawValue: text) != nil else {
            throw ManagementProblem(.invalidRequest, "there is no activity of the kind '\(text.prefix(64))'")
        }
        return text
    }

    /// RFC 3339, to milliseconds since 1970.
    static func time(_ text: String) throws(ManagementProblem) -> Int64 {
        let styles = [true, false].map { Date.ISO8601FormatStyle(includingFractionalSeconds: $0) }
        guard let date = styles.lazy.compactMap({ try? $0.parse(text) }).first else {
            throw ManagementProblem(.invalidRequest, "a time looks like 2026-11-22T10:30:00Z")
        }
        return Int64((date.timeIntervalSince1970 * 1000).rounded())
    }

    /// `AA:BB:CC:DD:EE:FF`, from digits with or without `:` or `-` between the bytes.
    static func macAddress(_ text: String) throws(ManagementProblem) -> String {
        let digits = text.uppercased().filter { $0 != ":" && $0 != "-" }
        guard digits.utf8.count == 12, text.utf8.count <= 17,
            digits.utf8.allSatisfy({ $0.isDigit || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains($0) })
        else {
            throw ManagementProblem(.invalidMACAddress, "a MAC address looks like 0C:5D:32:DD:25:68")
        }
        var result = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, index % 2 == 0 { result += ":" }
            result.append(digit)
        }
        return result
    }
}

extension UInt8 {
    fileprivate var isUpperCase: Bool { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) }
    fileprivate var isLowerCase: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self) }
    fileprivate var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
}
