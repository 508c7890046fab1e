import MQTT

/// A topic level's text as nodes keep it and as it is looked for: bytes count, nothing is normalised [MQTT-4.7.3-4].
/// A short text lies in two words, so that comparing it touches no other memory.
struct LevelText: Sendable, Equatable {
    static let shortBytes = 16

    /// The first eight bytes; of a long text a hash of all.
    private(set) var head: UInt64 = 0
    /// The next eight; of a long text the number that `LongTexts` gave it.
    fileprivate(set) var tail: UInt64 = 0
    private(set) var count: UInt16 = 0

    /// Reads the level that begins at `start` and returns where it ends. `seed` goes into the hash of a long one.
    @inline(__always)
    static func read(_ topic: Span<UInt8>, from start: Int, seed: UInt64) -> (text: LevelText, end: Int) {
        var (text, end) = (LevelText(), start)
        while end < topic.count, topic[end] != UInt8(ascii: "/") {
            let place = end - start
            if place < 8 {
                text.head = text.head << 8 | UInt64(topic[end])
            } else if place < Self.shortBytes {
                text.tail = text.tail << 8 | UInt64(topic[end])
            } else {
                if place == Self.shortBytes { text.head = folded(text.head ^ seed, text.tail ^ hashConstant) }
                text.head = (text.head ^ UInt64(topic[end])) &* 0x100_0000_01B3  // FNV-1a
            }
            end += 1
        }
        text.count = UInt16(end - start)  // A topic has at most 65,535 bytes.
        return (text, end)
    }

    @inline(__always)
    var isShort: Bool { count <= Self.shortBytes }

    /// A hash of the text as a child of `parent`. A long text is hashed without its number.
    @inline(__always)
    func hash(below parent: UInt32, seed: UInt64) -> UInt32 {
        let words = folded(head ^ seed, (isShort ? tail : 0) ^ hashConstant)
        return mixed(words ^ UInt64(parent) << 32 ^ UInt64(count))
    }

    /// The text itself, of one that is kept.
    func bytes(_ longTexts: borrowing LongTexts) -> [UInt8] {
        guard isShort else { return longTexts.bytes(of: self) }
        return (0..<Int(count)).map { place in
            let (word, length) = place < 8 ? (head, min(Int(count), 8)) : (tail, Int(count) - 8)
            return UInt8(truncatingIfNeeded: word >> UInt64(8 * (length - 1 - place % 8)))
        }
    }

    /// Whether the text begins with `$`. Only asked of short texts and of those that are kept with their bytes.
    func beginsWithDollar(_ longTexts: borrowing LongTexts) -> Bool {
        guard count > 0 else { return false }
        guard isShort else { return longTexts.firstByte(of: self) == UInt8(ascii: "$") }
        return head >> UInt64(8 * (min(Int(count), 8) - 1)) == UInt64(UInt8(ascii: "$"))
    }
}

private let hashConstant: UInt64 = 0x9E37_79B9_7F4A_7C15

/// Both halves of a product, one over the other: every bit of either factor reaches every bit.
@inline(__always)
private func folded(_ left: UInt64, _ right: UInt64) -> UInt64 {
    let product = left.multipliedFullWidth(by: right)
    return product.high ^ product.low
}

/// The bytes of the few levels that are too long for a node.
struct LongTexts: Sendable {
    private var texts = Slab<[UInt8]>(placeholder: [])

    /// Gives a text that will be kept its number, if it needs one.
    mutating func keep(_ text: LevelText, _ bytes: Span<UInt8>) -> LevelText {
        guard !text.isShort else { return text }
        var kept = text
        kept.tail = UInt64(texts.add(bytes.copied()))
        return kept
    }

    mutating func release(_ text: LevelText) {
        if !text.isShort { texts.remove(UInt32(text.tail)) }
    }

    /// Whether a kept text and one that is looked for, whose bytes these are, are the same.
    @inline(__always)
    func isSame(_ kept: LevelText, _ text: LevelText, _ bytes: Span<UInt8>) -> Bool {
        guard kept.head == text.head, kept.count == text.count else { return false }
        if text.isShort { return kept.tail == text.tail }
        let keptBytes = texts[UInt32(kept.tail)]
        return bytes.isEqual(to: keptBytes.span)
    }

    func bytes(of kept: LevelText) -> [UInt8] { texts[UInt32(kept.tail)] }
    func firstByte(of kept: LevelText) -> UInt8 { texts[UInt32(kept.tail)][0] }
}

extension Span where Element == UInt8 {
    @inline(__always)
    func isLevel(_ character: Unicode.Scalar, at range: Range<Int>) -> Bool {
        range.count == 1 && self[range.lowerBound] == UInt8(ascii: character)
    }
}
