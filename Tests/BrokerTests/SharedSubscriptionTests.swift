import MQTT
import Testing

@testable import Broker

@Suite struct `A shared subscription` {
    private func members(_ count: Int, of filter: String, _ qos: QoS, _ broker: ShardHarness) -> [TestConnection] {
        (0..<count).map { index in
            let member = broker.connect("member \(index)", cleanSession: false)
            member.subscribe((filter, qos))
            _ = member.take()
            return member
        }
    }

    @Test(arguments: ["$share/g/t/1", "$share/g/t/+", "$share/g/t/#", "$share/g/#"], [1, 3])
    func `gives each message to one member, in turns`(_ filter: String, _ shards: Int) {
        let broker = ShardHarness(shards: shards)
        let members = members(5, of: filter, .atMostOnce, broker)
        let publisher = broker.connect("publisher")
        for payload in 0..<20 { publisher.publish("t/1", "\(payload)") }
        let payloads = members.map { $0.takePayloads() }
        #expect(payloads.allSatisfy { $0.count == 4 })
        #expect(payloads.flatMap(\.self).sorted() == (0..<20).map { "\($0)" }.sorted())
    }

    @Test func `goes past members that are not connected, while one is`() {
        let broker = ShardHarness(shards: 2)
        let members = members(4, of: "$share/g/t", .atLeastOnce, broker)
        let publisher = broker.connect("publisher")
        for member in [0, 2] { members[member].drop() }
        for payload in 0..<10 { publisher.publish("t", "\(payload)", .atLeastOnce) }
        #expect(members[1].takePayloads().count == 5)
        #expect(members[3].takePayloads().count == 5)
        for member in [0, 2] {
            #expect(broker.connect("member \(member)", cleanSession: false).takePayloads().isEmpty)
        }
    }

    @Test func `queues for one of its members when none is connected`() {
        let broker = ShardHarness()
        for member in members(3, of: "$share/g/t", .atLeastOnce, broker) { member.drop() }
        let publisher = broker.connect("publisher")
        for payload in 0..<9 { publisher.publish("t", "\(payload)", .atLeastOnce) }
        let payloads = (0..<3).map { broker.connect("member \($0)", cleanSession: false).takePayloads() }
        #expect(payloads.map(\.count) == [3, 3, 3])
        #expect(payloads.flatMap(\.self).sorted() == (0..<9).map { "\($0)" })
    }

    @Test func `of one group has nothing to do with another, nor with ordinary ones`() {
        let broker = ShardHarness(shards: 2)
        let both = broker.connect("both")
        both.subscribe(("$share/g/t", .atLeastOnce), ("$share/h/t", .atMostOnce), ("t", .exactlyOnce))
        let other = broker.connect("other")
        other.subscribe(("$share/g/+", .atLeastOnce))
        _ = (both.take(), other.take())
        broker.connect("publisher").publish("t", "1", .exactlyOnce)
        #expect(both.takeDeliveries().map(\.qos).sorted() == [.atMostOnce, .atLeastOnce, .exactlyOnce])
        #expect(other.takePayloads() == ["1"], "the same name with another filter is another group")
    }

    @Test func `brings nothing that is retained`() {
        let broker = ShardHarness()
        broker.connect("publisher").publish("t", "1", isRetained: true)
        let member = broker.connect("member")
        _ = member.take()
        member.subscribe(("$share/g/#", .exactlyOnce), identifier: 1)
        #expect(member.take() == [.granted(.exactlyOnce, identifier: 1)])
    }

    @Test func `has the QoS of the member that is chosen`() {
        let broker = ShardHarness()
        for (index, qos) in QoS.allCases.enumerated() {
            broker.connect("member \(index)", cleanSession: false).subscribe(("$share/g/t", qos))
        }
        var seen: [QoS] = []
        broker.observe = { _, packet in if case .publish(_, let qos, _, _, _) = packet { seen.append(qos) } }
        let publisher = broker.connect("publisher")
        for _ in 0..<6 { publisher.publish("t", "1", .exactlyOnce) }
        #expect(seen.sorted() == [.atMostOnce, .atMostOnce, .atLeastOnce, .atLeastOnce, .exactlyOnce, .exactlyOnce])
    }

