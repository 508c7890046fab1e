import Conformance

/// Chapters 3.3, 3.8 to 3.11, 4.5 to 4.7: who gets what, in which order, under which name.
extension Mutation {
    static let retaining: [Mutation] = [
        Mutation(
            "dup-never-set", "What is sent again has DUP 0", violates: "MQTT-3.3.1-1",
            caughtBy: ["identifiers-kept-qos-1", "publish-dup-when-sent-again"],
            down: publications { $1.isDuplicate = false }),
        Mutation(
            "dup-only-once", "What is sent for the third time has DUP 0 again", violates: "MQTT-3.3.1-1",
            caughtBy: ["publish-dup-each-time"],
            down: publications { link, publication in
                guard publication.isDuplicate else { return }
                let note = String(decoding: link.clientIdentifier, as: UTF8.self) + " \(publication.identifier)"
                if !link.world.isFirst(note) { publication.isDuplicate = false }
            }),
        Mutation(
            "dup-on-first-delivery", "The first delivery of a message has DUP 1", violates: "MQTT-4.3.2-1",
            caughtBy: ["identifiers-distinct-qos-1", "identifiers-distinct-qos-1-and-2"],
            down: publications { if $1.qos > 0 { $1.isDuplicate = true } }),
        Mutation(
            "dup-at-qos-0", "A PUBLISH of QoS 0 has DUP 1", violates: "MQTT-3.3.1-2",
            caughtBy: ["publish-dup-not-passed-on-qos-1", "publish-dup-not-passed-on-qos-2"],
            down: publications { if $1.qos == 0 { $1.isDuplicate = true } }),
        Mutation(
            "dup-when-queued", "What waited for a session comes with DUP 1", violates: "MQTT-3.3.1-3",
            caughtBy: ["publish-dup-0-when-queued", "publish-dup-only-when-sent-before"],
            down: { link, frame in
                if frame.kind == .connack { link.notes["resumed"] = Int(frame.body[0]) }
                guard var publication = frame.publication, link.notes["resumed"] == 1, publication.qos > 0 else {
                    return link.deliver(frame)
                }
                publication.isDuplicate = true
                link.deliver(.publish(publication))
            }),
        Mutation(
            "dup-passed-on", "DUP of what came in is passed on", violates: "MQTT-3.3.1-3",
            caughtBy: ["publish-dup-not-retained", "qos0-sender-dup-came-in"],
            up: { link, frame in
                if let publication = frame.publication, publication.isDuplicate, publication.qos > 0 {
                    link.world.notes["dup " + String(decoding: publication.topic, as: UTF8.self)] = 1
                }
                link.forward(frame)
            },
            down: publications { link, publication in
                if link.world.notes["dup " + String(decoding: publication.topic, as: UTF8.self)] != nil {
                    publication.isDuplicate = true
                }
            }),

        // RETAIN
        Mutation(
            "retain-kept-live", "RETAIN stays 1 towards subscriptions that stand", violates: "MQTT-3.3.1-9",
            caughtBy: ["broker-flags-of-publish", "retain-0-to-established"],
            up: { link, frame in
                if let publication = frame.publication, publication.isRetained {
                    link.world.notes["retain " + String(decoding: publication.topic, as: UTF8.self)] = 1
                }
                link.forward(frame)
            },
            down: publications { link, publication in
                if link.world.notes["retain " + String(decoding: publication.topic, as: UTF8.self)] != nil {
                    publication.isRetained = true
                }
            }),
        Mutation(
            "retain-never-sent", "What is retained comes with RETAIN 0", violates: "MQTT-3.3.1-8",
            caughtBy: ["retained-stored", "retained-matching-filter"],
            down: publications { $1.isRetained = false }),
        Mutation(
            "retained-not-stored", "Nothing is retained", violates: "MQTT-3.3.1-5",
            caughtBy: ["retained-to-every-later-subscriber"],
            up: published { $1.isRetained = false }),
        Mutation(
            "retained-not-sent", "A new subscription gets nothing that is retained", violates: "MQTT-3.3.1-6",
            caughtBy: ["retained-all-that-match", "retained-of-overlapping-filters"],
            down: lose { $1.isRetained }),
        Mutation(
            "retained-not-sent-again", "A repeated SUBSCRIBE does not bring what is retained again",
            violates: "MQTT-3.8.4-3", caughtBy: ["resubscribe-retained"],
            up: { link, frame in
                if frame.kind == .subscribe, let all = frame.subscriptions, !link.subscriptions.isEmpty,
                    all.allSatisfy({ link.subscriptions[$0.filter] != nil })
                {
                    link.notes["repeated"] = 1
                } else if frame.kind == .subscribe {
                    link.notes["repeated"] = nil
                }
                link.forward(frame)
            },
            down: lose { $1.isRetained && $0.notes["repeated"] != nil }),
        Mutation(
            "retained-sent-once-per-client", "A client gets what is retained on a topic only once",
            violates: "MQTT-3.3.1-6", caughtBy: ["resubscribe-all-retained"],
            down: lose { link, publication in
                let name = String(decoding: link.clientIdentifier + publication.topic, as: UTF8.self)
                return publication.isRetained && !publication.isDuplicate && !link.world.isFirst(name)
            }),
        Mutation(
            "retained-sent-twice", "What is retained is sent three times to a new subscription",
            violates: "MQTT-3.3.1-6", caughtBy: ["retained-replaced", "retained-qos-0-kept"],
            down: copy { $1.isRetained ? 2 : 0 }),
        Mutation(
            "retained-old-value", "The first retained message of a topic is kept, not the last",
            violates: "MQTT-3.3.1-5", caughtBy: ["retained-replaced"],
            up: published { link, publication in
                guard publication.isRetained, !publication.payload.isEmpty else { return }
                let note = "kept " + String(decoding: publication.topic, as: UTF8.self)
                if !link.world.isFirst(note) { publication.isRetained = false }
            }),
        Mutation(
            "retained-at-qos-0", "A retained message loses its QoS", violates: "MQTT-3.3.1-5",
            caughtBy: ["retained-qos-lowered-to-1"],
            down: { link, frame in
                guard var publication = frame.publication, publication.isRetained, publication.qos > 0 else {
                    return link.deliver(frame)
                }
                link.forward(Frame(publication.qos == 1 ? .puback : .pubrec, Wire.uint16(publication.identifier)))
                publication.qos = 0
                link.deliver(.publish(publication))
            }),
        Mutation(
            "retained-qos-0-keeps-the-old", "A retained message of QoS 0 leaves the one before",
            violates: "MQTT-3.3.1-7", caughtBy: ["retained-qos-0-kept"],
            up: published { if $1.qos == 0, !$1.payload.isEmpty { $1.isRetained = false } }),
        Mutation(
            "retained-qos-0-not-kept", "A retained message of QoS 0 is not kept", violates: "MQTT-3.3.1-7",
            caughtBy: ["retained-qos-0-kept"],
            down: lose { $1.isRetained && $1.qos == 0 && $0.granted($1.topic) != 0 }),
        Mutation(
            "retained-not-cleared", "An empty payload with RETAIN 1 clears nothing", violates: "MQTT-3.3.1-10",
            caughtBy: ["retained-cleared", "retained-clearing-queued"],
            up: published { if $1.payload.isEmpty { $1.isRetained = false } }),
        Mutation(
            "retained-clearing-not-delivered", "An empty payload with RETAIN 1 is delivered to nobody",
            violates: "MQTT-3.3.1-10", caughtBy: ["will-retain-1-empty"],
            down: lose { $1.payload.isEmpty && !$1.isRetained }),
        Mutation(
            "retained-empty-stored", "An empty message is retained", violates: "MQTT-3.3.1-11",
            caughtBy: ["retained-cleared-when-none", "retained-cleared"],
            up: { link, frame in
                if let publication = frame.publication, publication.isRetained {
                    link.world.cleared[publication.topic] = publication.payload.isEmpty
                }
                link.forward(frame)
                if frame.kind == .subscribe { link.held = [frame] }
            },
            down: { link, frame in
                link.deliver(frame)
                guard frame.kind == .suback, let subscribe = link.held.popLast() else { return }
                for (topic, isEmpty) in link.world.cleared where isEmpty {
                    let isWanted = subscribe.subscriptions?.contains { $0.filter.matches(topic) } ?? false
                    if isWanted { link.deliver(topic, [], isRetained: true) }
                }
            }),
        Mutation(
            "retained-clearing-below-too", "Clearing a retained message clears those below it",
            violates: "MQTT-3.3.1-10", caughtBy: ["retained-cleared-there-only"],
            up: { link, frame in
                if let publication = frame.publication, publication.isRetained {
                    link.world.cleared[publication.topic] = publication.payload.isEmpty
                    if publication.payload.isEmpty {
                        for topic in link.world.cleared.keys
                        where topic.starts(with: publication.topic + Array("/".utf8)) {
                            link.world.clearRetained(topic)
                        }
                    }
                }
                link.forward(frame)
            }),
        Mutation(
            "everything-retained", "Messages with RETAIN 0 are retained too", violates: "MQTT-3.3.1-12",
            caughtBy: ["unretained-not-stored", "unretained-replaces-nothing"],
            up: published { $1.isRetained = !$1.topic.beginsWithDollar && !$1.topic.hasWildcard }),
        Mutation(
            "unretained-clears", "A message with RETAIN 0 removes what is retained", violates: "MQTT-3.3.1-12",
            caughtBy: ["unretained-replaces-nothing"],
            up: { link, frame in
                if let publication = frame.publication, !publication.isRetained, !publication.topic.beginsWithDollar {
                    link.world.clearRetained(publication.topic)
                }
                link.forward(frame)
            }),
        Mutation(
            "unretained-empty-clears", "An empty message with RETAIN 0 removes what is retained",
            violates: "MQTT-3.3.1-12", caughtBy: ["unretained-replaces-nothing"],
            up: published { if $1.payload.isEmpty { $1.isRetained = true } }),
        Mutation(
            "retained-cleared-by-unsubscribe", "UNSUBSCRIBE removes what is retained there", violates: "MQTT-3.10.4-1",
            caughtBy: ["unsubscribe-utf-8"],
            up: { link, frame in
                if frame.kind == .unsubscribe, let filters = frame.filters {
                    for filter in filters
                    where !filter.hasWildcard && !filter.isEmpty && filter.isUTF8 && !filter.hasNUL {
                        link.world.clearRetained(filter)
                    }
                }
                link.forward(frame)
            }),
        Mutation(
            "retained-cleared-by-wildcard", "A PUBLISH to a wildcard clears what it matches before its connection ends",
            violates: "MQTT-4.7.1-1", caughtBy: ["wildcard-in-topic-retained"],
            up: { link, frame in
                if let publication = frame.publication {
                    if publication.topic.hasWildcard, publication.isRetained {
                        for topic in link.world.cleared.keys where publication.topic.matches(topic) {
                            link.world.clearRetained(topic)
                        }
                    }
                    if publication.isRetained { link.world.cleared[publication.topic] = false }
                }
                link.forward(frame)
            }),
    ]

