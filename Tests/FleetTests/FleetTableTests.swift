import Fleet
import JSON
import Seeded
import Testing

/// A time by both clocks, which go alike from a start in 2026.
private func at(_ milliseconds: Int64, clockIsOff off: Int64 = 0) -> Moment {
    Moment(monotonic: 1_000_000 + milliseconds, wall: 1_790_000_000_000 + milliseconds + off)
}

private func link(_ number: UInt64, shard: Int = 0) -> Link { Link(shard: shard, number: number) }

@Suite struct `Presence` {
    private var table: FleetTable

    init() {
        table = FleetTable(offlineAfter: 60_000)
        table.add("A", isBlocked: false, at: at(0))
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test mutating func `is unknown at first, and there with a connection until that ends`() {
        #expect(table.state(of: "A")?.lastSeen == nil && table.state(of: "B") == nil)
        #expect(table.connected("A", link(1), at: at(10)) == .cameOnline("A"))
        #expect(table.connected("B", link(2), at: at(10)) == nil)
        #expect(table.advance(to: at(10_000_000)).isEmpty, "a connection has a time limit of its own")
        for (number, reason) in OfflineReason.allCases.enumerated() {
            let time = Int64(number) * 10_000_000
            _ = table.connected("A", link(1), at: at(time))
            #expect(table.ended("A", link(1), reason, at: at(time + 5)) == .wentOffline("A", reason))
            #expect(table.state(of: "A")?.offlineReason == reason)
            #expect(table.state(of: "A")?.offlineAt == at(time + 5).wall)
        }
        #expect(table.onlineCount == 0)
    }

    @Test mutating func `lasts as long as one of its connections, whichever ends first`() {
        for first in 1...2 as ClosedRange<UInt64> {
            _ = table.connected("A", link(1), at: at(0))
            #expect(table.connected("A", link(2, shard: 1), at: at(0)) == nil || first == 2)
            let links = [link(1), link(2, shard: 1)]
            #expect(table.ended("A", links[Int(first) - 1], .connectionLost, at: at(1)) == nil)
            #expect(table.ended("A", links[Int(first) - 1], .connectionLost, at: at(1)) == nil, "it has ended")
            #expect(
                table.ended("A", links[2 - Int(first)], .disconnected, at: at(2)) == .wentOffline("A", .disconnected))
        }
    }

    @Test mutating func `goes on where one connection takes over from another`() {
        _ = table.connected("A", link(1), at: at(0))
        #expect(table.ended("A", link(1), nil, at: at(5)) == nil)
        #expect(table.connected("A", link(2), at: at(5)) == nil)
        #expect(table.advance(to: at(100_000)).isEmpty && table.state(of: "A")?.isOnline == true)
        // Should the other never come, it is missed like any that only messages tell of.
        #expect(table.ended("A", link(2), nil, at: at(200_000)) == nil)
        #expect(table.advance(to: at(300_000)) == [.wentOffline("A", .silent)])
    }

    @Test mutating func `comes with messages alone, and goes when they stay away`() {
        #expect(table.tookOther("A", at: at(0)) == [.cameOnline("A")])
        for time in stride(from: Int64(30_000), to: 300_000, by: 30_000) {
            #expect(table.advance(to: at(time)).isEmpty)
            _ = table.tookOther("A", at: at(time))
        }
        #expect(table.advance(to: at(329_999)).isEmpty)
        // However the clock on the wall jumps meanwhile.
        #expect(table.advance(to: at(330_000, clockIsOff: -86_400_000)) == [.wentOffline("A", .silent)])
        #expect(table.tookOther("A", at: at(330_001, clockIsOff: 86_400_000)) == [.cameOnline("A")])
        #expect(table.advance(to: at(330_002, clockIsOff: 3_000_000)).isEmpty)
    }

    @Test mutating func `is taken over from the process before, for as long as others are waited for`() {
        var known = DeviceState()
        (known.isOnline, known.lastSeen, known.ledState) = (true, 5, true)
        for device in ["back", "heard", "gone"] { table.add(device, known, isBlocked: false, at: at(0)) }
        #expect(table.onlineCount == 3)
        #expect(table.connected("back", link(1), at: at(1_000)) == nil)
        _ = table.tookOther("heard", at: at(1_000))
        #expect(table.advance(to: at(60_000)) == [.wentOffline("gone", .serverRestarted)])
        #expect(table.advance(to: at(61_000)) == [.wentOffline("heard", .silent)])
        #expect(table.state(of: "back")?.isOnline == true && table.state(of: "gone")?.ledState == true)
    }

    @Test mutating func `flaps when it changes all the time, until it is calm`() {
        for number in 0..<(FleetTable.Limits.flaps / 2) {
            let time = Int64(number) * 1_000
            #expect(table.state(of: "A")?.isFlapping == false)
            _ = table.connected("A", link(1), at: at(time))
            _ = table.ended("A", link(1), .connectionLost, at: at(time + 500))
        }
        #expect(table.state(of: "A")?.isFlapping == true && table.flappingCount == 1)
        #expect(table.calm(at: at(FleetTable.Limits.flappingWindow)).isEmpty)
        #expect(table.calm(at: at(FleetTable.Limits.flappingWindow + 5_000)) == [.reported("A")])
        #expect(table.flappingCount == 0)
    }

