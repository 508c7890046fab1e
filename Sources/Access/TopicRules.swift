/// What the lines of a policy are compiled to: a tree of levels for each section, all in one array, shared by all who
/// are subject to it. Levels that hold a placeholder are compared with the names of whoever asks, so nothing is compiled
/// for a client.
final class TopicRules: Sendable {
    /// A place in a tree: what is granted to the topic that ends here, and to all below.
    struct Node: Sendable {
        /// The first eight bytes of its text, the first one highest, 0 behind the end: compared before the text.
        var key: UInt64 = 0
        /// Where its text lies in `source`.
        var text: UInt32 = 0
        var length: UInt32 = 0
        /// The children follow each other: literal ones in order of key, length and text, then `templates`, then `+`.
        var firstChild: UInt32 = 0
        var literals: UInt32 = 0
        var templates: UInt32 = 0
        var kind = Kind.literal
        var hasPlus = false
        /// Of rules that end here.
        var here: TopicAccess = []
        /// Of rules that go on with `#`, which matches the level above it too (4.7.1.2).
        var below: TopicAccess = []
        /// Of all rules at and under this node.
        var subtree: TopicAccess = []

        var children: Range<Int> {
            Int(firstChild)..<Int(firstChild) + Int(literals) + Int(templates) + (hasPlus ? 1 : 0)
        }
    }

    /// What a level is. The order is that of the children of a node.
    enum Kind: UInt8, Comparable {
        case literal
        /// All of the level is `%u`, `%c` or `%o`.
        case userName, client, owned
        /// Text around placeholders.
        case mixed
        case plus
        /// Not a node: its access goes into `below` of the node above.
        case hash

        static func < (one: Kind, other: Kind) -> Bool { one.rawValue < other.rawValue }
    }

    /// What a name must not do to the patterns.
    struct NameRules: Sendable {
        /// With `+`, `#` or NUL in it the patterns give nothing.
        var refusesWildcards = false
        /// Nor with `/`: a denial that is made with the name would be missed.
        var refusesSeparators = false
        /// Nor with `$` at its start, for the same reason.
        var refusesDollar = false
    }

    let source: [UInt8]
    let nodes: [Node]
    let userNameRules: NameRules
    let clientRules: NameRules
    /// There is a `pattern` line.
    let hasPatterns: Bool
    private let sections: [[UInt8]: Int]
    private let dialect: Policy.Dialect

    /// A tree without rules.
    static let emptyRoot: UInt32 = 0
    /// The node of `patternSection`, whose successors are the roots of the other sections.
    static let patternRoot: UInt32 = 1

    /// `names` are the sections of the users; `sections` counts all.
    init(source: [UInt8], rules: [Policy.Rule], sections: Int, names: [[UInt8]: Int], dialect: Policy.Dialect) {
        self.source = source
        self.sections = names
        self.dialect = dialect
        nodes = TopicRulesBuilder(source: source, rules: rules, dialect: dialect).nodes(sections: sections)

        let patterns = rules.filter { $0.section == Policy.patternSection }
        hasPatterns = !patterns.isEmpty
        var userNameRules = NameRules()
        var clientRules = NameRules()
        if dialect == .mosquitto, hasPatterns {
            // As Mosquitto: whatever the patterns say.
            userNameRules.refusesWildcards = true
            clientRules.refusesWildcards = true
        }
        for rule in patterns {
            let topic = source[rule.topic]
            let isDenial = rule.access.contains(.deny)
            let placeholders = Placeholder.all(in: topic, dialect: dialect)
            let startsWithName = !Placeholder.all(in: topic.prefix(2), dialect: dialect).isEmpty
            let firstLevel = topic.prefix { startsWithName && $0 != UInt8(ascii: "/") }
            let firstNames = Placeholder.all(in: firstLevel, dialect: dialect)
            userNameRules.add(placeholders.contains(.userName), isDenial, firstNames.contains(.userName))
            clientRules.add(placeholders.contains(.client), isDenial, firstNames.contains(.client))
        }
        self.userNameRules = userNameRules
        self.clientRules = clientRules
    }

    /// Where the `topic` lines lie that are meant for somebody.
    func root(for userName: [UInt8]?) -> UInt32 {
        guard dialect == .mosquitto, let userName else { return Self.root(of: Policy.commonSection) }
        return sections[userName].map(Self.root) ?? Self.emptyRoot
    }

    /// The section that `root(for:)` names, nil where nothing is written for somebody.
    func section(for userName: [UInt8]?) -> Int? {
        guard dialect == .mosquitto, let userName else { return Policy.commonSection }
        return sections[userName]
    }

    private static func root(of section: Int) -> UInt32 { patternRoot + UInt32(section) }

    /// Why the patterns give nothing to somebody with these names; nil where they do.
    func refusal(userName: [UInt8]?, client: [UInt8]) -> String? {
        if let userName, let reason = userNameRules.refusal(of: userName) { return "the user name \(reason)" }
        return clientRules.refusal(of: client).map { "the client identifier \($0)" }
    }
}

extension TopicRules.NameRules {
    /// What a pattern asks for that holds the name, perhaps where it can begin the topic.
    fileprivate mutating func add(_ isUsed: Bool, _ isDenial: Bool, _ isFirst: Bool) {
        guard isUsed else { return }
        refusesWildcards = true
        refusesSeparators = refusesSeparators || isDenial
        refusesDollar = refusesDollar || (isDenial && isFirst)
    }

