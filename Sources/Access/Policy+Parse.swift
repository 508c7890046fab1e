internal import MQTT

extension Policy {
    /// Reads Mosquitto's format: lines `user NAME`, `topic [read|write|readwrite|deny] TOPIC` and `pattern ...`, the words
    /// separated by blanks; a line that begins with `#` is a comment. `file` serves only errors and warnings. An empty
    /// file denies everything.
    package static func parse(
        _ bytes: [UInt8], file: String, dialect: Dialect = .mosquitto
    ) throws(AccessFileError) -> Policy {
        guard bytes.count <= PolicyLimits.fileBytes else {
            throw AccessFileError(file: file, line: nil, reason: "longer than \(PolicyLimits.fileBytes) bytes")
        }
        var reader = PolicyReader(bytes: bytes, file: file, dialect: dialect)
        try reader.read()
        return Policy(
            file: file, dialect: dialect, warnings: reader.warnings, rules: reader.rules,
            compiled: TopicRules(
                source: bytes, rules: reader.rules, sections: reader.sections, names: reader.names, dialect: dialect))
    }
}

/// Goes through a file line by line.
private struct PolicyReader {
    let bytes: [UInt8]
    let file: String
    let dialect: Policy.Dialect
    var rules: [Policy.Rule] = []
    var warnings: [AccessFileWarning] = []
    /// The section of each user that has been named.
    var names: [[UInt8]: Int] = [:]
    /// How many sections there are.
    var sections = 2
    private var section = Policy.commonSection
    private var line = 0
    private var untold = 0

    init(bytes: [UInt8], file: String, dialect: Policy.Dialect) {
        self.bytes = bytes
        self.file = file
        self.dialect = dialect
    }

