internal import Access
internal import FoundationEssentials
internal import GRDB

// Log-ins, and what they are signed with.

extension FleetStore {
    // MARK: - Tokens

    package func add(_ token: TokenRecord, _ activity: Activity) throws {
        try write { database in
            try database.execute(
                sql: "INSERT INTO token (id, user, key, issued, expires) VALUES (?, ?, ?, ?, ?)",
                arguments: [token.id, token.user, token.key, token.issued, token.expires])
            try append(activity, to: database)
        }
    }

    package func delete(token id: String, _ activity: Activity) throws {
        try write { database in
            try database.execute(sql: "DELETE FROM token WHERE id = ?", arguments: [id])
            try append(activity, to: database)
        }
    }

    /// Those that end by then, milliseconds since 1970. Nobody has to know of it.
    package func deleteTokens(until time: Int64) throws {
        try write { try $0.execute(sql: "DELETE FROM token WHERE expires <= ?", arguments: [time]) }
    }

    // MARK: - Keys

    /// The latest first.
    package func keys(for purpose: KeyRecord.Purpose) throws -> [KeyRecord] {
        try pool.read { database in
            try Row.fetchAll(
                database,
                sql: "SELECT id, secret, created FROM signing_key WHERE purpose = ? ORDER BY created DESC, id",
                arguments: [purpose.rawValue]
            ).map { row in
                let secret: Data = row[1]
                return KeyRecord(id: row[0], purpose: purpose, secret: Array(secret), created: row[2])
            }
        }
    }

    /// One more. `activity`: nil where nobody did it.
    package func add(_ key: KeyRecord, _ activity: Activity?) throws {
        try write { database in
            try database.execute(
                sql: "INSERT INTO signing_key (id, purpose, secret, created) VALUES (?, ?, ?, ?)",
                arguments: [key.id, key.purpose.rawValue, Data(key.secret), key.created])
            if let activity { try append(activity, to: database) }
        }
    }

    package func deleteKeys(_ ids: [String]) throws {
        try writeQuietly { database in
            for id in ids { try database.execute(sql: "DELETE FROM signing_key WHERE id = ?", arguments: [id]) }
        }
    }

    /// Of the keys for log-ins, all go that none needs any more, but for the latest. Returns the ids of those that are left.
    package func dropIdleTokenKeys() throws -> [String] {
        try write { database in
            try database.execute(
                sql: """
                    DELETE FROM signing_key WHERE purpose = 'jwt' AND id NOT IN (SELECT key FROM token)
                    AND id != (SELECT id FROM signing_key WHERE purpose = 'jwt' ORDER BY created DESC, id LIMIT 1)
                    """)
            return try String.fetchAll(database, sql: "SELECT id FROM signing_key WHERE purpose = 'jwt'")
        }
    }
}
