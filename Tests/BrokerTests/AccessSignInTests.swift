import Access
import Locks
import MQTT
import Testing

@testable import Broker

@Suite struct `Signing in` {
    /// alice's password is checked at once, carol's elsewhere.
    private static func file(anonymous: Bool = false, followsMosquitto: Bool = true) -> AccessControl {
        AccessWorld.control {
            $0.passwordFile = AccessWorld.passwords("alice", costly: ["carol", "carla"])
            $0.allowsAnonymous = anonymous
            $0.followsMosquitto = followsMosquitto
        }
    }

    private func isUntouched(_ connection: TestConnection) -> Bool {
        !connection.isClosed && connection.packets.isEmpty
    }

    @Test(
        arguments: [
            (nil, nil, true, ConnectReturnCode.accepted), (nil, nil, false, .notAuthorized),
            ("alice", "secret", true, .accepted), ("alice", "wrong", true, .notAuthorized),
            ("alice", nil, true, .notAuthorized), ("alice", "", true, .notAuthorized),
            ("nobody", "secret", true, .notAuthorized), ("carol", "secret", true, .accepted),
            ("carol", "wrong", true, .notAuthorized), ("", "secret", false, .notAuthorized),
            ("", nil, true, .accepted),
        ] as [(String?, String?, Bool, ConnectReturnCode)])
    func `is answered as in Mosquitto`(
        _ name: String?, _ password: String?, _ anonymous: Bool, _ code: ConnectReturnCode
    ) {
        let broker = ShardHarness(access: Self.file(anonymous: anonymous))
        let connection = broker.open()
        connection.sendConnect("c", userName: name, password: password)
        while !broker.verifications.isEmpty { broker.finishVerification() }
        if code == .accepted {
            #expect(connection.packets == [.accepted(sessionPresent: false)])
            #expect(broker.counters.signInsRefused == 0)
        } else {
            #expect(connection.isClosed)
            #expect(connection.closeReason == .refused(code))
            #expect(broker.counters.signInsRefused == 1)
            #expect(broker.figures.sessionCount == 0)
        }
    }

