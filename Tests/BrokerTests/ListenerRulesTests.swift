import MQTT
import Testing

@testable import Broker

/// A broker with two listeners: the first allows all, the second what the test says.
private func broker(shards: Int = 1, limits: Limits = Limits(), _ change: (inout ListenerRules) -> Void) -> ShardHarness
{
    var rules = ListenerRules()
    change(&rules)
    return ShardHarness(shards: shards, limits: limits, rules: [ListenerRules(), rules])
}

@Suite struct `A listener's rules` {
    @Test(arguments: [ProtocolVersion.mqtt31, .mqtt311])
    func `turn away versions that it does not accept, with code 1 [MQTT-3.1.2-2]`(_ version: ProtocolVersion) {
        let broker = broker { rules in
            rules.acceptsMQTT31 = version == .mqtt31
            rules.acceptsMQTT311 = version == .mqtt311
        }
        for other in [ProtocolVersion.mqtt31, .mqtt311] {
            let connection = broker.open(listener: 1)
            connection.sendConnect("a", version: other)
            #expect(connection.isClosed == (other != version))
            #expect(other == version || connection.take() == [.refused(.unacceptableProtocolVersion)])
        }
    }

    @Test func `close a connection that publishes above max_qos, before the message counts`() {
        let broker = broker { $0.maximumQoS = .atLeastOnce }
        let watcher = broker.connect("watcher")
        watcher.subscribe(("t", .exactlyOnce))
        _ = watcher.take()
        let connection = broker.connect("a", listener: 1)
        connection.publish("t", "1", .atLeastOnce)
        #expect(watcher.takePayloads() == ["1"])
        connection.publish("t", "2", .exactlyOnce)
        #expect(connection.closeReason == .protocolViolation("a PUBLISH of QoS 2, over max_qos"))
        #expect(watcher.packets.isEmpty)
    }

    @Test func `grant no more than max_qos, and take no will above it`() {
        let broker = broker { $0.maximumQoS = .atLeastOnce }
        let connection = broker.connect("a", listener: 1)
        _ = connection.take()
        connection.subscribe(("t", .exactlyOnce), ("u", .atMostOnce))
        #expect(connection.take() == [.granted(.atLeastOnce, .atMostOnce, identifier: 1)])
        let other = broker.connect("b", will: WillMessage("w", "", .exactlyOnce), listener: 1)
        #expect(other.isClosed)
        #expect(other.packets.isEmpty)
    }

    @Test func `may ask for a Client Identifier`() {
        let broker = broker { $0.allowsEmptyClientIdentifier = false }
        let connection = broker.open(listener: 1)
        connection.sendConnect("")
        #expect(connection.take() == [.refused(.identifierRejected)])
        #expect(broker.connect("").client != nil)
    }

    @Test func `say how an identifier begins that the server makes up`() throws {
        let broker = broker { $0.automaticPrefix = Array("ward-".utf8) }
        let first = try #require(broker.connect("", listener: 1).client?.description)
        let second = try #require(broker.connect("", listener: 1).client?.description)
        #expect(first.hasPrefix("ward-"))
        #expect(first != second)
    }

    @Test func `may put the user name in the place of the Client Identifier`() {
        let broker = broker { $0.usesUserNameAsClientIdentifier = true }
        for client in ["a", ""] {
            let connection = broker.open(listener: 1)
            connection.sendConnect(client, userName: "bob")
            #expect(connection.client == ClientIdentifier("bob"))
        }
        for userName in [nil, ""] {
            let connection = broker.open(listener: 1)
            connection.sendConnect("a", userName: userName)
            #expect(connection.take() == [.refused(.notAuthorized)])
        }
        #expect(broker.figures.sessionCount == 1)
    }

