internal import Access
internal import Cryptography
internal import Firmware
internal import Fleet
internal import JSON
internal import Locks
internal import Store

extension ModelRecord {
    /// Bytes of an MQTT packet.
    static let packetLimits: ClosedRange<Int64> = 64...1_048_576

    /// What is in force for one that nobody has described.
    init(unknown name: ModelName) {
        self.init(name: name.text, packetLimit: OTAPayload.json.usualPacketLimit)
    }

    fileprivate var json: [String: JSONValue] {
        [
            "model": .string(name), "chip": .optional(chip), "flashSize": flashSize.map { .integer($0) } ?? .null,
            "otaPayload": .string(otaPayload.rawValue), "packetLimit": .integer(packetLimit),
            "keys": .array(keys.map { .string($0) }),
        ]
    }
}

extension ModelRecord.OTAPayload {
    /// What esp-mqtt has room for, and PubSubClient, unless somebody has built them otherwise.
    var usualPacketLimit: Int64 {
        switch self {
        case .json: 1024
        case .url: 256
        }
    }
}

extension Management {
    // MARK: - Models

    /// Those that somebody has described, and those that have firmware.
    func listModels(_ request: ManagementCommand.PageRequest) async throws -> JSONValue? {
        let described = try store.modelNames()
        let names = try await Set(firmware.models().map(\.text)).union(described).sorted()
        var models: [JSONValue] = []
        for text in names.dropFirst((request.page - 1) * request.limit).prefix(request.limit) {
            guard let name = ModelName(text) else { continue }
            models.append(try await json(name))
        }
        return list("models", models, request, total: names.count)
    }

    func getModel(_ name: ModelName) async throws -> JSONValue? {
        let isKnown = try await firmware.models().contains(name)
        guard try isKnown || store.model(name.text) != nil else {
            throw ManagementProblem(.notFound, "nothing is known of a model \(name)")
        }
        return .object(["model": try await json(name)])
    }

    private func json(_ name: ModelName) async throws -> JSONValue {
        let record = try store.model(name.text) ?? ModelRecord(unknown: name)
        let state = await firmware.state(of: name)
        return .object(
            record.json.merging([
                "production": .optional(state.production?.name),
                "blockedVersions": .array(state.blocked.map { .string($0.name) }),
            ]) { $1 })
    }

    func setModel(_ model: ModelRecord, _ requester: Requester) throws -> JSONValue? {
        if try store.model(model.name) != model {
            try store.save(model, activity(.modelUpdated, by: requester, model.json))
        }
        return .object(["model": .object(model.json)])
    }

    // MARK: - Firmware

    func listFirmware(_ model: ModelName?, _ request: ManagementCommand.PageRequest) async throws -> JSONValue? {
        let page = try await firmware.releases(of: model, page: request.page, limit: request.limit)
        return list("firmware", page.elements.map(json), request, total: page.total)
    }

    func getFirmware(_ release: ReleaseName) async throws -> JSONValue? { try await shown(release) }

    /// Answers with the release once it is one.
    func uploadFirmware(
        _ release: ReleaseName, _ part: ManagementCommand.UploadPart, _ requester: Requester
    ) async throws -> JSONValue? {
        let upload =
            part.offset == 0
            ? try await firmware.begin(release, again: true) : try await firmware.upload(of: release, at: part.offset)
        do {
            try await firmware.append(part.bytes, to: upload)
            guard part.isLast else { return nil }
            return try await finishUpload(upload, of: release, part.fields, requester)
        } catch {
            await firmware.abandon(upload)
            throw error
        }
    }

    /// Deletes releases past `firmware_releases`. `model`: nil: of all.
    package func deleteOldReleases() async throws { try await deleteOldReleases(of: nil) }

