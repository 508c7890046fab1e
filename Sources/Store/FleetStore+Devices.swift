package import Access
internal import FoundationEssentials
internal import GRDB
internal import JSON

extension FleetStore {
    /// `owner`: a user's id.
    package func add(_ device: DeviceRecord, owner: String?, secret: SecretDigest, _ activity: Activity) throws {
        try write { database in
            try insert(NewDevice(record: device, owner: owner, secret: secret), in: database)
            try append(activity, to: database)
        }
    }

    /// A device that is to be made.
    package struct NewDevice: Sendable {
        package var record: DeviceRecord
        /// A user's id.
        package var owner: String?
        package var secret: SecretDigest
        /// Of the code that makes it somebody's.
        package var claim: SecretDigest?

        package init(record: DeviceRecord, owner: String?, secret: SecretDigest, claim: SecretDigest? = nil) {
            self.record = record
            self.owner = owner
            self.secret = secret
            self.claim = claim
        }
    }

    /// All or none.
    package func add(_ devices: [NewDevice], _ activity: Activity) throws {
        try write { database in
            for device in devices { try insert(device, in: database) }
            try append(activity, to: database)
        }
    }

    private func insert(_ device: NewDevice, in database: Database) throws {
        let record = device.record
        try database.cachedStatement(
            sql: """
                INSERT INTO device (id, device_id, name, model, mac, registered, blocked, tags)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            record.id, record.deviceId, record.name, record.model, record.macAddress, record.registered,
            record.isBlocked, Self.text(of: record.tags),
        ])
        if let owner = device.owner { try setOwner(owner, record.id, in: database) }
        try replaceCredential("device", record.id, device.secret, record.registered, in: database)
        if let claim = device.claim {
            try database.cachedStatement(sql: "INSERT INTO claim (device, digest, created) VALUES (?, ?, ?)")
                .execute(arguments: [record.id, Data(claim.bytes), record.registered])
        }
    }

    private func setOwner(_ user: String, _ device: String, in database: Database) throws {
        try database.cachedStatement(sql: "INSERT INTO membership (user, device, role) VALUES (?, ?, 'owner')")
            .execute(arguments: [user, device])
    }

    /// Of the code that makes a device somebody's; nil: there is none, or it was used.
    package func claim(of deviceId: String) throws -> SecretDigest? {
        try pool.read { database in
            try Row.fetchOne(
                database, sql: "SELECT c.digest FROM claim c JOIN device d ON d.id = c.device WHERE d.device_id = ?",
                arguments: [deviceId]
            ).map { row in
                let bytes: Data = row[0]
                return SecretDigest(bytes: Array(bytes))
            }
        }
    }

    /// Its code has been used: it is `owner`'s, a user's id, with another secret, and what they call it.
    package func claim(_ device: DeviceRecord, owner: String, secret: SecretDigest, _ activity: Activity) throws {
        try write { database in
            try database.execute(sql: "DELETE FROM claim WHERE device = ?", arguments: [device.id])
            try setOwner(owner, device.id, in: database)
            try replaceCredential("device", device.id, secret, activity.time, in: database)
            try setDescription(device, in: database)
            try append(activity, to: database)
        }
    }

    /// By deviceId; `page` from 1. `owner`: a user's id; nil: all devices.
    package func devices(owner: String? = nil, page: Int, limit: Int) throws -> Page<DeviceRecord> {
        try pool.read { database in
            let condition =
                owner == nil ? "?1 IS NULL" : "d.id IN (SELECT device FROM membership WHERE user = ?1)"
            let total = try Int.fetchOne(
                database.cachedStatement(sql: "SELECT count(*) FROM device d WHERE \(condition)"), arguments: [owner])
            let rows = try Row.fetchCursor(
                database.cachedStatement(
                    sql: "\(Self.deviceColumns) WHERE \(condition) ORDER BY d.device_id LIMIT ?2 OFFSET ?3"),
                arguments: [owner, limit, (page - 1) * limit])
            return Page(elements: try Array(rows.map(device)), total: total ?? 0)
        }
    }

    /// What its people may change of it.
    package func update(_ device: DeviceRecord, _ activity: Activity) throws {
        try write { database in
            try setDescription(device, in: database)
            try append(activity, to: database)
        }
    }

    private func setDescription(_ device: DeviceRecord, in database: Database) throws {
        try database.execute(
            sql: "UPDATE device SET name = ?, model = ?, mac = ?, tags = ? WHERE id = ?",
            arguments: [device.name, device.model, device.macAddress, Self.text(of: device.tags), device.id])
    }

    private static func text(of tags: [String]) -> String { JSONValue.array(tags.map { .string($0) }).text }

    package func device(_ deviceId: String) throws -> DeviceRecord? {
        // One statement needs no transaction to see one state.
        try pool.unsafeRead { database in
            try Row.fetchOne(
                database.cachedStatement(sql: "\(Self.deviceColumns) WHERE d.device_id = ?"), arguments: [deviceId]
            ).map(device)
        }
    }

    /// Those of them that are there, in no particular order.
    package func devices(_ deviceIds: [String]) throws -> [DeviceRecord] {
        let ids = JSONValue.array(deviceIds.map { .string($0) }).text
        return try pool.unsafeRead { database in
            let rows = try Row.fetchCursor(
                database.cachedStatement(
                    sql: "\(Self.deviceColumns) WHERE d.device_id IN (SELECT value FROM json_each(?))"),
                arguments: [ids])
            return try Array(rows.map(device))
        }
    }

    private static let deviceColumns = """
        SELECT d.id, d.device_id, d.name, d.model, d.mac, d.registered, d.blocked, d.tags,
            (SELECT min(u.email) FROM membership m JOIN user u ON u.id = m.user WHERE m.device = d.id)
        FROM device d
        """

    private func device(_ row: Row) throws -> DeviceRecord {
        var device = DeviceRecord(id: row[0], deviceId: row[1], name: row[2], registered: row[5])
        device.model = row[3]
        device.macAddress = row[4]
        device.isBlocked = row[6]
        let tags: String = row[7]
        if tags != "[]" { device.tags = JSONValue(parsing: Array(tags.utf8))?.array?.compactMap(\.string) ?? [] }
        device.owner = row[8]
        return device
    }

    package func setBlocked(_ isBlocked: Bool, device deviceId: String, _ activity: Activity) throws {
        try write { database in
            try database.execute(
                sql: "UPDATE device SET blocked = ? WHERE device_id = ?", arguments: [isBlocked, deviceId])
            try append(activity, to: database)
        }
    }

    package func setSecret(_ secret: SecretDigest, device deviceId: String, _ activity: Activity) throws {
        try write { database in
            guard
                let id = try String.fetchOne(
                    database, sql: "SELECT id FROM device WHERE device_id = ?", arguments: [deviceId])
            else { return }
            try replaceCredential("device", id, secret, activity.time, in: database)
            try append(activity, to: database)
        }
    }

    /// Its certificates are revoked: they would count again for a later device of the same name. Returns their serial
    /// numbers.
    package func delete(device deviceId: String, _ activity: Activity) throws -> [String] {
        try write { database in
            try database.execute(
                sql: """
                    DELETE FROM credential WHERE kind = 'device'
                    AND subject = (SELECT id FROM device WHERE device_id = ?)
                    """,
                arguments: [deviceId])
            try database.execute(sql: "DELETE FROM device WHERE device_id = ?", arguments: [deviceId])
            let serials = try String.fetchAll(
                database, sql: "SELECT serial FROM certificate WHERE device = ? AND revoked IS NULL",
                arguments: [deviceId])
            try database.execute(
                sql: """
                    UPDATE certificate SET revoked = ?, reason = 'cessationOfOperation'
                    WHERE device = ? AND revoked IS NULL
                    """,
                arguments: [activity.time, deviceId])
            try append(activity, to: database)
            return serials
        }
    }

    // MARK: - Services

    package func add(_ service: ServiceRecord, secret: SecretDigest, _ activity: Activity) throws {
        try write { database in
            try database.execute(
                sql: "INSERT INTO service (name, policy, blocked, created) VALUES (?, ?, ?, ?)",
                arguments: [service.name, service.policy, service.isBlocked, service.created])
            try replaceCredential("service", service.name, secret, service.created, in: database)
            try append(activity, to: database)
        }
    }

    /// By name; `page` from 1.
    package func services(page: Int, limit: Int) throws -> Page<ServiceRecord> {
        try pool.read { database in
            let total = try Int.fetchOne(database, sql: "SELECT count(*) FROM service")
            let rows = try Row.fetchAll(
                database, sql: "SELECT name, policy, blocked, created FROM service ORDER BY name LIMIT ? OFFSET ?",
                arguments: [limit, (page - 1) * limit])
            let services = rows.map { row in
                var service = ServiceRecord(name: row[0], policy: row[1], created: row[3])
                service.isBlocked = row[2]
                return service
            }
            return Page(elements: services, total: total ?? 0)
        }
    }

    package func setBlocked(_ isBlocked: Bool, service name: String, _ activity: Activity) throws {
        try write { database in
            try database.execute(sql: "UPDATE service SET blocked = ? WHERE name = ?", arguments: [isBlocked, name])
            try append(activity, to: database)
        }
    }

    package func setSecret(_ secret: SecretDigest, service name: String, _ activity: Activity) throws {
        try write { database in
            try replaceCredential("service", name, secret, activity.time, in: database)
            try append(activity, to: database)
        }
    }

    package func delete(service name: String, _ activity: Activity) throws {
        try write { database in
            try database.execute(
                sql: "DELETE FROM credential WHERE kind = 'service' AND subject = ?", arguments: [name])
            try database.execute(sql: "DELETE FROM service WHERE name = ?", arguments: [name])
            try append(activity, to: database)
        }
    }

    private func replaceCredential(
        _ kind: String, _ subject: String, _ secret: SecretDigest, _ created: Int64, in database: Database
    ) throws {
        try database.cachedStatement(
            sql: "INSERT OR REPLACE INTO credential (kind, subject, digest, created) VALUES (?, ?, ?, ?)"
        ).execute(arguments: [kind, subject, Data(secret.bytes), created])
    }

    // MARK: - Certificates

    /// Notes certificates, all or none. `revoked`: of these or earlier ones; what was revoked before stays as it was.
    package func note(
        issued: [(CertificateRecord, Activity)], revoked: [(serial: String, Activity)], reason: String
    ) throws {
        try write { database in
            for (certificate, activity) in issued {
                try database.execute(
                    sql: """
                        INSERT INTO certificate (serial, device, subject, not_before, not_after, fingerprint, issued)
                        VALUES (?, ?, ?, ?, ?, ?, ?)
                        """,
                    arguments: [
                        certificate.serial, certificate.deviceId, certificate.subject, certificate.notBefore,
                        certificate.notAfter, Data(certificate.fingerprint), certificate.issued,
                    ])
                try append(activity, to: database)
            }
            for (serial, activity) in revoked {
                try database.execute(
                    sql: "UPDATE certificate SET revoked = ?, reason = ? WHERE serial = ? AND revoked IS NULL",
                    arguments: [activity.time, reason, serial])
                if database.changesCount > 0 { try append(activity, to: database) }
            }
        }
    }

    /// The serial numbers of all, and whether they were revoked.
    package func certificateSerials() throws -> [String: Bool] {
        try pool.read { database in
            let rows = try Row.fetchCursor(database, sql: "SELECT serial, revoked IS NOT NULL FROM certificate")
            return try Dictionary(uniqueKeysWithValues: rows.map { ($0[0] as String, $0[1] as Bool) })
        }
    }

    /// The latest first; `page` from 1.
    package func certificates(page: Int, limit: Int) throws -> Page<CertificateRecord> {
        try pool.read { database in
            let total = try Int.fetchOne(database, sql: "SELECT count(*) FROM certificate")
            let rows = try Row.fetchAll(
                database,
                sql: """
                    SELECT serial, device, subject, not_before, not_after, fingerprint, issued, revoked, reason
                    FROM certificate ORDER BY issued DESC, serial LIMIT ? OFFSET ?
                    """,
                arguments: [limit, (page - 1) * limit])
            let certificates = rows.map { row in
                let fingerprint: Data = row[5]
                var certificate = CertificateRecord(
                    serial: row[0], deviceId: row[1], subject: row[2], notBefore: row[3], notAfter: row[4],
                    fingerprint: Array(fingerprint), issued: row[6])
                certificate.revoked = row[7]
                certificate.reason = row[8]
                return certificate
            }
            return Page(elements: certificates, total: total ?? 0)
        }
    }
}
