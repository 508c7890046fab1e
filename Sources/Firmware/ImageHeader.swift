/// The first 24 bytes of an image (app_image_format.rst, esp_image_header_t).
package struct ImageHeader: Sendable, Equatable {
    static let bytes = 24
    static let magic: UInt8 = 0xE9
    package static let segments = 1...16

    /// As it is written: 1 to 16 in a sound image.
    package let segmentCount: Int
    package let flashMode: UInt8
    /// The low half of byte 3: how the clock is divided.
    package let flashSpeed: UInt8
    /// The high half of byte 3: 0 stands for 1 MB, each further one for twice as much.
    package let flashSize: UInt8
    package let entry: UInt32
    package let chipNumber: UInt16
    /// Major times 100 plus minor. ESP32 images of older tools have only the major one, in a byte of its own.
    package let minimumRevision: UInt16
    /// Nil: any.
    package let maximumRevision: UInt16?
    /// 0, or 1 where a SHA-256 lies behind the image.
    package let hashFlag: UInt8

    /// `bytes`: 24.
    init(_ bytes: [UInt8]) {
        segmentCount = Int(bytes[1])
        flashMode = bytes[2]
        flashSpeed = bytes[3] & 15
        flashSize = bytes[3] >> 4
        entry = bytes.uint32(at: 4)
        chipNumber = bytes.uint16(at: 12)
        let full = bytes.uint16(at: 15)
        minimumRevision = full == 0 ? UInt16(bytes[14]) * 100 : full
        maximumRevision = setRevision(bytes.uint16(at: 17))
        hashFlag = bytes[23]
    }

    package var chip: Chip? { Chip(rawValue: chipNumber) }

    /// `ESP32-S3`, or the number.
    package var chipName: String { chip?.name ?? "chip \(chipNumber)" }

    /// Nil for a number that stands for nothing.
    package var flashModeName: String? {
        let names = ["QIO", "QOUT", "DIO", "DOUT", "FAST", "SLOW"]
        return Int(flashMode) < names.count ? names[Int(flashMode)] : nil
    }

    /// What the clock of the flash is divided by; nil for a number that stands for nothing.
    package var flashDivider: Int? {
        switch flashSpeed {
        case 0...2: Int(flashSpeed) + 2
        case 15: 1
        default: nil
        }
    }

    /// 1 to 128 MB; nil for a number that stands for nothing.
    package var flashBytes: Int? { flashSize < 8 ? 1 << (20 + Int(flashSize)) : nil }
}

/// A revision that bounds something: 0 and 65535 bound nothing.
func setRevision(_ revision: UInt16) -> UInt16? { revision == 0 || revision == .max ? nil : revision }

/// `v1.3` for 103.
func revisionText(_ revision: UInt16) -> String { "v\(revision / 100).\(revision % 100)" }

/// A part of an image that is copied to memory, mapped, or skipped.
package struct Segment: Sendable, Equatable {
    static let headerBytes = 8
    /// What a segment stays below, bytes.
    static let bound = 16 << 20

    /// Where it is to be; 0 for padding.
    package let address: UInt32
    /// Where its data lies in the file.
    package let data: Range<Int>
    /// It stays in the flash, and is mapped from there.
    package let isMapped: Bool
}