    func deleteOldReleases(of model: ModelName?) async throws {
        let count = settings().firmwareReleases
        guard count > 0 else { return }
        let underWay = fleet.withState { $0.table.deployments.filter { !$0.state.isOver } }
        let wanted = underWay.compactMap { deployment -> ReleaseName? in
            guard let model = ModelName(deployment.model), let version = FirmwareVersion(deployment.version) else {
                return nil
            }
            return ReleaseName(model: model, version: version)
        }
        try await firmware.deleteOldReleases(
            of: model, keeping: count, except: Set(wanted), by: .init(actor: "server", address: nil))
    }

    func examineFirmware() async throws -> JSONValue? {
        let findings = try await firmware.examine()
        return .object(["problems": .array(findings.map { .string($0) })])
    }

    func verifyFirmware(_ release: ReleaseName, _ requester: Requester) async throws -> JSONValue? {
        _ = try await firmware.verify(release, by: requester.doer)
        return try await shown(release)
    }

    func approveFirmware(_ release: ReleaseName, _ requester: Requester) async throws -> JSONValue? {
        // The first administrator is none before somebody has made the account theirs.
        let administrators = accounts.people.values.count { person in
            person.role == .admin && !person.isBlocked
                && !(person.email == Self.firstAdminEmail && person.mustChangePassword)
        }
        _ = try await firmware.approve(release, administrators: administrators, by: requester.doer)
        return try await shown(release)
    }

    func promoteFirmware(_ release: ReleaseName, _ requester: Requester) async throws -> JSONValue? {
        _ = try await firmware.promote(release, by: requester.doer)
        return try await shown(release)
    }

    func blockFirmware(_ release: ReleaseName, reason: String, _ requester: Requester) async throws -> JSONValue? {
        try await firmware.block(release, reason: reason, by: requester.doer)
        await fleet.desk?.stop(release.model.text, release.version.name, "\(release) is blocked")
        return blocked(release, true)
    }

    func unblockFirmware(_ release: ReleaseName, _ requester: Requester) async throws -> JSONValue? {
        try await firmware.unblock(release, by: requester.doer)
        return blocked(release, false)
    }

    private func blocked(_ release: ReleaseName, _ isBlocked: Bool) -> JSONValue {
        .object([
            "model": .string(release.model.text), "version": .string(release.version.name), "blocked": .bool(isBlocked),
        ])
    }

    func deleteFirmware(_ release: ReleaseName, _ requester: Requester) async throws -> JSONValue? {
        try await firmware.delete(release, by: requester.doer)
        await fleet.desk?.stop(release.model.text, release.version.name, "\(release) is deleted")
        return nil
    }

    func shown(_ release: ReleaseName) async throws -> JSONValue {
        .object(["firmware": json(try await firmware.release(release))])
    }

    private nonisolated func json(_ shown: FirmwareDesk.Shown) -> JSONValue {
        let record = shown.record
        return .object([
            "id": .string(record.id), "_id": .string(record.id), "model": .string(record.model),
            "version": .string(record.version), "description": .string(record.text),
            "fileUrl": .string(record.release?.downloadPath ?? ""), "size": .integer(record.size),
            "sha256": .string(hexadecimal(record.digest)), "state": .string(shown.state),
            "analysis": JSONValue(parsing: Array(record.analysis.utf8)) ?? .null,
            "uploadedBy": .string(record.uploader), "createdAt": timestamp(record.created),
            "verifiedAt": record.verified.map(timestamp) ?? .null, "approvedBy": .optional(record.approver),
            "approvedAt": record.approved.map(timestamp) ?? .null,
            "promotedAt": record.promoted.map(timestamp) ?? .null, "blockedReason": .optional(shown.blockedBecause),
        ])
    }

    // MARK: - What devices shall run

