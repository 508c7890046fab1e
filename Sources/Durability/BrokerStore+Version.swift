extension BrokerStore {
    /// The newest version of `broker.db` that this Martlet knows, as `PRAGMA user_version` says it.
    package static var newestVersion: Int64 { Schema.version }
}
