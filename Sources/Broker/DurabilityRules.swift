import MQTT

/// What an acknowledgement promises (`durability`).
package enum Durability: UInt8, Comparable, Sendable {
    /// Nothing: it ends with the process.
    case memory
    /// That it will be on the disk, a second later at most.
    case relaxed
    /// That it is on the disk.
    case acknowledged

    package static func < (left: Durability, right: Durability) -> Bool { left.rawValue < right.rawValue }
}

/// What holds for which messages: `durability`, and `durability_topic` for some.
package struct DurabilityRules: Sendable, Equatable {
    package struct Rule: Sendable, Equatable {
        package let filter: [UInt8]
        package let durability: Durability

        package init(filter: [UInt8], durability: Durability) {
            self.filter = filter
            self.durability = durability
        }
    }

    /// For sessions, subscriptions, and messages that no rule is for.
    package let standard: Durability
    /// The first that matches counts.
    package let rules: [Rule]

    package init(_ standard: Durability, rules: [Rule] = []) {
        self.standard = standard
        self.rules = rules
    }

    /// Whether anything gets to the disk at all.
    package var needsDisk: Bool { standard != .memory || rules.contains { $0.durability != .memory } }

    /// Whether any acknowledgement waits for the disk.
    var promisesAnything: Bool { standard == .acknowledged || rules.contains { $0.durability == .acknowledged } }

    @inline(__always)
    package func durability(of topic: Span<UInt8>) -> Durability {
        rules.isEmpty ? standard : ruled(topic)
    }

    private func ruled(_ topic: Span<UInt8>) -> Durability {
        for rule in rules where topic.matches(rule.filter.span) { return rule.durability }
        return standard
    }
}