    @Test func `tells a wrong password from a missing right where it need not be as in Mosquitto`() {
        let broker = ShardHarness(access: Self.file(followsMosquitto: false))
        #expect(
            broker.connect("a", userName: "alice", password: "x").closeReason == .refused(.badUserNameOrPassword))
        #expect(broker.connect("a").closeReason == .refused(.notAuthorized))
    }

    @Test(arguments: [1, 2, 3])
    func `holds a CONNECT whose password takes long, and handles it once`(_ shards: Int) throws {
        let broker = ShardHarness(shards: shards, access: Self.file())
        for name in ["filler 1", "filler 2"] { _ = broker.connect(name, userName: "alice", password: "secret") }
        let before = broker.counters
        let connection = broker.connect("c", keepAlive: 10, userName: "carol", password: "secret")
        #expect(isUntouched(connection))
        #expect(broker.verifications.count == 1)
        #expect(
            broker.counters
                == {
                    var waiting = before
                    waiting.connections += 1
                    waiting.connectionsOpened += 1
                    if shards > 1 {  // Where it came in it has been counted: it has moved on.
                        waiting.packetsReceived = broker.counters.packetsReceived
                        waiting.connectsReceived = broker.counters.connectsReceived
                    }
                    return waiting
                }())
        #expect(broker.figures.sessionCount == 2 && broker.figures.connectedSessionCount == 2)
        broker.finishVerification()
        #expect(connection.packets == [.accepted(sessionPresent: false)])
        #expect(broker.counters.packetsReceived == before.packetsReceived + 1)
        #expect(broker.counters.connectsReceived == before.connectsReceived + 1)
        #expect(broker.verifications.isEmpty)
        let connected = broker.events.filter {
            if case .connected(_, ClientIdentifier("c"), _, _, _, _, _) = $0 { true } else { false }
        }
        #expect(connected.count == 1)
        guard case .connected(_, _, _, let userName?, _, _, _) = connected[0] else {
            Issue.record("it has no user name")
            return
        }
        #expect(userName == Array("carol".utf8))
    }

    @Test func `has what comes behind CONNECT wait, in order`() {
        let broker = ShardHarness(access: Self.file())
        let connection = broker.connect("c", userName: "carol", password: "secret")
        connection.subscribe(("t", .atLeastOnce), identifier: 1)
        connection.publish("t", "1", .atLeastOnce, identifier: 2)
        connection.send(.pingRequest)
        #expect(isUntouched(connection) && broker.figures.subscriptionCount == 0)
        broker.finishVerification()
        #expect(connection.packets.count == 5)
        #expect(
            connection.packets.prefix(2) == [.accepted(sessionPresent: false), .granted(.atLeastOnce, identifier: 1)])
        #expect(connection.takePayloads() == ["1"])
    }

    @Test func `that is wrong takes along what comes behind CONNECT`() {
        let broker = ShardHarness(access: Self.file(anonymous: true))
        let witness = broker.connect("w")
        witness.subscribe(("#", .atLeastOnce))
        _ = witness.take()
        let connection = broker.connect(
            "c", will: WillMessage("will", "gone"), userName: "carol", password: "wrong")
        connection.publish("t", "1", .atLeastOnce)
        broker.finishVerification()
        #expect(connection.packets == [.refused(.notAuthorized)] && connection.isClosed)
        #expect(witness.take().isEmpty, "neither its message nor its will")
    }

    @Test func `whose connection is lost meanwhile answers nobody, nor who has its place`() {
        let broker = ShardHarness(access: Self.file())
        let lost = broker.connect("c", userName: "carol", password: "secret")
        lost.drop()
        let successor = broker.connect("d", userName: "carla", password: "wrong")
        #expect(successor.number == 0, "it has the place of the lost one")
        broker.finishVerification()
        #expect(isUntouched(successor) && broker.figures.sessionCount == 0)
        broker.finishVerification()
        #expect(successor.packets == [.refused(.notAuthorized)])
        // Its failure was carla's, and nothing is counted as under way.
        #expect(broker.throttle.withLock { $0.failures } == 1)
    }

    @Test func `has to end in the time to CONNECT`() {
        let broker = ShardHarness(access: Self.file())
        let connection = broker.connect("c", userName: "carol", password: "secret")
        broker.advanceByDeadlines(9_000)
        #expect(!connection.isClosed)
        broker.advanceByDeadlines(2_000)
        #expect(connection.packets == [.refused(.serverUnavailable)], "the client has done its part")
        #expect(broker.counters.signInsCrowdedOut == 1)
        broker.finishVerification()
        #expect(broker.figures.sessionCount == 0 && broker.counters.connections == 0)
        #expect(
            broker.connect("c", userName: "alice", password: "secret").packets == [.accepted(sessionPresent: false)])
    }

    @Test func `is answered with code 3 where too many are being checked`() {
        let broker = ShardHarness(access: Self.file())
        let connection = broker.connect("c", userName: "carol", password: "secret")
        broker.finishVerification(isTaken: false)
        #expect(connection.packets == [.refused(.serverUnavailable)])
        #expect(broker.counters.signInsCrowdedOut == 1 && broker.counters.signInsRefused == 1)
        #expect(broker.throttle.withLock { $0.failures } == 0, "nobody has guessed")
        let gone = broker.connect("c", userName: "carol", password: "secret")
        gone.drop()
        broker.finishVerification(isTaken: false)
        #expect(broker.counters.connections == 0)
    }

    @Test(arguments: ["alice", "carol"])
    func `of somebody who guesses has to wait, at the same address only`(_ name: String) {
        let broker = ShardHarness(shards: 2, access: Self.file())
        func attempt(_ password: String, _ address: UInt8) -> ConnectReturnCode {
            let connection = broker.connect(
                "c", userName: name, password: password, proof: AccessWorld.address(address))
            while !broker.verifications.isEmpty { broker.finishVerification() }
            defer { connection.drop() }
            if case .refused(let code) = connection.closeReason { return code }
            return connection.packets == [.accepted(sessionPresent: false)] ? .accepted : .identifierRejected
        }
        for guess in 0..<10 { #expect(attempt("\(guess)", 1) == .notAuthorized) }
        let throttled = broker.events.filter {
            if case .signInsThrottled(.nameAtAddress, Array(name.utf8), _) = $0 { true } else { false }
        }
        #expect(throttled.count == 1)
        #expect(attempt("secret", 1) == .notAuthorized, "the right one has to wait too")
        #expect(broker.throttle.withLock { $0.refusals } == 1)
        #expect(attempt("secret", 2) == .accepted)
        broker.advance(400_000)
        #expect(attempt("secret", 1) == .accepted)
    }

    @Test func `by guessing at once is not faster`() {
        let broker = ShardHarness(access: Self.file())
        let first = broker.connect("c", userName: "carol", password: "x", proof: AccessWorld.address(1))
        broker.finishVerification()
        #expect(first.isClosed)
        let connections = (0..<20).map { index in
            broker.connect("\(index)", userName: "carol", password: "\(index)", proof: AccessWorld.address(1))
        }
        #expect(broker.verifications.count == 9, "\(broker.verifications.count)")
        while !broker.verifications.isEmpty { broker.finishVerification() }
        #expect(connections.allSatisfy { $0.closeReason == .refused(.notAuthorized) })
    }

    @Test(arguments: [1, 2, 3], [true, false])
    func `disturbs nobody before the password is proved`(_ shards: Int, _ cleanSession: Bool) {
        let broker = ShardHarness(shards: shards, access: Self.file())
        let incumbent = broker.connect("c", cleanSession: false, userName: "alice", password: "secret")
        incumbent.subscribe(("t", .atLeastOnce))
        _ = incumbent.take()
        for round in 0..<8 {
            let newcomer = broker.connect(
                "c", cleanSession: cleanSession, on: round % shards, userName: "carol", password: "wrong \(round)")
            #expect(isUntouched(newcomer) && isUntouched(incumbent))
            incumbent.publish("t", "\(round)")
            #expect(incumbent.takePayloads() == ["\(round)"])
            broker.finishVerification()
            #expect(newcomer.closeReason == .refused(.notAuthorized))
            #expect(isUntouched(incumbent))
        }
        #expect(broker.figures.sessionCount == 1 && broker.figures.subscriptionCount == 1)
        let owner = broker.connect(
            "c", cleanSession: cleanSession, on: shards - 1, userName: "carol", password: "secret")
        #expect(!incumbent.isClosed)
        broker.finishVerification()
        #expect(incumbent.closeReason == .takenOver)
        #expect(owner.packets == [.accepted(sessionPresent: !cleanSession)])
    }

    @Test func `counts no session before the password is proved`() {
        var limits = Limits.withoutDamping
        limits.sessions = 1
        let broker = ShardHarness(shards: 2, limits: limits, access: Self.file())
        let slow = broker.connect("slow", userName: "carol", password: "secret")
        let fast = broker.connect("fast", userName: "alice", password: "secret")
        #expect(fast.packets == [.accepted(sessionPresent: false)])
        broker.finishVerification()
        #expect(slow.packets == [.refused(.serverUnavailable)])
        #expect(broker.counters.sessionsRefused == 1 && broker.figures.sessionCount == 1)
    }

    @Test func `is asked for where the session lives, once`() {
        let broker = ShardHarness(shards: 3, access: Self.file())
        let incumbent = broker.connect("c", home: 2, userName: "alice", password: "secret")
        #expect(incumbent.shard == 2)
        let newcomer = broker.connect("c", on: 1, userName: "carol", password: "secret")
        #expect(broker.verifications.map(\.shard) == [2] && newcomer.shard == 2)
        broker.finishVerification()
        #expect(newcomer.packets == [.accepted(sessionPresent: false)])
        #expect(broker.counters.connectsReceived == 1 && broker.verifications.isEmpty)
    }

    @Test func `in a fight over an identifier is damped, and a wrong password is no part of it`() {
        var limits = Limits()
        limits.takeovers = 3
        let broker = ShardHarness(limits: limits, access: Self.file())
        var incumbent = broker.connect("c", userName: "alice", password: "secret")
        for guess in 0..<6 { _ = broker.connect("c", userName: "alice", password: "\(guess)") }
        #expect(broker.counters.takeoverFights == 0 && !incumbent.isClosed)
        for _ in 0..<3 {
            incumbent = broker.connect("c", userName: "alice", password: "secret")
            #expect(incumbent.packets == [.accepted(sessionPresent: false)])
        }
        let newcomer = broker.connect("c", userName: "carol", password: "secret")
        broker.finishVerification()
        #expect(isUntouched(newcomer) && !incumbent.isClosed)
        #expect(broker.counters.takeoverFights == 1 && broker.counters.takeoversDelayed == 1)
        #expect(broker.verifications.isEmpty)
        broker.advanceByDeadlines(1_000)
        #expect(newcomer.packets == [.accepted(sessionPresent: false)])
        #expect(incumbent.closeReason == .takenOver && broker.verifications.isEmpty, "nor is it asked again")
    }

    @Test func `is over for who waits to take over, once the password no longer counts`() {
        var limits = Limits()
        limits.takeovers = 1
        let broker = ShardHarness(limits: limits, access: Self.file())
        _ = broker.connect("c", userName: "alice", password: "secret")
        let incumbent = broker.connect("c", userName: "alice", password: "secret")
        let newcomer = broker.connect("c", userName: "carol", password: "secret")
        broker.finishVerification()
        #expect(isUntouched(newcomer))
        broker.adopt(AccessWorld.control { $0.passwordFile = AccessWorld.passwords("alice") })
        broker.advance(5_000)
        #expect(newcomer.packets == [.refused(.notAuthorized)])
        #expect(!incumbent.isClosed)
    }

    @Test(arguments: [true, false])
    func `fails when the password is changed while it is being checked`(_ isRight: Bool) {
        let broker = ShardHarness(access: Self.file())
        let connection = broker.connect("c", userName: "carol", password: isRight ? "secret" : "wrong")
        broker.adopt(
            AccessWorld.control { $0.passwordFile = AccessWorld.passwords(costly: ["carol"], password: "new") })
        broker.finishVerification()
        #expect(connection.packets == [.refused(.notAuthorized)])
    }

    @Test func `leaves nothing on the connection but what its session needs`() throws {
        let broker = ShardHarness(access: Self.file(anonymous: true))
        for (name, password) in [("carol", "secret"), ("alice", "secret"), (nil, nil)] as [(String?, String?)] {
            let connection = broker.connect(
                "c", userName: name, password: password, proof: AccessWorld.certificate("x"))
            #expect(try #require(broker.remains(of: connection)).proof == (name == "carol"))
            while !broker.verifications.isEmpty { broker.finishVerification() }
            let remains = try #require(broker.remains(of: connection))
            #expect(!remains.proof && !remains.participant && !remains.verification)
        }
    }

    @Test(arguments: [1, 2])
    func `gives the certificate's name as Client Identifier, whatever name the packet has`(_ shards: Int) {
        var rules = ListenerRules()
        rules.usesUserNameAsClientIdentifier = true
        let access = AccessWorld.control {
            $0.usesCertificateName = true
            $0.allowsAnonymous = false
        }
        let broker = ShardHarness(shards: shards, rules: [rules], access: access)
        let owner = broker.connect("", cleanSession: false, proof: AccessWorld.certificate("bob"))
        #expect(owner.client == ClientIdentifier("bob"))
        let thief = broker.connect(
            "bob", cleanSession: false, userName: "bob", proof: AccessWorld.certificate("mallory"))
        #expect(!owner.isClosed)
        #expect(thief.client == ClientIdentifier("mallory"))
        #expect(thief.packets == [.accepted(sessionPresent: false)])
    }
}