    /// Nil: the patterns may be applied with this name.
    func refusal(of name: [UInt8]) -> String? {
        guard refusesWildcards || refusesSeparators || refusesDollar else { return nil }
        for byte in name {
            switch byte {
            case UInt8(ascii: "+"), UInt8(ascii: "#"), 0:
                if refusesWildcards { return "contains +, # or NUL" }
            case UInt8(ascii: "/"):
                if refusesSeparators { return "contains /, and a pattern denies by it" }
            default: break
            }
        }
        if refusesDollar, name.first == UInt8(ascii: "$") { return "begins with $, and a pattern denies by it" }
        return nil
    }
}

/// Sorts rules by their levels, so that what has a beginning in common lies together, and lays the trees out level by
/// level.
private struct TopicRulesBuilder {
    private struct Level {
        var kind: TopicRules.Kind
        var key: UInt64
        var text: UInt32
        var length: UInt32
    }

    private struct SortedRule {
        var section: Int
        var access: TopicAccess
        /// In `levels`.
        var levels: Range<Int>
    }

    private let source: [UInt8]
    private var levels: [Level] = []
    private var rules: [SortedRule] = []

    init(source: [UInt8], rules: [Policy.Rule], dialect: Policy.Dialect) {
        self.source = source
        for rule in rules {
            let first = levels.count
            var start = rule.topic.lowerBound
            while start <= rule.topic.upperBound {
                let rest = start..<rule.topic.upperBound
                let end = source[rest].firstIndex(of: UInt8(ascii: "/")) ?? rest.upperBound
                levels.append(
                    Self.level(
                        start..<end, of: source, isPattern: rule.section == Policy.patternSection, dialect: dialect))
                start = end + 1
            }
            self.rules.append(
                SortedRule(section: rule.section, access: rule.access, levels: first..<levels.count))
        }
        let unsorted = self
        self.rules.sort { unsorted.isBefore($0, $1) }
    }

    private static func level(
        _ text: Range<Int>, of source: [UInt8], isPattern: Bool, dialect: Policy.Dialect
    ) -> Level {
        let bytes = source[text]
        var kind = TopicRules.Kind.literal
        if bytes.elementsEqual("+".utf8) { kind = .plus }
        if bytes.elementsEqual("#".utf8) { kind = .hash }
        if isPattern {
            switch (Placeholder.all(in: bytes, dialect: dialect).first, bytes.count) {
            case (nil, _): break
            case (.userName, 2): kind = .userName
            case (.client, 2): kind = .client
            case (.owned, 2): kind = .owned
            default: kind = .mixed
            }
        }
        var key = LevelKey()
        for byte in bytes { key.append(byte) }
        return Level(kind: kind, key: key.bits, text: UInt32(text.lowerBound), length: UInt32(text.count))
    }

    private func order(_ one: Level, _ other: Level) -> Int {
        if one.kind != other.kind { return one.kind < other.kind ? -1 : 1 }
        if one.key != other.key { return one.key < other.key ? -1 : 1 }
        if one.length != other.length { return one.length < other.length ? -1 : 1 }
        for offset in 0..<Int(one.length) {
            let (left, right) = (source[Int(one.text) + offset], source[Int(other.text) + offset])
            if left != right { return left < right ? -1 : 1 }
        }
        return 0
    }

    private func isBefore(_ one: SortedRule, _ other: SortedRule) -> Bool {
        guard one.section == other.section else { return one.section < other.section }
        for (left, right) in zip(one.levels, other.levels) {
            let order = order(levels[left], levels[right])
            if order != 0 { return order < 0 }
        }
        return one.levels.count < other.levels.count
    }

    func nodes(sections: Int) -> [TopicRules.Node] {
        var nodes = [TopicRules.Node()]
        // The rules at and under each node, and how many levels lead to it.
        var work: [(rules: Range<Int>, depth: Int)] = [(0..<0, 0)]
        var start = 0
        for section in 0..<sections {
            var end = start
            while end < rules.count, rules[end].section == section { end += 1 }
            nodes.append(TopicRules.Node())
            work.append((start..<end, 0))
            start = end
        }
        var index = 0
        while index < nodes.count {
            expand(index, &nodes, &work)
            index += 1
        }
        for index in nodes.indices.reversed() {
            nodes[index].subtree = nodes[index].here.union(nodes[index].below)
            for child in nodes[index].children { nodes[index].subtree.formUnion(nodes[child].subtree) }
        }
        return nodes
    }

    private func expand(
        _ index: Int, _ nodes: inout [TopicRules.Node], _ work: inout [(rules: Range<Int>, depth: Int)]
    ) {
        let (range, depth) = work[index]
        nodes[index].firstChild = UInt32(nodes.count)
        var start = range.lowerBound
        while start < range.upperBound {
            let rule = rules[start]
            guard depth < rule.levels.count else {
                nodes[index].here.formUnion(rule.access)
                start += 1
                continue
            }
            let level = levels[rule.levels.lowerBound + depth]
            guard level.kind != .hash else {
                nodes[index].below.formUnion(rule.access)
                start += 1
                continue
            }
            var end = start + 1
            while end < range.upperBound, order(levels[rules[end].levels.lowerBound + depth], level) == 0 { end += 1 }
            switch level.kind {
            case .literal: nodes[index].literals += 1
            case .plus: nodes[index].hasPlus = true
            default: nodes[index].templates += 1
            }
            nodes.append(
                TopicRules.Node(key: level.key, text: level.text, length: level.length, kind: level.kind))
            work.append((start..<end, depth + 1))
            start = end
        }
    }
}

/// The first eight bytes of a level, as a number.
struct LevelKey {
    private(set) var bits: UInt64 = 0
    private var shift: UInt64 = 64

    @inline(__always)
    mutating func append(_ byte: UInt8) {
        guard shift > 0 else { return }
        shift -= 8
        bits |= UInt64(byte) << shift
    }
}
