import Access
import MQTT
import Seeded
import Testing

/// Random policies and questions. Goal: the compiled trees, and the reading line by line that explains, decide as a naive
/// reading of Mosquitto's rules does, with what ours are stricter in; and what is said of a filter is never wrong. A
/// failure names its seed.
@Suite struct `Random policies` {
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `decide as a naive reading does`(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var allowed = 0
        for _ in 0..<500 {
            let naive = NaivePolicy(&generator)
            let policy = try Policy.parse(Array(naive.text.utf8), file: "f")
            for _ in 0..<10 {
                let (user, client) = (NaivePolicy.name(&generator), NaivePolicy.name(&generator) ?? "c")
                let userName = user.map { Array($0.utf8) }
                let rights = Rights(policy: policy, userName: userName, client: Array(client.utf8))
                for _ in 0..<5 {
                    let topic = naive.topic(&generator, user: user, client: client)
                    let mayRead = naive.allows(.read, topic, user: user, client: client)
                    let mayWrite = naive.allows(.write, topic, user: user, client: client)
                    allowed += mayRead ? 1 : 0
                    let explained = policy.decision(
                        userName: userName, client: Array(client.utf8), to: .read, Array(topic.utf8))
                    guard rights.reads(topic) == mayRead, rights.writes(topic) == mayWrite,
                        explained.isAllowed == mayRead
                    else {
                        Issue.record(
                            """
                            seed \(seed): \(topic) for \(user ?? "-") as \(client) should be \(mayRead), \(mayWrite), \
                            is \(rights.reads(topic)), \(rights.writes(topic)), \(explained.explanation) by
                            \(naive.text)
                            """)
                        return
                    }
                }
            }
        }
        #expect((2_500..<22_500).contains(allowed), "\(allowed) of 25,000: the random questions are of little use")
    }

    @Test(arguments: [11, 12, 13] as [UInt64])
    func `never say wrongly that all or nothing of a filter may be read`(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var (all, some, none) = (0, 0, 0)
        let levels = ["a", "b", "", "$x", "u", "long-level-1", "other"]
        let topics = NaivePolicy.topics(of: levels, depth: 3)
        for _ in 0..<100 {
            let naive = NaivePolicy(&generator)
            let policy = try Policy.parse(Array(naive.text.utf8), file: "f")
            let user = NaivePolicy.name(&generator)
            let rights = Rights(policy: policy, userName: user.map { Array($0.utf8) }, client: Array("b".utf8))
            let readable = topics.map { rights.reads($0.joined(separator: "/")) }
            for _ in 0..<8 {
                let filter = naive.filter(&generator)
                let coverage = rights.coverage(of: filter.joined(separator: "/"))
                let matching = topics.indices.filter { NaivePolicy.matches(filter, topics[$0]) }
                switch coverage {
                case .all: all += 1
                case .some: some += 1
                case .none: none += 1
                }
                let wrong = coverage == .some ? nil : matching.first { readable[$0] != (coverage == .all) }
                if let wrong {
                    Issue.record(
                        """
                        seed \(seed): \(filter.joined(separator: "/")) is \(coverage) for \(user ?? "-"), but not for \
                        \(topics[wrong].joined(separator: "/")) in
                        \(naive.text)
                        """)
                    return
                }
            }
        }
        #expect(all > 5 && some > 5 && none > 5, "\(all) all, \(some) some, \(none) none")
    }
}

/// A policy as a list of what its lines say, decided as Mosquitto's `security_default.c` does: with whole texts, name by
/// name replaced, one line after the other.
private struct NaivePolicy {
    struct Line {
        /// Nil: for those without a name. Unused by patterns.
        var user: String?
        var isPattern: Bool
        var access: String
        var levels: [String]
    }

    var lines: [Line] = []

    private static let users: [String?] = [nil, "a", "b", "u"]
    private static let levels = [
        "a", "b", "", "$x", "u", "+", "+", "long-level-1", "long-level-2", "long-level-10", "%u", "%c", "%u", "%c",
        "x-%c", "%u%c", "%c-y", "%%u", "%",
    ]

    init(_ generator: inout SeededGenerator) {
        // Many neighbours now and then, for the search among them.
        let crowd = generator.happens(20) ? (0..<24).map { "crowd-level-\($0)" } + (0..<12).map { "n\($0)" } : []
        for _ in 0..<(crowd.isEmpty ? generator.below(8) : 60) {
            var levels = (0...generator.below(3)).map { _ in
                generator.element(of: crowd.isEmpty || generator.happens(40) ? Self.levels : crowd)
            }
            if generator.happens(25) { levels.append("#") }
            if generator.happens(3) { levels = ["#"] }
            if levels == [""] { levels = ["a"] }
            lines.append(
                Line(
                    user: generator.element(of: Self.users), isPattern: generator.happens(50),
                    access: generator.element(of: ["read", "write", "readwrite", "readwrite", "deny"]), levels: levels))
        }
        // The format starts with those without a name.
        lines = lines.filter { $0.user == nil } + lines.filter { $0.user != nil }
    }

