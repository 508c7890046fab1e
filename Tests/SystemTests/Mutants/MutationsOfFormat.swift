import Conformance

/// Chapters 1.5 and 2.2: strings, flags, types.
extension Mutation {
    static let format: [Mutation] = [
        // Strings
        Mutation(
            "utf-8-in-publish-unchecked", "A PUBLISH whose topic is no UTF-8 is acknowledged", violates: "MQTT-1.5.3-1",
            caughtBy: ["utf8-topic-stray", "utf8-topic-overlong"],
            up: tolerate { $1.publication.map { !$0.topic.isUTF8 } ?? false }),
        Mutation(
            "utf-8-in-subscribe-unchecked", "A SUBSCRIBE with a filter that is no UTF-8 is granted",
            violates: "MQTT-3.8.3-1", caughtBy: ["utf8-filter", "utf8-filter-no-character"],
            up: tolerate { $1.kind == .subscribe && $1.subscriptions?.contains { !$0.filter.isUTF8 } == true }),
        Mutation(
            "utf-8-in-unsubscribe-unchecked", "An UNSUBSCRIBE with a filter that is no UTF-8 is answered",
            violates: "MQTT-3.10.3-1", caughtBy: ["utf8-unsubscribe", "utf8-unsubscribe-no-character"],
            up: tolerate { $1.kind == .unsubscribe && $1.filters?.contains { !$0.isUTF8 } == true }),
        Mutation(
            "utf-8-in-connect-unchecked", "A CONNECT with a string that is no UTF-8 is accepted",
            violates: "MQTT-1.5.3-1", caughtBy: ["utf8-client-identifier", "utf8-client-identifier-no-character"],
            up: tolerate { $1.connectStrings.contains { !$0.isUTF8 } }),
        Mutation(
            "nul-in-publish-tolerated", "A PUBLISH whose topic contains U+0000 is acknowledged",
            violates: "MQTT-1.5.3-2", caughtBy: ["nul-topic"],
            up: tolerate { $1.publication.map { $0.topic.hasNUL } ?? false }),
        Mutation(
            "nul-in-subscribe-tolerated", "A SUBSCRIBE with U+0000 in a filter is granted", violates: "MQTT-4.7.3-2",
            caughtBy: ["nul-filter", "null-in-filter"],
            up: tolerate { $1.kind == .subscribe && $1.subscriptions?.contains { $0.filter.hasNUL } == true }),
        Mutation(
            "nul-in-unsubscribe-tolerated", "An UNSUBSCRIBE with U+0000 in a filter is answered",
            violates: "MQTT-4.7.3-2", caughtBy: ["nul-unsubscribe", "null-in-unsubscribe"],
            up: tolerate { $1.kind == .unsubscribe && $1.filters?.contains { $0.hasNUL } == true }),
        Mutation(
            "nul-in-connect-tolerated", "A CONNECT with U+0000 in a string is accepted", violates: "MQTT-1.5.3-2",
            caughtBy: ["nul-client-identifier", "nul-will-topic"],
            up: tolerate { $1.connectStrings.contains { $0.hasNUL } }),
        Mutation(
            "nul-ends-topic", "A topic with U+0000 is cut there, and published", violates: "MQTT-1.5.3-2",
            caughtBy: ["nul-topic"],
            up: published { $1.topic = Array($1.topic.prefix { $0 != 0 }) + ($1.topic.first == 0 ? [0x61] : []) }),
        Mutation(
            "byte-order-mark-stripped", "EF BB BF is taken for a byte order mark and left out",
            violates: "MQTT-1.5.3-3", caughtBy: ["bom-topic", "bom-retained"],
            up: texts { $0.without([0xef, 0xbb, 0xbf]) }),
        Mutation(
            "unicode-made-ascii", "Bytes above 7F in topics are delivered as question marks", violates: "MQTT-4.7.3-4",
            caughtBy: ["unsubscribe-not-normalised"],
            down: publications { $1.topic = $1.topic.map { $0 > 0x7f ? 0x3f : $0 } }),
        Mutation(
            "unicode-composed", "e with an accent behind it becomes one character", violates: "MQTT-4.7.3-4",
            caughtBy: ["distinct-retained"],
            up: texts { $0.replacing([0x65, 0xcc, 0x81], with: [0xc3, 0xa9]) }),
        Mutation(
            "payload-ends-at-nul", "A payload is cut at its first zero byte", violates: "MQTT-4.3.1-1",
            caughtBy: ["no-identifier-at-qos-0"],
            down: publications { $1.payload = Array($1.payload.prefix { $0 != 0 }) }),
        Mutation(
            "payload-made-utf-8", "What is no UTF-8 in a payload is replaced", violates: "MQTT-7.1.1-1",
            caughtBy: ["stream-all-bytes"],
            down: publications { $1.payload = Array(String(decoding: $1.payload, as: UTF8.self).utf8) }),
        Mutation(
            "control-characters-refused", "A topic with control or non-characters ends the connection",
            violates: "MQTT-1.5.3-1", caughtBy: ["utf8-control-characters", "choice-control-characters"],
            up: close { _, frame in
                frame.publication.map { $0.topic.isUTF8 && !$0.topic.hasNUL && $0.topic.hasOddCharacter } ?? false
            }),

        // Flags that come in
        repaired(.connect, breaks: "MQTT-2.2.2-2", caughtBy: ["flags-connect"]),
        repaired(.puback, breaks: "MQTT-2.2.2-2", caughtBy: ["flags-puback"]),
        repaired(.pubrec, breaks: "MQTT-2.2.2-2", caughtBy: ["flags-pubrec"]),
        repaired(.pubrel, breaks: "MQTT-3.6.1-1", caughtBy: ["pubrel-flags", "pubrel-flags-alone"]),
        repaired(.pubcomp, breaks: "MQTT-2.2.2-2", caughtBy: ["flags-pubcomp"]),
        repaired(.subscribe, breaks: "MQTT-3.8.1-1", caughtBy: ["subscribe-flags"]),
        repaired(.unsubscribe, breaks: "MQTT-3.10.1-1", caughtBy: ["unsubscribe-flags"]),
        repaired(.pingreq, breaks: "MQTT-2.2.2-2", caughtBy: ["flags-pingreq", "violation-in-flags-closes"]),
        repaired(.disconnect, breaks: "MQTT-3.14.1-1", caughtBy: ["disconnect-flags"]),
        Mutation(
            "qos-3-taken-for-2", "Both QoS bits together count as QoS 2", violates: "MQTT-3.3.1-4",
            caughtBy: ["publish-qos-3"],
            up: sent(.publish) { if $1.flags & 6 == 6 { $1.firstByte &= 0xfd } }),
        Mutation(
            "qos-3-taken-for-0", "Both QoS bits together count as QoS 0", violates: "MQTT-3.3.1-4",
            caughtBy: ["publish-qos-3-without-identifier"],
            up: sent(.publish) { if $1.flags & 6 == 6 { $1.firstByte &= 0xf1 } }),
        Mutation(
            "dup-at-qos-0-tolerated", "A PUBLISH with QoS 0 and DUP 1 is delivered", violates: "MQTT-3.3.1-2",
            caughtBy: ["flags-publish-dup-qos-0"],
            up: sent(.publish) { if $1.flags & 6 == 0 { $1.firstByte &= 0xf7 } }),
        Mutation(
            "dup-at-qos-0-passed-on", "A PUBLISH with QoS 0 and DUP 1 is delivered with DUP 1",
            violates: "MQTT-3.3.1-2", caughtBy: ["publish-dup-0-at-qos-0"],
            up: { link, frame in
                guard frame.kind == .publish, frame.flags & 0x0e == 8 else { return link.forward(frame) }
                var repaired = frame
                repaired.firstByte &= 0xf7
                guard let publication = repaired.publication else { return link.forward(frame) }
                link.world.notes[String(decoding: publication.topic, as: UTF8.self)] = 1
                link.forward(repaired)
            },
            down: { link, frame in
                var frame = frame
                if let publication = frame.publication,
                    link.world.notes[String(decoding: publication.topic, as: UTF8.self)] != nil
                {
                    frame.firstByte |= 8
                }
                link.deliver(frame)
            }),

        // Types that come in
        Mutation(
            "type-0-and-15-ignored", "Packets of the types 0 and 15 are skipped", violates: "ANNEX-2.2.1",
            caughtBy: ["reserved-types"],
            up: { link, frame in
                if frame.kind != nil { link.forward(frame) } else if link.isFirstPacket { link.hollowOut() }
            }),
        Mutation(
            "server-packets-ignored", "CONNACK, SUBACK, UNSUBACK and PINGRESP of a client are skipped",
            violates: "MQTT-4.8.0-1", caughtBy: ["wrong-direction"],
            up: { link, frame in
                switch frame.kind {
                case .connack, .suback, .unsuback, .pingresp: if link.isFirstPacket { link.hollowOut() }
                default: link.forward(frame)
                }
            }),
        Mutation(
            "violation-ends-like-disconnect", "A connection that breaks a rule ends without its will",
            violates: "MQTT-3.1.2-8", caughtBy: ["disconnect-flags", "type-forbidden"],
            up: { link, frame in
                if frame.isViolation {
                    link.forward(Frame(.disconnect))
                    link.letClose()
                } else {
                    link.forward(frame)
                }
            },
            garbage: { link, _ in
                link.forward(Frame(.disconnect))
                link.letClose()
            }),
        Mutation(
            "violation-ends-session", "A connection that breaks a rule takes its session with it",
            violates: "MQTT-4.1.0-1", caughtBy: ["session-queue-qos", "disconnect-keeps-unacknowledged"],
            up: { link, frame in
                if frame.isViolation { link.world.endSession(of: link) } else { link.forward(frame) }
            },
            garbage: { link, _ in link.world.endSession(of: link) }),

        // Flags and lengths that go out
        Mutation(
            "puback-with-flags", "PUBACK carries flags 0010", violates: "MQTT-2.2.2-1",
            caughtBy: ["broker-flags-of-acknowledgements", "broker-flags-of-publish"],
            down: change(.puback) { $0.flags = 2 }),
        Mutation(
            "pubrec-with-flags", "PUBREC carries flags 0010", violates: "MQTT-2.2.2-1",
            caughtBy: ["broker-flags-of-qos-2", "pubrec-asks-for-pubrel"],
            down: change(.pubrec) { $0.flags = 2 }),
        Mutation(
            "pubrel-without-flags", "PUBREL carries flags 0000", violates: "MQTT-3.6.1-1",
            caughtBy: ["pubrel-flags", "pubrec-asks-for-pubrel"],
            down: change(.pubrel) { $0.flags = 0 }),
        Mutation(
            "pubcomp-with-flags", "PUBCOMP carries flags 0001", violates: "MQTT-2.2.2-1",
            caughtBy: ["broker-flags-of-qos-2"],
            down: change(.pubcomp) { $0.flags = 1 }),
        Mutation(
            "suback-with-flags", "SUBACK carries flags 0010, like its SUBSCRIBE", violates: "MQTT-2.2.2-1",
            caughtBy: ["broker-flags-of-acknowledgements", "broker-flags-of-qos-2"],
            down: change(.suback) { $0.flags = 2 }),
        Mutation(
            "unsuback-with-flags", "UNSUBACK carries flags 0010, like its UNSUBSCRIBE", violates: "MQTT-2.2.2-1",
            caughtBy: ["broker-flags-of-acknowledgements"],
            down: change(.unsuback) { $0.flags = 2 }),
        Mutation(
            "pingresp-with-flags", "PINGRESP carries flags 0001", violates: "MQTT-2.2.2-1",
            caughtBy: ["connect-accepted", "broker-flags-of-publish"],
            down: change(.pingresp) { $0.flags = 1 }),
        Mutation(
            "connack-with-header-flags", "CONNACK carries flags 0010 in its fixed header", violates: "MQTT-2.2.2-1",
            caughtBy: ["connect-accepted", "pubrec-asks-for-pubrel"],
            down: change(.connack) { $0.flags = 2 }),
        Mutation(
            "pingresp-with-body", "PINGRESP has two bytes of body", violates: "MQTT-3.12.4-1",
            caughtBy: ["ping-answered", "ping-bytes"],
            down: change(.pingresp) { $0.body = [0, 0] }),
        Mutation(
            "puback-with-reason", "PUBACK carries a reason code, as in MQTT 5", violates: "MQTT-2.3.1-6",
            caughtBy: ["identifier-sent-again-qos-1", "identifier-of-puback"],
            down: change(.puback) { $0.body.append(0) }),
        Mutation(
            "connack-with-properties", "CONNACK carries properties, as in MQTT 5", violates: "MQTT-3.1.4-4",
            caughtBy: ["connect-flags-in-order", "connect-with-packets-behind"],
            down: change(.connack) { $0.body.append(0) }),
    ]

