import Cryptography
import Firmware
import FirmwareImages
import Testing

func analysis(_ bytes: [UInt8], _ expecting: Expectations = Expectations()) throws -> ImageAnalysis {
    try ImageAnalysis(of: ImageBytes(bytes), expecting: expecting)
}

extension ImageAnalysis {
    /// `error checksum`, in order.
    var summary: [String] { findings.map { "\($0.severity.rawValue) \($0.code.rawValue)" } }
}

@Suite struct `An application image` {
    @Test func `is what the golden example says, byte for byte`() throws {
        let bytes = ImageBuilder().bytes()
        #expect(bytes.count == 464 && bytes[431] == 0x80)
        #expect(
            hexadecimal(bytes.prefix(52))
                == "e902022000403740ee00000009000000"
                + "00c70000000000012000003c4001000032"
                + "54cdab000000000000000000000000" + "312e322e")
        #expect(
            hexadecimal(sha256(bytes)) == "c7cc4c88f4e6d0428624621aafc2b84ba936dd84f3d059b49c749fc62ce8b545")
        let analysis = try analysis(bytes)
        #expect(analysis.kind == .application && analysis.isSound && analysis.findings.isEmpty, "\(analysis.summary)")
        #expect(analysis.digest == sha256(bytes) && analysis.bytes == 464)
        #expect(analysis.checksum?.stored == 0x80 && analysis.checksum?.isRight == true)
        #expect(
            analysis.hash.map { hexadecimal($0.stored) }
                == "54dcdf6e2c513eb62f7633e7439e2d726fabe991ffbfd4c5be7a370fd89a2a65")
        #expect(analysis.hash?.isRight == true && analysis.layout?.ending?.end == 464)
        #expect(analysis.version == FirmwareVersion("1.2.3"))
    }

    @Test func `may do without a hash`() throws {
        var builder = ImageBuilder()
        builder.hashFlag = 0
        let bytes = builder.bytes()
        #expect(
            bytes.count == 432
                && hexadecimal(sha256(bytes)) == "24462c75cc2beec3efeba8ae4a093435064b87d135785130fa91934b30426f35")
        let analysis = try analysis(bytes)
        #expect(analysis.summary == ["warning no_hash"] && analysis.isSound && analysis.hash == nil)
    }

    @Test(arguments: ImageBuilder.chips.map(\.name)) func `is read for every chip`(_ name: String) throws {
        let chip = try #require(Chip(name: name))
        #expect(chip.name == name && Chip(name: name.lowercased().filter { $0 != "-" }) == chip)
        var expecting = Expectations()
        expecting.chip = chip
        let large = try analysis(ImageBuilder.large(name).bytes(), expecting)
        #expect(large.findings.isEmpty, "\(large.findings)")
        #expect(large.layout?.header.chip == chip)
        #expect(large.layout?.segments.map(\.isMapped) == [true, false, false, true])
        for other in Chip.allCases where other != chip {
            expecting.chip = other
            #expect(try analysis(ImageBuilder(chip: name).bytes(), expecting).summary == ["error chip_mismatch"])
        }
    }

    @Test func `has fields that are all read`() throws {
        var builder = ImageBuilder.large()
        (builder.minimumRevision, builder.maximumRevision) = (102, 399)
        (builder.flashMode, builder.flashSpeedAndSize) = (0, 0x4F)
        (builder.secureVersion, builder.minimumBlockRevision, builder.maximumBlockRevision) = (7, 1, 199)
        let analysis = try analysis(builder.bytes())
        let header = try #require(analysis.layout?.header)
        #expect(header.minimumRevision == 102 && header.maximumRevision == 399 && header.entry == 0x4037_4000)
        #expect(header.flashModeName == "QIO" && header.flashDivider == 1 && header.flashBytes == 16 << 20)
        let descriptor = try #require(analysis.descriptor)
        #expect(descriptor.project == "martlet-fixture" && descriptor.frameworkVersion == "v5.4.1")
        #expect(descriptor.time == "12:00:00" && descriptor.date == "Jan  1 2026")
        #expect(descriptor.elfDigest == [UInt8](repeating: 0x11, count: 32) && descriptor.secureVersion == 7)
        #expect(descriptor.minimumBlockRevision == 1 && descriptor.maximumBlockRevision == 199)
        #expect(descriptor.pageBytes == 65536)
    }

    @Test func `of older tools has only the major revision of its ESP32`() throws {
        var builder = ImageBuilder(chip: "ESP32")
        (builder.legacyRevision, builder.maximumRevision) = (3, 0)
        let header = try #require(try analysis(builder.bytes()).layout?.header)
        #expect(header.minimumRevision == 300 && header.maximumRevision == nil)
    }

    @Test func `says which chip it is for, though nobody here knows that one`() throws {
        var builder = ImageBuilder()
        builder.chip = 77
        #expect(try analysis(builder.bytes()).summary == ["warning chip_unknown"])
        builder.chip = 0xFFFF
        #expect(try analysis(builder.bytes()).summary == ["error chip_invalid"])
    }

    private static let defects: [(String, @Sendable (inout ImageBuilder) -> Void, [String])] = [
        ("no segments", { $0.segmentCount = 0 }, ["error segment_count"]),
        ("17 segments", { $0.segmentCount = 17 }, ["error segment_count"]),
        ("a length that is no multiple of four", { $0.segments[1].data.removeLast() }, ["error segment_length"]),
        ("a hash flag of 2", { $0.hashFlag = 2 }, ["error hash_flag"]),
        ("an unknown flash mode", { $0.flashMode = 6 }, ["warning header_field"]),
        (
            "an unknown flash speed and size", { $0.flashSpeedAndSize = 0x83 },
            ["warning header_field", "warning header_field"]
        ),
        ("no possible chip revision", { $0.minimumRevision = 200 }, ["error chip_revisions"]),
        ("no possible block revision", { $0.minimumBlockRevision = 100 }, ["error chip_revisions"]),
        ("a secure version above its chip's", { $0.secureVersion = 17 }, ["warning secure_version"]),
        ("a segment beside its place in a page", { $0.segments[0].address += 4 }, ["error segment_alignment"]),
        ("no descriptor", { $0.hasDescriptor = false }, ["warning no_descriptor", "warning version_missing"]),
        (
            "a version that can be no name", { $0.version = "feature/../x" },
            ["warning version_unusable", "warning version_missing"]
        ),
        (
            "a version that is no text", { $0.versionBytes = [UInt8](repeating: 0xC3, count: 32) },
            ["warning version_unusable", "warning version_missing"]
        ),
    ]

    @Test(arguments: defects.indices) func `with a defect has the finding that names it`(_ index: Int) throws {
        let (name, defect, summary) = Self.defects[index]
        var builder = ImageBuilder()
        defect(&builder)
        let analysis = try analysis(builder.bytes())
        #expect(analysis.summary == summary, "\(name)")
        #expect(analysis.isSound == !summary.contains { $0.hasPrefix("error") })
        #expect(analysis.findings.allSatisfy { !$0.text.isEmpty && !$0.text.contains(where: \.isNewline) })
    }

    @Test func `may be mapped by smaller pages`() throws {
        var builder = ImageBuilder(chip: "ESP32-C2")
        builder.pageSize = 14
        builder.segments[0].address += 0x4000
        #expect(try analysis(builder.bytes()).findings.isEmpty)
        builder.pageSize = 15
        #expect(try analysis(builder.bytes()).summary == ["error segment_alignment"])
        // Older builds do not say: what would be right for the smallest pages of the chip has to do.
        builder.pageSize = 0
        #expect(try analysis(builder.bytes()).findings.isEmpty)
        builder.segments[0].address += 0x2000
        #expect(try analysis(builder.bytes()).summary == ["error segment_alignment"])
        // The ESP32-S3 has none that are smaller than 64 KB, whatever is written.
        var other = ImageBuilder(chip: "ESP32-S3")
        other.segments[0].address += 0x4000
        for pageSize in [0, 14, 16] as [UInt8] {
            other.pageSize = pageSize
            #expect(try analysis(other.bytes()).summary == ["error segment_alignment"])
        }
    }

    @Test func `is refused where a bit of it has changed`() throws {
        let sound = ImageBuilder().bytes()
        for (offset, summary) in [
            (0x150, ["error checksum", "error hash"]), (431, ["error checksum", "error hash"]), (440, ["error hash"]),
            (4, ["error hash"]), (425, ["error hash"]),
        ] {
            var bytes = sound
            bytes[offset] ^= 0x10
            #expect(try analysis(bytes).summary == summary, "\(offset)")
        }
    }

    @Test func `has a segment below 16 MB`() throws {
        var bytes = ImageBuilder().bytes()
        bytes.replaceSubrange(28..<32, with: little(UInt32(16 << 20)))
        #expect(try analysis(bytes).summary == ["error segment_length"])
        bytes.replaceSubrange(28..<32, with: little(UInt32.max - 3))
        #expect(try analysis(bytes).summary == ["error segment_length"])
    }

    @Test func `that is cut off says how much is missing, wherever that is`() throws {
        let sound = ImageBuilder().bytes()
        for count in 1..<sound.count {
            let analysis = try analysis(Array(sound.prefix(count)))
            let truncation = try #require(analysis.findings.first { $0.code == .truncated }, "\(count)")
            #expect(truncation.severity == .error)
            // From the last segment on it is known exactly.
            if count >= 360 {
                #expect(truncation.text.hasSuffix(": \(sound.count - count) byte\(count == 463 ? "" : "s") missing"))
            } else {
                #expect(truncation.text.contains("at least "))
            }
        }
    }

    @Test func `with something behind it says so`() throws {
        let sound = ImageBuilder().bytes()
        #expect(try analysis(sound + [1]).summary == ["warning trailing_data"])
        #expect(try analysis(sound + [0xFF, 0xFF]).summary == ["note trailing_data"])
        #expect(
            try analysis(sound + [UInt8](repeating: 0xFF, count: 200_000) + [0]).summary == ["warning trailing_data"])
    }

    @Test func `has to fit`() throws {
        let bytes = ImageBuilder.large().bytes()
        var expecting = Expectations()
        expecting.partitionBytes = bytes.count
        #expect(try analysis(bytes, expecting).findings.isEmpty)
        expecting.partitionBytes = bytes.count - 1
        #expect(try analysis(bytes, expecting).summary == ["error too_large"])
        expecting.partitionBytes = nil
        expecting.flashBytes = 2 << 20
        #expect(try analysis(bytes, expecting).summary == ["warning flash_size"])
        expecting.flashBytes = bytes.count + 100
        #expect(try analysis(bytes, expecting).summary == ["warning flash_size", "warning too_large"])
        expecting.flashBytes = bytes.count - 100
        #expect(try analysis(bytes, expecting).summary == ["warning flash_size", "error too_large"])
    }

    @Test func `is read from a file a piece at a time`() throws {
        /// Notes the longest read.
        final class Reads: Sendable, ImageSource {
            let bytes: [UInt8]
            nonisolated(unsafe) var longest = 0
            init(_ bytes: [UInt8]) { self.bytes = bytes }
            var count: Int { bytes.count }
            func read(_ range: Range<Int>) throws(ReadFailure) -> [UInt8] {
                longest = max(longest, range.count)
                return Array(bytes[range])
            }
        }
        let source = Reads(ImageBuilder.large(codeBytes: 1_000_000).bytes())
        let analysis = try ImageAnalysis(of: source)
        #expect(analysis.isSound && analysis.digest == sha256(source.bytes))
        #expect(source.longest == Limits.readBytes)
    }
}

