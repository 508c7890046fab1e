import Cryptography

/// Writes images as esptool does, and wrong ones on request. It shares no code with what reads them.
package struct ImageBuilder: Sendable {
    package struct Segment: Sendable {
        package var address: UInt32
        package var data: [UInt8]

        package init(_ address: UInt32, _ data: [UInt8]) {
            self.address = address
            self.data = data
        }
    }

    /// The chips' numbers, and where each has flash mapped (that of data, at an offset of 0x20 in a page) and RAM.
    package static let chips: [(name: String, number: UInt16, flash: UInt32, memory: UInt32)] = [
        ("ESP32", 0, 0x3F40_0020, 0x3FFB_0000), ("ESP32-S2", 2, 0x3F00_0020, 0x3FFC_0000),
        ("ESP32-C3", 5, 0x3C00_0020, 0x3FC8_8000), ("ESP32-S3", 9, 0x3C00_0020, 0x3FC8_8000),
        ("ESP32-C2", 12, 0x3C00_0020, 0x3FCA_8000), ("ESP32-C6", 13, 0x4280_0020, 0x4080_0000),
        ("ESP32-H2", 16, 0x4280_0020, 0x4080_0000), ("ESP32-P4", 18, 0x4000_0020, 0x4FF4_0000),
        ("ESP32-C61", 20, 0x4200_0020, 0x4080_0000), ("ESP32-C5", 23, 0x4200_0020, 0x4080_0000),
        ("ESP32-H21", 25, 0x4200_0020, 0x4080_0000), ("ESP32-H4", 28, 0x4200_0020, 0x4080_0000),
        ("ESP32-E22", 31, 0x3C00_0020, 0x2000_0000), ("ESP32-S31", 32, 0x4000_0020, 0x2F00_0000),
    ]

    package var chip: UInt16 = 9
    package var segmentCount: UInt8?
    package var flashMode: UInt8 = 2
    package var flashSpeedAndSize: UInt8 = 0x20
    package var entry: UInt32 = 0x4037_4000
    package var legacyRevision: UInt8 = 0
    package var minimumRevision: UInt16 = 0
    package var maximumRevision: UInt16 = 199
    package var hashFlag: UInt8 = 1

    package var version = "1.2.3"
    package var project = "martlet-fixture"
    package var framework = "v5.4.1"
    package var secureVersion: UInt32 = 0
    package var minimumBlockRevision: UInt16 = 0
    package var maximumBlockRevision: UInt16 = 99
    package var pageSize: UInt8 = 16
    /// The version's bytes, where they are no text.
    package var versionBytes: [UInt8]?

    package var segments: [Segment]

    /// Two segments: one that is mapped and begins with a descriptor, one for RAM.
    package init(chip name: String = "ESP32-S3") {
        segments = []
        guard let chip = Self.chips.first(where: { $0.name == name }) else { return }
        self.chip = chip.number
        segments = [
            Segment(chip.flash, [UInt8](repeating: 0, count: 64)),
            Segment(chip.memory, [UInt8](repeating: 0xAA, count: 64)),
        ]
    }

    /// Without a descriptor the first segment is what it is.
    package var hasDescriptor = true

    package func descriptor() -> [UInt8] {
        var bytes: [UInt8] = [0x32, 0x54, 0xCD, 0xAB]
        bytes += little(secureVersion) + [UInt8](repeating: 0, count: 8)
        bytes += padded(versionBytes ?? Array(version.utf8), 32) + padded(Array(project.utf8), 32)
        bytes += padded(Array("12:00:00".utf8), 16) + padded(Array("Jan  1 2026".utf8), 16)
        bytes += padded(Array(framework.utf8), 32) + [UInt8](repeating: 0x11, count: 32)
        bytes += little(minimumBlockRevision) + little(maximumBlockRevision) + [pageSize]
        return padded(bytes, 256)
    }

    /// Everything up to the checksum.
    package func body() -> [UInt8] {
        var bytes: [UInt8] = [
            0xE9, segmentCount ?? UInt8(segments.count), flashMode, flashSpeedAndSize,
        ]
        bytes += little(entry) + [0xEE, 0, 0, 0] + little(chip) + [legacyRevision]
        bytes += little(minimumRevision) + little(maximumRevision) + [0, 0, 0, 0, hashFlag]
        for (number, segment) in segments.enumerated() {
            let data = (number == 0 && hasDescriptor ? descriptor() : []) + segment.data
            bytes += little(segment.address) + little(UInt32(data.count)) + data
        }
        return bytes
    }

    package func bytes() -> [UInt8] {
        var bytes = body()
        var checksum: UInt8 = 0xEF
        for (number, segment) in segments.enumerated() {
            if number == 0, hasDescriptor { checksum = descriptor().reduce(checksum, ^) }
            checksum = segment.data.reduce(checksum, ^)
        }
        bytes += [UInt8](repeating: 0, count: 15 - bytes.count % 16) + [checksum]
        return hashFlag == 1 ? bytes + sha256(bytes) : bytes
    }

    /// A realistic one: code is mapped too, behind padding that puts it in its place.
    package static func large(_ name: String = "ESP32-S3", codeBytes: Int = 200_000) -> ImageBuilder {
        var builder = ImageBuilder(chip: name)
        let flash = builder.segments[0].address
        let offset = builder.body().count + 8
        let padding = 0x10000 - offset % 0x10000 + 0x20 - 8
        builder.segments.append(Segment(0, [UInt8](repeating: 0, count: padding)))
        builder.segments.append(Segment(flash + 0x10_0000, (0..<codeBytes).map { UInt8(truncatingIfNeeded: $0 * 7) }))
        return builder
    }
}

/// What is put behind it up to a multiple of 4096 bytes, before it is signed (secure-boot-v2.rst).
package func paddedToSector(_ image: [UInt8]) -> [UInt8] {
    image + [UInt8](repeating: 0xFF, count: (4096 - image.count % 4096) % 4096)
}

package func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<(Number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> Number(8 * $0)) }
}

package func padded(_ bytes: [UInt8], _ count: Int) -> [UInt8] {
    bytes.prefix(count) + [UInt8](repeating: 0, count: max(0, count - bytes.count))
}
