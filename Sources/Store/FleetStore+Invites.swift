internal import Access
internal import FoundationEssentials
internal import GRDB

extension FleetStore {
    /// `digest`: of its code. Those that were used, or ended, before `forgetting` go. Times in milliseconds since 1970.
    package func add(_ invite: InviteRecord, digest: [UInt8], forgetting time: Int64, _ activity: Activity) throws {
        try write { database in
            try database.execute(sql: "DELETE FROM invite WHERE coalesce(used, expires) < ?", arguments: [time])
            try database.execute(
                sql: """
                    INSERT INTO invite (id, digest, role, email, maker, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    invite.id, Data(digest), invite.role.rawValue, invite.email, invite.maker, invite.created,
                    invite.expires,
                ])
            try append(activity, to: database)
        }
    }

    /// False: there is none.
    package func delete(invite id: String, _ activity: Activity) throws -> Bool {
        try write { database in
            try database.execute(sql: "DELETE FROM invite WHERE id = ?", arguments: [id])
            guard database.changesCount > 0 else { return false }
            try append(activity, to: database)
            return true
        }
    }

    /// By its code's digest, used or not.
    package func invite(digest: [UInt8]) throws -> InviteRecord? {
        try pool.read { database in
            try Row.fetchOne(
                database, sql: "\(Self.inviteColumns) WHERE digest = ?", arguments: [Data(digest)]
            ).map(invite)
        }
    }

    /// The latest first, without those that were used, or ended, before `time`; `page` from 1.
    package func invites(since time: Int64, page: Int, limit: Int) throws -> Page<InviteRecord> {
        try pool.read { database in
            let condition = "coalesce(used, expires) >= ?"
            let total = try Int.fetchOne(
                database, sql: "SELECT count(*) FROM invite WHERE \(condition)", arguments: [time])
            let rows = try Row.fetchAll(
                database, sql: "\(Self.inviteColumns) WHERE \(condition) ORDER BY id DESC LIMIT ? OFFSET ?",
                arguments: [time, limit, (page - 1) * limit])
            return Page(elements: rows.map(invite), total: total ?? 0)
        }
    }

    private static let inviteColumns =
        "SELECT id, role, email, maker, created, expires, used, used_by FROM invite"

    private func invite(_ row: Row) -> InviteRecord {
        var invite = InviteRecord(
            id: row[0], role: Accounts.Role(rawValue: row[1]) ?? .user, email: row[2], maker: row[3], created: row[4],
            expires: row[5])
        invite.used = row[6]
        invite.usedBy = row[7]
        return invite
    }
}
