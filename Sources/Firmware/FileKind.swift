/// What a file is, told by its first bytes and a few places further on.
package enum FileKind: Sendable, Equatable {
    case application
    /// For esp_delta_ota: what to change in a running image, known by its appended SHA-256.
    case deltaPatch(base: [UInt8])
    /// For esp_encrypted_img: `bytes` of an image behind a header, for the device's key.
    case encryptedImage(bytes: Int)

    case bootloader
    /// A whole flash. The places of its parts; `application` nil where its table names none.
    case mergedImage(bootloader: Int, table: Int, application: Int?)
    case partitionTable
    case esp8266
    case nvs
    case otadata
    case littleFS
    case elf
    case gzip
    case zlib
    case zip
    case intelHex
    case uf2
    case webPage
    case text
    case empty
    /// Nothing but 0xFF at its beginning.
    case erased
    /// At most its first four bytes.
    case unknown([UInt8])

    /// Whether devices can be given it.
    package var isFirmware: Bool {
        switch self {
        case .application, .deltaPatch, .encryptedImage: true
        default: false
        }
    }

    /// For programs; stays what it is.
    package var name: String {
        switch self {
        case .application: "application"
        case .deltaPatch: "delta_patch"
        case .encryptedImage: "encrypted_image"
        case .bootloader: "bootloader"
        case .mergedImage: "merged_image"
        case .partitionTable: "partition_table"
        case .esp8266: "esp8266"
        case .nvs: "nvs"
        case .otadata: "otadata"
        case .littleFS: "littlefs"
        case .elf: "elf"
        case .gzip: "gzip"
        case .zlib: "zlib"
        case .zip: "zip"
        case .intelHex: "intel_hex"
        case .uf2: "uf2"
        case .webPage: "web_page"
        case .text: "text"
        case .empty: "empty"
        case .erased: "erased"
        case .unknown: "unknown"
        }
    }

    /// For people: what it is, and what is wanted instead where that can be told.
    package var description: String {
        switch self {
        case .application: "an application"
        case .deltaPatch(let base): "a delta patch (esp_delta_ota) for the image with the hash \(shortHash(base))"
        case .encryptedImage: "an encrypted image (esp_encrypted_img)"
        case .bootloader: "a bootloader"
        case .mergedImage(let bootloader, let table, let application):
            "a whole flash in one file (bootloader at \(address(bootloader)), partition table at \(address(table)))"
                + (application.map { ": its application lies at \(address($0))" } ?? "")
        case .partitionTable: "a partition table"
        case .esp8266: "an image for an ESP8266"
        case .nvs: "an NVS partition"
        case .otadata: "the otadata partition, which says what to boot (boot_app0.bin)"
        case .littleFS: "a LittleFS file system"
        case .elf: "an ELF file: esptool elf2image makes the image from it"
        case .gzip: "a gzip archive"
        case .zlib: "something compressed (zlib)"
        case .zip: "a zip archive"
        case .intelHex: "Intel HEX"
        case .uf2: "a UF2 file"
        case .webPage: "a web page: probably an error or a log-in was saved in its place"
        case .text: "text"
        case .empty: "an empty file"
        case .erased: "erased flash, at its beginning at least"
        case .unknown(let bytes):
            "something unknown (it begins with \(bytes.map { digits($0, 2) }.joined(separator: " ")))"
        }
    }
}

private func shortHash(_ hash: [UInt8]) -> String { hash.prefix(6).map { digits($0, 2) }.joined() + "..." }

// MARK: - Telling them apart

extension FileKind {
    /// Bytes that are looked at first.
    private static let headBytes = 4096
    /// Where bootloaders lie: 0x1000 on ESP32 and S2, 0x2000 on P4, C5, H4 and S31, else 0.
    private static let bootloaders = [0, 0x1000, 0x2000]
    /// Where partition tables lie: 0x8000, unless somebody has chosen another sector.
    private static let tables = stride(from: 0x8000, through: 0x20000, by: 0x1000)

    /// An image of which the header says no more is `.application` here, though it may be a bootloader's.
    init(_ source: borrowing some ImageSource & ~Copyable) throws(ReadFailure) {
        let head = try source.readUpTo(Self.headBytes, at: 0)
        switch head.first {
        case nil: self = .empty
        case ImageHeader.magic:
            if isESP8266(head) {
                self = .esp8266
            } else if head.has(AppDescriptor.magic, at: AppDescriptor.offset) {
                self = .application
            } else {
                self = try Self.merged(source) ?? .application
            }
        case 0xFF: self = try Self.merged(source) ?? Self.inFlash(head, of: source.count) ?? .erased
        default: self = Self.firmware(head) ?? Self.inFlash(head, of: source.count) ?? Self.foreign(head)
        }
    }

    private static func merged(_ source: borrowing some ImageSource & ~Copyable) throws(ReadFailure) -> FileKind? {
        for table in tables where table < source.count {
            guard PartitionEntry(try source.readUpTo(PartitionEntry.bytes, at: table)) != nil else { continue }
            for bootloader in bootloaders
            where try source.readUpTo(1, at: bootloader) == [ImageHeader.magic] {
                let entries = try source.readUpTo(PartitionEntry.tableBytes, at: table)
                return .mergedImage(
                    bootloader: bootloader, table: table, application: PartitionEntry.firstApplication(in: entries))
            }
        }
        return nil
    }

