/// What an application says about itself, at the beginning of its first segment (app_image_format.rst, esp_app_desc_t).
/// Text is as a terminal may show it: what is not printable is written out.
package struct AppDescriptor: Sendable, Equatable {
    static let offset = ImageHeader.bytes + Segment.headerBytes
    static let bytes = 256
    static let magic: [UInt8] = [0x32, 0x54, 0xCD, 0xAB]

    /// At most 32 bytes.
    package let version: String
    /// At most 32 bytes.
    package let project: String
    /// Of the build, as the compiler writes them: `12:00:00`, `Jan  1 2026`.
    package let time: String
    package let date: String
    /// Of ESP-IDF: `v5.4.1`.
    package let frameworkVersion: String
    /// Of the ELF file; 32 bytes.
    package let elfDigest: [UInt8]
    /// The anti-rollback counter: a device goes to none that is lower than its own.
    package let secureVersion: UInt32
    /// Of the eFuse block that it works with: major times 100 plus minor. Nil: any.
    package let minimumBlockRevision: UInt16
    package let maximumBlockRevision: UInt16?
    /// Of a page of the MMU, 8 to 256 KB. Nil where ESP-IDF is older than this field.
    package let pageBytes: Int?

    /// `bytes`: 256, or fewer where the file ends. Nil where that is no descriptor.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.bytes, bytes.has(Self.magic) else { return nil }
        func text(_ range: Range<Int>) -> String { printable(bytes[range].prefix { $0 != 0 }) }
        secureVersion = bytes.uint32(at: 0x04)
        version = text(0x10..<0x30)
        project = text(0x30..<0x50)
        time = text(0x50..<0x60)
        date = text(0x60..<0x70)
        frameworkVersion = text(0x70..<0x90)
        elfDigest = Array(bytes[0x90..<0xB0])
        minimumBlockRevision = bytes.uint16(at: 0xB0)
        maximumBlockRevision = setRevision(bytes.uint16(at: 0xB2))
        pageBytes = (13...18).contains(bytes[0xB4]) ? 1 << Int(bytes[0xB4]) : nil
    }

    /// Arduino's cores come with libraries that somebody else has built: their name, version and date, the same for
    /// every sketch.
    package var isArduino: Bool { project == "arduino-lib-builder" || version.hasPrefix("esp-idf: ") }
}

/// Text on one line that steers no terminal: control characters and what is not UTF-8 are written as their numbers.
func printable(_ bytes: ArraySlice<UInt8>) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
        return bytes.map { 0x20..<0x7F ~= $0 ? String(UnicodeScalar($0)) : "\\x\(digits($0, 2))" }.joined()
    }
    return text.unicodeScalars.map { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
            "\\u{\(digits(scalar.value, 1))}"
        default: String(scalar)
        }
    }.joined()
}

/// Hexadecimal digits, at least `count`.
func digits(_ number: some BinaryInteger, _ count: Int) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: max(0, count - text.count)) + text
}

/// `0x3c000020`
func address(_ number: some BinaryInteger, digits count: Int = 1) -> String { "0x\(digits(number, count))" }
