import MQTT
import Testing

@testable import Broker

/// Each way in which a connection can end, and whether its will is published then [MQTT-3.1.2-8] [MQTT-3.14.4-3].
struct End: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let publishes: Bool
    let happen: @Sendable (ShardHarness, TestConnection) -> Void

    static let all = [
        End(testDescription: "DISCONNECT", publishes: false) { $1.disconnect() },
        End(testDescription: "the network fails", publishes: true) { $1.drop() },
        End(testDescription: "the keep-alive runs out", publishes: true) { broker, _ in broker.advance(60_000) },
        End(testDescription: "a malformed packet", publishes: true) { $1.send([0xC1, 0]) },
        End(testDescription: "bytes that are no packet", publishes: true) { $1.send([0x30, 0xFF, 0xFF, 0xFF, 0xFF]) },
        End(testDescription: "a malformed DISCONNECT", publishes: true) { $1.send([0xE1, 0]) },
        End(testDescription: "a second CONNECT", publishes: true) { $1.sendConnect("a") },
        End(testDescription: "too large a packet", publishes: true) {
            $1.publish("x", String(repeating: "x", count: 999))
        },
        End(testDescription: "a takeover", publishes: true) { broker, _ in _ = broker.connect("a") },
        End(testDescription: "the server stops", publishes: true) { broker, _ in broker.shutDown() },
    ]
}

@Suite struct `A will` {
    private static let limits = {
        var limits = Limits()
        limits.packetBytes = 500
        return limits
    }()

    @Test(arguments: End.all, [true, false])
    func `is published once at every end but DISCONNECT [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]`(
        _ end: End, _ cleanSession: Bool
    ) {
        let broker = ShardHarness(shards: 2, limits: Self.limits)
        let watcher = broker.connect("watcher", cleanSession: false, home: 1)
        watcher.subscribe(("will", .exactlyOnce))
        _ = watcher.take()
        let connection = broker.connect(
            "a", cleanSession: cleanSession, keepAlive: 1, will: WillMessage("will", "gone", .atLeastOnce), home: 0)
        _ = connection.take()
        end.happen(broker, connection)
        #expect(connection.isClosed)
        broker.advance(1_000_000)
        let next = broker.connect("watcher", cleanSession: false)
        #expect(
            (watcher.takePayloads() + next.takeDeliveries().filter { !$0.isDuplicate }.map(\.payload))
                == (end.publishes ? ["gone"] : []))
    }

    @Test(arguments: QoS.allCases)
    func `has the QoS that the CONNECT gave it [MQTT-3.1.2-9]`(_ qos: QoS) {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("will", .exactlyOnce))
        _ = watcher.take()
        broker.connect("a", will: WillMessage("will", "1", qos)).drop()
        #expect(watcher.takeDeliveries().map(\.qos) == [qos])
    }

    @Test func `is retained where the CONNECT says so [MQTT-3.1.2-17]`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("will", .atMostOnce))
        _ = watcher.take()
        broker.connect("a", will: WillMessage("will", "kept", isRetained: true)).drop()
        #expect(watcher.takeDeliveries() == [Delivery(topic: "will", payload: "kept")])
        watcher.subscribe(("will", .atMostOnce))
        #expect(watcher.takeDeliveries() == [Delivery(topic: "will", payload: "kept", isRetained: true)])
        broker.connect("a", will: WillMessage("will", "passing")).drop()
        #expect(watcher.takePayloads() == ["passing"])
        #expect(broker.figures.retainedCount == 1, "[MQTT-3.1.2-16]")
        broker.connect("a", will: WillMessage("will", "", isRetained: true)).drop()
        #expect(broker.figures.retainedCount == 0)
        #expect(watcher.takePayloads() == [""])
    }

    @Test func `belongs to its connection, not to the client [MQTT-3.1.2-12] [MQTT-3.1.2-10]`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("#", .atMostOnce))
        _ = watcher.take()
        broker.connect("a", cleanSession: false, will: WillMessage("will", "1")).drop()
        broker.connect("a", cleanSession: false).drop()
        #expect(watcher.takePayloads() == ["1"])
    }

    @Test func `is not published before the CONNECT is accepted`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("#", .atMostOnce))
        _ = watcher.take()
        let connection = broker.open()
        connection.sendConnect("", cleanSession: false, will: WillMessage("will", "no"))
        #expect(watcher.packets.isEmpty)
    }

    @Test func `of a clean session does not come to that session itself`() {
        let broker = ShardHarness()
        let first = broker.connect("a", will: WillMessage("will", "1", .atLeastOnce))
        first.subscribe(("will", .atLeastOnce))
        let second = broker.connect("a")
        #expect(second.take() == [.accepted(sessionPresent: false)])
    }

    @Test func `reaches those who are connected when the server stops (PRODUCT 10)`() {
        let broker = ShardHarness(shards: 3)
        let clients = (0..<6).map { broker.connect("\($0)", will: WillMessage("will/\($0)", "\($0)")) }
        for client in clients { client.subscribe(("will/+", .atMostOnce)) }
        for client in clients { _ = client.take() }
        broker.shutDown()
        for client in clients { #expect(client.takePayloads().sorted() == (0..<6).map { "\($0)" }) }
    }

    @Test func `of each client is published when the server stops (PRODUCT 10)`() {
        let broker = ShardHarness(shards: 3)
        let watcher = broker.connect("watcher", cleanSession: false)
        watcher.subscribe(("will", .atLeastOnce))
        watcher.drop()
        let clients = (0..<9).map { broker.connect("\($0)", will: WillMessage("will", "\($0)", .atLeastOnce)) }
        broker.shutDown()
        #expect(clients.allSatisfy { $0.closeReason == .serverStops })
        #expect(broker.counters.connections == 0)
        #expect(broker.figures.sessionCount == 1)
        let next = broker.connect("watcher", cleanSession: false)
        #expect(next.takePayloads().sorted() == (0..<9).map { "\($0)" })
    }
}
