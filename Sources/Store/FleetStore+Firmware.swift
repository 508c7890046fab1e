internal import FoundationEssentials
internal import GRDB
internal import JSON

// Models, and what is known of their firmware.

extension FleetStore {
    // MARK: - Models

    /// Those that somebody has described.
    package func modelNames() throws -> [String] {
        try pool.read { try String.fetchAll($0, sql: "SELECT name FROM model ORDER BY name") }
    }

    package func model(_ name: String) throws -> ModelRecord? {
        try pool.unsafeRead { database in
            try Row.fetchOne(
                database.cachedStatement(sql: "\(Self.modelColumns) WHERE name = ?"), arguments: [name]
            ).map(model)
        }
    }

    package func save(_ model: ModelRecord, _ activity: Activity) throws {
        try writeQuietly { database in
            try database.execute(
                sql: """
                    INSERT OR REPLACE INTO model (name, chip, flash_size, ota_payload, packet_limit, keys)
                    VALUES (?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    model.name, model.chip, model.flashSize, model.otaPayload.rawValue, model.packetLimit,
                    JSONValue.array(model.keys.map { .string($0) }).text,
                ])
            try append(activity, to: database)
        }
    }

    private static let modelColumns = "SELECT name, chip, flash_size, ota_payload, packet_limit, keys FROM model"

    private func model(_ row: Row) -> ModelRecord {
        var model = ModelRecord(name: row[0], packetLimit: row[4])
        model.chip = row[1]
        model.flashSize = row[2]
        model.otaPayload = ModelRecord.OTAPayload(rawValue: row[3]) ?? .json
        let keys: String = row[5]
        model.keys = JSONValue(parsing: Array(keys.utf8))?.array?.compactMap(\.string) ?? []
        return model
    }

    // MARK: - Firmware

    /// The latest first; `page` from 1. `model`: nil: of all.
    package func firmware(of model: String? = nil, page: Int, limit: Int) throws -> Page<FirmwareRecord> {
        try pool.read { database in
            let total = try Int.fetchOne(
                database, sql: "SELECT count(*) FROM firmware WHERE ?1 IS NULL OR model = ?1", arguments: [model])
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    \(Self.firmwareColumns) WHERE ?1 IS NULL OR model = ?1
                    ORDER BY created DESC, id DESC LIMIT ?2 OFFSET ?3
                    """,
                arguments: [model, limit, (page - 1) * limit])
            return Page(elements: try Array(rows.map(firmware)), total: total ?? 0)
        }
    }

    package func firmware(_ model: String, _ version: String) throws -> FirmwareRecord? {
        try pool.unsafeRead { database in
            try Row.fetchOne(
                database.cachedStatement(sql: "\(Self.firmwareColumns) WHERE model = ? AND version = ?"),
                arguments: [model, version]
            ).map(firmware)
        }
    }

    /// As it is from now on, new or not.
    package func save(_ record: FirmwareRecord, _ activity: Activity) throws {
        try writeQuietly { database in
            try database.execute(
                sql: """
                    INSERT OR REPLACE INTO firmware (id, model, version, description, size, digest, signature, state,
                        analysis, uploader, created, verified, approver, approved, promoted)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    record.id, record.model, record.version, record.text, record.size, Data(record.digest),
                    record.signature.map { Data($0) }, record.state.rawValue, record.analysis, record.uploader,
                    record.created, record.verified, record.approver, record.approved, record.promoted,
                ])
            try append(activity, to: database)
        }
    }

    package func delete(firmware id: String, _ activity: Activity) throws {
        try writeQuietly { database in
            try database.execute(sql: "DELETE FROM firmware WHERE id = ?", arguments: [id])
            try append(activity, to: database)
        }
    }

    private static let firmwareColumns = """
        SELECT id, model, version, description, size, digest, signature, state, analysis, uploader, created, verified,
            approver, approved, promoted
        FROM firmware
        """

    private func firmware(_ row: Row) -> FirmwareRecord {
        let digest: Data = row[5]
        var record = FirmwareRecord(
            id: row[0], model: row[1], version: row[2], size: row[4], digest: Array(digest), analysis: row[8],
            uploader: row[9], created: row[10])
        record.text = row[3]
        record.signature = (row[6] as Data?).map { Array($0) }
        record.state = FirmwareRecord.State(rawValue: row[7]) ?? .uploaded
        record.verified = row[11]
        record.approver = row[12]
        record.approved = row[13]
        record.promoted = row[14]
        return record
    }
}