@Suite struct `A session` {
    private struct Client: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var userName: String?
        var password: String?
        var certificate: String?

        static let device = Client(testDescription: "device", userName: "esp32_dev1", password: "secret")
        static let sameDevice = Client(testDescription: "device by certificate", certificate: "DEV1")
        static let otherDevice = Client(testDescription: "other device", userName: "DEV2", password: "secret")
        static let service = Client(testDescription: "service", userName: "node-red", password: "secret")
        static let user = Client(testDescription: "user", userName: "alice", password: "secret")
        static let otherUser = Client(testDescription: "other user", userName: "bob", password: "secret")
        static let anonymous = Client(testDescription: "anonymous")
    }

    private static let all = [
        Client.device, .sameDevice, .otherDevice, .service, .user, .otherUser, .anonymous,
    ]

    private static func access() -> AccessControl {
        var access = AccessWorld.control(devices: ["DEV1", "DEV2"]) {
            $0.passwordFile = AccessWorld.passwords("alice", "bob")
        }
        access.accounts.services["node-red"] = .init(name: "node-red", secret: AccessWorld.secret("secret"))
        return access
    }

    private func connect(_ client: Client, to broker: ShardHarness, cleanSession: Bool, on shard: Int) -> TestConnection
    {
        broker.connect(
            "id", cleanSession: cleanSession, on: shard, userName: client.userName, password: client.password,
            proof: client.certificate.map { AccessWorld.certificate($0) })
    }

    /// Whether the second may go on with what the first has left.
    private func isShared(_ first: Client, _ second: Client) -> Bool {
        let devices = ["device", "device by certificate"]
        if devices.contains(first.testDescription), devices.contains(second.testDescription) { return true }
        let mosquittos = ["user", "other user", "anonymous"]
        if mosquittos.contains(first.testDescription), mosquittos.contains(second.testDescription) { return true }
        return first.testDescription == second.testDescription
    }

    @Test(arguments: [true, false], [true, false])
    func `belongs to who made it; one of a device, a person or a service is nobody else's`(
        _ isConnected: Bool, _ cleanSession: Bool
    ) {
        for first in Self.all {
            for second in Self.all {
                let broker = ShardHarness(shards: 2, access: Self.access())
                let owner = connect(first, to: broker, cleanSession: false, on: 0)
                #expect(owner.packets == [.accepted(sessionPresent: false)], "\(first.testDescription)")
                if !isConnected { owner.drop() }
                let newcomer = connect(second, to: broker, cleanSession: cleanSession, on: 1)
                let pair = Comment(rawValue: "\(first.testDescription), then \(second.testDescription)")
                if isShared(first, second) {
                    #expect(newcomer.packets == [.accepted(sessionPresent: !cleanSession)], pair)
                    #expect(owner.isClosed, pair)
                } else {
                    #expect(newcomer.packets == [.refused(.notAuthorized)], pair)
                    #expect(owner.isClosed == !isConnected, pair)
                    #expect(broker.figures.sessionCount == 1 && broker.counters.signInsRefused == 1, pair)
                    owner.drop()
                    let again = connect(first, to: broker, cleanSession: false, on: 1)
                    #expect(again.packets == [.accepted(sessionPresent: true)], pair)
                }
            }
        }
    }
}
