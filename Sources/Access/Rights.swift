/// What one client may write and read: a policy with its own `%u`, `%c` and `%o`. A value that a session keeps and asks
/// for each message; it shares what the policy is compiled to, so making one costs no more than looking up a user.
package struct Rights: Sendable {
    /// May do everything, so that nobody needs to ask.
    package let isUnrestricted: Bool
    /// The management topics are as good as any other; else nothing grants them.
    let reachesManagement: Bool
    /// Nil: there are no rules, and everything or nothing is allowed.
    let rules: TopicRules?
    /// What counts without rules.
    let allowsWithoutRules: Bool
    /// Where the rules lie that come first; what they leave open is for the patterns.
    let section: UInt32
    let patterns: UInt32
    let names: RuleNames

    package static let everything = Rights(isUnrestricted: true, reachesManagement: true, allowsWithoutRules: true)
    package static let nothing = Rights(isUnrestricted: false, reachesManagement: false, allowsWithoutRules: false)
    /// Everything but the management topics: where there is no `acl_file`, but a fleet.
    static let everythingUnmanaged = Rights(
        isUnrestricted: false, reachesManagement: false, allowsWithoutRules: true)

    private init(isUnrestricted: Bool, reachesManagement: Bool, allowsWithoutRules: Bool) {
        self.isUnrestricted = isUnrestricted
        self.reachesManagement = reachesManagement
        self.allowsWithoutRules = allowsWithoutRules
        rules = nil
        section = TopicRules.emptyRoot
        patterns = TopicRules.emptyRoot
        names = RuleNames(userName: nil, client: [], owned: [])
    }

    /// What `policy` says about somebody. `owned`: the deviceIds that `%o` stands for; costs least when they are sorted.
    package init(
        policy: Policy, userName: [UInt8]?, client: [UInt8], owned: [String] = [], reachesManagement: Bool = false
    ) {
        isUnrestricted = false
        allowsWithoutRules = false
        self.reachesManagement = reachesManagement
        let rules = policy.compiled
        self.rules = rules
        section = rules.root(for: userName)
        let arePatternsSafe = rules.hasPatterns && rules.refusal(userName: userName, client: client) == nil
        patterns = arePatternsSafe ? TopicRules.patternRoot : TopicRules.emptyRoot
        names = RuleNames(userName: userName, client: client, owned: owned.inOrderOfBytes)
    }

    /// What of a filter's topics may be read.
    package enum Coverage: Sendable {
        /// No topic that the filter matches.
        case none
        /// Perhaps some: each message has to be asked about.
        case some
        /// Every topic that it can match.
        case all
    }

    /// Allocates nothing; well under a microsecond. `topic` is a topic name that has been validated.
    package func mayWrite(_ topic: Span<UInt8>) -> Bool { isUnrestricted || grants(.write, topic) }

    /// As `mayWrite`.
    package func mayRead(_ topic: Span<UInt8>) -> Bool { isUnrestricted || grants(.read, topic) }

    /// Mosquitto's order: the denials of the section, what it allows, the denials among the patterns, what they allow.
    private func grants(_ access: TopicAccess, _ topic: Span<UInt8>) -> Bool {
        guard !topic.isEmpty else { return false }
        if !reachesManagement, topic[0] == UInt8(ascii: "$"), topic.managementTopics == .all { return false }
        guard let rules else { return allowsWithoutRules }
        if section != TopicRules.emptyRoot {
            let found = rules.access(under: section, to: topic, names)
            if found.contains(.deny) { return false }
            if found.contains(access) { return true }
        }
        guard patterns != TopicRules.emptyRoot else { return false }
        let found = rules.access(under: patterns, to: topic, names)
        return found.contains(access) && !found.contains(.deny)
    }
}

extension [String] {
    /// Itself where it is sorted already. Of deviceIds, which are ASCII, the order is that of the bytes.
    fileprivate var inOrderOfBytes: [String] {
        for index in indices.dropFirst() where self[index - 1] >= self[index] { return sorted() }
        return self
    }
}
