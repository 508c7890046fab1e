/// Rules about who may write and read which topics: an `acl_file`, or a policy of `acl/`. A value; clients share what it
/// is compiled to, and each keeps a `Rights` of its own.
package struct Policy: Sendable {
    /// Whose lines these are, which decides what they mean where Mosquitto's format has no word for it.
    package enum Dialect: Sendable {
        /// An `acl_file`: lines before the first `user` are for those without a user name, `%o` is text.
        case mosquitto
        /// A policy that is given to somebody: `topic` lines are for whoever has it, there are no `user` lines, and
        /// `%o` stands for the devices of a person.
        case martlet
    }

    /// A `topic` or `pattern` line.
    struct Rule: Sendable {
        /// Whose it is: 0 for all (`pattern`), 1 for those without a user name, or, in our own dialect, for whoever has
        /// the policy; from 2 on users in the order in which the file names them.
        let section: Int
        let access: TopicAccess
        /// In `source`.
        let topic: Range<Int>
        /// Counted from 1.
        let line: Int
    }

    static let patternSection = 0
    static let commonSection = 1

    /// As the caller named it: for explanations.
    package let file: String
    package let dialect: Dialect
    /// What a person should look at; at most `PolicyLimits.warnings` and one that counts the rest.
    package let warnings: [AccessFileWarning]
    /// In the order of the file.
    let rules: [Rule]
    let compiled: TopicRules
}

/// What a policy may ask for.
package enum PolicyLimits {
    /// Of a file.
    package static let fileBytes = 16 << 20
    /// Of a topic, and of a user name: what MQTT can carry.
    package static let textBytes = 65_535
    /// Of `/` in a topic of a rule; Mosquitto's bound, and that of the recursion over the levels.
    package static let separators = 200
    /// That are told one by one.
    package static let warnings = 20
}

/// What a rule grants, or that it denies.
struct TopicAccess: OptionSet, Sendable {
    let rawValue: UInt8
    static let read = TopicAccess(rawValue: 1)
    static let write = TopicAccess(rawValue: 2)
    static let deny = TopicAccess(rawValue: 4)
}

extension TopicAccess {
    /// As the files write it.
    init?(word: ArraySlice<UInt8>) {
        switch String(decoding: word, as: UTF8.self) {
        case "read": self = .read
        case "write": self = .write
        case "readwrite": self = [.read, .write]
        case "deny": self = .deny
        default: return nil
        }
    }
}
