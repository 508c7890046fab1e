package import Access
internal import FoundationEssentials
internal import GRDB

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

    /// The latest first; of one device, if given. `page` from 1.
    package func activity(device: String?, page: Int, limit: Int) throws -> Page<Activity> {
        try pool.read { database in
            let condition = device == nil ? "?1 IS NULL" : "device = ?1"
            let total = try Int.fetchOne(
                database, sql: "SELECT count(*) FROM activity WHERE \(condition)", arguments: [device])
            let rows = try Row.fetchAll(
                database,
                sql: """
                    SELECT id, time, actor, address, device, kind, detail FROM activity WHERE \(condition)
                    ORDER BY id DESC LIMIT ?2 OFFSET ?3
                    """,
                arguments: [device, limit, (page - 1) * limit])
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
