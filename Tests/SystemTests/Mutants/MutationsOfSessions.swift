import Conformance

/// Chapters 3.1.2, 4.1 and 4.4: what a session keeps, what is sent again; wills.
extension Mutation {
    static let sessions: [Mutation] = [
        Mutation(
            "session-lost", "A session with CleanSession 0 ends with its connection", violates: "MQTT-3.1.2-4",
            caughtBy: ["session-after-reset", "session-after-protocol-error"],
            up: connects { $1.cleanSession = true }),
        Mutation(
            "session-lost-by-disconnect", "DISCONNECT ends a session with CleanSession 0", violates: "MQTT-4.1.0-1",
            caughtBy: ["state-subscriptions"],
            up: { link, frame in
                link.forward(frame)
                if frame.kind == .disconnect, frame.hasRightFlags {
                    link.sendDisconnect()
                    link.world.endSession(link.clientIdentifier)
                }
            }),
        Mutation(
            "session-lost-without-disconnect", "A connection that fails takes its session with it",
            violates: "MQTT-4.1.0-1", caughtBy: ["state-waiting-messages-untouched"],
            up: { link, frame in
                if frame.kind == .disconnect { link.notes["in order"] = 1 }
                link.forward(frame)
            },
            closed: { link in
                link.letClose()
                if link.notes["in order"] == nil, !link.isTakenOver { link.world.endSession(link.clientIdentifier) }
            },
            finished: { link in
                guard link.notes["in order"] == nil, !link.clientIdentifier.isEmpty, !link.isTakenOver else { return }
                link.close()
                link.world.endSession(link.clientIdentifier)
            }),
        Mutation(
            "subscriptions-lost", "A session that is resumed has no subscriptions", violates: "MQTT-4.1.0-1",
            caughtBy: ["state-subscriptions-thrice"],
            down: hideOwnAnswers { link, frame in
                if frame.resumesSession { link.unsubscribe(Array(link.subscriptions.keys)) }
            }),
        Mutation(
            "subscriptions-lose-qos", "A session that is resumed has all its subscriptions at QoS 0",
            violates: "MQTT-4.1.0-1", caughtBy: ["state-unsubscribed", "state-granted-qos"],
            down: hideOwnAnswers { link, frame in
                if frame.resumesSession { link.subscribe(link.subscriptions.keys.map { ($0, 0) }) }
            }),
        Mutation(
            "subscriptions-come-back", "A session that is resumed has again what was unsubscribed",
            violates: "MQTT-4.1.0-1", caughtBy: ["state-unsubscribed"],
            up: { link, frame in
                if frame.kind == .unsubscribe, let filters = frame.filters {
                    link.world.gone[link.clientIdentifier, default: []] += filters
                }
                link.forward(frame)
            },
            down: hideOwnAnswers { link, frame in
                if frame.resumesSession {
                    link.subscribe((link.world.gone[link.clientIdentifier] ?? []).map { ($0, 1) })
                }
            }),
        Mutation(
            "waiting-messages-lost", "Messages for a session without connection are not stored",
            violates: "MQTT-3.1.2-5", caughtBy: ["overlapping-while-away"],
            up: { link, frame in
                link.notes["served"] = 1
                link.forward(frame)
            },
            down: { link, frame in
                if frame.kind == .connack, frame.body == [1, 0] { link.notes["resumed"] = 1 }
                if frame.kind == .connack { link.notes["served"] = nil }
                if let publication = frame.publication, link.notes["resumed"] != nil, link.notes["served"] == nil,
                    publication.qos > 0, !publication.isDuplicate
                {
                    return lose { _, _ in true }(link, frame)
                }
                link.deliver(frame)
            }),
        Mutation(
            "third-waiting-message-lost", "Of the messages that wait for a session the third is lost",
            violates: "MQTT-3.1.2-5", caughtBy: ["session-queue-many"],
            down: { link, frame in
                if frame.kind == .connack { link.notes["resumed"] = Int(frame.body[0]) }
                if let publication = frame.publication, link.notes["resumed"] == 1, publication.qos > 0,
                    link.count("third") == 3
                {
                    return lose { _, _ in true }(link, frame)
                }
                link.deliver(frame)
            }),
        Mutation(
            "waiting-messages-at-qos-0", "What waited for a session comes at QoS 0", violates: "MQTT-3.8.4-6",
            caughtBy: ["granted-0-while-away", "granted-1-while-away"],
            down: { link, frame in
                if frame.kind == .connack { link.notes["resumed"] = Int(frame.body[0]) }
                guard var publication = frame.publication, link.notes["resumed"] == 1, publication.qos == 1,
                    !publication.isDuplicate
                else { return link.deliver(frame) }
                link.forward(Frame(.puback, Wire.uint16(publication.identifier)))
                publication.qos = 0
                link.deliver(.publish(publication))
            }),
        Mutation(
            "waiting-messages-at-granted-qos", "What waited for a session comes at the granted QoS, were it higher",
            violates: "MQTT-3.8.4-6", caughtBy: ["session-queue-maximum-qos"],
            down: { link, frame in
                if frame.kind == .connack { link.notes["resumed"] = Int(frame.body[0]) }
                guard var publication = frame.publication, link.notes["resumed"] == 1 else {
                    return link.deliver(frame)
                }
                publication.qos = link.granted(publication.topic) ?? publication.qos
                if publication.identifier == 0 { publication.identifier = 60_000 }
                link.deliver(.publish(publication))
            }),
        Mutation(
            "qos-0-waits", "Messages of QoS 0 wait for a session too", violates: "MQTT-3.1.2-5",
            caughtBy: ["session-queue-qos-0", "choice-qos0-does-not-wait"],
            up: wait { publication, filters in
                let granted = filters.filter { $0.key.matches(publication.topic) }.values
                return !publication.isRetained && !granted.isEmpty && (publication.qos == 0 || granted.contains(0))
            },
            down: deliverWaiting),
        Mutation(
            "clean-session-keeps-all", "CleanSession 1 goes on with the earlier session", violates: "MQTT-3.1.2-6",
            caughtBy: ["clean-session-discards-unacknowledged", "clean-session-discards-pubrel"],
            up: connects { if !$1.clientIdentifier.isEmpty { $1.cleanSession = false } },
            down: { link, frame in
                var frame = frame
                if frame.kind == .connack, link.connect?.cleanSession == true { frame.body[0] = 0 }
                link.deliver(frame)
            }),
        Mutation(
            "clean-session-known-later", "A session with CleanSession 1 is there for a later connection",
            violates: "MQTT-3.1.2-6", caughtBy: ["clean-session-resends-nothing", "clean-session-of-one-client"],
            up: connects { if !$1.clientIdentifier.isEmpty { $1.cleanSession = false } }),
        Mutation(
            "clean-session-ends-all", "CleanSession 1 ends the sessions of other clients too", violates: "MQTT-3.1.2-6",
            caughtBy: ["clean-session-of-one-client"],
            up: { link, frame in
                if link.isFirstPacket, frame.kind == .connect, link.connect?.cleanSession == true {
                    for identifier in Array(link.world.subscriptions.keys)
                    where identifier != link.clientIdentifier && link.world.isAway(identifier) {
                        link.world.endSession(identifier)
                    }
                }
                link.forward(frame)
            }),
        Mutation(
            "retained-lost-with-publisher", "A retained message ends with the connection of its publisher",
            violates: "MQTT-3.1.2.7", caughtBy: ["retained-outlasts-publisher"],
            up: { link, frame in
                if let publication = frame.publication, publication.isRetained {
                    link.retainedTopics.append(publication.topic)
                }
                if frame.kind == .disconnect { link.clearRetained() }
                link.forward(frame)
            },
            finished: { $0.clearRetained() }),
        Mutation(
            "retained-lost-with-subscriber", "A retained message is gone once somebody has received it",
            violates: "MQTT-3.1.2.7", caughtBy: ["retained-outlasts-subscriber"],
            down: { link, frame in
                if let publication = frame.publication, publication.isRetained, !publication.payload.isEmpty {
                    link.world.clearRetained(publication.topic)
                }
                link.deliver(frame)
            }),
        Mutation(
            "session-ages", "What a session has received is forgotten after a second without packets",
            violates: "MQTT-4.1.0-2", caughtBy: ["session-lasts-with-open-qos2"],
            up: close { link, _ in link.lastSent.duration(to: .now) > .seconds(1) && !link.isFirstPacket }),
        Mutation(
            "others-subscriptions-end-too", "The end of a connection removes its filters for everybody",
            violates: "MQTT-4.1.0-2", caughtBy: ["session-lasts-among-ending-ones"],
            up: { link, frame in
                if frame.kind == .disconnect, link.connect?.cleanSession == true {
                    for other in link.world.open where other !== link {
                        other.unsubscribe(other.subscriptions.keys.filter { link.subscriptions[$0] != nil })
                    }
                }
                link.forward(frame)
            },
            down: hideOwnAnswers()),

        // Sent again
        Mutation(
            "in-flight-forgotten", "What was not acknowledged is not sent again", violates: "MQTT-4.4.0-1",
            caughtBy: ["takeover-while-messages-flow"],
            down: { link, frame in
                if frame.publication?.isDuplicate == true { return }
                link.deliver(frame)
            }),
        Mutation(
            "pubrel-not-again", "A PUBREL without PUBCOMP is not sent again", violates: "MQTT-4.4.0-1",
            caughtBy: ["unsubscribe-before-pubcomp"],
            up: notePubrecs,
            down: { link, frame in
                if frame.kind == .pubrel, link.notes["pubrec \(frame.identifier)"] == nil { return }
                link.deliver(frame)
            }),
        Mutation(
            "publish-again-behind-pubrec", "In place of a PUBREL its PUBLISH is sent again", violates: "MQTT-4.3.3-1",
            caughtBy: ["puback-after-pubrec"],
            up: notePubrecs,
            down: { link, frame in
                if let publication = frame.publication, publication.qos == 2 {
                    link.world.publications[link.clientIdentifier + Wire.uint16(publication.identifier)] = publication
                }
                if frame.kind == .pubrel, link.notes["pubrec \(frame.identifier)"] == nil,
                    var publication = link.world.publications[link.clientIdentifier + Wire.uint16(frame.identifier)]
                {
                    publication.isDuplicate = true
                    return link.deliver(.publish(publication))
                }
                link.deliver(frame)
            }),
        Mutation(
            "second-pubrec-brings-publish", "A second PUBREC is answered with the PUBLISH", violates: "MQTT-4.3.3-1",
            caughtBy: ["pubrec-twice-answered"],
            up: { link, frame in
                if frame.kind == .pubrec, link.count("pubrec \(frame.identifier)") == 2 {
                    link.deliver(Array("again".utf8), [])
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "second-pubrec-unanswered", "A second PUBREC gets no PUBREL", violates: "MQTT-4.3.3-1",
            caughtBy: ["pubrec-twice-answered"],
            up: { link, frame in
                if frame.kind != .pubrec || link.count("pubrec \(frame.identifier)") != 2 { link.forward(frame) }
            }),
        Mutation(
            "pubrel-not-answered-twice", "A PUBREL that comes again gets no PUBCOMP", violates: "MQTT-4.3.3-2",
            caughtBy: ["qos2-receiver-identifier-is-free"],
            down: { link, frame in
                if frame.kind == .pubcomp {
                    let note = "pubcomp \(frame.identifier) " + String(decoding: link.clientIdentifier, as: UTF8.self)
                    link.world.notes[note, default: 0] += 1
                    if link.world.notes[note] == 2 { return }
                }
                link.deliver(frame)
            }),
        Mutation(
            "sent-again-with-new-identifier", "What is sent again gets a new Packet Identifier",
            violates: "MQTT-4.4.0-1", caughtBy: ["unsubscribe-unacknowledged-qos-1", "retained-sent-again"],
            down: publications { if $1.isDuplicate { $1.identifier += 1000 } }),
        Mutation(
            "pubrel-again-with-new-identifier", "A PUBREL that is sent again gets a new Packet Identifier",
            violates: "MQTT-4.4.0-1", caughtBy: ["identifiers-kept-qos-2", "unsubscribe-before-pubcomp"],
            up: notePubrecs,
            down: { link, frame in
                var frame = frame
                if frame.kind == .pubrel, link.notes["pubrec \(frame.identifier)"] == nil { frame.identifier += 1000 }
                link.deliver(frame)
            }),
        Mutation(
            "sent-again-reordered", "What is sent again comes in another order", violates: "MQTT-4.6.0-1",
            caughtBy: ["order-resent-qos1"],
            down: swap(.publish) { $0.publication?.isDuplicate == true }),
        Mutation(
            "sent-again-twice", "What is sent again comes twice", violates: "MQTT-4.4.0-1",
            caughtBy: ["unsubscribe-unacknowledged-qos-2"],
            down: { link, frame in
                link.deliver(frame)
                if frame.publication?.isDuplicate == true { link.deliver(frame) }
            }),
        Mutation(
            "sent-again-though-acknowledged", "What was acknowledged is sent again", violates: "MQTT-4.4.0-1",
            caughtBy: ["retry-qos2-released", "retry-qos2-done"],
            down: sendAgain(behind: [1, 0]) { $0.qos > 0 }),
        Mutation(
            "qos-0-sent-again", "A QoS 0 message is sent again on the next connection", violates: "MQTT-4.3.1-1",
            caughtBy: ["qos0-sender-not-again"],
            down: sendAgain(behind: [1, 0]) { $0.qos == 0 }),
        Mutation(
            "sent-again-to-clean-session", "What was not acknowledged is sent to a clean session too",
            violates: "MQTT-3.1.2-6", caughtBy: ["clean-session-discards"],
            down: sendAgain(behind: [0, 0]) { $0.qos > 0 }),
        Mutation(
            "pubrel-sent-to-clean-session", "An unfinished release is sent to a clean session",
            violates: "MQTT-3.1.2-6", caughtBy: ["clean-session-discards-pubrel"],
            down: { link, frame in
                if frame.kind == .pubrel {
                    link.world.notes[String(decoding: link.clientIdentifier, as: UTF8.self)] = Int(frame.identifier)
                }
                link.deliver(frame)
                if frame.kind == .connack, frame.body == [0, 0],
                    let identifier = link.world.notes[String(decoding: link.clientIdentifier, as: UTF8.self)]
                {
                    link.deliver(Frame(.pubrel, Wire.uint16(UInt16(identifier))))
                }
            }),
        Mutation(
            "sent-again-without-retain", "A retained message that is sent again has RETAIN 0", violates: "MQTT-3.3.1-8",
            caughtBy: ["retained-sent-again"],
            down: publications { if $1.isDuplicate { $1.isRetained = false } }),
        Mutation(
            "sent-again-with-retain", "What is sent again has RETAIN 1", violates: "MQTT-3.3.1-9",
            caughtBy: ["retain-0-when-sent-again"],
            down: publications { if $1.isDuplicate { $1.isRetained = true } }),
        Mutation(
            "sent-again-shortened", "What is sent again has lost its last byte", violates: "MQTT-4.4.0-1",
            caughtBy: ["takeover-while-messages-flow"],
            down: publications { if $1.isDuplicate { $1.payload = Array($1.payload.dropLast()) } }),
        Mutation(
            "receiver-forgets-at-reconnect", "A QoS 2 message that came in is forgotten with its connection",
            violates: "MQTT-4.3.3-2", caughtBy: ["takeover-keeps-exchange"],
            up: { link, frame in
                if var publication = frame.publication, publication.qos == 2, publication.isDuplicate,
                    link.notes["begun \(publication.identifier)"] == nil
                {
                    link.forward(Frame(.pubrel, Wire.uint16(publication.identifier)))
                    link.notes["swallow"] = Int(publication.identifier)
                    publication.isDuplicate = false
                    return link.forward(.publish(publication))
                }
                if let publication = frame.publication { link.notes["begun \(publication.identifier)"] = 1 }
                link.forward(frame)
            },
            down: { link, frame in
                if frame.kind == .pubcomp, link.notes["swallow"] == Int(frame.identifier) {
                    link.notes["swallow"] = nil
                    return
                }
                link.deliver(frame)
            }),
    ]

    private static let notePubrecs: OnPacket = { link, frame in
        if frame.kind == .pubrec { link.notes["pubrec \(frame.identifier)"] = 1 }
        link.forward(frame)
    }

    /// The last PUBLISH to a client that is so comes again behind this CONNACK.
    private static func sendAgain(
        behind connack: [UInt8], where isMeant: @escaping @Sendable (BrokerPacket.Publication) -> Bool
    ) -> OnPacket {
        { link, frame in
            if let publication = frame.publication, isMeant(publication) {
                link.world.publications[link.clientIdentifier] = publication
            }
            link.deliver(frame)
            if frame.kind == .connack, frame.body == connack,
                var publication = link.world.publications[link.clientIdentifier]
            {
                publication.isDuplicate = publication.qos > 0
                link.deliver(.publish(publication))
            }
        }
    }
}

extension Link {
    /// The highest QoS of the subscriptions that match.
    func granted(_ topic: [UInt8]) -> UInt8? { subscriptions.filter { $0.key.matches(topic) }.values.max() }

    /// How many subscriptions match.
    func matching(_ topic: [UInt8]) -> Int { subscriptions.keys.count { $0.matches(topic) } }

    func clearRetained() {
        for topic in retainedTopics { world.clearRetained(topic) }
        retainedTopics = []
    }
}

extension World {
    func clearRetained(_ topic: [UInt8]) {
        publish(.new(topic, [], isRetained: true))
    }
}