    static let delivering: [Mutation] = [
        Mutation(
            "message-lost", "Every second message is not delivered", violates: "MQTT-4.5.0-1",
            caughtBy: ["receipt-subscriber-vanishes"],
            down: lose { link, _ in link.count("message") % 2 == 0 }),
        Mutation(
            "first-message-lost", "The first message of a connection is not delivered", violates: "MQTT-4.5.0-1",
            caughtBy: ["receipt-publisher-vanishes", "receipt-waiting-behind-subscriptions"],
            down: lose { link, _ in link.count("message") == 1 }),
        Mutation(
            "sixth-message-lost", "The sixth message of a connection is not delivered", violates: "MQTT-4.5.0-1",
            caughtBy: ["receipt-more-than-a-window"],
            down: lose { link, _ in link.count("message") == 6 }),
        Mutation(
            "message-doubled", "Each message is delivered twice", violates: "MQTT-4.3.1-1",
            caughtBy: ["qos0-sender", "qos0-sender-published-at-0"],
            down: copy { _, _ in 1 }),
        Mutation(
            "messages-reordered", "Two messages change places", violates: "MQTT-4.6.0-6", caughtBy: ["ordered-qos0"],
            down: swap(.publish)),
        Mutation(
            "seventh-message-late", "The seventh message comes behind the eighth", violates: "MQTT-4.6.0-6",
            caughtBy: ["ordered-qos1"],
            down: { link, frame in
                if frame.publication != nil, link.count("message") == 7 { return link.held.append(frame) }
                link.deliver(frame)
                if !link.held.isEmpty { link.deliver(link.held.removeFirst()) }
            }),
        Mutation(
            "qos-raised", "A QoS 0 message comes at the granted QoS", violates: "MQTT-3.8.4-6",
            caughtBy: ["will-qos", "overlapping-published-lower"],
            down: publications { link, publication in
                guard publication.qos == 0, let granted = link.granted(publication.topic), granted > 0 else { return }
                publication.qos = granted
                publication.identifier = UInt16(30_000 + link.count("raised"))
            }),
        Mutation(
            "qos-1-raised", "A QoS 1 message comes at QoS 2 where that is granted", violates: "MQTT-3.8.4-6",
            caughtBy: ["session-queue-maximum-qos", "granted-2"],
            down: publications { link, publication in
                if publication.qos == 1, link.granted(publication.topic) == 2 { publication.qos = 2 }
            }),
        Mutation(
            "qos-2-lowered", "A QoS 2 message comes at QoS 1", violates: "MQTT-3.8.4-6",
            caughtBy: ["resubscribe-replaces"],
            down: publications { if $1.qos == 2 { $1.qos = 1 } }),
        Mutation(
            "qos-1-lowered", "A QoS 1 message comes at QoS 0", violates: "MQTT-3.8.4-6",
            caughtBy: ["will-qos-lowered-to-1"],
            down: { link, frame in
                guard var publication = frame.publication, publication.qos == 1 else { return link.deliver(frame) }
                link.forward(Frame(.puback, Wire.uint16(publication.identifier)))
                publication.qos = 0
                link.deliver(.publish(publication))
            }),
        Mutation(
            "qos-of-overlap-lowest", "Of overlapping subscriptions the lowest QoS counts", violates: "MQTT-3.3.5-1",
            caughtBy: ["overlapping-highest-qos", "overlapping-highest-qos-first"],
            down: { link, frame in
                guard var publication = frame.publication, publication.qos > 0 else { return link.deliver(frame) }
                let lowest = link.subscriptions.filter { $0.key.matches(publication.topic) }.values.min() ?? 2
                guard lowest < publication.qos else { return link.deliver(frame) }
                if lowest == 0 { link.forward(Frame(.puback, Wire.uint16(publication.identifier))) }
                publication.qos = lowest
                link.deliver(.publish(publication))
            }),
        Mutation(
            "qos-of-overlap-twice", "Overlapping subscriptions bring a copy each, all at the highest QoS",
            violates: "MQTT-3.3.5-1", caughtBy: ["overlapping-one-after-the-other"],
            down: copy { $1.isRetained ? 0 : max($0.matching($1.topic) - 1, 0) }),
        Mutation(
            "overlap-one-copy-each", "Overlapping subscriptions bring a copy each, at QoS 0 beyond the first",
            violates: "MQTT-3.3.5-1", caughtBy: ["overlapping-same-qos", "overlapping-while-away"],
            down: { link, frame in
                link.deliver(frame)
                guard let publication = frame.publication, !publication.isRetained else { return }
                for _ in 0..<max(link.matching(publication.topic) - 1, 0) {
                    link.deliver(publication.topic, publication.payload)
                }
            }),
        Mutation(
            "overlap-many-copies", "Overlapping subscriptions bring four copies", violates: "MQTT-3.3.5-1",
            caughtBy: ["overlapping-one-copy", "choice-overlap-one-copy"],
            down: copy { $0.matching($1.topic) > 1 ? 3 : 0 }),
        Mutation(
            "own-messages-withheld", "A client does not get what it publishes itself", violates: "MQTT-4.5.0-1",
            caughtBy: ["receipt-own-messages"],
            up: { link, frame in
                if let publication = frame.publication {
                    link.notes["own " + String(decoding: publication.payload, as: UTF8.self)] = 1
                }
                link.forward(frame)
            },
            down: lose { $0.notes["own " + String(decoding: $1.payload, as: UTF8.self)] != nil && !$1.isRetained }),
        Mutation(
            "window-of-five", "A client that does not acknowledge gets five messages and no more",
            violates: "MQTT-4.5.0-2", caughtBy: ["receipt-more-than-a-window"],
            up: { link, frame in
                if frame.kind == .puback || frame.kind == .pubcomp { link.notes["open", default: 0] -= 1 }
                link.forward(frame)
            },
            down: lose { link, publication in
                guard publication.qos > 0, link.notes["open", default: 0] < 5 else { return publication.qos > 0 }
                link.notes["open", default: 0] += 1
                return false
            }),
        Mutation(
            "unacknowledged-stops-everything", "A client that owes an acknowledgement gets nothing else",
            violates: "MQTT-4.5.0-2", caughtBy: ["no-pubrec-then-puback"],
            up: { link, frame in
                if frame.isAcknowledgement { link.notes["owes"] = nil }
                link.forward(frame)
            },
            down: lose { link, publication in
                if link.notes["owes"] != nil { return true }
                if publication.qos > 0 { link.notes["owes"] = 1 }
                return false
            }),
        Mutation(
            "unacknowledged-stops-answers", "A client that owes an acknowledgement gets no answers",
            violates: "MQTT-3.8.4-1", caughtBy: ["subscribe-then-publish"],
            up: { link, frame in
                if frame.isAcknowledgement { link.notes["owes"] = nil }
                link.forward(frame)
            },
            down: { link, frame in
                if let publication = frame.publication, publication.qos > 0 { link.notes["owes"] = 1 }
                if link.notes["owes"] != nil, frame.kind != .publish, frame.kind != .pingresp { return }
                link.deliver(frame)
            }),
    ]
}
