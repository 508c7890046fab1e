import Conformance

/// Chapters 3.1.2 (wills), 3.3 to 3.7, 4.3, 4.5 and 4.6.
extension Mutation {
    static let wills: [Mutation] = [
        Mutation(
            "will-forgotten", "A will is never published", violates: "MQTT-3.1.2-8",
            caughtBy: ["length-of-five-bytes-will"],
            up: connects {
                $1.will = nil
                $1.willQoS = 0
                $1.isWillRetained = false
            }),
        Mutation(
            "will-behind-disconnect", "A will is published though DISCONNECT has come", violates: "MQTT-3.14.4-3",
            caughtBy: ["will-not-after-disconnect", "will-not-after-disconnect-and-reset"],
            up: { link, frame in
                if frame.kind == .disconnect, frame.hasRightFlags, frame.body.isEmpty { link.publishWill() }
                link.forward(frame)
            }),
        Mutation(
            "will-twice", "A will is published twice", violates: "MQTT-3.1.2-10", caughtBy: ["session-keeps-will-not"],
            closed: { link in
                link.publishWill()
                link.letClose()
            },
            finished: { if $0.notes["in order"] == nil { $0.publishWill() } }),
        Mutation(
            "will-at-qos-0", "A will is published at QoS 0", violates: "MQTT-3.1.2-9",
            caughtBy: ["will-qos-lowered-to-1"], up: connects { $1.willQoS = 0 }),
        Mutation(
            "will-at-qos-1", "A will is published at QoS 1", violates: "MQTT-3.1.2-9", caughtBy: ["will-qos"],
            up: connects { if $1.will != nil { $1.willQoS = 1 } }),
        Mutation(
            "will-not-retained", "A will with will retain 1 is not retained", violates: "MQTT-3.1.2-17",
            caughtBy: ["will-retain-1-qos-0"],
            up: connects { $1.isWillRetained = false }),
        Mutation(
            "will-always-retained", "Each will is retained", violates: "MQTT-3.1.2-16", caughtBy: ["will-retain-0"],
            up: connects { if $1.will != nil { $1.isWillRetained = true } }),
        Mutation(
            "will-message-lost", "A will is published with an empty message", violates: "MQTT-3.1.2-9",
            caughtBy: ["will-to-session-away"],
            up: connects { if let will = $1.will { $1.will = (will.topic, []) } }),
        Mutation(
            "will-kept-for-next-connection", "The will of a session counts for its later connections too",
            violates: "MQTT-3.1.2-12", caughtBy: ["will-not-twice"],
            up: connects { link, connect in
                if let will = connect.will {
                    link.world.publications[connect.clientIdentifier] = .new(will.topic, will.message)
                } else if let old = link.world.publications[connect.clientIdentifier] {
                    connect.will = (old.topic, old.payload)
                }
            }),
        Mutation(
            "will-of-the-first-connection", "A session keeps the will of its first connection",
            violates: "MQTT-3.1.2-10", caughtBy: ["will-new-for-each-connection"],
            up: connects { link, connect in
                guard let will = connect.will else { return }
                if let old = link.world.publications[connect.clientIdentifier] {
                    connect.will = (old.topic, old.payload)
                } else {
                    link.world.publications[connect.clientIdentifier] = .new(will.topic, will.message)
                }
            }),
        Mutation(
            "will-only-after-reset", "A will is published only where the connection was reset",
            violates: "MQTT-3.1.2-8", caughtBy: ["will-after-close"],
            finished: { if $0.isFirst("fin"), !$0.isClosed { $0.forward(Frame(.disconnect)) } }),
        Mutation(
            "will-only-after-close", "A will is published only where the connection was closed in order",
            violates: "MQTT-3.1.2-8", caughtBy: ["will-after-reset"],
            finished: { if $0.isClosed { $0.sendDisconnect() } }),
        Mutation(
            "wills-of-all-published", "DISCONNECT publishes the wills of the other clients", violates: "MQTT-3.14.4-3",
            caughtBy: ["disconnect-discards-own-will-only"],
            up: { link, frame in
                if frame.kind == .disconnect {
                    for other in link.world.open where other !== link { other.publishWill() }
                }
                link.forward(frame)
            }),
        Mutation(
            "will-at-connect", "A will is published when its client connects", violates: "MQTT-3.1.2-8",
            caughtBy: ["will-after-half-a-packet", "will-after-violation"],
            down: { link, frame in
                link.deliver(frame)
                if frame.kind == .connack, frame.body[1] == 0 { link.publishWill() }
            }),
        Mutation(
            "disconnect-leaves-open", "The connection stays open behind a DISCONNECT", violates: "ANNEX-3.14.4",
            caughtBy: ["disconnect-server-closes"],
            up: { link, frame in
                if frame.kind == .disconnect, frame.hasRightFlags { link.notes["disconnect"] = 1 }
                link.forward(frame)
            },
            closed: { if $0.notes["disconnect"] == nil { $0.letClose() } else { $0.hollowOut() } }),
        Mutation(
            "disconnect-read-only-alone", "A DISCONNECT that does not come alone in one piece is skipped",
            violates: "MQTT-3.14.4-3", caughtBy: ["will-not-after-connect-and-disconnect", "disconnect-in-pieces"],
            up: { link, frame in
                if frame.kind == .disconnect, link.isBehindAnother || link.cameInParts { link.publishWill() }
                link.forward(frame)
            }),
        Mutation(
            "packets-behind-disconnect-handled", "What comes behind a DISCONNECT is answered and handled",
            violates: "MQTT-3.14.4-2", caughtBy: ["disconnect-then-publish", "disconnect-then-subscribe"],
            up: { link, frame in
                if link.notes["disconnect"] != nil {
                    if let publication = frame.publication { link.world.publish(publication) }
                    link.pretend(frame)
                } else if frame.kind == .disconnect, frame.hasRightFlags, frame.body.isEmpty {
                    link.notes["disconnect"] = 1
                }
                link.forward(frame)
            }),
        Mutation(
            "session-changes-behind-disconnect", "SUBSCRIBE, UNSUBSCRIBE and PUBACK behind a DISCONNECT take effect",
            violates: "MQTT-3.14.4-2", caughtBy: ["disconnect-then-anything"],
            up: { link, frame in
                if frame.kind == .disconnect, frame.hasRightFlags, frame.body.isEmpty, !link.isFirstPacket {
                    link.held.append(frame)
                } else if link.notes["disconnect"] != nil || !link.held.isEmpty {
                    link.forward(frame)
                    link.notes["disconnect"] = 1
                    link.held = []
                } else {
                    link.forward(frame)
                }
            },
            down: { link, frame in
                if link.notes["disconnect"] == nil { return link.deliver(frame) }
                link.close()
            },
            finished: { link in
                if !link.held.isEmpty, !link.isClosed { link.sendNow(link.held.removeFirst()) }
            }),
    ]