    @Test(arguments: 0..<4)
    func `goes on in turns when a member leaves, in whatever way`(_ way: Int) {
        let broker = ShardHarness()
        let members = members(4, of: "$share/g/t", .atMostOnce, broker)
        let publisher = broker.connect("publisher")
        for leaving in 0..<3 {
            for payload in 0..<(leaving + 1) { publisher.publish("t", "\(payload)") }
            for member in members { _ = member.take() }
            switch way {
            case 0: members[leaving].unsubscribe("$share/g/t")
            case 1: members[3 - leaving].unsubscribe("$share/g/t")
            case 2: _ = broker.connect("member \(leaving)", cleanSession: true)
            default: members[leaving].disconnect()
            }
            for member in members { _ = member.take() }
            let left = 3 - leaving
            for payload in 0..<(left * 4) { publisher.publish("t", "\(payload)") }
            #expect(members.map { $0.takePayloads().count }.filter { $0 > 0 } == Array(repeating: 4, count: left))
        }
    }

    @Test func `takes new members in, and ends with the last`() {
        let broker = ShardHarness()
        let publisher = broker.connect("publisher")
        let first = broker.connect("first")
        first.subscribe(("$share/g/t", .atMostOnce), ("$share/g/t", .atMostOnce))
        #expect(broker.figures.sharedSubscriptionCount == 1)
        publisher.publish("t", "1")
        let second = broker.connect("second")
        second.subscribe(("$share/g/t", .atMostOnce))
        _ = (first.take(), second.take())
        for payload in 2...5 { publisher.publish("t", "\(payload)") }
        #expect(first.takePayloads().count == 2)
        #expect(second.takePayloads().count == 2)
        first.unsubscribe("$share/g/t")
        second.unsubscribe("$share/g/t")
        #expect(broker.figures.sharedSubscriptionCount == 0)
        _ = (first.take(), second.take())
        publisher.publish("t", "6")
        #expect(first.packets.isEmpty && second.packets.isEmpty)
    }

    @Test func `leaves what is in flight with its session (PRODUCT 6)`() {
        let broker = ShardHarness()
        let members = members(2, of: "$share/g/t", .atLeastOnce, broker)
        broker.connect("publisher").publish("t", "1", .atLeastOnce)
        let holder = members[0].packets.isEmpty ? 1 : 0
        members[holder].unsubscribe("$share/g/t")
        members[holder].drop()
        #expect(members[1 - holder].takeDeliveries().isEmpty)
        let back = broker.connect("member \(holder)", cleanSession: false)
        #expect(back.takeDeliveries().map(\.isDuplicate) == [true])
    }

    @Test func `needs the whole word, $shared is the beginning of an ordinary topic`() {
        let broker = ShardHarness()
        let subscriber = broker.connect("a")
        subscriber.subscribe(("$shared/g/t", .atMostOnce))
        #expect(broker.figures.sharedSubscriptionCount == 0)
        _ = subscriber.take()
        broker.publish("$shared/g/t", "1")
        #expect(subscriber.takePayloads() == ["1"])
    }

    @Test(arguments: [
        "$share", "$share/", "$share/g", "$share/g/", "$share//t", "$share/+/t", "$share/#", "$share/g#/t",
    ])
    func `without a group or a filter closes the connection [MQTT-4.7.1-2]`(_ filter: String) {
        let subscriber = ShardHarness().connect("a")
        subscriber.subscribe((filter, .atMostOnce))
        #expect(subscriber.closeReason == .malformed(.invalidTopicFilter))
    }
}