    @Test func `are another's after a reload, for those who are connected too`() {
        let broker = broker { $0.maximumQoS = .exactlyOnce }
        let connection = broker.connect("a", listener: 1)
        connection.publish("t", "", .exactlyOnce)
        var rules = ListenerRules()
        rules.maximumQoS = .atMostOnce
        broker.adopt(Limits(), [ListenerRules(), rules])
        #expect(!connection.isClosed)
        connection.publish("t", "", .atLeastOnce)
        #expect(connection.isClosed)
    }
}

@Suite struct `A limit on who may come` {
    @Test(arguments: [0, 61, 65_535] as [UInt16])
    func `refuses a keep-alive that is longer, or none, with code 2`(_ keepAlive: UInt16) {
        var limits = Limits()
        limits.keepAlive = 60
        let broker = ShardHarness(limits: limits)
        let connection = broker.connect("a", keepAlive: keepAlive)
        #expect(connection.take() == [.refused(.identifierRejected)])
        #expect(!broker.connect("a", keepAlive: 60).isClosed)
    }

    @Test func `wants the prefix of clientid_prefixes, also before an identifier that the server makes up`() {
        var limits = Limits()
        limits.clientIdentifierPrefix = Array("dev-".utf8)
        var rules = ListenerRules()
        rules.automaticPrefix = Array("dev-x".utf8)
        let broker = ShardHarness(limits: limits, rules: [ListenerRules(), rules])
        for client in ["", "de", "Dev-1", "xdev-"] {
            #expect(broker.connect(client).take() == [.refused(.notAuthorized)])
        }
        #expect(!broker.connect("dev-").isClosed)
        #expect(!broker.connect("", listener: 1).isClosed)
    }

    @Test(arguments: [1, 2]) func `counts sessions, whether their client is there or not`(_ shards: Int) {
        var limits = Limits()
        limits.sessions = 2
        let broker = ShardHarness(shards: shards, limits: limits)
        broker.connect("kept", cleanSession: false).drop()
        let second = broker.connect("second")
        #expect(broker.connect("third").take() == [.refused(.serverUnavailable)])
        // Who has a session already may come, and begin anew.
        #expect(!broker.connect("kept").isClosed)
        #expect(broker.figures.sessionCount == 2)
        second.disconnect()
        #expect(!broker.connect("third").isClosed)
        limits.sessions = 0
        broker.adopt(limits)
        #expect(!broker.connect("fourth").isClosed)
    }
}

@Suite struct `Where nothing may be retained` {
    private let limits = {
        var limits = Limits()
        limits.isRetainAvailable = false
        return limits
    }()

    @Test(arguments: ["x", ""]) func `a PUBLISH with RETAIN ends its connection`(_ payload: String) {
        let broker = ShardHarness(limits: limits)
        let connection = broker.connect("a")
        connection.publish("t", payload)
        #expect(!connection.isClosed)
        connection.publish("t", payload, isRetained: true)
        #expect(connection.isClosed)
        #expect(broker.figures.retainedCount == 0)
    }

    @Test func `so does a will with RETAIN, without a CONNACK`() {
        let broker = ShardHarness(limits: limits)
        let connection = broker.connect("a", will: WillMessage("w", "gone", isRetained: true))
        #expect(connection.isClosed)
        #expect(connection.packets.isEmpty)
        #expect(!broker.connect("a", will: WillMessage("w", "gone")).isClosed)
    }
}

@Suite struct `Upgrading the QoS of what goes out` {
    @Test(arguments: QoS.allCases, QoS.allCases)
    func `gives each subscription its own`(_ published: QoS, _ subscribed: QoS) {
        var limits = Limits()
        limits.upgradesQoS = true
        let broker = ShardHarness(shards: 2, limits: limits)
        let publisher = broker.connect("publisher", home: 0)
        publisher.publish("kept", "old", published, isRetained: true)
        for home in 0..<2 {
            let subscriber = broker.connect("\(home)", home: home)
            subscriber.subscribe(("#", subscribed))
            publisher.publish("t", "new", published)
            #expect(subscriber.takeDeliveries().map(\.qos) == [subscribed, subscribed])
        }
    }
}
