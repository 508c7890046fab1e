import Conformance

/// Chapter 4.7: what filters match, and the names of topics.
extension Mutation {
    static let topics: [Mutation] = [
        Mutation(
            "wildcard-in-publish-tolerated", "A PUBLISH to a topic with wildcards is acknowledged",
            violates: "MQTT-3.3.2-2", caughtBy: ["wildcard-in-topic-of-qos"],
            up: tolerate { $1.publication.map { $0.topic.hasWildcard } ?? false }),
        Mutation(
            "empty-topic-tolerated", "A PUBLISH with an empty topic is acknowledged", violates: "MQTT-4.7.3-1",
            caughtBy: ["empty-topic"],
            up: tolerate { $1.publication.map { $0.topic.isEmpty } ?? false }),
        Mutation(
            "empty-filter-granted", "An empty filter is granted", violates: "MQTT-4.7.3-1",
            caughtBy: ["empty-filter", "empty-filter-among-others"],
            up: tolerate { $1.kind == .subscribe && $1.subscriptions?.contains { $0.filter.isEmpty } == true }),
        Mutation(
            "empty-filter-in-unsubscribe-answered", "An UNSUBSCRIBE with an empty filter is answered",
            violates: "MQTT-4.7.3-1", caughtBy: ["choice-invalid-filter-in-unsubscribe-closes"],
            up: tolerate { $1.kind == .unsubscribe && $1.filters?.contains { $0.isEmpty } == true }),
        Mutation(
            "filters-unchecked", "A filter with # or + at the wrong place is granted", violates: "MQTT-4.7.1-2",
            caughtBy: ["multi-level-invalid", "multi-level-invalid-subscribes-nothing"],
            up: tolerate {
                $1.kind == .subscribe && $1.subscriptions?.contains { $0.filter.hasOddHash } == true
            }),
        Mutation(
            "filters-in-unsubscribe-unchecked", "An UNSUBSCRIBE with # or + at the wrong place is answered",
            violates: "MQTT-4.7.1-3", caughtBy: ["choice-invalid-filter-in-unsubscribe-closes"],
            up: tolerate { $1.kind == .unsubscribe && $1.filters?.contains { $0.hasOddHash } == true }),
        Mutation(
            "wrong-hash-subscribes",
            "A filter with # or + at the wrong place is refused, but subscribes to what it might mean",
            violates: "MQTT-4.7.1-2", caughtBy: ["choice-invalid-filter-closes"],
            up: { link, frame in
                if frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions,
                    all.contains(where: { $0.filter.hasOddHash })
                {
                    link.subscribe([(link.clientIdentifier.prefix(6) + Array("/#".utf8), 1)])
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "wildcards-refused", "Filters with wildcards get return code 0x80", violates: "ANNEX-3.8.3",
            caughtBy: ["wildcards-are-supported", "subscribe-wildcard-works"],
            up: refuseWildcards(with: 0x80)),
        Mutation(
            "wildcards-answered-by-3", "Filters with wildcards get return code 3", violates: "MQTT-3.8.4-1",
            caughtBy: ["subscribe-wildcard-answered", "subscribe-wildcard-works"],
            up: refuseWildcards(with: 3)),
        Mutation(
            "hash-matches-not-parent", "a/# does not match a", violates: "MQTT-4.7.1-2",
            caughtBy: ["retained-by-wildcard"],
            down: lose { link, publication in
                link.subscriptions[publication.topic + Array("/#".utf8)] != nil
                    && link.subscriptions[publication.topic] == nil
            }),
        Mutation(
            "hash-matches-one-level", "# matches one level", violates: "MQTT-4.7.1-2",
            caughtBy: ["retained-by-wildcard"],
            up: texts { $0.replacingHash }),
        Mutation(
            "hash-matches-text", "a/# matches whatever begins with a", violates: "MQTT-4.7.1-2",
            caughtBy: ["multi-level-matches-no-more"],
            up: spread { filter, topic in
                filter.suffix(2) == Array("/#".utf8) && !filter.matches(topic)
                    && topic.starts(with: filter.dropLast(2)) && !filter.dropLast(2).isEmpty
            }),
        Mutation(
            "hash-matches-dollar", "# and + match topics that begin with $", violates: "MQTT-4.7.2-1",
            caughtBy: ["dollar-plus", "dollar-multi-level"],
            up: spread { $1.beginsWithDollar && $0.beginsWild && $0.matches($1) }),
        Mutation(
            "hash-brings-sys", "A new subscription that begins with a wildcard brings what is retained below $",
            violates: "MQTT-4.7.2-1", caughtBy: ["dollar-plus-retained", "dollar-multi-level-retained"],
            up: { link, frame in
                if let publication = frame.publication, publication.topic.beginsWithDollar, publication.isRetained {
                    link.world.cleared[publication.topic] = false
                }
                if frame.kind == .subscribe, let all = frame.subscriptions {
                    let kept = Array(link.world.cleared.keys) + [Array("$SYS/broker/uptime".utf8)]
                    for topic in kept where all.contains(where: { $0.filter.beginsWild && $0.filter.matches(topic) }) {
                        link.deliver(topic, Array("1".utf8), isRetained: true)
                    }
                }
                link.forward(frame)
            }),
        Mutation(
            "will-below-dollar-to-all", "A will below $ reaches filters that begin with a wildcard",
            violates: "MQTT-4.7.2-1", caughtBy: ["dollar-will"],
            closed: { link in
                if let will = link.connect?.will, will.topic.beginsWithDollar {
                    link.world.inject(will.topic, will.message) { $0.beginsWild && $0.matches(will.topic) }
                }
                link.letClose()
            }),
        Mutation(
            "dollar-anywhere-hidden", "Wildcards do not match levels that contain $", violates: "MQTT-4.7.2-1",
            caughtBy: ["dollar-plus-others-pass"],
            down: lose { link, publication in
                publication.topic.contains(UInt8(ascii: "$")) && link.subscriptions[publication.topic] == nil
            }),
        Mutation(
            "plus-matches-more", "+ at the end matches several levels", violates: "MQTT-4.7.1-3",
            caughtBy: ["single-level-several"],
            up: spread { filter, topic in
                filter.last == UInt8(ascii: "+") && !filter.matches(topic)
                    && (filter.dropLast() + Array("#".utf8)).matches(topic)
            }),
        Mutation(
            "plus-matches-no-level", "+ matches a level that is not there", violates: "MQTT-4.7.1-3",
            caughtBy: ["single-level-matches-no-more", "single-level-between"],
            up: spread { filter, topic in
                let plus = Array("+".utf8)
                return !filter.matches(topic) && filter.levels.contains(plus)
                    && Array(filter.levels.filter { $0 != plus }.joined(separator: Array("/".utf8))).matches(topic)
            }),
        Mutation(
            "plus-matches-no-empty-level", "+ does not match an empty level", violates: "MQTT-4.7.1-3",
            caughtBy: ["retained-by-wildcard"],
            down: lose { link, publication in
                publication.topic.levels.contains([]) && link.subscriptions[publication.topic] == nil
                    && link.subscriptions.keys.contains { $0.contains(UInt8(ascii: "+")) }
            }),
        Mutation(
            "empty-levels-collapsed", "Empty levels are left out", violates: "MQTT-4.7.3-4",
            caughtBy: ["distinct-names"],
            up: texts { text in
                text.isEmpty ? text : Array(text.levels.filter { !$0.isEmpty }.joined(separator: Array("/".utf8)))
            }),
        Mutation(
            "topics-without-case", "Topics and filters are compared without case", violates: "MQTT-4.7.3-4",
            caughtBy: ["distinct-names", "distinct-subscriptions"],
            up: spread { !$0.matches($1) && $0.lowercased.matches($1.lowercased) }),
        Mutation(
            "topics-folded", "Topics and filters are compared without accents, blanks, separators and case",
            violates: "MQTT-4.7.3-4", caughtBy: ["distinct-unicode", "bom-topic"],
            up: spread { !$0.matches($1) && !$0.hasWildcard && $0.folded == $1.folded }),
        Mutation(
            "topics-as-paths", "Dots and backslashes mean what they mean in file systems", violates: "MQTT-4.7.3-4",
            caughtBy: ["dots-are-text"],
            up: texts { $0.asPath }),
        Mutation(
            "retained-topics-folded", "Retained messages of topics that look alike replace each other",
            violates: "MQTT-4.7.3-4", caughtBy: ["distinct-retained"],
            up: { link, frame in
                if let publication = frame.publication, publication.isRetained {
                    for topic in link.world.cleared.keys
                    where topic != publication.topic && topic.folded == publication.topic.folded {
                        link.world.clearRetained(topic)
                    }
                    link.world.cleared[publication.topic] = false
                }
                link.forward(frame)
            }),
        Mutation(
            "topic-changed", "A topic is delivered in lower case", violates: "MQTT-3.3.2-3",
            caughtBy: ["publish-topic-byte-for-byte"],
            down: publications { $1.topic = $1.topic.lowercased }),
        Mutation(
            "topic-of-the-filter", "A message comes under the filter of its subscription", violates: "MQTT-3.3.2-3",
            caughtBy: ["publish-matching", "multi-level-matches"],
            down: publications { link, publication in
                publication.topic = link.subscriptions.keys.first { $0.matches(publication.topic) } ?? publication.topic
            }),
        Mutation(
            "topics-of-1000-bytes", "Topics and filters count up to their thousandth byte", violates: "MQTT-4.7.3-3",
            caughtBy: ["longest-topic"],
            up: texts { Array($0.prefix(1_000)) }),
        Mutation(
            "topics-of-65534-bytes", "Topics and filters count up to 65,534 bytes", violates: "MQTT-4.7.3-3",
            caughtBy: ["longest-filter"],
            up: texts { Array($0.prefix(65_534)) }),
        Mutation(
            "topics-of-one-character-refused", "A topic of one character ends the connection", violates: "MQTT-4.7.3-1",
            caughtBy: ["only-separators"],
            up: close { $1.publication.map { $0.topic.count <= 2 && !$0.topic.hasWildcard } ?? false }),
        Mutation(
            "everything-to-everybody", "Filters are not looked at: each client gets each message",
            violates: "MQTT-3.3.2-3", caughtBy: ["publish-not-matching", "multi-level-matches-no-more"],
            up: spread { !$1.hasWildcard && !$0.matches($1) }),
        Mutation(
            "retained-to-everybody", "A new subscription brings what is retained on other topics too",
            violates: "MQTT-3.3.1-6", caughtBy: ["retained-while-connected", "retained-other-filter"],
            up: { link, frame in
                if let publication = frame.publication, publication.isRetained {
                    link.world.cleared[publication.topic] = publication.payload.isEmpty
                }
                if frame.kind == .subscribe, let all = frame.subscriptions {
                    for (topic, isEmpty) in link.world.cleared
                    where !isEmpty && !all.contains(where: { $0.filter.matches(topic) }) {
                        link.deliver(topic, Array("other".utf8), isRetained: true)
                    }
                }
                link.forward(frame)
            }),
        Mutation(
            "queue-takes-everything", "For a session without connection every message waits", violates: "MQTT-3.1.2-5",
            caughtBy: ["session-queue-only-its-own"],
            up: wait { publication, filters in !filters.keys.contains { $0.matches(publication.topic) } },
            down: deliverWaiting),
        Mutation(
            "dollar-waits", "For a session whose filter begins with a wildcard, topics below $ wait",
            violates: "MQTT-4.7.2-1", caughtBy: ["dollar-plus-waiting"],
            up: wait { publication, filters in
                publication.topic.beginsWithDollar && filters.keys.contains { $0.matches(publication.topic) }
            },
            down: deliverWaiting),
        Mutation(
            "dollar-deliverable", "Clients can talk to each other below $SYS", violates: "ANNEX-4.7.2",
            caughtBy: ["dollar-is-not-for-clients", "publish-to-sys-dropped"],
            up: spread { $1.beginsWithDollar && $0.beginsWithDollar && $0.matches($1) }),
        Mutation(
            "shared-subscriptions-not-shared", "Each member of a shared subscription gets each message",
            violates: "MQTT-4.5.0-1", caughtBy: ["choice-shared-subscription"],
            up: texts { text in
                let levels = text.levels
                guard levels.first == Array("$share".utf8), levels.count > 2 else { return text }
                return Array(levels.dropFirst(2).joined(separator: Array("/".utf8)))
            }),
        Mutation(
            "bystanders-closed", "A protocol violation ends other connections too", violates: "ANNEX-4.8",
            caughtBy: ["errors-stay-with-their-connection"],
            closed: { link in
                for other in link.world.open where other !== link { other.close() }
                link.letClose()
            },
            finished: { link in
                if link.isRaw { for other in link.world.open where other !== link { other.close() } }
            }),
        Mutation(
            "connections-of-two-mixed", "What one client sends again and again reaches the wrong one",
            violates: "MQTT-7.1.1-1", caughtBy: ["length-boundaries"],
            down: { link, frame in
                let others = link.world.open.filter { $0 !== link && $0.connect != nil }
                if frame.publication != nil, let other = others.last {
                    other.deliver(frame)
                } else {
                    link.deliver(frame)
                }
            }),
    ]

    private static func refuseWildcards(with code: UInt8) -> OnPacket {
        { link, frame in
            if frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions,
                all.contains(where: { $0.filter.hasWildcard && !$0.filter.hasOddHash })
            {
                return link.deliver(Frame(.suback, frame.body.prefix(2) + all.map { _ in code }))
            }
            link.forward(frame)
        }
    }
}

extension [UInt8] {
    fileprivate var beginsWild: Bool { first == UInt8(ascii: "#") || first == UInt8(ascii: "+") }

    /// A wildcard that is not a level of its own, or a # that is not the last one.
    var hasOddHash: Bool {
        let levels = self.levels
        return levels.enumerated().contains { place, level in
            level.hasWildcard && (level.count > 1 || level == Array("#".utf8) && place < levels.count - 1)
        }
    }

    fileprivate var replacingHash: [UInt8] {
        guard last == UInt8(ascii: "#"), !hasOddHash else { return self }
        return dropLast() + Array("+".utf8)
    }

    /// Without what careless comparisons overlook.
    var folded: [UInt8] {
        var text = self
        for (part, plain) in [
            ("\u{E9}", "e"), ("e\u{301}", "e"), ("E\u{301}", "e"), ("\u{C9}", "e"), ("\u{FEFF}", ""), ("%C3%A9", "e"),
            ("%61", "a"), ("./", ""), ("\u{C5}", "a"), ("\u{212B}", "a"), ("A\u{30A}", "a"), ("\u{FF21}", "a"),
            ("\u{FB01}", "fi"), ("\u{DF}", "ss"), ("\u{1E9E}", "ss"), ("\u{E0}", "a"),
        ] {
            text = text.replacing(Array(part.utf8), with: Array(plain.utf8))
        }
        return text.lowercased.filter { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: " ") && $0 != 9 }
    }

    fileprivate var asPath: [UInt8] {
        var names: [[UInt8]] = []
        for name in replacing(Array("\\".utf8), with: Array("/".utf8))
            .replacing(Array("%2f".utf8), with: Array("/".utf8)).levels
        {
            if name == Array("..".utf8) { _ = names.popLast() } else if name != Array(".".utf8) { names.append(name) }
        }
        return Array(names.joined(separator: Array("/".utf8)))
    }
}
