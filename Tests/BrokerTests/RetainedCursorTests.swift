import MQTT
import Testing

@testable import Broker

/// A subscription that is still reading what is retained when something happens.
@Suite struct `Reading what is retained` {
    private let broker: ShardHarness
    private let publisher: TestConnection

    init() {
        broker = ShardHarness()
        publisher = broker.connect("publisher")
        for topic in 0..<500 { publisher.publish("t/\(topic)", "1", isRetained: true) }
        broker.settlesAtOnce = false
    }

    private func removeAll() {
        for topic in 0..<500 { publisher.publish("t/\(topic)", "", isRetained: true) }
    }

    private func startReading(cleanSession: Bool = true, _ filter: String = "#") -> TestConnection {
        let subscriber = broker.connect("a", cleanSession: cleanSession)
        _ = subscriber.take()
        subscriber.subscribe((filter, .atMostOnce))
        #expect(subscriber.takeDeliveries().count == 64)
        return subscriber
    }

    @Test func `holds a node only until it is through`() {
        let subscriber = startReading()
        removeAll()
        #expect(broker.figures.retainedCount == 0)
        #expect(broker.figures.retainedNodes > 0, "the cursor stands on one")
        broker.settle()
        #expect(subscriber.takeDeliveries().filter { $0.isRetained }.isEmpty)
        #expect(broker.figures.retainedNodes == 0)
    }

    @Test func `ends with an UNSUBSCRIBE, which leaves no node behind`() {
        let subscriber = startReading()
        subscriber.unsubscribe("other", "#")
        _ = subscriber.take()
        removeAll()
        #expect(broker.figures.retainedNodes == 0)
        broker.settle()
        #expect(subscriber.takeDeliveries().isEmpty)
    }

    @Test func `of another filter goes on through an UNSUBSCRIBE`() {
        let subscriber = startReading()
        subscriber.unsubscribe("+/#", "t/#")
        broker.settle()
        #expect(subscriber.takeDeliveries().count == 500 - 64)
    }

    @Test func `ends with a clean session, which leaves no node behind`() {
        startReading().drop()
        removeAll()
        #expect(broker.figures.retainedNodes == 0)
        broker.settle()
    }

    @Test func `goes on when a persistent session comes back, and then leaves no node behind`() {
        startReading(cleanSession: false).drop()
        let second = broker.connect("a", cleanSession: false)
        broker.settle()
        #expect(second.takeDeliveries().count == 500 - 64)
        removeAll()
        #expect(broker.figures.retainedNodes == 0)
    }

    @Test func `ends with a persistent session that a clean one replaces`() {
        startReading(cleanSession: false).drop()
        let second = broker.connect("a", cleanSession: true)
        broker.settle()
        #expect(second.takeDeliveries().isEmpty)
        removeAll()
        #expect(broker.figures.retainedNodes == 0)
    }

    @Test func `happens again for a repeated SUBSCRIBE, behind what it interrupts [MQTT-3.8.4-3]`() {
        let subscriber = startReading()
        subscriber.subscribe(("#", .exactlyOnce))
        broker.settle()
        #expect(subscriber.takeDeliveries().count == 500 - 64 + 500)
        removeAll()
        #expect(broker.figures.retainedNodes == 0)
    }

    @Test func `happens sixteen times at most, however often a SUBSCRIBE is repeated unread`() {
        let subscriber = startReading()
        broker.setFull(subscriber, true)
        for _ in 0..<100 { subscriber.subscribe(("#", .atMostOnce)) }
        broker.settle()
        broker.setFull(subscriber, false)
        broker.settle()
        #expect(subscriber.takeDeliveries().count == 500 - 64 + 15 * 500)
        removeAll()
        #expect(broker.figures.retainedNodes == 0)
    }

    @Test func `finds a topic once though it is removed and comes again meanwhile`() {
        let subscriber = startReading()
        removeAll()
        for topic in (0..<500).reversed() { publisher.publish("t/\(topic)", "2", isRetained: true) }
        broker.settle()
        let deliveries = subscriber.takeDeliveries()
        #expect(deliveries.filter { $0.isRetained }.isEmpty)
        #expect(deliveries.filter { $0.payload == "2" }.count == 500)
    }

    @Test func `waits while the connection is full`() {
        let subscriber = startReading()
        broker.setFull(subscriber, true)
        broker.settle()
        #expect(subscriber.takeDeliveries().isEmpty)
        broker.setFull(subscriber, false)
        broker.settle()
        #expect(subscriber.takeDeliveries().count == 500 - 64)
    }

    @Test func `stops at the next step when the session is taken over`() {
        let first = startReading(cleanSession: false)
        let second = broker.connect("a", cleanSession: false)
        #expect(first.isClosed)
        broker.settle()
        #expect(first.takeDeliveries().isEmpty)
        #expect(second.takeDeliveries().count == 500 - 64)
    }

    @Test func `by many at once ends for each on its own`() {
        let subscribers = (0..<20).map { broker.connect("subscriber \($0)") }
        for subscriber in subscribers { subscriber.subscribe(("t/+", .atMostOnce), ("+/#", .atMostOnce)) }
        for index in 0..<10 { subscribers[index].drop() }
        subscribers[10].unsubscribe("t/+")
        removeAll()
        broker.settle()
        #expect(broker.figures.retainedNodes == 0)
    }
}

@Suite struct `The retained tree` {
    @Test(arguments: [1, 2, 3, 7, 1000], [1, 2, 1000])
    func `is read whole in slices of any size`(_ steps: Int, _ limit: Int) throws {
        var directory = Directory(shards: 1, seed: 7)
        let topics = ["a", "a/b", "a/b/c", "a/c", "b", "b/", "/", "//", "a/b/d", "z/y/x/w"]
        for topic in topics { directory.retain(topic, "1") }
        let session = directory.session(of: "a")
        let opened = directory.subscribe(session, "#")
        var cursor = try #require(opened)
        var found: [String] = []
        for _ in 0..<100 where !cursor.isFinished {
            let slice = directory.read(&cursor, steps: steps, limit: limit)
            #expect(slice.count <= min(steps, limit))
            found += slice.map(\.topic)
        }
        #expect(cursor.isFinished)
        #expect(found.sorted() == topics.sorted())
        #expect(directory.read(&cursor, steps: 100).isEmpty, "finished is finished")
        for topic in topics { directory.retain(topic, "") }
        #expect(directory.retainedNodes == 0)
    }

    @Test func `closes a cursor twice without harm`() throws {
        var directory = Directory(shards: 1, seed: 7)
        directory.retain("a/b", "1")
        let session = directory.session(of: "a")
        let opened = directory.subscribe(session, "a/+")
        var cursor = try #require(opened)
        #expect(directory.read(&cursor, steps: 1).isEmpty)
        directory.close(&cursor)
        directory.close(&cursor)
        #expect(cursor.isFinished)
        directory.retain("a/b", "")
        #expect(directory.retainedNodes == 0)
    }
}