    @Test mutating func `ends for who is blocked, and what they say counts for nothing`() {
        _ = table.tookOther("A", at: at(0))
        table.setBlocked(true, "A")
        #expect(table.advance(to: at(1)) == [.wentOffline("A", .notAuthorized)])
        #expect(table.tookHealth("A", bytes("{}"), at: at(2)).isEmpty && table.ignoredReports == 1)
        #expect(table.count == 1)
        table.setBlocked(false, "A")
        _ = table.connected("A", link(1), at: at(3))
        table.setBlocked(true, "A")
        #expect(table.advance(to: at(4)).isEmpty, "its connection is ended by others, who say why")
        #expect(table.ended("A", link(1), .notAuthorized, at: at(5)) == .wentOffline("A", .notAuthorized))
        table.remove("A")
        #expect(table.count == 0 && table.onlineCount == 0)
        #expect(table.tookOther("A", at: at(6)).isEmpty)
    }

    @Test mutating func `and reports are kept as they came, and unreadable ones counted`() {
        #expect(table.tookHealth("A", bytes(#"{"fw":"1.0","l":[1]}"#), at: at(0)) == [.cameOnline("A")])
        #expect(table.tookHealth("A", bytes(#"{"fw":"1.1"}"#), at: at(1)) == [.reported("A")])
        #expect(table.state(of: "A")?.firmwareVersion == "1.1")
        for status in ["ON", #"{"led":true}"#, #"{"state":"ON"}"#] {
            _ = table.tookStatus("A", bytes("OFF"), at: at(2))
            #expect(table.state(of: "A")?.ledState == false)
            _ = table.tookStatus("A", bytes(status), at: at(3))
            #expect(table.state(of: "A")?.ledState == true, "\(status)")
        }
        for garbage in ["", "on", "{", "ONE", "\u{0}"] { _ = table.tookStatus("A", bytes(garbage), at: at(4)) }
        let long = Array(repeating: UInt8(ascii: " "), count: FleetTable.Limits.reportBytes) + bytes("{}")
        _ = table.tookHealth("A", long, at: at(5))
        #expect(table.state(of: "A")?.unreadable == 6 && table.unreadableReports == 6)
        #expect(table.state(of: "A")?.health?["fw"]?.string == "1.1" && table.state(of: "A")?.lastSeen == at(5).wall)
    }

    /// Beside a model that keeps all that was and looks through it each time.
    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `of many is what happened to them`(_ seed: UInt64) {
        struct Known {
            var links: Set<Link> = []
            var heard: Int64?
            var isOnline = false
        }
        var random = SeededGenerator(seed: seed)
        var table = FleetTable(offlineAfter: 60_000)
        let names = (0..<200).map { "D\($0)" }
        var model: [String: Known] = [:]
        for name in names {
            table.add(name, isBlocked: false, at: at(0))
            model[name] = Known()
        }
        var now: Int64 = 0
        for _ in 0..<20_000 {
            let name = names[random.below(names.count)]
            let connection = link(UInt64(random.below(3)), shard: random.below(2))
            switch random.below(5) {
            case 0:
                _ = table.connected(name, connection, at: at(now))
                model[name]?.links.insert(connection)
                model[name]?.heard = now
                model[name]?.isOnline = true
            case 1:
                _ = table.ended(name, connection, .connectionLost, at: at(now))
                if model[name]?.links.remove(connection) != nil, model[name]?.links.isEmpty == true {
                    model[name]?.isOnline = false
                }
            case 2:
                _ = table.tookHealth(name, Array(#"{"a":1}"#.utf8), at: at(now))
                model[name]?.heard = now
                model[name]?.isOnline = true
            default:
                now += Int64(random.below(2_000))
                _ = table.advance(to: at(now))
                for name in names where model[name]?.links.isEmpty == true {
                    if let heard = model[name]?.heard, heard + 60_000 <= now { model[name]?.isOnline = false }
                }
            }
        }
        for name in names { #expect(table.state(of: name)?.isOnline == model[name]?.isOnline, "seed \(seed), \(name)") }
        #expect(table.onlineCount == model.values.count { $0.isOnline })
    }

    @Test(arguments: 1...2 as ClosedRange<UInt64>)
    func `is not harmed by garbage`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var random = SeededGenerator(seed: seed)
            var table = FleetTable(offlineAfter: 60_000)
            table.add("A", isBlocked: false, at: Moment(monotonic: 0, wall: 0))
            var history = HealthHistory()
            let corpus = [
                #"{"heap":1,"wifi":{"rssi":-60}}"#, "ON", #"{"state":"OFF"}"#, "[1,2]", #"{"fw":"1"}"#, "1e999", "null",
            ].map { Array($0.utf8) }
            for round in 0..<20_000 {
                var payload = corpus[random.below(corpus.count)]
                for _ in 0..<random.below(4) where !payload.isEmpty {
                    payload[random.below(payload.count)] = UInt8(random.below(256))
                }
                let moment = Moment(monotonic: Int64(round), wall: Int64(random.below(1 << 40)))
                _ = table.tookHealth("A", payload, at: moment)
                _ = table.tookStatus("A", payload, at: moment)
                guard let report = JSONValue(parsing: payload) else { continue }
                for row in history.add("A", report, at: moment) {
                    let again = HealthRow(deviceId: "A", start: row.start, step: row.step, text: row.text)
                    guard again.points.count > 0 else {
                        Issue.record("seed \(seed), round \(round): nothing is left")
                        return
                    }
                }
            }
            #expect(table.state(of: "A")?.isOnline == true && table.unreadableReports > 100)
        }
    }
}
