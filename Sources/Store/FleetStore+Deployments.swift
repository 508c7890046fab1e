package import Fleet
internal import GRDB

extension FleetStore {
    /// The latest of each device that has had any.
    package func latestDeployments() throws -> [Deployment] {
        try pool.read { database in
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    \(Self.deploymentColumns)
                    WHERE p.id IN (SELECT max(id) FROM deployment GROUP BY device) ORDER BY p.id
                    """)
            return try Array(rows.map(deployment))
        }
    }

    /// Of one device, the latest first; `page` from 1.
    package func deployments(of deviceId: String, page: Int, limit: Int) throws -> Page<Deployment> {
        try pool.read { database in
            let total = try Int.fetchOne(
                database,
                sql: "SELECT count(*) FROM deployment WHERE device = (SELECT id FROM device WHERE device_id = ?)",
                arguments: [deviceId])
            let rows = try Row.fetchCursor(
                database,
                sql: "\(Self.deploymentColumns) WHERE d.device_id = ? ORDER BY p.id DESC LIMIT ? OFFSET ?",
                arguments: [deviceId, limit, (page - 1) * limit])
            return Page(elements: try Array(rows.map(deployment)), total: total ?? 0)
        }
    }

    /// Deletes those that ended before then, so many at once, but for the latest of each device. Returns how many there were.
    package func deleteDeployments(before time: Int64, atMost limit: Int) throws -> Int {
        try writeQuietly { database in
            try database.execute(
                sql: """
                    DELETE FROM deployment WHERE id IN (
                        SELECT id FROM deployment p WHERE ended < ? AND EXISTS (
                            SELECT 1 FROM deployment q WHERE q.device = p.device AND q.id > p.id) LIMIT ?)
                    """,
                arguments: [time, limit])
            return database.changesCount
        }
    }

    func save(_ deployment: Deployment, in database: Database) throws {
        try database.cachedStatement(
            sql: """
                INSERT OR REPLACE INTO deployment (id, device, model, version, previous, actor, created, state, since, due,
                    progress, reason, attempts, offered, reported_done, on_its_word, started, ended)
                SELECT ?, id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM device WHERE device_id = ?
                """
        ).execute(arguments: [
            deployment.id, deployment.model, deployment.version, deployment.previousVersion, deployment.actor,
            deployment.created, deployment.state.rawValue, deployment.since, deployment.due, deployment.progress,
            deployment.reason, deployment.attempts, deployment.isOffered, deployment.isReportedDone,
            deployment.isOnItsWord, deployment.started, deployment.ended, deployment.device,
        ])
    }

    private static let deploymentColumns = """
        SELECT p.id, d.device_id, p.model, p.version, p.previous, p.actor, p.created, p.state, p.since, p.due, p.progress,
            p.reason, p.attempts, p.offered, p.reported_done, p.on_its_word, p.started, p.ended
        FROM deployment p JOIN device d ON d.id = p.device
        """

    private func deployment(_ row: Row) -> Deployment {
        var deployment = Deployment(
            id: row[0], device: row[1], model: row[2], version: row[3], previousVersion: row[4], actor: row[5],
            created: row[6])
        deployment.state = Deployment.State(rawValue: row[7]) ?? .failed
        deployment.since = row[8]
        deployment.due = row[9]
        deployment.progress = row[10]
        deployment.reason = row[11]
        deployment.attempts = row[12]
        deployment.isOffered = row[13]
        deployment.isReportedDone = row[14]
        deployment.isOnItsWord = row[15]
        deployment.started = row[16]
        deployment.ended = row[17]
        return deployment
    }
}
