/// How a device is called.
package enum DeviceName {
    package static let longest = 64
    private static let prefix = Array("ESP32_".utf8)

    /// The canonical deviceId, `[A-Z0-9_-]{1,64}` and not beginning with `ESP32_`, of one in any case. Nil: it is none.
    package static func deviceId(_ text: some Collection<UInt8>) -> String? {
        guard (1...longest).contains(text.count), let canonical = inCapitals(text), !canonical.starts(with: prefix)
        else { return nil }
        return String(decoding: canonical, as: UTF8.self)
    }

    /// The deviceId for a name that a device signs in with: the deviceId in any case, or `esp32_` and the deviceId. Nil:
    /// no device has such a name.
    package static func canonical(_ name: some Collection<UInt8>) -> String? {
        guard name.count <= longest + prefix.count, let capitals = inCapitals(name) else { return nil }
        return deviceId(capitals.starts(with: prefix) ? capitals.dropFirst(prefix.count) : capitals[...])
    }

    /// Nil where there is anything but letters, digits, `_` and `-` of ASCII.
    private static func inCapitals(_ text: some Collection<UInt8>) -> [UInt8]? {
        var capitals: [UInt8] = []
        for byte in text {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): capitals.append(byte - 0x20)
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"),
                UInt8(ascii: "-"):
                capitals.append(byte)
            default: return nil
            }
        }
        return capitals
    }
}
