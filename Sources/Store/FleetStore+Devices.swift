package import Access
internal import FoundationEssentials
internal import GRDB

extension FleetStore {
    /// `owner`: a user's id.
    package func add(_ device: DeviceRecord, owner: String?, secret: SecretDigest, _ activity: Activity) throws {
        try pool.write { database in
            try database.execute(
                sql: """
                    INSERT INTO device (id, device_id, name, model, mac, registered, blocked)
                    VALUES (?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    device.id, device.deviceId, device.name, device.model, device.macAddress, device.registered,
                    device.isBlocked,
                ])
            if let owner {
                try database.execute(
                    sql: "INSERT INTO membership (user, device, role) VALUES (?, ?, 'owner')",
                    arguments: [owner, device.id])
            }
            try replaceCredential("device", device.id, secret, device.registered, in: database)
            try append(activity, to: database)
        }
    }

    /// By deviceId; `page` from 1.
    package func devices(page: Int, limit: Int) throws -> Page<DeviceRecord> {
        try pool.read { database in
            let total = try Int.fetchOne(database, sql: "SELECT count(*) FROM device")
            let rows = try Row.fetchAll(
                database, sql: "\(Self.deviceColumns) ORDER BY d.device_id LIMIT ? OFFSET ?",
                arguments: [limit, (page - 1) * limit])
            return Page(elements: rows.map(device), total: total ?? 0)
        }
    }

    package func device(_ deviceId: String) throws -> DeviceRecord? {
        try pool.read { database in
            try Row.fetchOne(database, sql: "\(Self.deviceColumns) WHERE d.device_id = ?", arguments: [deviceId])
                .map(device)
        }
    }

    private static let deviceColumns = """
        SELECT d.id, d.device_id, d.name, d.model, d.mac, d.registered, d.blocked,
            (SELECT min(u.email) FROM membership m JOIN user u ON u.id = m.user WHERE m.device = d.id)
        FROM device d
        """

    private func device(_ row: Row) -> DeviceRecord {
        var device = DeviceRecord(id: row[0], deviceId: row[1], name: row[2], registered: row[5])
        device.model = row[3]
        device.macAddress = row[4]
        device.isBlocked = row[6]
        device.owner = row[7]
        return device
    }

    package func setBlocked(_ isBlocked: Bool, device deviceId: String, _ activity: Activity) throws {
        try pool.write { database in
            try database.execute(
                sql: "UPDATE device SET blocked = ? WHERE device_id = ?", arguments: [isBlocked, deviceId])
            try append(activity, to: database)
        }
    }

    package func setSecret(_ secret: SecretDigest, device deviceId: String, _ activity: Activity) throws {
        try pool.write { database in
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
        try pool.write { database in
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
        try pool.write { database in
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
        try pool.write { database in
            try database.execute(sql: "UPDATE service SET blocked = ? WHERE name = ?", arguments: [isBlocked, name])
            try append(activity, to: database)
        }
    }

    package func setSecret(_ secret: SecretDigest, service name: String, _ activity: Activity) throws {
        try pool.write { database in
            try replaceCredential("service", name, secret, activity.time, in: database)
            try append(activity, to: database)
        }
    }

    package func delete(service name: String, _ activity: Activity) throws {
        try pool.write { database in
            try database.execute(
                sql: "DELETE FROM credential WHERE kind = 'service' AND subject = ?", arguments: [name])
            try database.execute(sql: "DELETE FROM service WHERE name = ?", arguments: [name])
            try append(activity, to: database)
        }
    }

    private func replaceCredential(
        _ kind: String, _ subject: String, _ secret: SecretDigest, _ created: Int64, in database: Database
    ) throws {
        try database.execute(
            sql: "INSERT OR REPLACE INTO credential (kind, subject, digest, created) VALUES (?, ?, ?, ?)",
            arguments: [kind, subject, Data(secret.bytes), created])
    }

    // MARK: - Certificates

    /// Notes certificates, all or none. `revoked`: of these or earlier ones; what was revoked before stays as it was.
    package func note(
        issued: [(CertificateRecord, Activity)], revoked: [(serial: String, Activity)], reason: String
    ) throws {
        try pool.write { database in
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
