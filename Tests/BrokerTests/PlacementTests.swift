import MQTT
import Testing

@testable import Broker

@Suite struct `Placing sessions` {
    private static func client(_ number: Int) -> ClientIdentifier { ClientIdentifier(Array("client \(number)".utf8)) }

    /// How many were sent to each shard.
    private static func send(_ clients: Range<Int>, _ directory: inout Directory, to shards: Int) -> [Int] {
        var counts = Array(repeating: 0, count: shards)
        for number in clients { counts[directory.shard(for: client(number), askedFrom: 0)] += 1 }
        return counts
    }

    @Test func `spreads those who come at once, before the first of them has arrived`() {
        var directory = Directory(shards: 4, seed: 1)
        #expect(Self.send(0..<100, &directory, to: 4) == [25, 25, 25, 25])
    }

    @Test func `goes by the sessions that there are, however many never came`() {
        var directory = Directory(shards: 2, seed: 1)
        _ = Self.send(1000..<4000, &directory, to: 2)
        var sessions: [[SessionReference]] = [[], []]
        for number in 0..<600 {
            let shard = directory.shard(for: Self.client(number), askedFrom: 0)
            sessions[shard].append(directory.session(of: "client \(number)", on: shard))
        }
        #expect(sessions.map(\.count) == [300, 300])
        for session in sessions[1] { directory.remove(session) }
        let sent = Self.send(5000..<5600, &directory, to: 2)
        #expect(sent[1] > 550, "\(sent)")
    }
}
