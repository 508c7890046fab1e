import MQTT

/// A topic level's number: equal bytes, equal number.
typealias Level = UInt32

/// The texts of all topic levels in use, each once, as numbers: what the trees compare instead of bytes. Bytes count,
/// nothing is normalised [MQTT-4.7.3-4].
struct LevelInterner: Sendable {
    private struct Text: Sendable {
        var start: UInt32 = 0
        var hash: UInt32 = 0
        var uses: UInt32 = 0
        var length: UInt16 = 0
    }

    private var texts = Slab<Text>(placeholder: Text())
    private var table = NumberTable()
    private var bytes: [UInt8] = []
    private var unusedBytes = 0

    private static let hashSeed: UInt64 = 0xCBF2_9CE4_8422_2325

    /// One step of FNV-1a.
    @inline(__always)
    private static func add(_ byte: UInt8, to hash: inout UInt64) {
        hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
    }

    @inline(__always)
    private static func hash(_ text: Span<UInt8>) -> UInt32 {
        var hash = hashSeed
        for index in text.indices { add(text[index], to: &hash) }
        return mixed(hash)
    }

    @inline(__always)
    private func number(of text: Span<UInt8>, hash: UInt32) -> Level? {
        table.first(hash: hash) { number in
            let candidate = texts[number]
            guard candidate.hash == hash, Int(candidate.length) == text.count else { return false }
            let start = Int(candidate.start)
            for index in text.indices where bytes[start + index] != text[index] { return false }
            return true
        }
    }

    /// The number of a text that somebody uses.
    @inline(__always)
    func level(_ text: Span<UInt8>) -> Level? { number(of: text, hash: Self.hash(text)) }

    /// The number of the level that begins at `start`, if somebody uses it, and where the level ends: found and hashed
    /// in one pass.
    @inline(__always)
    func level(in topic: Span<UInt8>, from start: Int) -> (level: Level?, end: Int) {
        var (end, hash) = (start, Self.hashSeed)
        while end < topic.count, topic[end] != UInt8(ascii: "/") {
            Self.add(topic[end], to: &hash)
            end += 1
        }
        return (number(of: topic.extracting(start..<end), hash: mixed(hash)), end)
    }

    /// The number of a text, which gets one more use.
    mutating func use(_ text: Span<UInt8>) -> Level {
        let hash = Self.hash(text)
        if let known = number(of: text, hash: hash) {
            texts[known].uses += 1
            return known
        }
        let length = UInt16(text.count)  // A topic has at most 65,535 bytes.
        let level = texts.add(Text(start: UInt32(bytes.count), hash: hash, uses: 1, length: length))
        bytes.append(copying: text)
        table.insert(level, hash: hash) { texts[$0].hash }
        return level
    }

    /// Gives back one use of a level.
    mutating func release(_ level: Level) {
        texts[level].uses -= 1
        let text = texts[level]
        guard text.uses == 0 else { return }
        table.remove(level, hash: text.hash) { texts[$0].hash }
        texts.remove(level)
        unusedBytes += Int(text.length)
        if unusedBytes > 4096, unusedBytes * 2 > bytes.count { compact() }
    }

    /// Whether the level's text begins with `$`.
    func beginsWithDollar(_ level: Level) -> Bool {
        let text = texts[level]
        return text.length > 0 && bytes[Int(text.start)] == UInt8(ascii: "$")
    }

    private mutating func compact() {
        var kept: [UInt8] = []
        kept.reserveCapacity(bytes.count - unusedBytes)
        for number in texts.elements.indices where texts.elements[number].uses > 0 {
            let text = texts.elements[number]
            texts[UInt32(number)].start = UInt32(kept.count)
            kept.append(copying: bytes.span.extracting(Int(text.start)..<(Int(text.start) + Int(text.length))))
        }
        bytes = kept
        unusedBytes = 0
    }
}

/// The levels of a topic or filter, one after the other, as ranges of its bytes.
struct Levels {
    private(set) var current: Range<Int>

    @inline(__always)
    init(_ topic: Span<UInt8>, from start: Int = 0) { current = start..<Self.end(of: start, in: topic) }

    /// Steps to the next level; false when there is none.
    @inline(__always)
    mutating func advance(in topic: Span<UInt8>) -> Bool {
        guard current.upperBound < topic.count else { return false }
        let start = current.upperBound + 1
        current = start..<Self.end(of: start, in: topic)
        return true
    }

    @inline(__always)
    private static func end(of start: Int, in topic: Span<UInt8>) -> Int {
        var end = start
        while end < topic.count, topic[end] != UInt8(ascii: "/") { end += 1 }
        return end
    }
}

extension Span where Element == UInt8 {
    @inline(__always)
    func isLevel(_ character: Unicode.Scalar, at range: Range<Int>) -> Bool {
        range.count == 1 && self[range.lowerBound] == UInt8(ascii: character)
    }
}
