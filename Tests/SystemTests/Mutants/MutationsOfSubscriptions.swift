import Conformance

/// Chapters 3.8 to 3.11: SUBSCRIBE, UNSUBSCRIBE and their answers.
extension Mutation {
    static let subscribing: [Mutation] = [
        Mutation(
            "suback-lost", "A SUBSCRIBE gets no SUBACK", violates: "MQTT-3.8.4-1", caughtBy: ["choice-suback-first"],
            down: drop(.suback)),
        Mutation(
            "unsuback-lost", "An UNSUBSCRIBE gets no UNSUBACK", violates: "MQTT-3.10.4-4",
            caughtBy: ["unsubscribe-unknown"], down: drop(.unsuback)),
        Mutation(
            "suback-twice", "SUBACK comes twice", violates: "MQTT-3.8.4-1",
            caughtBy: ["unsubscribe-behind-subscribe", "subscribe-bytes"], down: double(.suback)),
        Mutation(
            "unsuback-twice", "UNSUBACK comes twice", violates: "MQTT-3.10.4-4",
            caughtBy: ["identifiers-pipelined", "unsubscribe-bytes"], down: double(.unsuback)),
        Mutation(
            "suback-of-other-identifier", "SUBACK has another Packet Identifier", violates: "MQTT-3.8.4-2",
            caughtBy: ["identifier-of-suback", "subscribe-answered-once"],
            down: change(.suback) { $0.identifier ^= 1 }),
        Mutation(
            "unsuback-of-other-identifier", "UNSUBACK has another Packet Identifier", violates: "MQTT-3.10.4-4",
            caughtBy: ["identifier-of-unsuback", "unsubscribe-answered-once"],
            down: change(.unsuback) { $0.identifier ^= 1 }),
        Mutation(
            "suback-codes-reversed", "The return codes come in the reverse order", violates: "MQTT-3.9.3-1",
            caughtBy: ["suback-order"],
            down: change(.suback) { $0.body = $0.body.prefix(2) + $0.body.dropFirst(2).reversed() }),
        Mutation(
            "suback-codes-sorted", "The return codes come in the order of the sorted filters", violates: "MQTT-3.9.3-1",
            caughtBy: ["suback-order-of-equal-filters"],
            up: { link, frame in
                if frame.kind == .subscribe { link.held = [frame] }
                link.forward(frame)
            },
            down: { link, frame in
                guard frame.kind == .suback, let all = link.held.popLast()?.subscriptions,
                    all.count == frame.body.count - 2
                else { return link.deliver(frame) }
                let pairs = zip(all, frame.body.dropFirst(2)).sorted {
                    $0.0.filter.lexicographicallyPrecedes($1.0.filter)
                }
                link.deliver(Frame(.suback, frame.body.prefix(2) + pairs.map(\.1)))
            }),
        Mutation(
            "suback-code-missing", "The last of several return codes is missing", violates: "MQTT-3.8.4-5",
            caughtBy: ["subscribe-many-at-once"],
            down: change(.suback) { if $0.body.count > 3 { $0.body.removeLast() } }),
        Mutation(
            "suback-one-code-for-equal-filters", "Filters that stand twice get one return code",
            violates: "MQTT-3.8.4-5", caughtBy: ["subscribe-filter-twice"],
            up: { link, frame in
                if frame.kind == .subscribe { link.held = [frame] }
                link.forward(frame)
            },
            down: { link, frame in
                guard frame.kind == .suback, let all = link.held.popLast()?.subscriptions else {
                    return link.deliver(frame)
                }
                let distinct = Set(all.map(\.filter)).count
                link.deliver(Frame(.suback, Array(frame.body.prefix(2 + distinct))))
            }),
        Mutation(
            "suback-code-of-mqtt-5", "A filter that begins with $ gets return code 0x87", violates: "MQTT-3.9.3-2",
            caughtBy: ["suback-codes"],
            up: { link, frame in
                if frame.kind == .subscribe,
                    frame.subscriptions?.contains(where: { $0.filter.beginsWithDollar }) == true
                {
                    return link.deliver(Frame(.suback, frame.body.prefix(2) + [0x87]))
                }
                link.forward(frame)
            }),
        Mutation(
            "suback-code-3", "A long filter gets return code 3", violates: "MQTT-3.9.3-2",
            caughtBy: ["suback-codes-long-filter"],
            up: { link, frame in
                if frame.kind == .subscribe, frame.subscriptions?.contains(where: { $0.filter.count > 60 }) == true {
                    return link.deliver(Frame(.suback, frame.body.prefix(2) + [3]))
                }
                link.forward(frame)
            }),
        Mutation(
            "suback-failure", "Every filter gets return code 0x80", violates: "MQTT-3.8.4-5",
            caughtBy: ["subscribe-one-filter"],
            down: change(.suback) { $0.body = $0.body.prefix(2) + $0.body.dropFirst(2).map { _ in 0x80 } }),
        Mutation(
            "suback-grants-less", "QoS 2 is granted as QoS 1", violates: "MQTT-3.8.4-6", caughtBy: ["granted-to-each"],
            up: subscribes { $0 = min($0, 1) }),
        Mutation(
            "suback-per-filter", "Several filters get a SUBACK each", violates: "MQTT-3.8.4-4",
            caughtBy: ["subscribe-several-filters"],
            down: { link, frame in
                guard frame.kind == .suback else { return link.deliver(frame) }
                for code in frame.body.dropFirst(2) { link.deliver(Frame(.suback, frame.body.prefix(2) + [code])) }
            }),
        Mutation(
            "first-filter-dropped", "Of several filters the first is granted and not subscribed",
            violates: "MQTT-3.8.4-4", caughtBy: ["subscribe-several-filters"],
            up: { link, frame in
                link.forward(frame)
                // In one piece with it, before anybody can publish.
                if frame.kind == .subscribe, frame.hasRightFlags, let filters = frame.subscriptions, filters.count > 1 {
                    link.forward(.unsubscribe(ownIdentifier, [filters[0].filter]))
                }
            },
            down: hideOwnAnswers()),
        Mutation(
            "last-filter-dropped", "Of several filters the last is granted and not subscribed",
            violates: "MQTT-3.8.4-4", caughtBy: ["subscribe-several-filters"],
            up: { link, frame in
                guard frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions, all.count > 1,
                    let last = all.last, last.qos < 3
                else { return link.forward(frame) }
                link.notes["code"] = Int(last.qos)
                link.forward(.subscribe(frame.identifier, Array(all.dropLast())))
            },
            down: { link, frame in
                var frame = frame
                if frame.kind == .suback, let code = link.notes["code"] {
                    frame.body.append(UInt8(code))
                    link.notes["code"] = nil
                }
                link.deliver(frame)
            }),
        Mutation(
            "subscription-late", "A subscription is in force only after its client's next packet",
            violates: "MQTT-3.8.4-1", caughtBy: ["subscribe-wildcard-works"],
            up: { link, frame in
                if frame.kind == .subscribe, frame.hasRightFlags, frame.identifier > 0, let all = frame.subscriptions,
                    !all.isEmpty, all.allSatisfy({ $0.qos < 3 && $0.filter.isUTF8 && !$0.filter.isEmpty })
                {
                    link.held.append(frame)
                    return link.pretend(frame)
                }
                for subscribe in link.held {
                    link.notes["swallow \(subscribe.identifier)"] = 1
                    link.forward(subscribe)
                }
                link.held = []
                link.forward(frame)
            },
            down: { link, frame in
                if frame.kind == .suback, link.notes["swallow \(frame.identifier)"] != nil { return }
                link.deliver(frame)
            }),
        Mutation(
            "requested-qos-3-granted", "A requested QoS of 3, or with reserved bits, is granted as 2",
            violates: "MQTT-3-8.3-4", caughtBy: ["subscribe-reserved-bits-among-others"],
            up: subscribes { $0 = min($0, 2) }),
        Mutation(
            "requested-reserved-bits-ignored", "The reserved bits of a requested QoS are not looked at",
            violates: "MQTT-3-8.3-4", caughtBy: ["subscribe-reserved-bits-among-others"],
            up: subscribes { $0 &= 3 }),
        Mutation(
            "requested-qos-3-refused", "A requested QoS of 3 gets return code 0x80", violates: "MQTT-3-8.3-4",
            caughtBy: ["subscribe-reserved-bits"],
            up: { link, frame in
                if frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions,
                    all.contains(where: { $0.qos > 2 })
                {
                    return link.deliver(
                        Frame(.suback, frame.body.prefix(2) + all.map { $0.qos > 2 ? 0x80 : $0.qos } as [UInt8]))
                }
                link.forward(frame)
            }),
        Mutation(
            "malformed-subscribe-half-done", "Of a SUBSCRIBE that breaks a rule what stands before that takes effect",
            violates: "MQTT-4.8.0-1",
            caughtBy: ["subscribe-malformed-as-a-whole", "choice-malformed-subscribe-is-nothing"],
            up: { link, frame in
                guard frame.kind == .subscribe, frame.isViolation || frame.hasBadFilter else {
                    return link.forward(frame)
                }
                let good = frame.readableFilters.prefix {
                    $0.qos < 3 && $0.filter.isUTF8 && !$0.filter.isEmpty && !$0.filter.hasOddHash
                }
                link.subscribe(Array(good))
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "wrong-subscribe-subscribes", "A SUBSCRIBE with wrong flags or identifier 0 closes, but has subscribed",
            violates: "MQTT-3.8.1-1", caughtBy: ["subscribe-flags"],
            up: { link, frame in
                if frame.kind == .subscribe, frame.isViolation, let all = frame.subscriptions {
                    let good = all.filter { $0.filter.isUTF8 && !$0.filter.hasNUL && !$0.filter.isEmpty }
                    link.subscribe(good.map { ($0.filter, min($0.qos, 1)) })
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "wrong-unsubscribe-unsubscribes", "An UNSUBSCRIBE that breaks a rule closes, but has taken away",
            violates: "MQTT-3.10.1-1", caughtBy: ["unsubscribe-flags"],
            up: { link, frame in
                if frame.kind == .unsubscribe, frame.isViolation || frame.hasBadFilter {
                    link.unsubscribe(Array(link.subscriptions.keys))
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "subscribe-without-filter-answered", "A SUBSCRIBE without a filter is answered", violates: "MQTT-3.8.3-3",
            caughtBy: ["subscribe-without-filter", "subscribe-without-body"],
            up: tolerate { $1.kind == .subscribe && $1.body.count <= 2 }),
        Mutation(
            "unsubscribe-without-filter-answered", "An UNSUBSCRIBE without a filter is answered",
            violates: "MQTT-3.10.3-2", caughtBy: ["unsubscribe-without-filter"],
            up: tolerate { $1.kind == .unsubscribe && $1.body.count <= 2 }),
        Mutation(
            "resubscribe-adds", "The same filter again is a second subscription", violates: "MQTT-3.8.4-3",
            caughtBy: ["resubscribe-amid-messages"],
            up: { link, frame in
                if frame.kind == .subscribe, let all = frame.subscriptions {
                    for (index, entry) in all.enumerated()
                    where link.subscriptions[entry.filter] != nil
                        || all[..<index].contains(where: { $0.filter == entry.filter })
                    {
                        link.again.append(entry.filter)
                    }
                }
                link.forward(frame)
            },
            down: copy { link, publication in
                !publication.isRetained && link.again.contains { $0.matches(publication.topic) } ? 1 : 0
            }),
        Mutation(
            "resubscribe-keeps-qos", "The same filter again leaves the QoS as it was", violates: "MQTT-3.8.4-3",
            caughtBy: ["resubscribe-replaces-wildcards"],
            up: { link, frame in
                guard frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions,
                    all.allSatisfy({ $0.qos < 3 && $0.filter.isUTF8 })
                else { return link.forward(frame) }
                var known = link.subscriptions
                let changed = all.map { entry -> (filter: [UInt8], qos: UInt8) in
                    let qos = known[entry.filter] ?? entry.qos
                    known[entry.filter] = qos
                    return (entry.filter, qos)
                }
                link.wanted[frame.identifier] = all.map(\.qos)
                link.forward(.subscribe(frame.identifier, changed))
            },
            down: { link, frame in
                if frame.kind == .suback, let codes = link.wanted[frame.identifier] {
                    return link.deliver(Frame(.suback, frame.body.prefix(2) + codes))
                }
                link.deliver(frame)
            }),
        Mutation(
            "resubscribe-replaces-all", "A SUBSCRIBE replaces whatever matches the same topics",
            violates: "MQTT-3.8.4-3", caughtBy: ["resubscribe-same-filter-only"],
            up: { link, frame in
                if frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions {
                    let gone = link.subscriptions.keys.filter { old in
                        all.contains { $0.filter != old && $0.filter.matches(old) }
                    }
                    link.unsubscribe(gone)
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "resubscribe-replaces-others", "A SUBSCRIBE replaces the same filter of other clients",
            violates: "MQTT-3.8.4-3", caughtBy: ["resubscribe-own-only"],
            up: { link, frame in
                if frame.kind == .subscribe, let all = frame.subscriptions {
                    for other in link.world.open where other !== link {
                        other.subscribe(all.filter { other.subscriptions[$0.filter] != nil })
                    }
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "resubscribe-interrupts", "A repeated SUBSCRIBE loses the next message", violates: "MQTT-3.8.4-3",
            caughtBy: ["resubscribe-loses-nothing", "resubscribe-amid-messages"],
            up: { link, frame in
                if frame.kind == .subscribe,
                    frame.subscriptions?.contains(where: { link.subscriptions[$0.filter] != nil }) == true
                {
                    link.notes["gap"] = 1
                }
                link.forward(frame)
            },
            down: lose { link, publication in
                guard link.notes["gap"] != nil, !publication.isRetained else { return false }
                link.notes["gap"] = nil
                return true
            }),

        // UNSUBSCRIBE
        Mutation(
            "unsubscribe-ignored", "An UNSUBSCRIBE is answered and takes nothing away", violates: "MQTT-3.10.4-1",
            caughtBy: ["unsubscribe-same-filter", "unsubscribe-one-of-several"],
            up: tolerate { link, frame in
                frame.kind == .unsubscribe && frame.hasRightFlags && frame.identifier > 0
                    && frame.filters?.isEmpty == false
                    && frame.filters?.contains { !$0.isUTF8 || $0.isEmpty || $0.hasNUL || $0.hasOddHash } == false
            }),
        Mutation(
            "unsubscribe-first-only", "Of several filters UNSUBSCRIBE takes the first away", violates: "MQTT-3.10.4-6",
            caughtBy: ["unsubscribe-several-filters", "unsubscribe-known-and-unknown"],
            up: { link, frame in
                guard frame.kind == .unsubscribe, frame.hasRightFlags, let filters = frame.filters, filters.count > 1,
                    filters.allSatisfy({ $0.isUTF8 && !$0.isEmpty })
                else { return link.forward(frame) }
                link.forward(.unsubscribe(frame.identifier, [filters[0]]))
            }),
        Mutation(
            "unsubscribe-stops-at-unknown", "An unknown filter keeps those behind it from being taken away",
            violates: "MQTT-3.10.4-6", caughtBy: ["unsubscribe-60-filters", "unsubscribe-known-and-unknown"],
            up: { link, frame in
                guard frame.kind == .unsubscribe, frame.hasRightFlags, let filters = frame.filters, filters.count > 1,
                    filters.allSatisfy({ $0.isUTF8 && !$0.isEmpty })
                else { return link.forward(frame) }
                let known = filters.prefix { link.subscriptions[$0] != nil }
                link.forward(.unsubscribe(frame.identifier, known.isEmpty ? [Array("none".utf8)] : Array(known)))
            }),
        Mutation(
            "unsubscribe-takes-all-that-match", "UNSUBSCRIBE takes away whatever its filter matches",
            violates: "MQTT-3.10.4-1", caughtBy: ["unsubscribe-one-of-several"],
            up: { link, frame in
                if frame.kind == .unsubscribe, frame.hasRightFlags, let filters = frame.filters {
                    let matched = link.subscriptions.keys.filter { old in
                        filters.contains { $0.matches(old) || old.matches($0) }
                    }
                    link.unsubscribe(matched)
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "unsubscribe-folds-case", "UNSUBSCRIBE compares without case, separators and accents",
            violates: "MQTT-4.7.3-4", caughtBy: ["distinct-subscriptions"],
            up: { link, frame in
                if frame.kind == .unsubscribe, frame.hasRightFlags, let filters = frame.filters {
                    let folded = Set(filters.map(\.folded))
                    link.unsubscribe(link.subscriptions.keys.filter { folded.contains($0.folded) })
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "unsubscribe-for-all", "UNSUBSCRIBE takes the filter away from every client", violates: "MQTT-3.10.4-1",
            caughtBy: ["unsubscribe-own-only"],
            up: { link, frame in
                if frame.kind == .unsubscribe, let filters = frame.filters {
                    for other in link.world.open where other !== link {
                        other.unsubscribe(filters.filter { other.subscriptions[$0] != nil })
                    }
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),
        Mutation(
            "unsubscribe-drops-what-is-on-its-way", "UNSUBSCRIBE drops the messages on their way",
            violates: "MQTT-3.10.4-3", caughtBy: ["unsubscribe-several-on-their-way"],
            up: { link, frame in
                link.forward(frame)
                guard frame.kind == .unsubscribe, frame.hasRightFlags else { return }
                for identifier in link.identifiers {
                    link.notes["gone \(identifier)"] = 1
                    link.forward(Frame(.puback, Wire.uint16(identifier)))
                    link.forward(Frame(.pubrec, Wire.uint16(identifier)))
                    link.forward(Frame(.pubcomp, Wire.uint16(identifier)))
                }
            },
            down: { link, frame in
                if let publication = frame.publication, publication.qos > 0 {
                    link.identifiers.append(publication.identifier)
                }
                if frame.kind == .pubrel, link.notes["gone \(frame.identifier)"] != nil { return }
                link.deliver(frame)
            }),
        Mutation(
            "unsuback-only-where-known", "An UNSUBSCRIBE that takes nothing away is not answered",
            violates: "MQTT-3.10.4-5", caughtBy: ["unsubscribe-other-filter"],
            up: { link, frame in
                if frame.kind == .unsubscribe, let filters = frame.filters,
                    !filters.contains(where: { link.subscriptions[$0] != nil })
                {
                    link.notes["mute \(frame.identifier)"] = 1
                }
                link.forward(frame)
            },
            down: { link, frame in
                if frame.kind == .unsuback, frame.identifier != 0xfffd, link.notes["mute \(frame.identifier)"] != nil {
                    return
                }
                link.deliver(frame)
            }),
        Mutation(
            "unsuback-per-filter", "Several filters get an UNSUBACK each", violates: "MQTT-3.10.4-6",
            caughtBy: ["unsubscribe-filter-twice", "unsubscribe-several-filters"],
            up: { link, frame in
                if frame.kind == .unsubscribe { link.notes["filters \(frame.identifier)"] = frame.filters?.count }
                link.forward(frame)
            },
            down: { link, frame in
                link.deliver(frame)
                guard frame.kind == .unsuback else { return }
                for _ in 0..<max((link.notes["filters \(frame.identifier)"] ?? 1) - 1, 0) { link.deliver(frame) }
            }),
        Mutation(
            "unsuback-with-codes", "UNSUBACK carries return codes, as in MQTT 5", violates: "MQTT-3.10.4-4",
            caughtBy: ["unsubscribe-many-at-once", "unsubscribe-while-unacknowledged"],
            down: change(.unsuback) { $0.body.append(0) }),
    ]

    /// Each requested QoS is changed.
    private static func subscribes(_ edit: @escaping @Sendable (inout UInt8) -> Void) -> OnPacket {
        { link, frame in
            guard frame.kind == .subscribe, frame.hasRightFlags, let all = frame.subscriptions, !all.isEmpty else {
                return link.forward(frame)
            }
            let changed = all.map { entry -> (filter: [UInt8], qos: UInt8) in
                var qos = entry.qos
                edit(&qos)
                return (entry.filter, qos)
            }
            link.forward(.subscribe(frame.identifier, changed))
        }
    }
}

extension Frame {
    fileprivate var hasBadFilter: Bool {
        (subscriptions?.map(\.filter) ?? filters ?? []).contains { $0.hasOddHash || $0.hasNUL }
    }

    /// The filters of a SUBSCRIBE up to where it can't be read any more.
    fileprivate var readableFilters: [(filter: [UInt8], qos: UInt8)] {
        for count in 0...max(body.count, 1) {
            if let all = Frame(firstByte: firstByte, body: Array(body.dropLast(count))).subscriptions { return all }
        }
        return []
    }
}
