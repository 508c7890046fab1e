internal import DequeModule
package import JSON

/// What devices have reported and nobody has written yet: a point a minute each, in rows that go to the disk a quarter of an
/// hour after they began. Each device has its own time for that, which spreads the writing.
package struct HealthHistory: Sendable {
    private struct Row: Sendable {
        let start: Int64
        var points: [HealthPoint]
    }

    private var rows: [String: Row] = [:]
    /// When rows are due, by the clock that never jumps; a row that is gone is skipped.
    private var due = Deque<(time: Int64, device: String, start: Int64)>()

    package init() {}

    package mutating func add(_ device: String, _ report: JSONValue, at now: Moment) -> [HealthRow] {
        let time = now.wall - now.wall % HealthRow.fineStep
        var finished: [HealthRow] = []
        // The clock was set: what has been is a row of its own.
        if let row = rows[device], time < row.points.last?.time ?? 0 || time >= row.start + HealthRow.fineSpan {
            finished.append(HealthRow(deviceId: device, start: row.start, step: HealthRow.fineStep, points: row.points))
            rows[device] = nil
        }
        if rows[device] == nil {
            rows[device] = Row(start: time, points: [])
            due.append((now.monotonic + HealthRow.fineSpan, device, time))
        }
        if rows[device]?.points.last?.time != time { rows[device]?.points.append(HealthPoint(time: time)) }
        let last = (rows[device]?.points.count ?? 1) - 1
        rows[device]?.points[last].add(report)
        return finished
    }

    /// What nobody has written yet of a device.
    package func points(of device: String) -> [HealthPoint] { rows[device]?.points ?? [] }

    package mutating func remove(_ device: String) { rows[device] = nil }

    /// Those whose time has come.
    package mutating func takeDue(at now: Moment) -> [HealthRow] {
        var taken: [HealthRow] = []
        while let next = due.first, next.time <= now.monotonic {
            due.removeFirst()
            guard let row = rows[next.device], row.start == next.start else { continue }
            rows[next.device] = nil
            taken.append(
                HealthRow(deviceId: next.device, start: row.start, step: HealthRow.fineStep, points: row.points))
        }
        return taken
    }

    /// All of them.
    package mutating func takeAll() -> [HealthRow] {
        defer { (rows, due) = ([:], []) }
        return rows.sorted { $0.key < $1.key }.map {
            HealthRow(deviceId: $0.key, start: $0.value.start, step: HealthRow.fineStep, points: $0.value.points)
        }
    }
}
