package import Fleet
internal import GRDB
internal import JSON

// What devices do: kept in memory by who decides, and here for the next process.

extension FleetStore {
    /// By deviceId, of all devices that are not blocked or that are: each has one.
    package func deviceStates() throws -> [(deviceId: String, isBlocked: Bool, state: DeviceState)] {
        try pool.read { database in
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    SELECT d.device_id, d.blocked, s.online, s.last_seen, s.since, s.reason, s.sessions, s.led, s.status,
                        s.firmware, s.health, s.health_time, s.unreadable
                    FROM device d LEFT JOIN device_state s ON s.device = d.id
                    """)
            return try Array(
                rows.map { row in
                    var state = DeviceState()
                    state.isOnline = row[2] as Bool? ?? false
                    state.lastSeen = row[3]
                    state.since = row[4]
                    state.offlineReason = (row[5] as String?).flatMap(OfflineReason.init)
                    state.sessions = row[6] as Int? ?? 0
                    state.ledState = row[7]
                    state.status = Self.json(row[8])
                    state.firmwareVersion = row[9]
                    state.health = Self.json(row[10])
                    state.healthTime = row[11]
                    state.unreadable = row[12] as Int? ?? 0
                    return (row[0] as String, row[1] as Bool, state)
                })
        }
    }

    private static func json(_ text: String?) -> JSONValue? { text.flatMap { JSONValue(parsing: Array($0.utf8)) } }

    /// What has changed since the last time, in one transaction. Of devices that are no more nothing is kept. `isCounted`: an
    /// entry of the log that shall take the place of the one like it. Readers of accounts need not look again.
    package func save(
        _ states: [(deviceId: String, state: DeviceState)], _ health: [HealthRow],
        _ deployments: [Deployment], _ activities: [(activity: Activity, isCounted: Bool)]
    ) throws {
        try writeQuietly { database in
            for deployment in deployments { try save(deployment, in: database) }
            let insertState = try database.cachedStatement(
                sql: """
                    INSERT OR REPLACE INTO device_state (device, online, last_seen, since, reason, sessions, led, status,
                        firmware, health, health_time, unreadable)
                    SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM device WHERE device_id = ?
                    """)
            for (deviceId, state) in states {
                try insertState.execute(arguments: [
                    state.isOnline, state.lastSeen, state.since, state.offlineReason?.rawValue, state.sessions,
                    state.ledState, state.status?.text, state.firmwareVersion, state.health?.text, state.healthTime,
                    state.unreadable, deviceId,
                ])
            }
            let insertHealth = try database.cachedStatement(
                sql: """
                    INSERT OR REPLACE INTO health (device, start, step, points)
                    SELECT id, ?, ?, ? FROM device WHERE device_id = ?
                    """)
            for row in health {
                try insertHealth.execute(arguments: [row.start, row.step, row.text, row.deviceId])
            }
            for (activity, isCounted) in activities {
                if isCounted { try appendCounted(activity, to: database) } else { try append(activity, to: database) }
            }
        }
    }

    /// What a device has reported, in the order of time: rows that overlap `from..<to`, milliseconds since 1970.
    package func health(of deviceId: String, from: Int64, to: Int64) throws -> [HealthRow] {
        try pool.read { database in
            let rows = try Row.fetchCursor(
                database.cachedStatement(
                    sql: """
                        SELECT start, step, points FROM health
                        WHERE device = (SELECT id FROM device WHERE device_id = ?) AND start >= ? AND start < ?
                        ORDER BY start
                        """),
                arguments: [deviceId, from - HealthRow.longest, to])
            return try Array(
                rows.map { row in
                    HealthRow(deviceId: deviceId, start: row[0], step: row[1], text: row[2])
                }
            ).filter { $0.end > from }
        }
    }

    /// Rows of fine points that began before then, of some devices at a time: those of one device together.
    package func fineHealth(before time: Int64, devices: Int) throws -> [HealthRow] {
        try pool.read { database in
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    SELECT d.device_id, h.start, h.step, h.points FROM health h JOIN device d ON d.id = h.device
                    WHERE h.step < ?1 AND h.start < ?2 AND h.device IN (
                        SELECT DISTINCT device FROM health WHERE step < ?1 AND start < ?2 LIMIT ?3)
                    ORDER BY h.device, h.start
                    """,
                arguments: [HealthRow.coarseStep, time, devices])
            return try Array(
                rows.map { row in
                    HealthRow(deviceId: row[0], start: row[1], step: row[2], text: row[3])
                })
        }
    }

    /// Puts `rows` where `old` were.
    package func replaceHealth(_ old: [HealthRow], with rows: [HealthRow]) throws {
        try writeQuietly { database in
            let delete = try database.cachedStatement(
                sql: """
                    DELETE FROM health WHERE device = (SELECT id FROM device WHERE device_id = ?) AND start = ?
                    """)
            for row in old { try delete.execute(arguments: [row.deviceId, row.start]) }
            let insert = try database.cachedStatement(
                sql: """
                    INSERT OR REPLACE INTO health (device, start, step, points)
                    SELECT id, ?, ?, ? FROM device WHERE device_id = ?
                    """)
            for row in rows { try insert.execute(arguments: [row.start, row.step, row.text, row.deviceId]) }
        }
    }

    /// Deletes what is older, so much at once. Returns how many rows that were.
    package func deleteHealth(before time: Int64, atMost limit: Int) throws -> Int {
        try writeQuietly { database in
            try database.execute(
                sql: """
                    DELETE FROM health WHERE (device, start) IN (
                        SELECT device, start FROM health WHERE start < ? LIMIT ?)
                    """,
                arguments: [time - HealthRow.longest, limit])
            return database.changesCount
        }
    }

    /// Deletes entries of the activity log that are older, so many at once. Returns how many there were.
    package func deleteActivity(before time: Int64, atMost limit: Int) throws -> Int {
        try writeQuietly { database in
            // Entries are in the order of time, but for a clock that was set back.
            try database.execute(
                sql: """
                    DELETE FROM activity WHERE id IN (SELECT id FROM activity ORDER BY id LIMIT ?) AND time < ?
                    """,
                arguments: [limit, time])
            return database.changesCount
        }
    }

    /// Lets SQLite look at what its plans rest on.
    package func optimize() throws { try writeQuietly { try $0.execute(sql: "PRAGMA optimize") } }
}
