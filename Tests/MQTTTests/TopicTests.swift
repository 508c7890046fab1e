import MQTT
import Seeded
import Testing

/// Validation works on bytes; here it is compared with rules that take the text apart with `String`, on random text of
/// the characters that matter. `CodecTable` has the examples of 4.7.
@Suite struct `Validating topics` {
    private static let texts = 30_000

    /// U+0301 combines with what stands before it: "+" and U+0301 are one `Character`, and yet two characters of MQTT.
    private static let pieces = [
        "/", "/", "/", "+", "#", "$", "$share", "$share/", "g", "a", "é", "\u{301}", " ", "\0",
    ]

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `accepts the filters that a naive reading of 4.7 accepts [MQTT-4.7.1-2] [MQTT-4.7.1-3]`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for _ in 0..<Self.texts {
            let text = Self.randomText(&generator)
            let isValid = isAccepted { () throws(MalformedPacket) in try Array(text.utf8).span.validateTopicFilter() }
            guard isValid == NaiveTopics.isFilter(text) else {
                Issue.record("seed \(seed): filter \(text.debugDescription) is \(isValid ? "" : "not ")accepted")
                return
            }
            accepted += isValid ? 1 : 0
        }
        #expect(accepted > Self.texts / 20, "the random text is of little use")
        #expect(accepted < Self.texts * 19 / 20, "the random text is of little use")
    }

    @Test(arguments: [4, 5, 6] as [UInt64])
    func `accepts the names that a naive reading of 4.7 accepts [MQTT-4.7.1-1] [MQTT-4.7.3-1]`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for _ in 0..<Self.texts {
            let text = Self.randomText(&generator)
            let isValid = isAccepted { () throws(MalformedPacket) in try Array(text.utf8).span.validateTopicName() }
            guard isValid == NaiveTopics.isName(text) else {
                Issue.record("seed \(seed): name \(text.debugDescription) is \(isValid ? "" : "not ")accepted")
                return
            }
            accepted += isValid ? 1 : 0
        }
        #expect(accepted > Self.texts / 20, "the random text is of little use")
        #expect(accepted < Self.texts * 19 / 20, "the random text is of little use")
    }

    @Test(arguments: [7, 8] as [UInt64])
    func `finds group and filter of a shared subscription`(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<Self.texts {
            let text = Self.randomText(&generator)
            guard NaiveTopics.isFilter(text) else { continue }
            let bytes = Array(text.utf8)
            let found = try bytes.span.sharedSubscription().map { shared in
                [bytes[shared.group], bytes[shared.filter...]].map { String(decoding: $0, as: UTF8.self) }
            }
            guard found == NaiveTopics.sharedSubscription(text) else {
                Issue.record("seed \(seed): \(text.debugDescription) is taken for \(String(describing: found))")
                return
            }
        }
    }

    @Test(arguments: [("$SYS/x", true), ("$", true), ("a$", false), ("/$SYS", false), ("", false)])
    func `knows the server's own tree [MQTT-4.7.2-1]`(_ topic: String, _ expected: Bool) {
        #expect(Array(topic.utf8).span.beginsWithDollar == expected)
    }

    private static func randomText(_ generator: inout SeededGenerator) -> String {
        let start = generator.below(3) == 0 ? "$share/" : ""
        return (0..<generator.below(7)).reduce(into: start) { text, _ in text += generator.element(of: pieces) }
    }
}

/// The rules of 4.7, slow and plain.
private enum NaiveTopics {
    static func isName(_ text: String) -> Bool {
        !text.isEmpty && !text.unicodeScalars.contains { $0 == "\0" || $0 == "+" || $0 == "#" }
    }

    static func isFilter(_ text: String) -> Bool {
        guard !text.isEmpty, !text.unicodeScalars.contains("\0") else { return false }
        var levels = levels(of: text)
        if levels[0] == "$share" {
            guard levels.count > 2, isName(levels[1]), levels[2...] != [""] else { return false }
            levels.removeFirst(2)
        }
        return levels.indices.allSatisfy { index in
            switch levels[index] {
            case "+": true
            case "#": index == levels.count - 1
            case let level: level.isEmpty || isName(level)
            }
        }
    }

    /// Group and filter.
    static func sharedSubscription(_ filter: String) -> [String]? {
        let levels = levels(of: filter)
        return levels[0] == "$share" ? [levels[1], levels[2...].joined(separator: "/")] : nil
    }

    /// Split between scalars, not between `Character`s, which would hide a separator before a combining mark.
    private static func levels(of text: String) -> [String] {
        text.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false).map { String($0) }
    }
}

/// Compared with the validation of the standard library.
@Suite struct `Validating UTF-8` {
    /// Both ends of each range in Table 3-7 of Unicode ("Well-Formed UTF-8 Byte Sequences"), and their neighbours.
    private static let edges: [UInt8] = [
        0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
        0xF0,
        0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
    ]

    @Test func `knows every sequence of one and two bytes [MQTT-1.5.3-1]`() {
        for first in 0...UInt8.max {
            compare([first])
            for second in 0...UInt8.max { compare([first, second]) }
        }
    }

    @Test(arguments: edges) func `knows every longer sequence of edges [MQTT-1.5.3-1]`(_ first: UInt8) {
        for second in Self.edges {
            for third in Self.edges {
                compare([first, second, third])
                for fourth in Self.edges { compare([first, second, third, fourth]) }
            }
        }
    }

    private func compare(_ bytes: [UInt8]) {
        guard bytes.span.isWellFormedUTF8 != (String(validating: bytes, as: UTF8.self) != nil) else { return }
        Issue.record("\(hexText(bytes)) is \(bytes.span.isWellFormedUTF8 ? "" : "not ")taken for UTF-8")
    }
}

private func isAccepted(_ validate: () throws(MalformedPacket) -> Void) -> Bool {
    do {
        try validate()
        return true
    } catch {
        return false
    }
}
