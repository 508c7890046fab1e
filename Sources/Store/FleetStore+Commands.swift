internal import GRDB

// Commands that wait for devices which are away.

extension FleetStore {
    /// The oldest first.
    package func commands() throws -> [QueuedCommandRecord] {
        try pool.read { database in
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    SELECT c.id, d.device_id, c.payload, c.actor, c.created, c.expires
                    FROM command c JOIN device d ON d.id = c.device ORDER BY c.id
                    """)
            return try Array(
                rows.map { row in
                    QueuedCommandRecord(
                        id: row[0], deviceId: row[1], payload: row[2], actor: row[3], created: row[4], expires: row[5])
                })
        }
    }

    /// Somebody gives a command. `command`: nil where it does not wait.
    package func add(_ command: QueuedCommandRecord?, _ activity: Activity) throws {
        try writeQuietly { database in
            if let command {
                try database.execute(
                    sql: """
                        INSERT INTO command (id, device, payload, actor, created, expires)
                        SELECT ?, id, ?, ?, ?, ? FROM device WHERE device_id = ?
                        """,
                    arguments: [
                        command.id, command.payload, command.actor, command.created, command.expires, command.deviceId,
                    ])
            }
            try append(activity, to: database)
        }
    }

    /// It has been delivered, or its time is over.
    package func removeCommand(_ id: String, _ activity: Activity) throws {
        try writeQuietly { database in
            try database.execute(sql: "DELETE FROM command WHERE id = ?", arguments: [id])
            try append(activity, to: database)
        }
    }
}