    /// Whether a device has something else than it should; what it should have, for whoever tells it.
    func update(of device: String) async throws -> (answer: [String: JSONValue], offer: FirmwareDesk.Offer?) {
        guard let record = try store.device(device) else {
            throw ManagementProblem(.notFound, "there is no device \(device)")
        }
        let current = fleet.state(of: device)?.firmwareVersion
        var offer: FirmwareDesk.Offer?
        if let model = record.model.flatMap({ ModelName($0) }) { offer = await firmware.offer(for: model) }
        let latest = offer?.release.version
        if let current, let latest, FirmwareVersion(current) == latest { offer = nil }
        return (
            [
                "deviceId": .string(device), "updateAvailable": .bool(offer != nil),
                "currentVersion": .optional(current), "latestVersion": .optional(latest?.name),
                "message": offer == nil ? "there is nothing new" : "there is an update",
            ], offer
        )
    }

    func checkForUpdate(_ id: DeviceId, _ requester: Requester) async throws -> JSONValue? {
        _ = try device(id, requester)
        return .object(try await update(of: id.text).answer)
    }

    // MARK: - Addresses

    /// Takes what addresses are signed with from the store, and makes it where there is nothing yet.
    package func ensureURLKey() throws {
        if try store.keys(for: .url).isEmpty { try addURLKey(nil) }
        try dropOldURLKeys()
    }

    /// A new key for addresses from now on. Those that were given out work as long as they would have; `revokes`: no more.
    func rotateURLKey(revokes: Bool, _ requester: Requester) throws -> JSONValue? {
        guard try store.keys(for: .url).count < Self.mostKeys || revokes else {
            throw ManagementProblem(.tooMany, "addresses that work are signed with \(Self.mostKeys) keys already")
        }
        let key = try addURLKey(requester)
        try dropOldURLKeys(all: revokes)
        return .object(["key": json(key, isInUse: true)])
    }

    @discardableResult
    private func addURLKey(_ requester: Requester?) throws -> KeyRecord {
        let latest = try store.keys(for: .url).first?.created ?? 0
        // Short, for it is a part of each address.
        let key = KeyRecord(
            id: Base64.url.encode(randomBytes(3)), purpose: .url, secret: randomBytes(32),
            created: max(milliseconds(), latest + 1))
        let detail: [String: JSONValue] = ["purpose": .string(key.purpose.rawValue), "key": .string(key.id)]
        try store.add(key, requester.map { activity(.keyRotated, by: $0, detail) })
        return key
    }

    /// Keys whose addresses have all had their time go.
    func dropOldURLKeys(all: Bool = false) throws {
        let keys = try store.keys(for: .url)
        let lifetime = settings().firmwareURLSeconds * 1000
        let old = zip(keys.dropFirst(), keys).filter { all || $1.created + lifetime < milliseconds() }.map(\.0.id)
        if !old.isEmpty { try store.deleteKeys(old) }
        urlKeys.set(keys.filter { !old.contains($0.id) })
    }
}

/// What addresses of firmware are signed with. From any thread.
final class URLKeys: Sendable {
    private let known = Lock<[FirmwareURL.Key]>([])

    var keys: [FirmwareURL.Key] { known.withLock { $0 } }

    var latest: FirmwareURL.Key {
        guard let key = keys.first else { preconditionFailure("ensureURLKey() comes first") }
        return key
    }

    /// The latest first.
    func set(_ records: [KeyRecord]) {
        known.withLock { $0 = records.map { FirmwareURL.Key(id: $0.id, secret: $0.secret) } }
    }
}

extension FirmwareDesk.Shown {
    /// How it is called in the API.
    static let states = ["UPLOADED", "VERIFIED", "APPROVED", "PROMOTED", "RETIRED", "BLOCKED"]

    /// What its people have made of it, unless the files say more.
    var state: String {
        if blockedBecause != nil { return "BLOCKED" }
        guard record.state == .approved else { return record.state.rawValue }
        return isProduction ? "PROMOTED" : record.promoted == nil ? "APPROVED" : "RETIRED"
    }
}

extension Requester {
    var doer: FirmwareDesk.Doer { FirmwareDesk.Doer(actor: actor, address: address) }
}
