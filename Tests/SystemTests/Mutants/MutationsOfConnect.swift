import Conformance

/// Chapters 3.1 and 3.2: CONNECT, CONNACK, keep-alive, taking over.
extension Mutation {
    static let connecting: [Mutation] = [
        Mutation(
            "first-packet-any", "A connection may begin with any packet", violates: "MQTT-3.1.0-1",
            caughtBy: ["connect-not-first-publish", "connect-second-in-the-piece"],
            up: { link, frame in
                if link.isFirstPacket, frame.kind != nil, frame.kind != .connect, frame.hasRightFlags {
                    link.hollowOut()
                    link.pretend(frame)
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "publish-before-connect-delivered", "A PUBLISH before CONNECT is delivered", violates: "MQTT-3.1.0-1",
            caughtBy: ["connect-not-first-publish"],
            up: { link, frame in
                if link.isFirstPacket, let publication = frame.publication { link.world.publish(publication) }
                link.forward(frame)
            }),
        Mutation(
            "connect-second-accepted", "A CONNECT behind another packet is accepted", violates: "MQTT-3.1.0-1",
            caughtBy: ["connect-second-in-the-piece"],
            up: { link, frame in if !link.isFirstPacket || frame.kind == .connect { link.forward(frame) } }),
        Mutation(
            "second-connect-ignored", "A second CONNECT is skipped", violates: "MQTT-3.1.0-2",
            caughtBy: ["connect-twice-in-one-piece"],
            up: { link, frame in if link.isFirstPacket || frame.kind != .connect { link.forward(frame) } }),
        Mutation(
            "second-connect-answered", "A second CONNECT gets a CONNACK like the first", violates: "MQTT-3.1.0-2",
            caughtBy: ["connect-twice-malformed", "connect-twice-as-another"],
            up: tolerateAgain()),
        Mutation(
            "second-connect-takes-over", "A second CONNECT ends the connection of the client that it names",
            violates: "MQTT-3.1.4-2", caughtBy: ["connect-twice-as-another"],
            up: { link, frame in
                if !link.isFirstPacket, frame.kind == .connect, let other = Wire.Connect(frame.body) {
                    for victim in link.world.open
                    where victim !== link && victim.clientIdentifier == other.clientIdentifier { victim.close() }
                }
                link.forward(frame)
            }),
        Mutation(
            "second-connect-ends-session", "A second CONNECT ends the session too", violates: "MQTT-3.1.2-4",
            caughtBy: ["connect-twice-keeps-session"],
            up: { link, frame in
                if !link.isFirstPacket, frame.kind == .connect {
                    link.world.endSession(of: link)
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "second-connect-loses-will", "A second CONNECT ends the connection without its will",
            violates: "MQTT-3.1.2-8", caughtBy: ["connect-twice"],
            up: { link, frame in
                if !link.isFirstPacket, frame.kind == .connect { link.forward(Frame(.disconnect)) }
                link.forward(frame)
            }),
        Mutation(
            "protocol-name-unchecked", "Any protocol name will do", violates: "MQTT-3.1.2-1",
            caughtBy: ["protocol-name-wrong"],
            up: connects { $1.protocolName = Array("MQTT".utf8) }),
        Mutation(
            "mqtt-3.1-refused", "MQIsdp is refused", violates: "MQTT-3.1.2-1",
            caughtBy: ["protocol-3-1", "choice-mqtt-3.1"],
            up: connects { if $1.protocolLevel == 3 { $1.protocolLevel = 9 } }),
        Mutation(
            "protocol-level-unchecked", "Any protocol level will do", violates: "MQTT-3.1.2-2",
            caughtBy: ["protocol-level-unsupported", "protocol-level-of-bridges"],
            up: connects { if $1.protocolName == Array("MQTT".utf8) { $1.protocolLevel = 4 } }),
        Mutation(
            "protocol-level-unanswered", "An unsupported protocol level ends the connection without CONNACK",
            violates: "MQTT-3.1.2-2", caughtBy: ["protocol-level-5"],
            down: { link, frame in
                if frame.isRefusal { link.close() } else { link.deliver(frame) }
            }),
        Mutation(
            "protocol-level-refused-by-code-5", "An unsupported protocol level gets CONNACK 5",
            violates: "MQTT-3.1.2-2", caughtBy: ["protocol-level-makes-no-session", "protocol-level-5"],
            down: change(.connack) { if $0.body[1] == 1 { $0.body[1] = 5 } }),
        Mutation(
            "reserved-connect-flag-unchecked", "Bit 0 of the Connect Flags is not looked at", violates: "MQTT-3.1.2-3",
            caughtBy: ["connect-reserved-flag"],
            up: { link, frame in
                guard link.isFirstPacket, frame.kind == .connect, var connect = Wire.Connect(frame.body) else {
                    return link.forward(frame)
                }
                connect.flags = connect.flags.map { $0 & 0xfe }
                link.forward(.connect(connect))
            }),
        Mutation(
            "reserved-connect-flag-answered", "Bit 0 of the Connect Flags gets CONNACK 1 before the end",
            violates: "MQTT-3.1.2-3", caughtBy: ["connect-reserved-flag-among-others"],
            up: { link, frame in
                if let connect = link.connect, link.isFirstPacket, connect.flags.map({ $0 & 1 == 1 }) ?? false {
                    link.deliver(Frame(.connack, [0, 1]))
                }
                link.forward(frame)
            }),
        Mutation(
            "user-name-without-flag", "What the flags of CONNECT announce and the payload lacks is taken as empty",
            violates: "MQTT-3.1.2-19", caughtBy: ["user-name-missing", "user-name-missing-after-will"],
            up: tolerate { link, frame in
                link.isFirstPacket && frame.kind == .connect && Wire.Connect(frame.body) == nil
            }),
        Mutation(
            "password-without-user-name", "A password without a user name is accepted", violates: "MQTT-3.1.2-22",
            caughtBy: ["password-without-user-name", "password-without-user-name-and-will"],
            up: tolerate { link, frame in
                link.isFirstPacket && frame.kind == .connect && frame.body.count > 7 && frame.body[7] & 0xc0 == 0x40
            }),
        Mutation(
            "will-bits-without-will", "Will QoS and will retain without a will are not looked at",
            violates: "MQTT-3.1.2-11", caughtBy: ["will-flag-0-qos"],
            up: tolerate { link, frame in
                link.isFirstPacket && frame.kind == .connect && frame.body.count > 7 && frame.body[7] & 0x04 == 0
                    && frame.body[7] & 0x38 != 0
            }),
        Mutation(
            "will-qos-3-tolerated", "A will of QoS 3 is accepted as one of QoS 2", violates: "MQTT-3.1.2-14",
            caughtBy: ["will-qos-3"],
            up: sent(.connect) { link, frame in
                if link.isFirstPacket, frame.body.count > 7, frame.body[7] & 0x18 == 0x18 { frame.body[7] &= 0xf7 }
            }),
        Mutation(
            "will-topic-unchecked", "A will topic with wildcards, or an empty one, is accepted",
            violates: "MQTT-4.7.1-1", caughtBy: ["wildcard-in-will-topic", "empty-will-topic"],
            up: tolerate { link, frame in
                guard frame.kind == .connect, link.isFirstPacket, let will = link.connect?.will else { return false }
                return will.topic.hasWildcard || will.topic.isEmpty
            }),
        Mutation(
            "connect-longer-than-its-fields", "What follows the last field of CONNECT is not looked at",
            violates: "MQTT-3.1.4-1", caughtBy: ["will-of-malformed-connect"],
            up: sent(.connect) { link, frame in
                if link.isFirstPacket, let short = frame.withoutTail { frame = short }
            }),
        Mutation(
            "user-name-skipped-for-password", "A CONNECT with a password ends the connection",
            violates: "MQTT-3.1.2-21", caughtBy: ["password-binary"],
            up: close { link, _ in link.isFirstPacket && link.connect?.password != nil }),
        Mutation(
            "client-identifiers-of-8-bytes", "A Client Identifier above eight bytes gets CONNACK 2",
            violates: "MQTT-3.1.3-5",
            caughtBy: ["client-identifier-of-each-length", "client-identifier-of-each-character"],
            up: refuse(with: 2) { $0.clientIdentifier.count > 8 }),
        Mutation(
            "client-identifier-cut", "Client Identifiers count up to their sixteenth byte", violates: "MQTT-3.1.3-5",
            caughtBy: ["client-identifier-not-cut-off"],
            up: connects { $1.clientIdentifier = Array($1.clientIdentifier.prefix(16)) }),
        Mutation(
            "client-identifier-folded", "Client Identifiers count without upper and lower case",
            violates: "MQTT-3.1.3-2",
            caughtBy: ["client-identifier-names-a-session", "client-identifiers-do-not-meet"],
            up: connects { $1.clientIdentifier = $1.clientIdentifier.lowercased }),
        Mutation(
            "client-identifiers-of-letters-only",
            "Client Identifiers with other characters than 0-9, a-z, A-Z get CONNACK 2",
            violates: "MQTT-3.1.3-5", caughtBy: ["client-identifier-odd-accepted"],
            up: refuse(with: 2) { connect in
                !connect.clientIdentifier.allSatisfy {
                    (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                }
            }),
        Mutation(
            "empty-client-identifier-refused", "An empty Client Identifier gets CONNACK 2", violates: "MQTT-3.1.3-6",
            caughtBy: ["client-identifier-empty-accepted", "client-identifier-empty-keeps-nothing"],
            up: refuse(with: 2) { $0.clientIdentifier.isEmpty }),
        Mutation(
            "empty-client-identifiers-are-one", "All clients with an empty identifier are one client",
            violates: "MQTT-3.1.3-6", caughtBy: ["choice-empty-identifier", "client-identifier-empty-accepted"],
            up: connects {
                if $1.clientIdentifier.isEmpty, $1.cleanSession {
                    $1.clientIdentifier = Array("nobody\($0.world.tag)".utf8)
                }
            }),
        Mutation(
            "empty-client-identifier-with-session", "An empty Client Identifier with CleanSession 0 is accepted",
            violates: "MQTT-3.1.3-8",
            caughtBy: ["client-identifier-empty-persistent", "client-identifier-empty-persistent-with-fields"],
            up: connects { if $1.clientIdentifier.isEmpty { $1.cleanSession = true } }),
        Mutation(
            "refusal-stays-open", "The connection stays open behind a CONNACK that refuses", violates: "MQTT-3.2.2-5",
            caughtBy: ["rejected-and-more"],
            down: { link, frame in
                link.deliver(frame)
                if frame.isRefusal { link.hollowOut() }
            }),
        Mutation(
            "refusal-with-session-present", "A CONNACK that refuses says Session Present", violates: "MQTT-3.2.2-4",
            caughtBy: ["session-present-0-refused", "connack-refused-closes"],
            down: change(.connack) { if $0.body[1] != 0 { $0.body[0] = 1 } }),
        Mutation(
            "packets-behind-refusal-handled", "What comes behind a rejected CONNECT is published",
            violates: "MQTT-3.1.4-5", caughtBy: ["client-identifier-empty-persistent-with-fields"],
            up: { link, frame in
                if !link.isFirstPacket, let connect = link.connect, connect.isRefused,
                    let publication = frame.publication
                {
                    link.world.publish(publication)
                }
                link.forward(frame)
            }),
        Mutation(
            "refused-will-published", "The will of a rejected CONNECT is published", violates: "MQTT-3.1.2-8",
            caughtBy: ["will-of-refused-level"],
            down: { link, frame in
                if frame.kind == .connack, !frame.isRefusal { link.notes["accepted"] = 1 }
                link.deliver(frame)
            },
            closed: { link in
                if link.notes["accepted"] == nil { link.publishWill() }
                link.letClose()
            }),
        Mutation(
            "refused-connect-ends-session", "A CONNECT that is rejected discards the session that it names",
            violates: "MQTT-3.1.4-5", caughtBy: ["takeover-only-by-valid-connect", "rejected-and-session"],
            up: { link, frame in
                if link.isFirstPacket, let connect = link.connect, connect.isRefused || connect.flags != nil {
                    link.world.endSession(connect.clientIdentifier)
                }
                link.forward(frame)
            }),
        Mutation(
            "connack-lost", "The CONNECT of a client with a name gets no CONNACK", violates: "MQTT-3.1.4-4",
            caughtBy: ["connect-with-packets-behind"],
            down: { if $1.kind != .connack || $0.clientIdentifier.isEmpty { $0.deliver($1) } }),
        Mutation(
            "connack-behind-next-packet", "CONNACK comes behind the next packet", violates: "MQTT-3.2.0-1",
            caughtBy: ["ping-behind-connect", "connack-first-fresh"],
            down: { link, frame in
                if frame.kind == .connack, frame.body == [1, 0] || link.packetsInPiece > 1 {
                    link.held.append(frame)
                    return
                }
                link.deliver(frame)
                if !link.held.isEmpty { link.deliver(link.held.removeFirst()) }
            }),
        Mutation(
            "connack-with-reserved-bits", "CONNACK has a reserved bit set", violates: "ANNEX-3.2.2.1",
            caughtBy: ["connack-reserved-bits"],
            down: change(.connack) { $0.body[0] |= 2 }),
        Mutation(
            "connack-code-changed", "An accepted CONNECT gets CONNACK 3", violates: "MQTT-3.1.4-4",
            caughtBy: ["connect-flags-in-order", "takeover"],
            down: change(.connack) { if $0.body[1] == 0 { $0.body[1] = 3 } }),
        Mutation(
            "connack-code-6", "A CONNECT with a user name gets return code 6", violates: "MQTT-3.2.2-6",
            caughtBy: ["connack-only-known-codes"],
            up: refuse(with: 6) { $0.userName != nil }),
        Mutation(
            "refusal-without-connack", "A refusal has no CONNACK", violates: "ANNEX-3.2.2.3",
            caughtBy: ["unserviceable-connect"],
            down: { if $1.isRefusal { $0.close() } else { $0.deliver($1) } }),
        Mutation(
            "connack-twice", "CONNACK comes twice", violates: "MQTT-3.1.4-4",
            caughtBy: ["connect-accepted", "takeover"], down: double(.connack)),
        Mutation(
            "session-present-never", "Session Present is always 0", violates: "MQTT-3.2.2-2",
            caughtBy: ["session-after-disconnect", "session-after-close"],
            down: change(.connack) { $0.body[0] = 0 }),
        Mutation(
            "session-present-always", "Session Present is always 1", violates: "MQTT-3.2.2-3",
            caughtBy: ["clean-session-discards", "clean-session-ends-with-its-connection"],
            down: change(.connack) { if $0.body[1] == 0 { $0.body[0] = 1 } }),
        Mutation(
            "session-present-for-persistent", "Session Present is 1 wherever CleanSession is 0",
            violates: "MQTT-3.2.2-3", caughtBy: ["takeover-of-clean", "session-present-0-new"],
            down: { link, frame in
                var frame = frame
                if frame.kind == .connack, frame.body[1] == 0, link.connect?.cleanSession == false { frame.body[0] = 1 }
                link.deliver(frame)
            }),

        // Keep-alive
        Mutation(
            "keep-alive-ignored", "A silent client is never disconnected", violates: "MQTT-3.1.2-24",
            caughtBy: ["keep-alive-prompt"],
            up: connects { $1.keepAlive = 0 }),
        Mutation(
            "keep-alive-too-strict", "A client is disconnected after half its keep-alive", violates: "MQTT-3.1.2-24",
            caughtBy: ["ping-keeps-alive"],
            up: close { link, _ in
                guard let keepAlive = link.connect?.keepAlive, keepAlive > 0, !link.isFirstPacket else { return false }
                return link.lastSent.duration(to: .now) > .milliseconds(500 * Int(keepAlive))
            }),
        Mutation(
            "keep-alive-needs-pingreq", "Only PINGREQ counts for the keep-alive", violates: "MQTT-3.1.2-24",
            caughtBy: ["keep-alive-counts-from-the-last-packet"],
            up: { link, frame in
                if let keepAlive = link.connect?.keepAlive, keepAlive > 0, !link.isFirstPacket,
                    frame.kind == .pingreq || link.isLate
                {
                    if link.isLate { link.close() } else { link.forward(frame) }
                } else {
                    link.forward(frame)
                }
                if frame.kind == .pingreq || frame.kind == .connect { link.pinged = .now }
            }),
        Mutation(
            "keep-alive-doubled", "A silent client is disconnected after three keep-alives", violates: "MQTT-3.1.2-24",
            caughtBy: ["keep-alive-not-by-deliveries-prompt"],
            up: connects { $1.keepAlive = $1.keepAlive.multipliedReportingOverflow(by: 2).partialValue }),
        Mutation(
            "keep-alive-by-deliveries", "What the broker sends counts for the keep-alive of the client",
            violates: "MQTT-3.1.2-24", caughtBy: ["keep-alive-not-by-deliveries-prompt"],
            down: { link, frame in
                if frame.kind == .pingresp, link.notes["owed", default: 0] > 0 {
                    link.notes["owed", default: 0] -= 1
                    return
                }
                link.deliver(frame)
                guard frame.kind == .publish, (1..<10).contains(link.connect?.keepAlive ?? 0) else { return }
                link.notes["owed", default: 0] += 1
                link.forward(Frame(.pingreq))
            }),
        Mutation(
            "no-connect-no-end", "A connection on which no CONNECT comes is never closed",
            violates: "ANNEX-3.1.4-timeout", caughtBy: ["no-connect"],
            closed: { if $0.isFirstPacket { $0.hollowOut() } else { $0.letClose() } }),
        Mutation(
            "late-connect-accepted", "A CONNECT that takes twelve seconds is accepted", violates: "MQTT-3.1.0-1",
            caughtBy: ["connect-never-finished"],
            up: tolerate { link, frame in
                link.isFirstPacket && frame.kind == .connect && link.lastSent.duration(to: .now) > .seconds(5)
            }),
        Mutation(
            "keep-alive-0-taken-for-1", "Keep Alive 0 is taken for one second", violates: "MQTT-3.1.2-24",
            caughtBy: ["keep-alive-many"],
            up: connects { if $1.keepAlive == 0 { $1.keepAlive = 1 } }),
        Mutation(
            "keep-alive-ends-like-disconnect", "A client that stayed silent is disconnected without its will",
            violates: "MQTT-3.1.2-8", caughtBy: ["will-after-keep-alive"],
            up: connects { _, connect in
                guard (1..<10).contains(connect.keepAlive) else { return }
                connect.will = nil
                connect.willQoS = 0
                connect.isWillRetained = false
            }),
        Mutation(
            "connect-in-parts-refused", "A CONNECT that does not come in one piece ends the connection",
            violates: "MQTT-7.1.1-1", caughtBy: ["connect-byte-by-byte", "stream-bytewise"],
            up: close { link, frame in link.cameInParts && frame.kind == .connect },
            part: { if $0.isFirstPacket { $0.close() } }),

        // Taking over
        Mutation(
            "two-connections-of-one-client", "The earlier connection of a Client Identifier lives on",
            violates: "MQTT-3.1.4-2", caughtBy: ["takeover-resumes"],
            up: connects { if $0.takesOver { $1.clientIdentifier += Array("2".utf8) } }),
        Mutation(
            "takeover-refused", "A CONNECT with the Client Identifier of a connected client gets CONNACK 2",
            violates: "MQTT-3.1.4-2", caughtBy: ["connect-reserved-flag-and-session"],
            up: { link, frame in
                if link.isFirstPacket, frame.kind == .connect, link.takesOver {
                    link.deliver(Frame(.connack, [0, 2]))
                    link.close()
                } else {
                    link.forward(frame)
                }
            }),
        Mutation(
            "takeover-unseen", "The earlier connection of a Client Identifier is not closed", violates: "MQTT-3.1.4-2",
            caughtBy: ["takeover-discards"],
            closed: { link in if link.isTakenOver { link.hollowOut() } else { link.letClose() } }),
        Mutation(
            "takeover-loses-session", "A connection that takes over begins a new session", violates: "MQTT-3.1.4-3",
            caughtBy: ["takeover-sends-again", "takeover-keeps-exchange"],
            up: connects { if $0.takesOver { $1.cleanSession = true } }),
        Mutation(
            "takeover-keeps-session", "A connection that takes over with CleanSession 1 goes on with the session",
            violates: "MQTT-3.1.4-3", caughtBy: ["session-present-1-takeover", "takeover-resumes"],
            up: connects { if $0.takesOver { $1.cleanSession = false } },
            down: change(.connack) { $0.body[0] = 0 }),
        Mutation(
            "takeover-loses-will", "A connection that is taken over ends without its will", violates: "MQTT-3.1.2-8",
            caughtBy: ["will-after-takeover"],
            up: { link, frame in
                if link.isFirstPacket, frame.kind == .connect, !link.clientIdentifier.isEmpty {
                    for victim in link.world.open
                    where victim !== link && victim.clientIdentifier == link.clientIdentifier {
                        victim.sendDisconnect()
                    }
                }
                link.forward(frame)
            }),
        Mutation(
            "takeover-moves-will", "A connection that takes over inherits the will", violates: "MQTT-3.1.2-12",
            caughtBy: ["will-none-after-takeover"],
            up: connects { link, connect in
                guard connect.will == nil, !connect.clientIdentifier.isEmpty else { return }
                let earlier = link.world.open.first {
                    $0 !== link && $0.clientIdentifier == connect.clientIdentifier && $0.connect?.will != nil
                }
                connect.will = earlier?.connect?.will
            }),
        Mutation(
            "takeover-by-another-name", "A CONNECT ends every connection whose Client Identifier begins alike",
            violates: "MQTT-3.1.4-2", caughtBy: ["connect-malformed-keeps-session", "takeover-race"],
            up: { link, frame in
                if link.isFirstPacket, frame.kind == .connect {
                    for victim in link.world.open
                    where victim !== link && !link.clientIdentifier.isEmpty
                        && victim.clientIdentifier.prefix(6) == link.clientIdentifier.prefix(6)
                    { victim.close() }
                }
                link.forward(frame)
            }),
    ]

    private static func tolerateAgain() -> OnPacket {
        { link, frame in
            if !link.isFirstPacket, frame.kind == .connect { link.pretend(frame) } else { link.forward(frame) }
        }
    }

    private static func refuse(
        with code: UInt8, where isRefused: @escaping @Sendable (Wire.Connect) -> Bool
    ) -> OnPacket {
        { link, frame in
            guard link.isFirstPacket, frame.kind == .connect, let connect = link.connect, isRefused(connect) else {
                return link.forward(frame)
            }
            link.deliver(Frame(.connack, [0, code]))
            link.close()
        }
    }
}

extension Wire.Connect {
    /// Whether 3.1.1 wants it rejected; the reasons of the suite's cases.
    var isRefused: Bool {
        protocolName == Array("MQTT".utf8) && protocolLevel != 4 || clientIdentifier.isEmpty && !cleanSession
    }
}

extension Frame {
    var isRefusal: Bool { kind == .connack && body.count == 2 && body[1] != 0 }

    /// A CONNECT without what stands behind its last field.
    fileprivate var withoutTail: Frame? {
        guard kind == .connect else { return nil }
        for count in 1..<max(body.count, 2) {
            let short = Frame(firstByte: firstByte, body: Array(body.dropLast(count)))
            if Wire.Connect(short.body) != nil { return short }
        }
        return nil
    }
}

extension Link {
    /// Half a keep-alive since the last PINGREQ.
    var isLate: Bool {
        guard let keepAlive = connect?.keepAlive, let pinged else { return false }
        return pinged.duration(to: .now) > .milliseconds(1500 * Int(keepAlive))
    }

    /// An earlier connection has the same Client Identifier.
    fileprivate var takesOver: Bool {
        !clientIdentifier.isEmpty && world.open.contains { $0 !== self && $0.clientIdentifier == clientIdentifier }
    }

    /// A later connection has the same Client Identifier.
    var isTakenOver: Bool {
        world.open.contains { $0.number > number && $0.clientIdentifier == clientIdentifier }
    }

    func publishWill() {
        guard let connect, let will = connect.will else { return }
        world.publish(.new(will.topic, will.message, qos: connect.willQoS, isRetained: connect.isWillRetained))
    }
}
