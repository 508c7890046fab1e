import MQTT
import Seeded
import Testing

/// Mutated packets of `CodecTable`. Goal: whatever bytes come, decoding ends with a value, an error or the wish for
/// more, and never with a trap; and a value survives being encoded and decoded again. Method: each batch is a seed, which
/// decides everything and stands in the message of a failure; it runs in a process of its own, so that a trap fails the
/// test that names its seed.
@Suite struct `Fuzzing the codec` {
    static let batches = 10
    static let mutations = 20_000

    @Test(arguments: 1...UInt64(batches))
    func `never traps, and decodes again what it encodes [MQTT-4.8.0-1]`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var (generator, decoded) = (SeededGenerator(seed: seed), 0)
            for index in 0..<`Fuzzing the codec`.mutations {
                let bytes = PacketMutation.next(&generator)
                let version: ProtocolVersion = index.isMultiple(of: 4) ? .mqtt31 : .mqtt311
                if let problem = codecProblem(with: bytes, version: version, decoded: &decoded) {
                    Issue.record("seed \(seed), mutation \(index), version \(version): \(problem): \(hexText(bytes))")
                    return
                }
            }
            #expect(decoded > `Fuzzing the codec`.mutations / 10, "seed \(seed): only \(decoded) packets decode")
        }
    }
}

/// What is wrong with how `bytes` decode, if anything is; counts the packets that do decode.
private func codecProblem(with bytes: [UInt8], version: ProtocolVersion, decoded: inout Int) -> String? {
    var offset = 0
    while true {
        let start = offset
        guard let packet = try? ControlPacket.next(in: bytes, at: &offset, version: version) else {
            return (start...bytes.count).contains(offset) ? nil : "the offset left the bytes"
        }
        guard offset > start, offset <= bytes.count else { return "the offset went from \(start) to \(offset)" }
        decoded += 1
        var encoded: [UInt8] = []
        packet.encode(into: &encoded)
        var end = 0
        guard let again = try? ControlPacket.next(in: encoded, at: &end), again == packet, end == encoded.count else {
            return "\(packet) becomes \(hexText(encoded))"
        }
    }
}

private enum PacketMutation {
    private static let corpus = CodecTable.validRows.map(\.bytes)
    private static let spliced = CodecTable.rows.map(\.bytes)
    private static let interestingBytes = hex("00 01 02 03 04 05 7F 80 81 BF C0 C2 E0 ED EF F0 F4 FF '+#/$'")
    private static let interestingLengths = [0, 1, 2, 3, 4, 127, 128, 255, 256, 16_383, 16_384, 65_534, 65_535]

    /// A packet mutated once or a few times; half of the time the Remaining Length is put right again, so that what is
    /// wrong lies deeper.
    static func next(_ generator: inout SeededGenerator) -> [UInt8] {
        var bytes = generator.element(of: corpus)
        repeat { mutate(&bytes, &generator) } while generator.below(2) == 0
        return generator.below(2) == 0 ? reframed(bytes) : bytes
    }

    private static func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        guard !bytes.isEmpty else {
            bytes = generator.element(of: corpus)
            return
        }
        let index = generator.below(bytes.count)
        switch generator.below(8) {
        case 0: bytes[index] ^= 1 << generator.below(8)
        case 1: bytes[index] = generator.element(of: interestingBytes)
        case 2: bytes.insert(UInt8(generator.below(256)), at: index)
        case 3: bytes.insert(generator.element(of: interestingBytes), at: index)
        case 4: bytes.removeSubrange(index..<min(bytes.count, index + 1 + generator.below(4)))
        case 5:
            let other = generator.element(of: spliced)
            bytes.replaceSubrange(index..., with: other[generator.below(other.count)...])
        case 6: bytes += generator.element(of: spliced)
        default: lie(in: &bytes, at: index, &generator)
        }
    }

    /// A length that is not true: of the packet, or of what may be a field.
    private static func lie(in bytes: inout [UInt8], at index: Int, _ generator: inout SeededGenerator) {
        let length = generator.element(of: interestingLengths)
        if generator.below(3) == 0 {
            var header: [UInt8] = []
            header.append(fixedHeader: bytes[0], remainingLength: length)
            bytes.replaceSubrange(..<min(2, bytes.count), with: header)
        } else if index + 1 < bytes.count {
            bytes[index] = UInt8(length >> 8)
            bytes[index + 1] = UInt8(length & 0xFF)
        }
    }

    /// The same bytes, with a Remaining Length that is true if they had one of one byte.
    private static func reframed(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.count > 2 else { return bytes }
        var framed: [UInt8] = []
        framed.append(fixedHeader: bytes[0], remainingLength: bytes.count - 2)
        return framed + bytes[2...]
    }
}
