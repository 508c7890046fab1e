internal import Fleet
internal import JSON
internal import Store

extension Management {
    /// What a device has reported, of the disk and of what is on its way there; and the step of a point, milliseconds.
    func healthPoints(_ device: String, from: Int64, to: Int64) throws -> (points: [JSONValue], step: Int64) {
        let unsaved = fleet.withState { $0.history.points(of: device) }
        var points = try store.health(of: device, from: from, to: to).flatMap(\.points)
        points += unsaved
        points.removeAll { $0.time + HealthRow.fineStep <= from || $0.time >= to }
        points.sort { $0.time < $1.time }
        var step = HealthRow.fineStep
        // Whole hours and days once minutes are too many.
        for longer in [5, 15, 60, 180, 720, 1440].map({ $0 * HealthRow.fineStep })
        where points.count > Self.healthPointsAtOnce {
            points = HealthPoint.condensed(points, to: longer)
            step = longer
        }
        return (points.map(json), step)
    }

    /// Points that an answer has at most, unless that is more than a day each.
    private static var healthPointsAtOnce: Int { 1_000 }

    /// A point as a plot wants it: the mean of each number by its name, as in a report, and beside it how far they went.
    private func json(_ point: HealthPoint) -> JSONValue {
        var members: [String: JSONValue] = [:]
        var (least, most): ([String: JSONValue], [String: JSONValue]) = ([:], [:])
        for (name, value) in point.values {
            switch value {
            case .text(let text): members[name] = text
            case .numbers(let low, let sum, let high, let count):
                members[name] = .plain(sum / Double(count))
                guard low != high else { continue }
                (least[name], most[name]) = (.plain(low), .plain(high))
            }
        }
        members["time"] = timestamp(point.time)
        members["reports"] = .integer(Int64(point.count))
        members["min"] = .object(least)
        members["max"] = .object(most)
        return .object(members)
    }

    // MARK: - Upkeep

    /// Makes hours of minutes that are older than two days, some devices at a time. Returns whether there may be more.
    package func condenseHealth() throws -> Bool {
        let before = milliseconds() - HealthRow.fineAge
        let old = try store.fineHealth(before: before - before % HealthRow.coarseSpan, devices: 64)
        guard !old.isEmpty else { return false }
        var days: [String: [Int64: [HealthPoint]]] = [:]
        for row in old {
            // By where the row begins, so that a day is never made twice.
            let day = row.start - row.start % HealthRow.coarseSpan
            days[row.deviceId, default: [:]][day, default: []] += row.points
        }
        var rows: [HealthRow] = []
        for (device, points) in days.sorted(by: { $0.key < $1.key }) {
            for (day, points) in points.sorted(by: { $0.key < $1.key }) {
                rows.append(
                    HealthRow(
                        deviceId: device, start: day, step: HealthRow.coarseStep,
                        points: HealthPoint.condensed(points, to: HealthRow.coarseStep)))
            }
        }
        try store.replaceHealth(old, with: rows)
        return true
    }

    /// Deletes what is older than `health_retention` and `activity_retention`, so much at once. Returns whether there may be
    /// more.
    package func deleteOldRecords() throws -> Bool {
        let now = milliseconds()
        let settings = settings()
        let health = try store.deleteHealth(before: now - settings.healthRetention, atMost: 5_000)
        let activity = try store.deleteActivity(before: now - settings.activityRetention, atMost: 5_000)
        let deployments = try store.deleteDeployments(before: now - settings.activityRetention, atMost: 5_000)
        try dropOldURLKeys()
        return health == 5_000 || activity == 5_000 || deployments == 5_000
    }

    package func optimizeStore() throws { try store.optimize() }
}
