extension Policy {
    package enum Direction: String, Sendable, CaseIterable { case read, write }

    /// Why somebody may or may not touch a topic.
    package struct Decision: Sendable, Equatable {
        package let isAllowed: Bool
        /// Of the rule that decides, counted from 1. Nil: none does, so it is denied.
        package let line: Int?
        /// One line for a person.
        package let explanation: String
    }

    /// The same decision as `Rights`, found by reading the rules one by one as Mosquitto does, and with its reason.
    package func decision(
        userName: [UInt8]?, client: [UInt8], owned: [String] = [], reachesManagement: Bool = false,
        to direction: Direction, _ topic: [UInt8]
    ) -> Decision {
        if !reachesManagement, topic.first == UInt8(ascii: "$"), topic.span.managementTopics == .all {
            return Decision(
                isAllowed: false, line: nil,
                explanation: "denied: a management topic, which goes by role and not by lines")
        }
        let names = RuleNames(userName: userName, client: client, owned: owned)
        let access: TopicAccess = direction == .read ? .read : .write
        if let section = compiled.section(for: userName),
            let rule = firstRule(in: section, for: access, topic, names)
        {
            return decision(by: rule)
        }
        if compiled.hasPatterns {
            if let reason = compiled.refusal(userName: userName, client: client) {
                return Decision(
                    isAllowed: false, line: nil, explanation: "denied: \(reason), so no pattern of \(file) counts")
            }
            if let rule = firstRule(in: Self.patternSection, for: access, topic, names) { return decision(by: rule) }
        }
        return Decision(isAllowed: false, line: nil, explanation: "denied: no line of \(file) allows it")
    }

    private func decision(by rule: Rule) -> Decision {
        let isAllowed = !rule.access.contains(.deny)
        let bytes = compiled.source
        let start = bytes[..<rule.topic.lowerBound].lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        let text = String(decoding: bytes[start..<rule.topic.upperBound], as: UTF8.self)
        let shown = text.unicodeScalars.drop { $0.properties.isWhitespace || $0 == "\u{FEFF}" }
            .map { $0.properties.generalCategory == .control ? "\u{FFFD}" : String($0) }.joined()
        return Decision(
            isAllowed: isAllowed, line: rule.line,
            explanation: "\(isAllowed ? "allowed" : "denied") by \(file):\(rule.line): \(shown)")
    }

    /// A denial before what allows.
    private func firstRule(
        in section: Int, for access: TopicAccess, _ topic: [UInt8], _ names: RuleNames
    ) -> Rule? {
        for wanted in [TopicAccess.deny, access] {
            for rule in rules where rule.section == section && rule.access.contains(wanted) {
                if matches(rule, topic, names) { return rule }
            }
        }
        return nil
    }

    private func matches(_ rule: Rule, _ topic: [UInt8], _ names: RuleNames) -> Bool {
        let slash = UInt8(ascii: "/")
        let filter = compiled.source[rule.topic].split(separator: slash, omittingEmptySubsequences: false)
        let levels = topic.split(separator: slash, omittingEmptySubsequences: false)
        if topic.first == UInt8(ascii: "$"), filter[0].first != UInt8(ascii: "$") { return false }
        for (index, level) in filter.enumerated() {
            if level.elementsEqual("#".utf8) { return true }
            guard index < levels.count else { return false }
            if level.elementsEqual("+".utf8) { continue }
            guard matches(level, levels[index], isPattern: rule.section == Self.patternSection, names) else {
                return false
            }
        }
        return filter.count == levels.count
    }

    private func matches(
        _ level: ArraySlice<UInt8>, _ other: ArraySlice<UInt8>, isPattern: Bool, _ names: RuleNames
    ) -> Bool {
        guard isPattern else { return level == other }
        var text: [UInt8] = []
        var rest = level
        while let byte = rest.popFirst() {
            let placeholder =
                byte == UInt8(ascii: "%") ? rest.first.flatMap { Placeholder($0, dialect: dialect) } : nil
            switch placeholder {
            case nil: text.append(byte)
            case .owned: return names.owned.contains { other.elementsEqual($0.utf8) }  // Stands alone.
            case .client: text += names.client
            case .userName:
                guard let userName = names.userName else { return false }
                text += userName
            }
            if placeholder != nil { rest = rest.dropFirst() }
        }
        return other.elementsEqual(text)
    }
}
