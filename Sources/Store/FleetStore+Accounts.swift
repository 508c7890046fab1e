package import Access
internal import FoundationEssentials
internal import GRDB
internal import JSON
internal import Locks

extension FleetStore {
    /// All who may sign in, at one moment.
    package func accounts() throws -> Accounts {
        try pool.read { database in
            var accounts = Accounts()
            let devices = try Row.fetchCursor(
                database,
                sql: """
                    SELECT d.device_id, d.blocked, c.digest FROM device d
                    LEFT JOIN credential c ON c.kind = 'device' AND c.subject = d.id
                    """)
            while let row = try devices.next() {
                var device = Accounts.Device(deviceId: row[0], secret: digest(row, 2))
                device.isBlocked = row[1]
                accounts.devices[device.deviceId] = device
            }
            var emails: [String: String] = [:]
            let people = try Row.fetchCursor(
                database, sql: "SELECT id, email, password_hash, role, blocked, must_change_password FROM user")
            while let row = try people.next() {
                var person = Accounts.Person(id: row[0], email: row[1], passwordHash: row[2])
                person.role = Accounts.Role(rawValue: row[3]) ?? .user
                person.isBlocked = row[4]
                person.mustChangePassword = row[5]
                emails[person.id] = person.email
                accounts.people[person.email] = person
            }
            let memberships = try Row.fetchCursor(
                database,
                sql: """
                    SELECT m.user, d.device_id FROM membership m JOIN device d ON d.id = m.device
                    ORDER BY d.device_id
                    """)
            while let row = try memberships.next() {
                guard let email = emails[row[0]] else { continue }
                accounts.people[email]?.devices.append(row[1])
            }
            let services = try Row.fetchCursor(
                database,
                sql: """
                    SELECT s.name, s.policy, s.blocked, c.digest FROM service s
                    JOIN credential c ON c.kind = 'service' AND c.subject = s.name
                    """)
            while let row = try services.next() {
                guard let secret = digest(row, 3) else { continue }
                var service = Accounts.Service(name: row[0], secret: secret)
                service.policy = row[1]
                service.isBlocked = row[2]
                accounts.services[service.name] = service
            }
            let tokens = try Row.fetchCursor(database, sql: "SELECT id, user, expires FROM token")
            while let row = try tokens.next() {
                accounts.tokens[row[0]] = Accounts.Token(id: row[0], person: row[1], expires: row[2])
            }
            let keys = try Row.fetchCursor(
                database, sql: "SELECT id, secret FROM signing_key WHERE purpose = 'jwt' ORDER BY created DESC, id")
            while let row = try keys.next() {
                let secret: Data = row[1]
                accounts.tokenKeys.append(TokenKey(id: row[0], secret: Array(secret)))
            }
            accounts.revokedCertificates = try String.fetchSet(
                database, sql: "SELECT serial FROM certificate WHERE revoked IS NOT NULL")
            return accounts
        }
    }

    private func digest(_ row: Row, _ column: Int) -> SecretDigest? {
        let bytes: Data? = row[column]
        return bytes.map { SecretDigest(bytes: Array($0)) }
    }

    // MARK: - The activity log

    func append(_ activity: Activity, to database: Database) throws {
        appended.withLock { $0.append(activity) }
        try database.execute(
            sql: "INSERT INTO activity (time, actor, address, device, kind, detail) VALUES (?, ?, ?, ?, ?, ?)",
            arguments: [
                activity.time, activity.actor, activity.address, activity.device, activity.kind.rawValue,
                activity.detail,
            ])
        try database.execute(
            sql: "DELETE FROM activity WHERE id <= ?",
            arguments: [database.lastInsertedRowID - Int64(Self.activityEntries)])
    }

    /// Where nothing of ours has changed.
    package func append(_ activity: Activity) throws { try write { try append(activity, to: $0) } }

    /// Where one from the same actor and address has come within the hour, this one takes its place at the end, with a
    /// `count` in its detail.
    package func appendCounted(_ activity: Activity) throws {
        try write { try appendCounted(activity, to: $0) }
    }

    func appendCounted(_ activity: Activity, to database: Database) throws {
        let earlier = try Row.fetchOne(
            database.cachedStatement(
                sql: """
                    SELECT id, detail FROM activity WHERE kind = ? AND actor = ? AND address IS ? AND time > ?
                    ORDER BY id DESC LIMIT 1
                    """),
            arguments: [activity.kind.rawValue, activity.actor, activity.address, activity.time - 3_600_000])
        guard let earlier else { return try append(activity, to: database) }
        let text: String = earlier[1]
        let count = JSONValue(parsing: Array(text.utf8))?["count"]?.integer ?? 1
        var counted = activity
        var detail = JSONValue(parsing: Array(activity.detail.utf8))?.object ?? [:]
        detail["count"] = .integer(count + 1)
        counted.detail = JSONValue.object(detail).text
        try database.execute(sql: "DELETE FROM activity WHERE id = ?", arguments: [earlier[0] as Int64])
        try append(counted, to: database)
    }

    /// Which entries are wanted; nil: any.
    package struct ActivityFilter: Sendable, Equatable {
        package var device: String?
        package var actor: String?
        package var kind: Activity.Kind?
        /// Milliseconds since 1970; the end is not in it.
        package var from: Int64?
        package var to: Int64?

        package init(device: String? = nil) { self.device = device }
    }

    /// The latest first. `page` from 1.
    package func activity(_ filter: ActivityFilter, page: Int, limit: Int) throws -> Page<Activity> {
        try pool.read { database in
            var conditions = ["1"]
            var values: [(any DatabaseValueConvertible)?] = []
            func want(_ condition: String, _ value: (any DatabaseValueConvertible)?) {
                guard let value else { return }
                conditions.append(condition)
                values.append(value)
            }
            want("device = ?", filter.device)
            want("actor = ?", filter.actor)
            want("kind = ?", filter.kind?.rawValue)
            want("time >= ?", filter.from)
            want("time < ?", filter.to)
            let condition = conditions.joined(separator: " AND ")
            let total = try Int.fetchOne(
                database, sql: "SELECT count(*) FROM activity WHERE \(condition)", arguments: StatementArguments(values)
            )
            let rows = try Row.fetchAll(
                database,
                sql: """
                    SELECT id, time, actor, address, device, kind, detail FROM activity WHERE \(condition)
                    ORDER BY id DESC LIMIT ? OFFSET ?
                    """,
                arguments: StatementArguments(values + [limit, (page - 1) * limit]))
            let entries = rows.compactMap { row -> Activity? in
                guard let kind = Activity.Kind(rawValue: row[5]) else { return nil }
                var entry = Activity(
                    time: row[1], actor: row[2], address: row[3], device: row[4], kind: kind, detail: row[6])
                entry.id = row[0]
                return entry
            }
            return Page(elements: entries, total: total ?? 0)
        }
    }
}
