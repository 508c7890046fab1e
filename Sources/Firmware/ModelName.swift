/// What a model of device is called: those of one model run the same firmware. 1 to 32 letters, digits, `.`, `_`, `+` or `-`, without
/// a dot in front; so it is the name of a directory as it stands, and a part of a path that is never percent-encoded.
package struct ModelName: Hashable, Sendable, CustomStringConvertible {
    package let text: String

    package init?(_ text: String) {
        guard isPlainName(text) else { return nil }
        self.text = text
    }

    package var description: String { text }
}

/// Of a model or a version: `[A-Za-z0-9._+-]{1,32}`, without a dot at its beginning.
func isPlainName(_ text: String) -> Bool {
    (1...FirmwareVersion.longest).contains(text.utf8.count) && text.utf8.first != UInt8(ascii: ".")
        && text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "._+-".utf8.contains(byte)
            }
        }
}