@Suite struct `The version of a firmware` {
    @Test func `is its descriptor's, or what is declared`() throws {
        var expecting = Expectations()
        expecting.declaredVersion = FirmwareVersion("1.2.3")
        #expect(try analysis(ImageBuilder().bytes(), expecting).findings.isEmpty)
        expecting.declaredVersion = FirmwareVersion("v1.2.3")
        #expect(try analysis(ImageBuilder().bytes(), expecting).findings.isEmpty)
        expecting.declaredVersion = FirmwareVersion("1.2.4")
        let analysis = try analysis(ImageBuilder().bytes(), expecting)
        #expect(analysis.summary == ["warning version_mismatch"] && analysis.version == FirmwareVersion("1.2.4"))
        #expect(analysis.embeddedVersion == FirmwareVersion("1.2.3"))
    }

    @Test func `of a sketch is not in its descriptor`() throws {
        var builder = ImageBuilder(chip: "ESP32")
        (builder.version, builder.project) = ("esp-idf: v4.4.7 38eeba213a", "arduino-lib-builder")
        var expecting = Expectations()
        #expect(try analysis(builder.bytes(), expecting).summary == ["note arduino", "warning version_missing"])
        expecting.declaredVersion = FirmwareVersion("2.0")
        let analysis = try analysis(builder.bytes(), expecting)
        #expect(analysis.summary == ["note arduino"] && analysis.version?.text == "2.0")
    }