    /// The flags of this type are not looked at.
    private static func repaired(
        _ kind: BrokerPacket.Kind, breaks statement: String, caughtBy: [String] = []
    ) -> Mutation {
        Mutation(
            "\(kind)-flags-unchecked", "The flags of \(kind.name) are not looked at", violates: statement,
            caughtBy: caughtBy,
            up: sent(kind) { if !$1.hasRightFlags { $1 = Frame(kind, $1.body) } })
    }
}

extension World {
    /// As if CleanSession had been 1.
    func endSession(of link: Link) {
        link.close()
        endSession(link.clientIdentifier)
    }
}

extension Frame {
    /// Client Identifier, will topic and user name of a CONNECT.
    var connectStrings: [[UInt8]] {
        guard kind == .connect, let connect = Wire.Connect(body) else { return [] }
        return [connect.clientIdentifier, connect.will?.topic ?? [], connect.userName ?? []]
    }

    /// A packet that ends its connection behind an accepted CONNECT; the violations that can be told from the packet.
    var isViolation: Bool {
        switch kind {
        case nil, .connect, .connack, .suback, .unsuback, .pingresp: true
        case .publish:
            publication.map { $0.topic.hasWildcard || $0.topic.isEmpty || $0.qos > 0 && $0.identifier == 0 } ?? true
        case .subscribe:
            !hasRightFlags || identifier == 0 || subscriptions?.isEmpty ?? true
                || subscriptions?.contains { $0.qos > 2 || $0.filter.isEmpty || !$0.filter.isUTF8 } ?? true
        case .unsubscribe:
            !hasRightFlags || identifier == 0 || filters?.isEmpty ?? true
                || filters?.contains { $0.isEmpty || !$0.isUTF8 } ?? true
        case .pingreq, .disconnect: !hasRightFlags || !body.isEmpty
        default: !hasRightFlags || body.count != 2
        }
    }
}

extension [UInt8] {
    func replacing(_ part: [UInt8], with other: [UInt8]) -> [UInt8] {
        var rest = self[...]
        var result: [UInt8] = []
        while !rest.isEmpty {
            if rest.starts(with: part) {
                rest = rest.dropFirst(part.count)
                result += other
            } else {
                result.append(rest.removeFirst())
            }
        }
        return result
    }

    /// A control character or a non-character.
    var hasOddCharacter: Bool {
        String(decoding: self, as: UTF8.self).unicodeScalars.contains {
            $0.properties.generalCategory == .control || $0.properties.isNoncharacterCodePoint
        }
    }
}
