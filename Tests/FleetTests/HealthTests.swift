import Fleet
import JSON
import Testing

@Suite struct `The history of health` {
    private func json(_ text: String) -> JSONValue { JSONValue(parsing: Array(text.utf8)) ?? .null }

    private func at(_ seconds: Int64) -> Moment {
        Moment(monotonic: seconds * 1000, wall: 1_790_000_040_000 + seconds * 1000)
    }

    @Test func `has least, mean and most of numbers, the last of texts, and objects taken apart`() {
        var point = HealthPoint(time: 0)
        point.add(json(#"{"heap":10,"fw":"a","ok":true,"wifi":{"rssi":-60,"ip":{"v":4}},"list":[1],"none":null}"#))
        point.add(json(#"{"heap":20,"fw":"b"}"#))
        #expect(point.count == 2)
        #expect(point.values["heap"] == .numbers(least: 10, sum: 30, most: 20, count: 2))
        #expect(point.values["fw"] == .text("b") && point.values["ok"] == .text(true))
        #expect(point.values["wifi.rssi"] == .numbers(least: -60, sum: -60, most: -60, count: 1))
        #expect(point.values["wifi.ip.v"] != nil && point.values["list"] == nil && point.values["none"] == nil)
        var many = HealthPoint(time: 0)
        many.add(.object(Dictionary(uniqueKeysWithValues: (100..<200).map { ("n\($0)", .integer(1)) })))
        #expect(many.values.count == HealthPoint.Limits.names && many.values["n100"] != nil)
    }

    @Test func `is the same again from the disk, and coarser where that is wanted`() {
        var points: [HealthPoint] = []
        for minute in 0..<120 as Range<Int64> {
            var point = HealthPoint(time: 3_600_000 * 10 + minute * 60_000)
            point.add(.object(["heap": .integer(minute), "fw": "1"]))
            point.add(.object(["heap": .integer(minute + 1)]))
            points.append(point)
        }
        let row = HealthRow(deviceId: "A", start: points[0].time, step: HealthRow.fineStep, points: points)
        #expect(row.points == points)
        let hours = HealthPoint.condensed(row.points.reversed(), to: HealthRow.coarseStep)
        #expect(hours.map(\.time) == [3_600_000 * 10, 3_600_000 * 11] && hours.map(\.count) == [120, 120])
        let sum = (0..<60).reduce(0.0) { $0 + Double(2 * $1 + 1) }
        #expect(hours[0].values["heap"] == .numbers(least: 0, sum: sum, most: 60, count: 120))
        #expect(HealthRow(deviceId: "A", start: 0, step: 1, text: "nonsense").points.isEmpty)
        #expect(HealthRow(deviceId: "A", start: 0, step: 1, text: #"[{"t":1},{"t":2,"n":1,"v":{}}]"#).points.count == 1)
    }

    @Test func `goes to the disk a quarter of an hour after it began, each device by itself`() {
        var history = HealthHistory()
        for second in stride(from: Int64(0), to: 600, by: 10) {
            #expect(history.add("A", json(#"{"heap":1}"#), at: at(second)).isEmpty)
            if second >= 300 { #expect(history.add("B", json("{}"), at: at(second)).isEmpty) }
        }
        #expect(history.points(of: "A").map(\.count).reduce(0, +) == 60 && history.points(of: "A").count == 10)
        #expect(history.takeDue(at: at(899)).isEmpty)
        #expect(history.takeDue(at: at(900)).map(\.deviceId) == ["A"])
        #expect(history.takeDue(at: at(1_199)).isEmpty && history.points(of: "A").isEmpty)
        #expect(history.takeDue(at: at(1_200)).map(\.deviceId) == ["B"])
        _ = history.add("A", json("{}"), at: at(2_000))
        // The clock is set back, and forward: what was before is a row of its own.
        #expect(history.add("A", json("{}"), at: Moment(monotonic: 2_001_000, wall: at(0).wall)).count == 1)
        #expect(history.add("A", json("{}"), at: Moment(monotonic: 2_002_000, wall: at(9_000).wall)).count == 1)
        _ = history.add("C", json("{}"), at: at(2_003))
        history.remove("C")
        #expect(history.takeAll().map(\.deviceId) == ["A"] && history.takeAll().isEmpty)
    }
}

@Suite struct `What shards tell of devices` {
    @Test func `stays in order, and messages are dropped before presence is`() {
        let feed = FleetFeed { Moment(monotonic: 1, wall: 2) }
        let payload = [UInt8](repeating: 0, count: 1 << 20)
        for _ in 0..<20 { feed.append(.message("A", .health, payload: payload)) }
        let link = Link(shard: 0, number: 1)
        feed.append(.connected("A", link, address: nil, host: nil))
        feed.append(.ended("A", link, .disconnected))
        let taken = feed.take()
        #expect(feed.dropped == 4 && taken.count == 18)
        #expect(
            taken[16].event == .connected("A", link, address: nil, host: nil)
                && taken[17].event == .ended("A", link, .disconnected))
        #expect(taken[0].moment == Moment(monotonic: 1, wall: 2) && feed.take().isEmpty)
        feed.append(.message("A", .health, payload: payload))
        #expect(feed.take().count == 1, "there is room again")
    }
}
