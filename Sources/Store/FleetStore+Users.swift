package import Access
internal import GRDB

extension FleetStore {
    /// `invite`: the id of one that is used up by it. False: that had been used, or deleted, before, and nothing is changed.
    @discardableResult
    package func add(_ user: UserRecord, invite: String? = nil, _ activity: Activity) throws -> Bool {
        try write { database in
            if let invite {
                try database.execute(
                    sql: "UPDATE invite SET used = ?, used_by = ? WHERE id = ? AND used IS NULL",
                    arguments: [user.created, user.email, invite])
                guard database.changesCount == 1 else { return false }
            }
            try database.execute(
                sql: """
                    INSERT INTO user (id, email, name, password_hash, role, blocked, must_change_password, created)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    user.id, user.email, user.name, user.passwordHash, user.role.rawValue, user.isBlocked,
                    user.mustChangePassword, user.created,
                ])
            try append(activity, to: database)
            return true
        }
    }

    /// By e-mail; `page` from 1.
    package func users(page: Int, limit: Int) throws -> Page<UserRecord> {
        try pool.read { database in
            let total = try Int.fetchOne(database, sql: "SELECT count(*) FROM user")
            let rows = try Row.fetchAll(
                database,
                sql: """
                    SELECT id, email, name, password_hash, role, blocked, must_change_password, created FROM user
                    ORDER BY email LIMIT ? OFFSET ?
                    """,
                arguments: [limit, (page - 1) * limit])
            return Page(elements: rows.map(user), total: total ?? 0)
        }
    }

    package func user(_ id: String) throws -> UserRecord? {
        try pool.unsafeRead { database in
            try Row.fetchOne(
                database.cachedStatement(
                    sql: """
                        SELECT id, email, name, password_hash, role, blocked, must_change_password, created FROM user
                        WHERE id = ?
                        """),
                arguments: [id]
            ).map(user)
        }
    }

    private func user(_ row: Row) -> UserRecord {
        var user = UserRecord(
            id: row[0], email: row[1], name: row[2], passwordHash: row[3],
            role: Accounts.Role(rawValue: row[4]) ?? .user, created: row[7])
        user.isBlocked = row[5]
        user.mustChangePassword = row[6]
        return user
    }

    /// Whoever is blocked has no log-in any more.
    package func setBlocked(_ isBlocked: Bool, user id: String, _ activity: Activity) throws {
        try write { database in
            if isBlocked { try database.execute(sql: "DELETE FROM token WHERE user = ?", arguments: [id]) }
            try database.execute(sql: "UPDATE user SET blocked = ? WHERE id = ?", arguments: [isBlocked, id])
            try append(activity, to: database)
        }
    }

    package func setRole(_ role: Accounts.Role, user id: String, _ activity: Activity) throws {
        try write { database in
            try database.execute(sql: "UPDATE user SET role = ? WHERE id = ?", arguments: [role.rawValue, id])
            try append(activity, to: database)
        }
    }

    /// Their own, which need not be changed any more. Log-ins end, but for `token`.
    package func setPasswordHash(
        _ hash: String, user id: String, keeping token: String? = nil, _ activity: Activity
    ) throws {
        try write { database in
            try database.execute(
                sql: "DELETE FROM token WHERE user = ? AND id IS NOT ?", arguments: [id, token])
            try database.execute(
                sql: "UPDATE user SET password_hash = ?, must_change_password = 0 WHERE id = ?", arguments: [hash, id])
            try append(activity, to: database)
        }
    }

    /// Their devices stay, without them.
    package func delete(user id: String, _ activity: Activity) throws {
        try write { database in
            try database.execute(sql: "DELETE FROM user WHERE id = ?", arguments: [id])
            try append(activity, to: database)
        }
    }
}
