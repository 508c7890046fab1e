import Firmware
import FirmwareImages
import Testing

/// Files that people hand in by mistake.
enum LookAlike {
    static func erased(_ count: Int) -> [UInt8] { [UInt8](repeating: 0xFF, count: count) }

    static func bootloader(descriptor: Bool = true, chip: String = "ESP32-S3") -> [UInt8] {
        var builder = ImageBuilder(chip: chip)
        builder.hasDescriptor = false
        builder.segments = [
            .init(builder.segments[1].address, (descriptor ? [0x50] : [0x51]) + [UInt8](repeating: 0, count: 399)),
            .init(builder.segments[1].address + 0x8000, [UInt8](repeating: 0x33, count: 1000)),
        ]
        return builder.bytes()
    }

    static func partition(_ type: UInt8, _ subtype: UInt8, _ offset: UInt32, _ size: UInt32) -> [UInt8] {
        [0xAA, 0x50, type, subtype] + little(offset) + little(size) + padded(Array("name".utf8), 20)
    }

    static let partitionTable: [UInt8] = {
        let entries = partition(1, 2, 0x9000, 0x5000) + partition(1, 0, 0xE000, 0x2000)
        let bytes = entries + partition(0, 0x10, 0x10000, 0x100000)
        return bytes + erased(0xC00 - bytes.count)
    }()

    /// A whole flash: bootloader at `offset`, a table, an application.
    static func merged(_ chip: String, bootloader offset: Int, table: Int = 0x8000) -> [UInt8] {
        var bytes = erased(offset) + bootloader(chip: chip)
        bytes += erased(table - bytes.count) + partitionTable
        return bytes + erased(0x30000 - bytes.count) + ImageBuilder(chip: chip).bytes()
    }

    static let nvs: [UInt8] =
        little(UInt32(0xFFFF_FFFE)) + little(UInt32(0)) + [0xFE] + erased(19) + little(UInt32(0x1234_5678))
        + erased(0x5000 - 32)

    static let otadata: [UInt8] = little(UInt32(1)) + erased(24) + little(UInt32(0x4743_989A)) + erased(0x2000 - 32)

    static let esp8266: [UInt8] =
        [0xE9, 1, 2, 0x40] + little(UInt32(0x4010_F000)) + little(UInt32(0x4010_F000)) + little(UInt32(64))
        + [UInt8](repeating: 0x12, count: 100)

    static func delta(_ patch: [UInt8]) -> [UInt8] {
        [0x10, 0xDE, 0xCD, 0xFC] + (0..<32).map { $0 } + [UInt8](repeating: 0, count: 28) + patch
    }

    static func encrypted(_ image: [UInt8]) -> [UInt8] {
        [0xCF, 0xB6, 0x88, 0x07] + [UInt8](repeating: 0x5A, count: 384 + 16) + little(UInt32(image.count))
            + [UInt8](repeating: 0xA5, count: 16) + [UInt8](repeating: 0, count: 88) + image
    }

    static let all: [(name: String, bytes: [UInt8])] = [
        ("bootloader", bootloader()), ("bootloader", bootloader(descriptor: false)),
        ("merged_image", merged("ESP32", bootloader: 0x1000)), ("merged_image", merged("ESP32-C3", bootloader: 0)),
        ("merged_image", merged("ESP32-P4", bootloader: 0x2000)),
        ("merged_image", merged("ESP32-S3", bootloader: 0, table: 0x10000)),
        ("partition_table", partitionTable), ("esp8266", esp8266),
        ("esp8266", [0xEA, 4, 0, 0] + [UInt8](repeating: 1, count: 60)), ("nvs", nvs), ("otadata", otadata),
        ("littlefs", little(UInt32(1)) + little(UInt32(0xF0FF_FFF7)) + Array("littlefs".utf8) + erased(4000)),
        ("elf", [0x7F] + Array("ELF".utf8) + [1, 1, 1, 0]), ("gzip", [0x1F, 0x8B, 8, 0, 0, 0, 0, 0]),
        ("zlib", [0x78, 0x9C, 1, 2, 3]), ("zip", Array("PK\u{3}\u{4}rest".utf8)), ("uf2", Array("UF2\nWQ]".utf8)),
        ("intel_hex", Array(":020000040000FA\n:10000000E90202200040374000\n".utf8)),
        ("web_page", Array("<!DOCTYPE html>\n<html><body>404</body></html>".utf8)),
        ("web_page", [0xEF, 0xBB, 0xBF] + Array("\n <?xml version=\"1.0\"?><Error/>".utf8)),
        ("text", Array("{\"message\":\"not found\"}".utf8)), ("empty", []), ("erased", erased(5000)),
        ("erased", [0xFF]),
        ("unknown", [1, 2, 3]), ("unknown", [0]),
    ]
}

@Suite struct `What is no application` {
    @Test(arguments: LookAlike.all.indices) func `is recognised and refused`(_ index: Int) throws {
        let (name, bytes) = LookAlike.all[index]
        let analysis = try analysis(bytes)
        #expect(analysis.kind.name == name && analysis.summary == ["error wrong_kind"], "\(analysis.kind)")
        #expect(analysis.layout == nil && analysis.descriptor == nil && analysis.version == nil)
        #expect(!analysis.kind.isFirmware && !analysis.isSound)
        #expect(analysis.lines.allSatisfy { !$0.contains(where: \.isNewline) })
    }

    @Test func `says where the application lies in a whole flash`() throws {
        let analysis = try analysis(LookAlike.merged("ESP32", bootloader: 0x1000))
        #expect(analysis.kind == .mergedImage(bootloader: 0x1000, table: 0x8000, application: 0x10000))
        #expect(
            analysis.firstError?.text
                == "no application for an ESP32, but a whole flash in one file (bootloader at 0x1000, partition table at "
                + "0x8000): its application lies at 0x10000")
    }
}

@Suite struct `A delta patch` {
    @Test func `names the image that it is for`() throws {
        let analysis = try analysis(LookAlike.delta([1, 2, 3]))
        #expect(analysis.kind == .deltaPatch(base: (0..<32).map { $0 }) && analysis.isSound)
        #expect(analysis.summary == ["warning delta_patch", "warning version_missing"])
    }
}

@Suite struct `An encrypted image` {
    @Test func `is held against the length in its header`() throws {
        let bytes = LookAlike.encrypted([UInt8](repeating: 9, count: 1000))
        let warnings = ["warning encrypted_image", "warning version_missing"]
        #expect(try analysis(bytes).summary == warnings)
        #expect(try analysis(bytes + [1]).summary == [warnings[0], "warning trailing_data", warnings[1]])
        let short = try analysis(Array(bytes.dropLast(10)))
        #expect(short.summary == [warnings[0], "error truncated", warnings[1]])
        #expect(short.firstError?.text == "it is cut off: 10 bytes missing")
    }

    @Test func `takes as much of a partition as what is in it`() throws {
        var expecting = Expectations()
        expecting.partitionBytes = 1000
        expecting.declaredVersion = FirmwareVersion("1.0")
        let bytes = LookAlike.encrypted([UInt8](repeating: 9, count: 1000))
        #expect(try analysis(bytes, expecting).isSound)
        expecting.partitionBytes = 999
        #expect(try analysis(bytes, expecting).summary.contains("error too_large"))
    }
}