    var text: String {
        var (text, user) = ("", String?.none)
        for line in lines {
            if line.user != user, let name = line.user { text += "user \(name)\n" }
            user = line.user
            text += "\(line.isPattern ? "pattern" : "topic") \(line.access) \(line.levels.joined(separator: "/"))\n"
        }
        return text
    }

    static func name(_ generator: inout SeededGenerator) -> String? {
        generator.element(of: [nil, nil, "a", "b", "u", "a/b", "$x", "$x/a", "+", "a#", "", "long-level-1"])
    }

    /// Likely to be matched by a line.
    func topic(_ generator: inout SeededGenerator, user: String?, client: String) -> String {
        var levels = filter(&generator)
        if levels.last == "#" { levels.removeLast() }
        for index in levels.indices where levels[index].contains(where: { "+#%".contains($0) }) {
            levels[index] = Self.replaced(levels[index], user: user ?? "a", client: client)
        }
        let topic = levels.joined(separator: "/").filter { $0 != "+" && $0 != "#" }
        return topic.isEmpty ? "a" : topic
    }

    func filter(_ generator: inout SeededGenerator) -> [String] {
        var levels: [String]
        if !lines.isEmpty, generator.happens(80) {
            levels = generator.element(of: lines).levels
        } else {
            levels = (0...generator.below(3)).map { _ in generator.element(of: Self.levels) }
        }
        if generator.happens(30) {
            levels[generator.below(levels.count)] = generator.element(of: ["a", "b", "+", "u"])
        }
        if generator.happens(10) { levels.append(generator.element(of: ["", "a", "#"])) }
        if generator.happens(10) { levels = Array(levels.dropLast()) }
        if let hash = levels.firstIndex(of: "#"), hash < levels.count - 1 { levels.removeSubrange((hash + 1)...) }
        return levels.isEmpty || levels == [""] ? ["a"] : levels
    }

    static func topics(of levels: [String], depth: Int) -> [[String]] {
        var (all, last): ([[String]], [[String]]) = ([], [[]])
        for _ in 0..<depth {
            last = last.flatMap { start in levels.map { start + [$0] } }
            all += last
        }
        return all.filter { $0 != [""] }
    }

    static func matches(_ filter: [String], _ topic: [String]) -> Bool {
        if (topic[0].first == "$") != (filter[0].first == "$") { return false }
        for (index, level) in filter.enumerated() {
            if level == "#" { return true }
            guard index < topic.count, level == "+" || level == topic[index] else { return false }
        }
        return filter.count == topic.count
    }

    private static func replaced(_ text: String, user: String?, client: String) -> String {
        var (result, rest) = ("", text[...])
        while let character = rest.popFirst() {
            switch (character, rest.first) {
            case ("%", "c"): result += client
            case ("%", "u"): result += user ?? "%u"
            default:
                result.append(character)
                continue
            }
            rest.removeFirst()
        }
        return result
    }

    func allows(_ direction: Policy.Direction, _ topic: String, user: String?, client: String) -> Bool {
        let topicLevels = topic.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        func isWanted(_ line: Line) -> Bool { line.access == "readwrite" || line.access == direction.rawValue }

        let own = lines.filter { !$0.isPattern && $0.user == user }.filter { Self.matches($0.levels, topicLevels) }
        if own.contains(where: { $0.access == "deny" }) { return false }
        if own.contains(where: isWanted) { return true }

        let patterns = lines.filter(\.isPattern)
        if (user ?? "").contains(where: { "+#".contains($0) }) || client.contains(where: { "+#".contains($0) }) {
            return false
        }
        // Stricter than Mosquitto: a name is one level, and no name leads into the server's own tree. Where a denial is
        // made with a name that is more than that, nothing is allowed.
        func uses(_ line: Line, _ placeholder: String, _ name: String?) -> (isUsed: Bool, isFirst: Bool) {
            let parts = line.levels.map { $0.contains(placeholder) }
            return (parts.contains(true), parts[0] && ["%u", "%c"].contains { line.levels[0].hasPrefix($0) })
        }
        for line in patterns where line.access == "deny" {
            for (placeholder, name) in [("%u", user ?? ""), ("%c", client)] {
                let (isUsed, isFirst) = uses(line, placeholder, name)
                if isUsed && name.contains("/") || isFirst && name.hasPrefix("$") { return false }
            }
        }
        let matching = patterns.filter { line in
            let text = line.levels.joined(separator: "/")
            if text.contains("%u") && user == nil { return false }
            let startsWithName = ["%u", "%c"].contains { line.levels[0].hasPrefix($0) }
            if startsWithName && topic.hasPrefix("$") { return false }
            for (placeholder, name) in [("%u", user ?? ""), ("%c", client)] {
                if text.contains(placeholder) && name.contains("/") { return false }
            }
            let levels = Self.replaced(text, user: user, client: client)
                .split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            return Self.matches(levels, topicLevels)
        }
        return !matching.contains { $0.access == "deny" } && matching.contains(where: isWanted)
    }
}