    private static func firmware(_ head: [UInt8]) -> FileKind? {
        if head.count >= DeltaHeader.bytes, head.has(DeltaHeader.magic) {
            return .deltaPatch(base: Array(head[DeltaHeader.base]))
        }
        if head.count >= EncryptedHeader.bytes, head.has(EncryptedHeader.magic) {
            return .encryptedImage(bytes: Int(head.uint32(at: EncryptedHeader.length)))
        }
        return nil
    }

    /// Other parts of a flash. `count`: of the whole file, bytes.
    private static func inFlash(_ head: [UInt8], of count: Int) -> FileKind? {
        if PartitionEntry(Array(head.prefix(PartitionEntry.bytes))) != nil { return .partitionTable }
        if isNVS(head) { return .nvs }
        if count == 0x2000, isOTAData(head) { return .otadata }
        return head.has(Array("littlefs".utf8), at: 8) ? .littleFS : nil
    }

    private static func foreign(_ head: [UInt8]) -> FileKind {
        switch head[0] {
        case 0xEA: return .esp8266
        case 0x7F where head.has(Array("\u{7F}ELF".utf8)): return .elf
        case 0x1F where head.has([0x1F, 0x8B]): return .gzip
        case 0x78 where head.count > 1 && (0x7800 | UInt16(head[1])).isMultiple(of: 31): return .zlib  // RFC 1950, 2.2
        case UInt8(ascii: "P") where head.has(Array("PK\u{3}\u{4}".utf8)): return .zip
        case UInt8(ascii: "U") where head.has(Array("UF2\n".utf8)): return .uf2
        case UInt8(ascii: ":") where isIntelHex(head): return .intelHex
        default: break
        }
        let text = head.drop { $0 == 0x20 || (0x09...0x0D).contains($0) || [0xEF, 0xBB, 0xBF].contains($0) }
        let isText = head.allSatisfy { $0 >= 0x20 && $0 != 0x7F || (0x09...0x0D).contains($0) }
        if isText, text.first == UInt8(ascii: "<") { return .webPage }
        return isText && head.count >= 8 ? .text : .unknown(Array(head.prefix(4)))
    }
}

/// The header of a patch: a magic number, the hash, zeros (esp_delta_ota).
private enum DeltaHeader {
    static let bytes = 64
    static let magic: [UInt8] = [0x10, 0xDE, 0xCD, 0xFC]
    static let base = 4..<36
}

/// The header of an encrypted image: a magic number, the encrypted key, the nonce, the length, the tag, zeros
/// (esp_encrypted_img).
enum EncryptedHeader {
    static let bytes = 512
    static let magic: [UInt8] = [0xCF, 0xB6, 0x88, 0x07]
    static let length = 404
}

/// A line of a partition table (partition-tables.rst): a magic number, type, subtype, place, size, name, flags.
private struct PartitionEntry {
    static let bytes = 32
    /// Of the longest table.
    static let tableBytes = 0xC00

    let isApplication: Bool
    let offset: Int

    /// Nil for what is none, or lies where no partition can.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.bytes, bytes.has([0xAA, 0x50]) else { return nil }
        isApplication = bytes[2] == 0
        offset = Int(bytes.uint32(at: 4))
        let size = bytes.uint32(at: 8)
        guard offset.isMultiple(of: 0x1000), offset > 0, size > 0, size <= 1 << 28 else { return nil }
    }

    static func firstApplication(in table: [UInt8]) -> Int? {
        for start in stride(from: 0, to: table.count, by: bytes) {
            guard let entry = PartitionEntry(Array(table[start...].prefix(bytes))) else { return nil }
            if entry.isApplication { return entry.offset }
        }
        return nil
    }
}

/// An image of the first version: its first segment follows eight bytes behind the beginning, and goes to the RAM or the
/// flash of that chip; an ESP32 has pins and a chip's number there.
private func isESP8266(_ head: [UInt8]) -> Bool {
    guard head.count >= 16 else { return false }
    return (0x3FFE_0000..<0x4030_0000).contains(head.uint32(at: 8)) && (1...16).contains(head[1])
        && (0x4010_0000..<0x4030_0000).contains(head.uint32(at: 4))
}

/// A page of NVS (nvs_flash.rst): active or full, a version, and nothing where nothing is.
private func isNVS(_ head: [UInt8]) -> Bool {
    guard head.count >= 32, [0xFFFF_FFFE, 0xFFFF_FFFC].contains(head.uint32(at: 0)) else { return false }
    return head[8] >= 0xFE && head[9..<28].allSatisfy { $0 == 0xFF }
}

/// A sector with one entry of 32 bytes (ota.rst): which application, a label that is never set, its state, a CRC.
private func isOTAData(_ head: [UInt8]) -> Bool {
    guard head.count == 4096 else { return false }
    let isErased = head[32...].allSatisfy { $0 == 0xFF }
    let state = head.uint32(at: 24)
    return isErased && (state <= 4 || state == .max)
}

private func isIntelHex(_ head: [UInt8]) -> Bool {
    let line = head.dropFirst().prefix { $0 != 0x0A && $0 != 0x0D }
    return line.count >= 10 && line.allSatisfy { Character(UnicodeScalar($0)).isHexDigit }
}