    mutating func read() throws(AccessFileError) {
        var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0  // What editors put in front of UTF-8.
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            line += 1
            try read(trimmed(start..<end))
            start = end + 1
        }
        if untold > 0 {
            warnings.append(AccessFileWarning(file: file, line: line, reason: "and \(untold) more like these"))
        }
    }

    private mutating func read(_ text: Range<Int>) throws(AccessFileError) {
        guard !text.isEmpty, bytes[text.lowerBound] != UInt8(ascii: "#") else { return }
        guard bytes.span.extracting(text).isWellFormedUTF8 else { throw error("this line is not UTF-8") }
        guard !bytes[text].contains(0) else { throw error("this line has a NUL in it") }
        let (keyword, rest) = firstWord(of: text)
        switch String(decoding: bytes[keyword], as: UTF8.self) {
        case "user": try readUser(rest)
        case "topic": try readTopic(rest, section: section)
        case "pattern": try readTopic(rest, section: Policy.patternSection)
        default:
            let hint = bytes[keyword].contains(UInt8(ascii: "\t")) ? ", and blanks, not tabs, separate words" : ""
            throw error("unknown keyword '\(shown(keyword))': a line begins with user, topic or pattern\(hint)")
        }
    }

    private mutating func readUser(_ text: Range<Int>) throws(AccessFileError) {
        guard dialect == .mosquitto else {
            throw error("a policy has no user lines: it counts for whoever it is given to")
        }
        let name = trimmed(text)
        guard !name.isEmpty else { throw error("user without a name") }
        guard name.count <= PolicyLimits.textBytes else {
            throw error("a user name longer than \(PolicyLimits.textBytes) bytes")
        }
        if bytes[name].contains(UInt8(ascii: "#")) { warn("the # and what follows it belong to the user's name") }
        section = names[Array(bytes[name])] ?? sections
        guard section == sections else { return }
        names[Array(bytes[name])] = section
        sections += 1
    }

    private mutating func readTopic(_ text: Range<Int>, section: Int) throws(AccessFileError) {
        let isPattern = section == Policy.patternSection
        guard !text.isEmpty else { throw error("\(isPattern ? "pattern" : "topic") without a topic") }
        let (word, rest) = firstWord(of: text)
        var topic = trimmed(rest)
        var access: TopicAccess = [.read, .write]
        if topic.isEmpty {
            topic = word
        } else if let asked = TopicAccess(word: bytes[word]) {
            access = asked
        } else {
            throw error(
                "'\(shown(word))' is not read, write, readwrite or deny, which a topic with blanks in it needs")
        }
        try checkFilter(topic)
        try checkPlaceholders(topic, isPattern: isPattern)
        if bytes[topic].contains(UInt8(ascii: "\t")) { warn("the tab is part of the topic: blanks separate words") }
        rules.append(Policy.Rule(section: section, access: access, topic: topic, line: line))
    }

    /// Wildcards where 4.7.1 allows them; lengths.
    private func checkFilter(_ topic: Range<Int>) throws(AccessFileError) {
        guard topic.count <= PolicyLimits.textBytes else {
            throw error("a topic longer than \(PolicyLimits.textBytes) bytes")
        }
        var levelStart = topic.lowerBound
        var separators = 0
        for index in topic {
            switch bytes[index] {
            case UInt8(ascii: "/"):
                levelStart = index + 1
                separators += 1
            case UInt8(ascii: "#") where index != levelStart || index + 1 != topic.upperBound:
                throw error("'\(shown(topic))': # stands alone in the last level")
            case UInt8(ascii: "+")
            where index != levelStart || (index + 1 < topic.upperBound && bytes[index + 1] != UInt8(ascii: "/")):
                throw error("'\(shown(topic))': + stands alone in its level")
            default: break
            }
        }
        guard separators <= PolicyLimits.separators else {
            throw error("a topic with more than \(PolicyLimits.separators + 1) levels")
        }
    }

    private mutating func checkPlaceholders(_ topic: Range<Int>, isPattern: Bool) throws(AccessFileError) {
        let placeholders = Placeholder.all(in: bytes[topic], dialect: dialect)
        switch (dialect, isPattern) {
        case (.mosquitto, true) where placeholders.isEmpty:
            warn("pattern '\(shown(topic))' has neither %c nor %u: it counts for everybody")
        case (.mosquitto, false) where !placeholders.isEmpty:
            warn("%c and %u are replaced in pattern lines only")
        case (.martlet, false) where !placeholders.isEmpty:
            throw error("'\(shown(topic))': %u, %c and %o stand in pattern lines only")
        case (.martlet, true) where placeholders.contains(.owned):
            let levels = bytes[topic].split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            let whole = levels.count { $0.elementsEqual("%o".utf8) }
            guard whole == 1, placeholders.count(where: { $0 == .owned }) == 1 else {
                throw error("'\(shown(topic))': %o stands alone in one level")
            }
        default: break
        }
    }

    /// The bytes up to the first blank, and what follows the blanks behind them.
    private func firstWord(of text: Range<Int>) -> (word: Range<Int>, rest: Range<Int>) {
        let end = bytes[text].firstIndex(of: UInt8(ascii: " ")) ?? text.upperBound
        let rest = bytes[end..<text.upperBound].firstIndex { $0 != UInt8(ascii: " ") } ?? text.upperBound
        return (text.lowerBound..<end, rest..<text.upperBound)
    }

    /// Without what C's `isspace` calls white space at both ends.
    private func trimmed(_ text: Range<Int>) -> Range<Int> {
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || 0x09...0x0D ~= byte }
        let start = bytes[text].firstIndex { !isSpace($0) } ?? text.upperBound
        let end = bytes[start..<text.upperBound].lastIndex { !isSpace($0) }.map { $0 + 1 } ?? start
        return start..<end
    }

    private func shown(_ text: Range<Int>) -> String { printable(bytes[text]) }

    private func error(_ reason: String) -> AccessFileError { AccessFileError(file: file, line: line, reason: reason) }

    private mutating func warn(_ reason: String) {
        if warnings.count < PolicyLimits.warnings {
            warnings.append(AccessFileWarning(file: file, line: line, reason: reason))
        } else {
            untold += 1
        }
    }
}

/// What a `pattern` holds for a name.
enum Placeholder: Equatable {
    case userName, client, owned

    /// `%u`, `%c` and, in our own dialect, `%o`, as the byte behind the `%`.
    init?(_ byte: UInt8, dialect: Policy.Dialect) {
        switch byte {
        case UInt8(ascii: "u"): self = .userName
        case UInt8(ascii: "c"): self = .client
        case UInt8(ascii: "o") where dialect == .martlet: self = .owned
        default: return nil
        }
    }

    /// All of a text, from left to right.
    static func all(in text: ArraySlice<UInt8>, dialect: Policy.Dialect) -> [Placeholder] {
        var found: [Placeholder] = []
        var rest = text
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%"), let next = rest.first,
                let placeholder = Placeholder(next, dialect: dialect)
            else { continue }
            found.append(placeholder)
            rest.removeFirst()
        }
        return found
    }
}

/// Fits bytes of the input into a line for a person: no control characters, and not endless.
func printable(_ bytes: ArraySlice<UInt8>) -> String {
    let longest = 64
    let scalars = String(decoding: bytes, as: UTF8.self).unicodeScalars
    let shown = scalars.prefix(longest).map { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse: "\u{FFFD}"
        default: String(scalar)
        }
    }
    return shown.joined() + (scalars.dropFirst(longest).isEmpty ? "" : "...")
}