    @Test(arguments: [
        "1.2.0", "v1.2.0", "2026.01.05", "1.0.0-rc.1+build.5", "a", String(repeating: "9", count: 32), "-",
    ])
    func `is made of few characters`(_ text: String) throws {
        let version = try #require(FirmwareVersion(text))
        #expect(version.text == text && version.directoryName.hasPrefix("v"))
        #expect(!version.directoryName.contains("/") && !version.directoryName.hasPrefix("."))
    }

    @Test(arguments: [
        "", ".", "..", ".1", "1/2", "../x", "1 2", "1\n", "1\0", "é", String(repeating: "9", count: 33), "a:b", "~",
        "%2e",
    ])
    func `is none with others`(_ text: String) {
        #expect(FirmwareVersion(text) == nil)
    }

    @Test func `is the same with a v`() throws {
        let (one, other) = (try #require(FirmwareVersion("v1.2.0")), try #require(FirmwareVersion("1.2.0")))
        #expect(one == other && one.hashValue == other.hashValue && one.directoryName == "v1.2.0")
        #expect(other.directoryName == "v1.2.0" && FirmwareVersion("vega")?.directoryName == "vvega")
    }

    /// Each is older than the next.
    private static let ascending = [
        "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
        "1.0.0-rc.1", "1.0.0-rc.1-3-gabc1234", "v1.0.0", "1.0.0-1-g0a1b2c3", "1.0.0-12-g0a1b2c3-dirty", "1.0.1", "1.2",
        "1.10.0", "2", "2026.01.05", "2026.1.6", "99999999999999999999999.0",
    ]

    @Test func `has an order`() throws {
        let versions = try Self.ascending.map { try #require(FirmwareVersion($0)) }
        for (index, version) in versions.enumerated() {
            #expect(version.order(against: version) == .same)
            for later in versions[(index + 1)...] {
                #expect(version.order(against: later) == .older, "\(version) \(later)")
                #expect(later.order(against: version) == .newer, "\(later) \(version)")
            }
        }
    }

    @Test(arguments: [
        ("1.2.0", "main"), ("g1", "g2"), ("1.2.0+a", "1.2.0+b"), ("1.2.0", "1.2.0-dirty"), ("1..2", "1.2"),
    ])
    func `has none where its form does not tell`(_ one: String, _ other: String) throws {
        let (one, other) = (try #require(FirmwareVersion(one)), try #require(FirmwareVersion(other)))
        #expect(one.order(against: other) == nil && other.order(against: one) == nil)
    }
}
