import Conformance

/// Chapters 2.2.3 and 2.3, and the forms of packets: lengths, Packet Identifiers.
extension Mutation {
    static let lengths: [Mutation] = [
        Mutation(
            "endless-length-ignored", "What follows a Remaining Length of five bytes is skipped",
            violates: "ANNEX-2.2.3", caughtBy: ["five-byte-length-of-connect"],
            garbage: { link, _ in if link.isFirstPacket { link.hollowOut() } }),
        Mutation(
            "endless-length-ends-like-disconnect",
            "A Remaining Length of five bytes ends the connection without its will",
            violates: "MQTT-3.1.2-8", caughtBy: ["length-of-five-bytes-will"],
            garbage: { link, _ in
                link.forward(Frame(.disconnect))
                link.letClose()
            }),
        Mutation(
            "length-must-be-short", "A Remaining Length in more bytes than it needs ends the connection",
            violates: "MQTT-7.1.1-1", caughtBy: ["length-in-more-bytes-than-needed"],
            up: close { $0.isSpelled(longer: $1) }),
        Mutation(
            "acknowledgements-too-long-tolerated", "PUBACK, PUBREC, PUBREL and PUBCOMP with more than two bytes count",
            violates: "MQTT-4.8.0-1", caughtBy: ["length-pubcomp"],
            up: sent(.puback, .pubrec, .pubrel, .pubcomp) { $1.body = Array($1.body.prefix(2)) }),
        Mutation(
            "acknowledgements-too-short-ignored", "PUBACK, PUBREC, PUBREL and PUBCOMP that are too short are skipped",
            violates: "MQTT-4.8.0-1", caughtBy: ["length-pubcomp"],
            up: { link, frame in if !frame.isAcknowledgement || frame.body.count >= 2 { link.forward(frame) } }),
        Mutation(
            "pingreq-with-body-answered", "A PINGREQ that is not empty is answered", violates: "MQTT-4.8.0-1",
            caughtBy: ["length-pingreq"],
            up: sent(.pingreq) { $1 = Frame(.pingreq) }),
        Mutation(
            "disconnect-with-body-counts", "A DISCONNECT that is not empty counts", violates: "MQTT-4.8.0-1",
            caughtBy: ["disconnect-length"],
            up: sent(.disconnect) { if $1.hasRightFlags { $1 = Frame(.disconnect) } }),
        Mutation(
            "half-disconnect-counts", "The first byte of a DISCONNECT is enough for it", violates: "MQTT-3.1.2-8",
            caughtBy: ["disconnect-half"],
            part: { $0.forward(raw: [0]) }),
        Mutation(
            "half-packet-counts", "A packet whose connection ends early is filled up and handled",
            violates: "MQTT-7.1.1-1", caughtBy: ["length-half-packet"],
            part: { $0.forward(raw: Array(repeating: 0x20, count: 64)) }),
        Mutation(
            "truncated-publish-skipped", "A PUBLISH that ends too early is skipped", violates: "MQTT-4.8.0-1",
            caughtBy: ["length-publish-cut"],
            up: tolerate { $1.kind == .publish && $1.flags & 6 != 6 && $1.flags & 0x0e != 8 && $1.publication == nil }),
        Mutation(
            "truncated-subscribe-answered", "A SUBSCRIBE that ends too early is answered", violates: "MQTT-4.8.0-1",
            caughtBy: ["length-subscribe-cut", "subscribe-truncated"],
            up: tolerate {
                $1.kind == .subscribe && ($1.body.count < 2 || $1.subscriptions == nil)
            }),
        Mutation(
            "truncated-unsubscribe-answered", "An UNSUBSCRIBE that ends too early is answered",
            violates: "MQTT-4.8.0-1", caughtBy: ["length-unsubscribe-cut", "unsubscribe-truncated"],
            up: tolerate { $1.kind == .unsubscribe && ($1.body.count < 2 || $1.filters == nil) }),
        Mutation(
            "large-packets-lost", "A message above 16,000 bytes is lost", violates: "MQTT-7.1.1-1",
            caughtBy: ["length-boundaries"],
            down: lose { $1.payload.count > 16_000 || $1.topic.count > 16_000 }),
        Mutation(
            "long-payload-truncated", "A payload above 100 bytes is cut", violates: "MQTT-7.1.1-1",
            caughtBy: ["length-byte-by-byte", "length-several-packets-at-once"],
            down: publications { $1.payload = Array($1.payload.prefix(100)) }),
        Mutation(
            "piece-read-once", "Of what comes in one piece only the first packet is read", violates: "MQTT-7.1.1-1",
            caughtBy: ["stream-together"],
            up: { link, frame in if !link.isBehindAnother { link.forward(frame) } }),
        Mutation(
            "bytes-must-come-together", "A packet that comes in parts ends the connection", violates: "MQTT-7.1.1-1",
            caughtBy: ["connect-byte-by-byte", "stream-bytewise"],
            up: close { link, _ in link.cameInParts },
            part: { $0.close() }),

        // Packet Identifiers
        Mutation(
            "identifier-0-in-publish-tolerated", "A PUBLISH with Packet Identifier 0 is delivered",
            violates: "MQTT-2.3.1-1", caughtBy: ["identifier-0-publish", "identifier-0-will"],
            up: published { if $1.qos > 0, $1.identifier == 0 { $1.identifier = 1 } }),
        Mutation(
            "identifier-0-in-subscribe-tolerated", "A SUBSCRIBE with Packet Identifier 0 is granted",
            violates: "MQTT-2.3.1-1", caughtBy: ["identifier-0-subscribe"],
            up: nonzero(.subscribe)),
        Mutation(
            "identifier-0-in-unsubscribe-tolerated", "An UNSUBSCRIBE with Packet Identifier 0 is answered",
            violates: "MQTT-2.3.1-1", caughtBy: ["identifier-0-unsubscribe"],
            up: nonzero(.unsubscribe)),
        Mutation(
            "identifier-0-in-acknowledgements-ignored", "Packet Identifier 0 in an acknowledgement is skipped",
            violates: "MQTT-2.3.1-6", caughtBy: ["identifier-0-closes"],
            up: { link, frame in
                if !frame.isAcknowledgement || frame.identifier != 0 || frame.body.count != 2 { link.forward(frame) }
            }),
        Mutation(
            "identifier-0-sent", "The broker's PUBLISH packets have Packet Identifier 0", violates: "MQTT-2.3.1-1",
            caughtBy: ["identifier-0-unsubscribe"],
            down: publications { if $1.qos > 0 { $1.identifier = 0 } }),
        Mutation(
            "one-identifier-for-all", "The broker's PUBLISH packets all have the same Packet Identifier",
            violates: "MQTT-2.3.1-4", caughtBy: ["identifier-held-among-others"],
            down: publications { if $1.qos > 0 { $1.identifier = 1 } }),
        Mutation(
            "identifiers-in-pairs", "Each Packet Identifier is given to two messages", violates: "MQTT-2.3.1-4",
            caughtBy: ["identifiers-kept-stay-in-use", "qos1-sender-identifiers"],
            down: publications { if $1.qos > 0, $1.identifier % 2 == 0 { $1.identifier -= 1 } }),
        Mutation(
            "identifiers-per-qos", "QoS 1 and QoS 2 count their Packet Identifiers apart", violates: "MQTT-2.3.1-4",
            caughtBy: ["qos2-sender-identifiers", "identifiers-distinct-qos-1-and-2"],
            down: publications { link, publication in
                guard publication.qos > 0 else { return }
                publication.identifier = UInt16(link.count("qos \(publication.qos)"))
            }),
        Mutation(
            "identifier-free-after-pubrec", "A Packet Identifier is given again once its PUBREC has come",
            violates: "MQTT-4.3.3-1", caughtBy: ["identifier-in-use-until-pubcomp"],
            up: { link, frame in
                if frame.kind == .pubrec, link.notes["freed"] == nil { link.notes["freed"] = Int(frame.identifier) }
                link.forward(frame)
            },
            down: publications { link, publication in
                if publication.qos > 0, let freed = link.notes["freed"] { publication.identifier = UInt16(freed) }
            }),
        Mutation(
            "identifiers-wrap-after-20", "The broker goes round after twenty Packet Identifiers, in use or not",
            violates: "MQTT-2.3.1-4", caughtBy: ["qos1-sender-open-one"],
            down: publications { if $1.qos > 0 { $1.identifier = ($1.identifier - 1) % 20 + 1 } }),
        Mutation(
            "identifiers-of-two-bytes-swapped", "Acknowledgements have the bytes of their Packet Identifier swapped",
            violates: "MQTT-2.3.1-6", caughtBy: ["identifier-sent-again-qos-2", "identifiers-of-both-sides"],
            down: { link, frame in
                var frame = frame
                if frame.isAcknowledgement, frame.kind != .pubrel { frame.body.swapAt(0, 1) }
                link.deliver(frame)
            }),
        Mutation(
            "identifiers-of-two-clients-mixed", "What one client has begun at QoS 2 is a repetition for another",
            violates: "MQTT-4.3.3-2", caughtBy: ["qos2-receiver-two-clients"],
            up: { link, frame in
                guard let publication = frame.publication, publication.qos == 2 else {
                    if frame.kind == .pubrel { link.world.notes["open \(frame.identifier)"] = nil }
                    return link.forward(frame)
                }
                let note = "open \(publication.identifier)"
                if let owner = link.world.notes[note], owner != link.number { return link.pretend(frame) }
                link.world.notes[note] = link.number
                link.forward(frame)
            }),
        Mutation(
            "identifiers-of-both-sides-mixed", "A client can't use a Packet Identifier that the broker uses towards it",
            violates: "MQTT-2.3.1-4", caughtBy: ["identifiers-of-both-sides"],
            up: { link, frame in
                if let publication = frame.publication, publication.qos > 0,
                    link.notes["down \(publication.identifier)"] != nil
                {
                    return
                }
                link.forward(frame)
            },
            down: { link, frame in
                if let publication = frame.publication { link.notes["down \(publication.identifier)"] = 1 }
                link.deliver(frame)
            }),
        Mutation(
            "identifier-at-qos-0", "A PUBLISH of QoS 0 carries a Packet Identifier", violates: "MQTT-2.3.1-5",
            caughtBy: ["no-identifier-at-qos-0-retained", "no-identifier-read-at-qos-0"],
            down: publications { if $1.qos == 0 { $1.payload = [0, 1] + $1.payload } }),
        Mutation(
            "identifier-read-at-qos-0", "Two bytes behind the topic of a QoS 0 PUBLISH are taken for an identifier",
            violates: "MQTT-2.3.1-5", caughtBy: ["no-identifier-read-at-qos-0"],
            up: published { if $1.qos == 0 { $1.payload = Array($1.payload.dropFirst(2)) } }),
    ]

    private static func nonzero(_ kind: BrokerPacket.Kind) -> OnPacket {
        sent(kind) { if $1.body.count >= 2, $1.identifier == 0 { $1.identifier = 1 } }
    }
}

extension Frame {
    var isAcknowledgement: Bool {
        switch kind {
        case .puback, .pubrec, .pubrel, .pubcomp: true
        default: false
        }
    }
}
