import Firmware
import FirmwareImages
import JSON
import Seeded
import Testing

/// Images that are cut, mutated and made up. Goal: whatever the bytes, the analysis ends, says what it says on one line
/// each, and what it calls sound has the right checksum and hash.
@Suite struct `Fuzzing images` {
    private static let corpus: [[UInt8]] =
        [ImageBuilder().bytes(), ImageBuilder(chip: "ESP32").bytes(), ImageBuilder.large(codeBytes: 4_000).bytes()]
        + LookAlike.all.map(\.bytes)
        + [LookAlike.delta([1, 2, 3]), LookAlike.encrypted([UInt8](repeating: 7, count: 300))] + signedImages

    private static let keys = SigningKey.Kind.secureBoot.compactMap { SigningKey.first[$0] }
    private static let signedImages = keys.map { signed(ImageBuilder().bytes(), [$0]) }

    /// Of the fields that decide how bytes are read.
    private static let boundaries = [
        0, 1, 2, 3, 4, 8, 12, 15, 17, 19, 23, 24, 28, 32, 36, 48, 80, 208, 212, 288, 352, 356, 360, 404, 424, 431, 432,
    ]
    private static let numbers: [UInt32] = [
        0, 1, 3, 4, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, .max, 16 << 20, (16 << 20) - 4, 0xABCD_5432,
    ]

    @Test(arguments: [1, 2, 3] as [UInt64]) func `never traps`(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var sound = 0
        for iteration in 0..<1_000 {
            var bytes = generator.element(of: Self.corpus)
            for _ in 0..<generator.below(4) { Self.mutate(&bytes, &generator) }
            if try look(at: bytes, &generator, "seed \(seed), iteration \(iteration)") { sound += 1 }
        }
        #expect((50..<950).contains(sound), "\(sound) sound")
    }

    @Test func `never traps on random bytes`() throws {
        var generator = SeededGenerator(seed: 4)
        for iteration in 0..<800 {
            var bytes = (0..<generator.below(700)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            if generator.happens(50), !bytes.isEmpty { bytes[0] = 0xE9 }
            _ = try look(at: bytes, &generator, "iteration \(iteration)")
        }
    }

    @Test func `never traps where a file ends`() throws {
        var generator = SeededGenerator(seed: 5)
        for bytes in Self.corpus {
            for boundary in Self.boundaries {
                for count in [boundary - 1, boundary, boundary + 1] where (0...bytes.count).contains(count) {
                    _ = try look(at: Array(bytes.prefix(count)), &generator, "\(count) bytes")
                }
            }
        }
    }

    @Test func `never traps on a signature, nor trusts one that was changed`() throws {
        var generator = SeededGenerator(seed: 6)
        let content = paddedToSector(ImageBuilder().bytes())
        let blocks = Self.keys.map { (key: $0, bytes: $0.block(for: content)) }
        for iteration in 0..<300 {
            let (key, block) = generator.element(of: blocks)
            var changed = block
            for _ in 0...generator.below(3) {
                // Most of what is behind the second signature is not used.
                changed[generator.below(1196)] = UInt8(truncatingIfNeeded: generator.next())
            }
            if generator.happens(80) { changed = SigningKey.withCRC(changed) }
            var expecting = Expectations()
            for key in Self.keys { try expecting.keys.add(pem: key.publicPEM) }
            let analysis = try analysis(sector(behind: content, [changed]), expecting)
            // Two bytes of the head mean nothing with RSA, one with ECDSA.
            let head = key.kind == .rsa3072 ? 0..<2 : 0..<3
            let rest: Range<Int> =
                switch key.kind {
                case .rsa3072: 4..<1196
                case .p384: 4..<245
                case .p256: 4..<165
                default: 4..<149
                }
            let isSame = block[head] == changed[head] && block[rest] == changed[rest]
            #expect(!analysis.isSound || isSame, "iteration \(iteration)")
        }
    }

    /// Whether it is sound.
    private func look(at bytes: [UInt8], _ generator: inout SeededGenerator, _ place: String) throws -> Bool {
        var expecting = Expectations()
        if generator.happens(50) { expecting.chip = .esp32s3 }
        if generator.happens(50) { expecting.partitionBytes = 1 + generator.below(1 << 20) }
        if generator.happens(50) { expecting.flashBytes = (1 << 20) << generator.below(4) }
        if generator.happens(50), let key = Self.keys.first { try expecting.keys.add(pem: key.publicPEM) }
        if generator.happens(20) { expecting.detachedSignature = Array(bytes.prefix(generator.below(128))) }
        if generator.happens(50) { expecting.declaredVersion = FirmwareVersion("1.2.3") }
        let analysis = try analysis(bytes, expecting)
        let isSane =
            analysis.lines.allSatisfy { !$0.contains(where: \.isNewline) } && !analysis.json.text.isEmpty
            && analysis.digest.count == 32 && analysis.bytes == bytes.count
            && (analysis.isSound ? analysis.checksum?.isRight != false && analysis.hash?.isRight != false : true)
            && (expecting.keys.isEmpty || !analysis.isSound || analysis.signature?.state == .trusted)
            && (analysis.kind == .application && analysis.isSound ? analysis.checksum != nil : true)
        #expect(isSane, "\(place): \(analysis.findings)")
        return analysis.isSound
    }

    private static func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        guard !bytes.isEmpty else { return }
        let place = min(
            generator.happens(50) ? generator.element(of: boundaries) : generator.below(bytes.count), bytes.count - 1)
        switch generator.below(5) {
        case 0: bytes[place] ^= 1 << UInt8(generator.below(8))
        case 1: bytes[place] = UInt8(truncatingIfNeeded: generator.next())
        case 2:
            let number = little(generator.element(of: numbers)).prefix(bytes.count - place)
            bytes.replaceSubrange(place..<(place + number.count), with: number)
        case 3: bytes.removeLast(bytes.count - place)
        default: bytes += generator.element(of: corpus).prefix(generator.below(5_000))
        }
    }
}