    static let acknowledging: [Mutation] = [
        // Left out, twice, wrong
        Mutation(
            "puback-lost", "A PUBLISH of QoS 1 gets no PUBACK", violates: "MQTT-3.3.4-1",
            caughtBy: ["disconnect-behind-publish"], down: drop(.puback)),
        Mutation(
            "pubrec-lost", "A PUBLISH of QoS 2 gets no PUBREC", violates: "MQTT-3.3.4-1",
            caughtBy: ["identifier-of-pubrec"], down: drop(.pubrec)),
        Mutation(
            "pubcomp-lost", "A PUBREL gets no PUBCOMP", violates: "MQTT-4.3.3-2", caughtBy: ["identifier-in-use-qos-2"],
            down: drop(.pubcomp)),
        Mutation(
            "pubrel-lost", "A PUBREC gets no PUBREL", violates: "MQTT-4.3.3-1",
            caughtBy: ["identifier-in-use-until-pubcomp"], down: drop(.pubrel)),
        Mutation(
            "pingresp-lost", "A PINGREQ gets no PINGRESP", violates: "MQTT-3.12.4-1", caughtBy: ["ping-each-answered"],
            down: drop(.pingresp)),
        Mutation(
            "puback-twice", "PUBACK comes twice", violates: "MQTT-4.3.2-2",
            caughtBy: ["qos1-sender-same-identifier-as-publisher", "qos1-receiver"], down: double(.puback)),
        Mutation(
            "pubrec-twice", "PUBREC comes twice", violates: "MQTT-4.3.3-2",
            caughtBy: ["identifier-in-use-qos-2-many-times", "identifier-free-after-pubcomp"], down: double(.pubrec)),
        Mutation(
            "pubcomp-twice", "PUBCOMP comes twice", violates: "MQTT-4.3.3-2",
            caughtBy: ["pubrel-finishes-its-message", "pubrel-sent-again"], down: double(.pubcomp)),
        Mutation(
            "pubrel-twice", "PUBREL comes twice", violates: "MQTT-4.3.3-1",
            caughtBy: ["identifiers-kept-qos-2", "unsubscribe-before-pubrec"], down: double(.pubrel)),
        Mutation(
            "pingresp-twice", "PINGRESP comes twice", violates: "MQTT-3.12.4-1", caughtBy: ["ping-amid-publish"],
            down: double(.pingresp)),
        Mutation(
            "pingresp-to-another", "A PINGREQ of one client is answered to another", violates: "MQTT-3.12.4-1",
            caughtBy: ["ping-while-unacknowledged"],
            down: { link, frame in
                let others = frame.kind == .pingresp ? link.world.open.filter { $0 !== link } : []
                (others.first ?? link).deliver(frame)
            }),
        Mutation(
            "pingresp-in-parts", "A PINGREQ that comes in parts is not answered", violates: "MQTT-3.12.4-1",
            caughtBy: ["ping-bytes"],
            up: { link, frame in if frame.kind != .pingreq || !link.cameInParts { link.forward(frame) } }),
        Mutation(
            "puback-of-other-identifier", "PUBACK has another Packet Identifier", violates: "MQTT-2.3.1-6",
            caughtBy: ["identifiers-of-pubacks-pipelined", "identifier-counts-in-acknowledgement"],
            down: change(.puback) { $0.identifier ^= 1 }),
        Mutation(
            "pubrec-of-other-identifier", "PUBREC has another Packet Identifier", violates: "MQTT-2.3.1-6",
            caughtBy: ["identifier-sent-again-qos-2", "identifiers-of-both-sides"],
            down: change(.pubrec) { $0.identifier ^= 1 }),
        Mutation(
            "pubcomp-of-other-identifier", "PUBCOMP has another Packet Identifier", violates: "MQTT-4.3.3-2",
            caughtBy: ["identifiers-of-two-clients", "clean-session-forgets-identifiers"],
            down: change(.pubcomp) { $0.identifier ^= 1 }),
        Mutation(
            "pubrel-of-other-identifier", "PUBREL has another Packet Identifier", violates: "MQTT-2.3.1-6",
            caughtBy: ["identifier-of-pubrel"],
            down: change(.pubrel) { $0.identifier ^= 1 }),
        Mutation(
            "qos-0-acknowledged", "A PUBLISH of QoS 0 gets a PUBACK", violates: "MQTT-3.3.4-1",
            caughtBy: ["publish-qos-0-unanswered", "publish-mixed-answered"],
            up: { link, frame in
                if frame.publication?.qos == 0 { link.deliver(Frame(.puback, [0, 1])) }
                link.forward(frame)
            }),
        Mutation(
            "qos-2-answered-by-puback", "A PUBLISH of QoS 2 gets a PUBACK", violates: "MQTT-3.3.4-1",
            caughtBy: ["publish-qos-2-answered", "publish-empty-answered"],
            down: { link, frame in link.deliver(frame.kind == .pubrec ? Frame(.puback, frame.body) : frame) }),
        Mutation(
            "qos-1-answered-by-pubrec", "A PUBLISH of QoS 1 gets a PUBREC", violates: "MQTT-3.3.4-1",
            caughtBy: ["publish-bytes-with-identifier", "publish-qos-1-answered"],
            down: { link, frame in link.deliver(frame.kind == .puback ? Frame(.pubrec, frame.body) : frame) }),
        Mutation(
            "pubacks-reordered", "Two PUBACKs change places", violates: "MQTT-4.6.0-2",
            caughtBy: ["order-pubacks", "order-pubacks-scattered"], down: swap(.puback)),
        Mutation(
            "pubrecs-reordered", "Two PUBRECs change places", violates: "MQTT-4.6.0-3", caughtBy: ["order-pubrecs"],
            down: swap(.pubrec)),
        Mutation(
            "pubrels-reordered", "Two PUBRELs change places", violates: "MQTT-4.6.0-4", caughtBy: ["order-pubrels"],
            down: swap(.pubrel)),
        Mutation(
            "puback-lost-where-nobody-listens", "A PUBLISH that nobody has subscribed to gets no answer",
            violates: "MQTT-3.3.4-1", caughtBy: ["identifier-of-puback"],
            up: { link, frame in
                if let publication = frame.publication, publication.qos > 0,
                    !link.world.subscriptions.values.contains(where: { filters in
                        filters.keys.contains { $0.matches(publication.topic) }
                    })
                {
                    link.notes["lost \(publication.identifier)"] = 1
                }
                link.forward(frame)
            },
            down: { link, frame in
                if frame.kind == .puback || frame.kind == .pubrec, link.notes["lost \(frame.identifier)"] != nil {
                    return
                }
                link.deliver(frame)
            }),
        Mutation(
            "sys-publish-unanswered", "A PUBLISH to $SYS gets no answer", violates: "MQTT-3.3.5-2",
            caughtBy: ["publish-to-sys-qos-1"],
            up: { link, frame in
                if frame.publication?.topic.beginsWithDollar != true { link.forward(frame) }
            }),
        Mutation(
            "sys-publish-delivered", "A PUBLISH to $SYS is delivered", violates: "MQTT-3.3.5-2",
            caughtBy: ["publish-to-sys-dropped"],
            up: spread { filter, topic in topic.starts(with: Array("$SYS".utf8)) && filter.matches(topic) }),
        Mutation(
            "sys-publish-closes", "A PUBLISH to $SYS ends the connection", violates: "MQTT-3.3.5-2",
            caughtBy: ["publish-to-sys-dropped"],
            up: close { $1.publication?.topic.starts(with: Array("$SYS".utf8)) ?? false }),

        // What acknowledgements finish
        Mutation(
            "puback-finishes-nothing", "A PUBACK of the client is not looked at", violates: "MQTT-4.3.2-1",
            caughtBy: ["session-queue-delivered-once"],
            up: { link, frame in if frame.kind != .puback || !frame.hasRightFlags { link.forward(frame) } }),
        Mutation(
            "puback-finishes-oldest", "A PUBACK finishes the oldest message, whatever it names",
            violates: "MQTT-4.3.2-1", caughtBy: ["identifier-counts-in-acknowledgement"],
            up: finishOldest(.puback), down: rememberIdentifiers),
        Mutation(
            "pubrec-finishes-oldest", "A PUBREC counts for the oldest message, whatever it names",
            violates: "MQTT-4.3.3-1", caughtBy: ["pubrec-unknown-identifier"],
            up: finishOldest(.pubrec), down: rememberIdentifiers),
        Mutation(
            "puback-finishes-all", "A PUBACK finishes all messages", violates: "MQTT-4.3.2-1",
            caughtBy: ["puback-finishes-its-message"],
            up: { link, frame in
                link.forward(frame)
                guard frame.kind == .puback else { return }
                for identifier in link.identifiers { link.forward(Frame(.puback, Wire.uint16(identifier))) }
                link.identifiers = []
            },
            down: rememberIdentifiers),
        Mutation(
            "pubcomp-finishes-all", "A PUBCOMP finishes all messages that are released", violates: "MQTT-4.3.3-1",
            caughtBy: ["pubcomp-unknown-identifier"],
            up: { link, frame in
                link.forward(frame)
                if frame.kind == .pubrec { link.identifiers.append(frame.identifier) }
                guard frame.kind == .pubcomp else { return }
                for identifier in link.identifiers { link.forward(Frame(.pubcomp, Wire.uint16(identifier))) }
            }),
        Mutation(
            "pubcomp-finishes-nothing", "A PUBCOMP of the client is not looked at", violates: "MQTT-4.3.3-1",
            caughtBy: ["pubcomp-finishes-its-message"],
            up: { link, frame in if frame.kind != .pubcomp || !frame.hasRightFlags { link.forward(frame) } }),
        Mutation(
            "pubrel-frees-all", "A PUBREL frees all identifiers", violates: "MQTT-4.3.3-2",
            caughtBy: ["pubrel-unknown-identifier", "pubrel-finishes-its-message"],
            up: { link, frame in
                if let publication = frame.publication, publication.qos == 2 {
                    link.identifiers.append(publication.identifier)
                }
                link.forward(frame)
                guard frame.kind == .pubrel, frame.hasRightFlags else { return }
                for identifier in link.identifiers where identifier != frame.identifier {
                    link.notes["swallow \(identifier)", default: 0] += 1
                    link.forward(Frame(.pubrel, Wire.uint16(identifier)))
                }
            },
            down: { link, frame in
                if frame.kind == .pubcomp, let count = link.notes["swallow \(frame.identifier)"], count > 0 {
                    link.notes["swallow \(frame.identifier)"] = count - 1
                    return
                }
                link.deliver(frame)
            }),
        Mutation(
            "pubrel-frees-nothing", "A PUBREL frees no identifier: what comes with it next is a repetition",
            violates: "MQTT-4.3.3-2", caughtBy: ["pubrel-finishes-its-message"],
            up: { link, frame in
                if frame.kind == .pubrel, frame.hasRightFlags, frame.body.count == 2 {
                    link.world.released[link.clientIdentifier, default: []].append(frame.identifier)
                    link.forward(frame)
                } else if let publication = frame.publication, publication.qos == 2,
                    link.world.released[link.clientIdentifier]?.contains(publication.identifier) == true
                {
                    link.deliver(Frame(.pubrec, Wire.uint16(publication.identifier)))
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "unknown-acknowledgements-finish", "An acknowledgement of an unknown identifier finishes what waits",
            violates: "MQTT-4.3.2-1", caughtBy: ["puback-unknown-identifier"],
            up: { link, frame in
                var frame = frame
                if frame.isAcknowledgement, frame.body.count == 2, frame.identifier > 0x7fff,
                    let identifier = frame.kind == .pubrel ? link.begun.last : link.identifiers.last
                {
                    frame.identifier = identifier
                }
                if let publication = frame.publication, publication.qos > 0 {
                    link.begun.append(publication.identifier)
                }
                link.forward(frame)
            },
            down: rememberIdentifiers),
        Mutation(
            "acknowledgements-of-the-wrong-kind-finish", "Any acknowledgement finishes any message",
            violates: "MQTT-4.3.3-1", caughtBy: ["puback-for-qos-2"],
            up: { link, frame in
                guard frame.kind == .puback || frame.kind == .pubrec || frame.kind == .pubcomp, frame.hasRightFlags,
                    frame.body.count == 2, let qos = link.notes["qos of \(frame.identifier)"]
                else { return link.forward(frame) }
                if qos == 1 {
                    link.forward(Frame(.puback, frame.body))
                    if frame.kind == .pubrec { link.deliver(Frame(.pubrel, frame.body)) }
                    return
                }
                if frame.kind != .pubrec {
                    link.notes["hide \(frame.identifier)"] = 1
                    link.forward(Frame(.pubrec, frame.body))
                    link.forward(Frame(.pubcomp, frame.body))
                } else {
                    link.notes["hide \(frame.identifier)"] = nil
                    link.forward(frame)
                }
            },
            down: { link, frame in
                if let publication = frame.publication, publication.qos > 0 {
                    link.notes["qos of \(publication.identifier)"] = Int(publication.qos)
                }
                if frame.kind == .pubrel, link.notes["hide \(frame.identifier)"] != nil { return }
                link.deliver(frame)
            }),
        Mutation(
            "unknown-acknowledgements-close", "An acknowledgement of an unknown identifier ends the connection",
            violates: "MQTT-4.3.2-1", caughtBy: ["unknown-identifier-ignored"],
            up: close { link, frame in
                frame.isAcknowledgement && frame.kind != .pubrel && !link.identifiers.contains(frame.identifier)
            },
            down: rememberIdentifiers),
        Mutation(
            "unknown-pubrel-unanswered", "A PUBREL of an unknown identifier gets no PUBCOMP", violates: "MQTT-4.3.3-2",
            caughtBy: ["pubrel-after-reconnect"],
            up: { link, frame in
                if let publication = frame.publication { link.begun.append(publication.identifier) }
                if frame.kind == .pubrel, !link.begun.contains(frame.identifier) { return }
                link.forward(frame)
            }),
        Mutation(
            "unknown-pubrec-unanswered", "A PUBREC of an unknown identifier gets no PUBREL", violates: "MQTT-4.3.3-1",
            caughtBy: ["unknown-pubrec-answered"],
            up: { link, frame in
                if frame.kind == .pubrec, !link.identifiers.contains(frame.identifier) { return }
                link.forward(frame)
            },
            down: rememberIdentifiers),

        // QoS of what came in
        Mutation(
            "qos-2-delivered-each-time", "A QoS 2 PUBLISH that is repeated is delivered again",
            violates: "MQTT-4.3.3-2", caughtBy: ["pubrel-of-another-client", "state-received-qos2"],
            up: { link, frame in
                if let publication = frame.publication, publication.qos == 2 {
                    let note = String(decoding: link.clientIdentifier, as: UTF8.self) + " \(publication.identifier)"
                    if link.world.notes[note] != nil { link.world.publish(publication) }
                    link.world.notes[note] = 1
                } else if frame.kind == .pubrel {
                    let note = String(decoding: link.clientIdentifier, as: UTF8.self) + " \(frame.identifier)"
                    link.world.notes[note] = nil
                }
                link.forward(frame)
            }),
        Mutation(
            "qos-1-repetition-dropped", "A QoS 1 PUBLISH with an identifier that was used before is not delivered",
            violates: "MQTT-4.3.2-2", caughtBy: ["identifier-free-after-puback"],
            up: { link, frame in
                if let publication = frame.publication, publication.qos == 1,
                    link.count("used \(publication.identifier)") > 1
                {
                    link.pretend(frame)
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "dup-dropped", "A PUBLISH with DUP 1 is answered and not delivered", violates: "MQTT-4.3.2-2",
            caughtBy: ["qos1-receiver-same-identifier"],
            up: tolerate { $1.publication.map { $0.isDuplicate && $0.qos > 0 } ?? false }),
        Mutation(
            "qos-1-repetition-across-connections-dropped", "A QoS 1 PUBLISH that is sent again gets no PUBACK",
            violates: "MQTT-4.4.0-1", caughtBy: ["identifier-sent-again-qos-1"],
            up: { link, frame in
                if let publication = frame.publication, publication.isDuplicate, publication.qos == 1 { return }
                link.forward(frame)
            }),
        Mutation(
            "qos-2-lost", "A QoS 2 message is answered and not delivered", violates: "MQTT-4.5.0-1",
            caughtBy: ["session-queue-for-each"],
            up: { link, frame in
                if frame.publication?.qos == 2 || frame.kind == .pubrel && frame.hasRightFlags {
                    link.pretend(frame)
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "qos-1-lost", "A QoS 1 message is answered and not delivered", violates: "MQTT-4.5.0-1",
            caughtBy: ["receipt-waiting-behind-subscriptions"],
            up: tolerate {
                $1.publication.map { $0.qos == 1 && $0.identifier > 0 && !$0.topic.isEmpty && !$0.topic.hasWildcard }
                    ?? false
            }),
    ]

    private static let rememberIdentifiers: OnPacket = { link, frame in
        if let publication = frame.publication, publication.qos > 0 { link.identifiers.append(publication.identifier) }
        link.deliver(frame)
    }

    private static func finishOldest(_ kind: BrokerPacket.Kind) -> OnPacket {
        sent(kind) { link, frame in
            if frame.body.count == 2, !link.identifiers.isEmpty {
                frame.identifier = link.identifiers.removeFirst()
            }
        }
    }
}
