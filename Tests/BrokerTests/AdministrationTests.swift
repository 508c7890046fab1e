import Access
import Locks
import MQTT
import Testing

@testable import Broker

@Suite struct `Whoever manages the broker` {
    @Test func `sees who is connected, page by page, and how much they want`() {
        let broker = ShardHarness(shards: 2)
        var clients: [TestConnection] = []
        for number in 0..<5 { clients.append(broker.connect("c\(number)", keepAlive: UInt16(number), home: 1)) }
        _ = broker.connect("elsewhere", home: 0)
        _ = broker.open(home: 1)  // Says nothing.
        clients[2].subscribe(("a", .atLeastOnce), ("b/#", .atMostOnce), ("$share/g/c", .atMostOnce))
        clients[2].subscribe(("a", .atMostOnce))
        clients[2].unsubscribe("b/#")
        broker.end(clients[1], .lost("gone"))

        let all = broker.clients(on: 1)
        #expect(all.total == 4)
        #expect(all.clients.map(\.client.description) == ["c0", "c2", "c3", "c4"])
        #expect(all.clients.map(\.keepAlive) == [0, 2, 3, 4])
        #expect(all.clients.map(\.subscriptions) == [0, 2, 0, 0])
        #expect(all.clients.allSatisfy { $0.connectedSince == broker.now && $0.version == .mqtt311 && $0.cleanSession })
        for skipped in 0...5 {
            for limit in 0...5 {
                let part = broker.clients(on: 1, skipping: skipped, atMost: limit)
                #expect(part.total == 4)
                #expect(
                    part.clients.map(\.number) == all.clients.map(\.number).dropFirst(skipped).prefix(limit).map { $0 })
            }
        }
        // As often as there are sessions.
        clients[2].unsubscribe("a")
        clients[2].unsubscribe("a")
        #expect(broker.clients(on: 1).clients.map(\.subscriptions) == [0, 1, 0, 0])
    }

    @Test func `ends a connection, whose session goes on and whose will is published`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("will", .atMostOnce))
        let will = WillMessage(
            message: ApplicationMessage(topic: "will", payload: Array("gone".utf8)), qos: .atMostOnce,
            isRetained: false)
        let client = broker.connect("c", cleanSession: false, will: will)
        client.subscribe(("t", .atLeastOnce))
        _ = watcher.take()
        #expect(broker.disconnect("c"))
        #expect(client.closeReason == .endedByAdministrator)
        #expect(watcher.takePayloads() == ["gone"])
        #expect(broker.clients().total == 1)
        #expect(!broker.disconnect("c"), "it is not connected")
        #expect(!broker.disconnect("nobody"))
        watcher.publish("t", "1", .atLeastOnce)
        let again = broker.connect("c", cleanSession: false)
        #expect(again.takePayloads() == ["1"])
    }

    @Test func `reads what is retained in slices, whatever comes and goes meanwhile`() {
        var directory = Directory(shards: 1, seed: 7)
        func retain(_ topic: String, _ payload: String) {
            var receivers: [Receiver] = []
            directory.retain(
                ApplicationMessage(topic: topic, payload: Array(payload.utf8)), qos: .atMostOnce, into: &receivers)
        }
        for number in 0..<100 { retain("a/\(number)", "x") }
        retain("$SYS/a", "x")
        func read(_ filter: String, each slice: () -> Void = {}) -> [String] {
            var cursor = directory.retainedCursor(Array(filter.utf8))
            var found: [RetainedMessage] = []
            while !cursor.isFinished {
                directory.readRetained(&cursor, steps: 7, limit: 7, into: &found)
                slice()
            }
            return found.map { String(decoding: $0.message.topic, as: UTF8.self) }
        }
        #expect(read("#") == (0..<100).map { "a/\($0)" })
        #expect(read("$SYS/#") == ["$SYS/a"])
        // One that is replaced is there all the same: somebody looks at what is, not at what was.
        var round = 0
        let seen = read("a/+") {
            round += 1
            retain("a/99", "new \(round)")
            if round == 1 { retain("a/98", "") }
            if round == 2 { retain("a/more", "x") }
        }
        #expect(seen == (0..<98).map { "a/\($0)" } + ["a/99", "a/more"])
        let isThere = ["a/99", "a/98", "a"].map { directory.hasRetained(Array($0.utf8).span) }
        #expect(isThere == [true, false, false], "a level on the way has none")
        for topic in (0..<100).map({ "a/\($0)" }) + ["a/more", "$SYS/a"] { retain(topic, "") }
        #expect(directory.retainedCount == 0)
    }

    @Test(arguments: [
        ("#", true), ("a/+/b", true), ("a", true), ("", false), ("a#", false), ("#/a", false), ("$share/g/a", false),
        ("a\0", false),
    ])
    func `asks by topic filters`(_ filter: String, _ isOne: Bool) {
        #expect(RetainedMessage.isFilter(Array(filter.utf8)) == isOne)
    }
}
