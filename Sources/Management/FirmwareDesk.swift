internal import Cryptography
internal import Dispatch
internal import Firmware
internal import HTTP
internal import JSON
internal import Store

/// `firmware_verifier`: a command of the administrator's that has to approve of images as well.
package protocol FirmwareVerifier: Sendable {
    /// Nil: it has none. `image`: where it lies.
    func objection(to image: String, _ model: String, _ version: String) async -> String?
}

/// The firmware in the data directory and what is known of it: takes uploads, judges them, says what devices shall run and
/// opens what they fetch. An actor on a queue of its own, since it waits for the disk.
actor FirmwareDesk {
    enum Limits {
        /// Bytes of an image: more than any ESP32 can map.
        static let imageBytes = 64 << 20
        /// At once.
        static let uploads = 8
        /// Bytes of what somebody says about a release, or why it is blocked.
        static let textBytes = 1024
    }

    /// Something that devices shall run.
    struct Offer: Sendable, Equatable {
        let release: ReleaseName
        /// Bytes.
        let size: Int64
        let digest: [UInt8]
    }

    private let executor = QueueExecutor("firmware", qos: .utility)
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    private let store: FleetStore
    private let tree: FirmwareTree
    private let milliseconds: @Sendable () -> Int64
    private let report: @Sendable (String) -> Void
    private let verifier: (any FirmwareVerifier)?
    private var uploads: [UInt64: Upload] = [:]
    private var nextUpload: UInt64 = 1
    /// What was wrong with what a model's files say, the last time: each is told once.
    private var problems: [ModelName: String] = [:]
    /// What devices shall run, as it was seen last.
    private var production: [ModelName: FirmwareVersion?] = [:]

    private final class Upload {
        let release: ReleaseName
        let isInParts: Bool
        var draft: FirmwareDraft

        init(_ release: ReleaseName, isInParts: Bool, _ draft: consuming FirmwareDraft) {
            self.release = release
            self.isInParts = isInParts
            self.draft = draft
        }
    }

    /// Who does something.
    struct Doer: Sendable {
        let actor: String
        let address: String?
    }

    /// Takes over what lies in the tree without being known, and forgets what lies there no more; on the caller's thread.
    /// `report`: for the log, what somebody who edits the tree should know. Throws `FirmwareTreeError`, or what the store does.
    init(
        _ store: FleetStore, in dataDirectory: String, verifier: (any FirmwareVerifier)?,
        milliseconds: @escaping @Sendable () -> Int64, report: @escaping @Sendable (String) -> Void
    ) throws {
        self.store = store
        let tree = try FirmwareTree(in: dataDirectory)
        try Self.reconcile(tree, store, milliseconds(), report)
        self.tree = tree
        self.milliseconds = milliseconds
        self.report = report
        self.verifier = verifier
    }

    // MARK: - Uploads

    /// An image begins to come. `again`: in the place of one of the same name that has come to no end.
    func begin(_ release: ReleaseName, again: Bool = false) throws -> UInt64 {
        if again, let earlier = uploads.first(where: { $0.value.release == release && $0.value.isInParts }) {
            abandon(earlier.key)
        }
        guard uploads.count < Limits.uploads else { throw ManagementProblem(.busy, "too many images come at once") }
        guard try store.firmware(release) == nil, !uploads.values.contains(where: { $0.release == release }) else {
            throw Self.exists(release)
        }
        let number = nextUpload
        nextUpload += 1
        let draft = try saving { try tree.draft(for: release.model) }
        uploads[number] = Upload(release, isInParts: again, draft)
        return number
    }

    /// One that comes in parts, of which the next is that at `offset`.
    func upload(of release: ReleaseName, at offset: Int64) throws -> UInt64 {
        let known = uploads.first { $0.value.release == release && $0.value.isInParts }
        guard let known, known.value.draft.size == offset else {
            throw ManagementProblem(.wrongState, "this is not the next part of an upload of \(release)")
        }
        return known.key
    }

    func append(_ bytes: [UInt8], to upload: UInt64) throws {
        guard let upload = uploads[upload] else { return }
        guard upload.draft.size + bytes.count <= Limits.imageBytes else {
            throw ManagementProblem(.tooLarge, "an image has at most \(Limits.imageBytes) bytes")
        }
        try saving { try upload.draft.append(bytes) }
    }

    /// Nothing of it stays. What is over is none any more.
    func abandon(_ upload: UInt64) {
        guard let upload = uploads.removeValue(forKey: upload) else { return }
        do {
            try tree.discard(upload.draft)
        } catch {
            report("what is left of an upload of \(upload.release) can't be removed: \(error)")
        }
    }

    /// All of it has come: it is a release from now on, for somebody to verify.
    func finish(_ number: UInt64, text: String, signature: [UInt8]?, by doer: Doer) throws -> FirmwareRecord {
        try saving { try add(number, text, signature, doer) }
    }

    /// What the disk refuses is a problem.
    private func saving<Value: ~Copyable>(_ body: () throws -> Value) throws -> Value {
        do { return try body() } catch { throw ManagementProblem(saving: error) }
    }

    private func add(
        _ number: UInt64, _ text: String, _ signature: [UInt8]?, _ doer: Doer
    ) throws -> FirmwareRecord {
        guard let upload = uploads[number] else { throw ManagementProblem(.failed, "there is no such upload") }
        guard upload.draft.size > 0, let image = try tree.image(of: upload.draft) else {
            throw ManagementProblem(.invalidRequest, "the image is empty")
        }
        let release = upload.release
        let analysis = try analyse(image, as: release, signature)
        let now = milliseconds()
        var record = FirmwareRecord(
            id: Secrets.identifier(at: now), model: release.model.text, version: release.version.name,
            size: Int64(upload.draft.size), digest: upload.draft.finishDigest(), analysis: analysis.json.text,
            uploader: doer.actor, created: now)
        record.text = text
        record.signature = signature
        do throws(FirmwareTreeError) {
            try tree.add(upload.draft, as: release.version, metadata: record.metadata)
        } catch {
            if case .exists = error { throw Self.exists(release) }
            throw error
        }
        uploads[number] = nil
        do {
            try store.save(
                record,
                activity(
                    .firmwareUploaded, record, doer,
                    ["size": .integer(record.size), "sha256": .string(hexadecimal(record.digest))]))
        } catch {
            try? tree.remove(release)
            throw error
        }
        return record
    }

    private static func exists(_ release: ReleaseName) -> ManagementProblem {
        ManagementProblem(.alreadyExists, "there is \(release) already, and a release never changes")
    }

    // MARK: - From one state to the next

    /// Reads the image again, against what is known of its model now, and asks the administrator's own verifier. Throws where
    /// devices shall not have it; why is in the log then, and in its record.
    func verify(_ release: ReleaseName, by doer: Doer) async throws -> FirmwareRecord {
        let uploaded = try known(release)
        try refuseIfBlocked(release)
        guard let image = try tree.image(of: release) else { throw FirmwareTreeError.missing(release) }
        let analysis = try analyse(image, as: release, uploaded.signature)
        let isWhole = analysis.digest == uploaded.digest
        var problem = isWhole ? analysis.firstError?.text : "the image on the disk is not the one that was uploaded"
        if problem == nil {
            problem = await verifier?.objection(to: image.path, release.model.text, release.version.name)
        }
        // Meanwhile it may have become another, or nothing.
        var record = try known(release)
        guard record.id == uploaded.id else {
            throw ManagementProblem(.wrongState, "\(release) has become another meanwhile")
        }
        record.analysis = analysis.json.text
        if problem == nil {
            if record.state == .uploaded { record.state = .verified }
            record.verified = milliseconds()
        } else {
            (record.state, record.approver, record.approved) = (.uploaded, nil, nil)
        }
        try store.save(
            record,
            activity(
                .firmwareVerified, record, doer,
                ["sound": .bool(problem == nil), "problem": .optional(problem)]))
        if let problem { throw ManagementProblem(.unsoundFirmware, "\(release): \(problem)") }
        return record
    }

    /// `administrators`: how many may do so; where there are several, not whoever has uploaded it.
    func approve(_ release: ReleaseName, administrators: Int, by doer: Doer) throws -> FirmwareRecord {
        var record = try known(release)
        guard record.state != .uploaded else {
            throw ManagementProblem(.wrongState, "\(release) is not verified")
        }
        try refuseIfBlocked(release)
        guard administrators < 2 || record.uploader != doer.actor else {
            throw ManagementProblem(.forbidden, "another administrator than who uploaded it approves of \(release)")
        }
        guard record.state != .approved else { return record }
        (record.state, record.approver, record.approved) = (.approved, doer.actor, milliseconds())
        try store.save(record, activity(.firmwareApproved, record, doer))
        return record
    }

    /// Devices of its model shall run it from now on.
    func promote(_ release: ReleaseName, by doer: Doer) throws -> FirmwareRecord {
        var record = try known(release)
        guard record.state == .approved else {
            throw ManagementProblem(.wrongState, "\(release) is not approved")
        }
        try refuseIfBlocked(release)
        let before = try? tree.production(of: release.model)
        record.promoted = milliseconds()
        try tree.promote(release)
        do {
            try store.save(
                record, activity(.firmwarePromoted, record, doer, ["before": .optional(before?.name)]))
        } catch {
            if let before { try? tree.promote(ReleaseName(model: release.model, version: before)) }
            throw error
        }
        production[release.model] = release.version
        return record
    }

    /// No device gets it any more, and addresses that were given out end. Also of a version that was never here.
    func block(_ release: ReleaseName, reason: String, by doer: Doer) throws {
        var blocked = try tree.blockedVersions(of: release.model)
        blocked.block(release.version, reason)
        try tree.setBlockedVersions(blocked, of: release.model)
        try store.append(activity(.firmwareBlocked, release, doer, ["reason": .string(reason)]))
    }

    func unblock(_ release: ReleaseName, by doer: Doer) throws {
        var blocked = try tree.blockedVersions(of: release.model)
        guard blocked.contains(release.version) else { return }
        blocked.unblock(release.version)
        try tree.setBlockedVersions(blocked, of: release.model)
        try store.append(activity(.firmwareUnblocked, release, doer))
    }

    func delete(_ release: ReleaseName, by doer: Doer) throws {
        let record = try known(release)
        guard try tree.production(of: release.model) != release.version else {
            throw ManagementProblem(.wrongState, "devices shall run \(release): promote another version first")
        }
        try tree.remove(release)
        try store.delete(firmware: record.id, activity(.firmwareDeleted, record, doer))
    }

    /// Of models that have more than `count`, the oldest go. What devices shall run, what they ran before, and `wanted` stay.
    /// `model`: nil: all.
    func deleteOldReleases(
        of model: ModelName? = nil, keeping count: Int, except wanted: Set<ReleaseName>, by doer: Doer
    ) throws {
        for model in try model.map({ [$0] }) ?? tree.models() {
            let records = try store.firmware(of: model.text, page: 1, limit: .max).elements
            guard records.count > count else { continue }
            let production: FirmwareVersion?
            // Where nobody can tell what devices shall run, everything stays.
            do { production = try tree.production(of: model) } catch { continue }
            let before =
                records.filter { $0.promoted != nil && $0.release?.version != production }
                .max { ($0.promoted ?? 0) < ($1.promoted ?? 0) }
            for record in records.dropFirst(count) where record.id != before?.id {
                guard let release = record.release, release.version != production, !wanted.contains(release) else {
                    continue
                }
                try delete(release, by: doer)
            }
        }
    }

    private func refuseIfBlocked(_ release: ReleaseName) throws {
        guard try !tree.blockedVersions(of: release.model).contains(release.version) else {
            throw ManagementProblem(.wrongState, "\(release) is blocked")
        }
    }

    private func known(_ release: ReleaseName) throws -> FirmwareRecord {
        guard let record = try store.firmware(release) else {
            throw ManagementProblem(.notFound, "there is no \(release)")
        }
        return record
    }

    private func analyse(
        _ image: OpenFile, as release: ReleaseName, _ signature: [UInt8]?
    ) throws -> ImageAnalysis {
        var expectations = try store.model(release.model.text)?.expectations() ?? Expectations()
        expectations.declaredVersion = release.version
        expectations.detachedSignature = signature
        return try ImageAnalysis(of: image, expecting: expectations)
    }

    // MARK: - What there is

    /// A release with what the files beside it say of it.
    struct Shown: Sendable {
        let record: FirmwareRecord
        let isProduction: Bool
        /// Nil: it is not blocked.
        let blockedBecause: String?
    }

    func release(_ release: ReleaseName) throws -> Shown { try shown(known(release)) }

    /// The latest first. `model`: nil: of all.
    func releases(of model: ModelName?, page: Int, limit: Int) throws -> Page<Shown> {
        let page = try store.firmware(of: model?.text, page: page, limit: limit)
        return Page(elements: try page.elements.map(shown), total: page.total)
    }

    private func shown(_ record: FirmwareRecord) throws -> Shown {
        guard let release = record.release else {
            return Shown(record: record, isProduction: false, blockedBecause: nil)
        }
        return Shown(
            record: record, isProduction: version(of: release.model) == release.version,
            blockedBecause: try? tree.blockedVersions(of: release.model).reasons[release.version])
    }

    /// Models that somebody has described, or that have firmware.
    func models() throws -> [ModelName] { try tree.models() }

    /// What `version.txt` says, and what `blocked_versions.json`.
    func state(of model: ModelName) -> (production: FirmwareVersion?, blocked: [FirmwareVersion]) {
        let blocked = (try? tree.blockedVersions(of: model))?.reasons.keys.sorted { $0.name < $1.name } ?? []
        return (version(of: model), blocked)
    }

    private func version(of model: ModelName) -> FirmwareVersion? { (try? tree.production(of: model)) ?? nil }

    // MARK: - What devices shall run

    /// Nil: nothing that could be given to a device. The files of the tree are read each time, for somebody may have edited
    /// them; what is wrong with them is told once.
    func offer(for model: ModelName) -> Offer? {
        do {
            guard let version = try tree.production(of: model) else { return settle(model, nil, nil) }
            let release = ReleaseName(model: model, version: version)
            guard let record = try store.firmware(release) else {
                return settle(model, version, "\(release) shall be run, and there is no such release")
            }
            guard record.state == .approved else {
                return settle(model, version, "\(release) shall be run, and nobody has approved of it")
            }
            guard try !tree.blockedVersions(of: model).contains(version) else {
                return settle(model, version, "\(release) shall be run, and is blocked")
            }
            if production[model] != .some(version) { try noticePromotion(of: record, release) }
            _ = settle(model, version, nil)
            return Offer(release: release, size: record.size, digest: record.digest)
        } catch {
            return settle(model, nil, "nothing is offered for \(model): \(error)")
        }
    }

    /// Somebody has edited `version.txt`, or it was so when the process began.
    private func noticePromotion(of record: FirmwareRecord, _ release: ReleaseName) throws {
        try tree.refreshProduction(release)
        guard production[release.model] != nil || record.promoted == nil else { return }
        var record = record
        record.promoted = milliseconds()
        let doer = Doer(actor: "file:version.txt", address: nil)
        try store.save(record, activity(.firmwarePromoted, record, doer))
    }

    private func settle(_ model: ModelName, _ version: FirmwareVersion?, _ problem: String?) -> Offer? {
        if let problem, problems[model] != problem { report(problem) }
        problems[model] = problem
        if problem == nil { production[model] = .some(version) }
        return nil
    }

    /// What a device fetches, by an address that is ours. Nil: it may not have it any more. What can't be read of what is blocked
    /// blocks all; the next check tells.
    func open(_ release: ReleaseName) throws -> (file: OpenFile, record: FirmwareRecord)? {
        guard let record = try store.firmware(release), record.state == .approved,
            let blocked = try? tree.blockedVersions(of: release.model), !blocked.contains(release.version),
            let file = try tree.image(of: release), file.count == record.size
        else { return nil }
        return (file, record)
    }

    // MARK: - Damage

    /// Reads everything that lies in the tree, and says what is not as it was.
    func examine() throws -> [String] {
        var problems: [String] = []
        var page = 1
        while true {
            let part = try store.firmware(page: page, limit: 500).elements
            if part.isEmpty { break }
            for record in part {
                guard let release = record.release else { continue }
                if let problem = damage(of: release, record) { problems.append("\(release): \(problem)") }
            }
            page += 1
        }
        for model in try tree.models() {
            do throws(FirmwareTreeError) {
                _ = try tree.blockedVersions(of: model)
                guard let version = try tree.production(of: model) else { continue }
                let release = ReleaseName(model: model, version: version)
                guard try tree.image(of: release) != nil else {
                    problems.append("\(model): version.txt says \(version), and there is no such release")
                    continue
                }
                if try !tree.isProductionFresh(release) {
                    problems.append("\(model): production/firmware.bin is not \(version); the next check makes it so")
                }
            } catch {
                problems.append("\(error)")
            }
        }
        return problems
    }

    private func damage(of release: ReleaseName, _ record: FirmwareRecord) -> String? {
        do {
            guard let image = try tree.image(of: release) else { return "its image is gone" }
            guard image.count == record.size else { return "its image has \(image.count) bytes, not \(record.size)" }
            guard try image.digest() == record.digest else { return "its image is another than was uploaded" }
            guard try tree.metadata(of: release) != nil else { return "its metadata.json is gone" }
            return nil
        } catch {
            return "\(error)"
        }
    }

    // MARK: - What lies there and is not known, and the other way round

    private static func reconcile(
        _ tree: borrowing FirmwareTree, _ store: FleetStore, _ now: Int64, _ report: (String) -> Void
    ) throws {
        let doer = Doer(actor: "server", address: nil)
        for model in try tree.models() {
            for version in try tree.versions(of: model) {
                let release = ReleaseName(model: model, version: version)
                do {
                    guard try adopt(release, tree, store, doer, at: now) else { continue }
                    report("\(release) lay under firmware/ and was not known; it has to be verified and approved")
                } catch {
                    guard error is FirmwareTreeError || error is ReadFailure else { throw error }
                    report("\(release) lies under firmware/ and can't be taken over: \(error)")
                }
            }
        }
        var page = 1
        var gone: [FirmwareRecord] = []
        while true {
            let part = try store.firmware(page: page, limit: 500).elements
            if part.isEmpty { break }
            for record in part {
                guard let release = record.release else { continue }
                do throws(FirmwareTreeError) {
                    if try tree.image(of: release) == nil { gone.append(record) }
                } catch {
                    report("the image of \(release) can't be read: \(error)")
                }
            }
            page += 1
        }
        for record in gone {
            guard let release = record.release else { continue }
            try store.delete(firmware: record.id, activity(.firmwareDeleted, release, doer, ["found": false], at: now))
            report("the image of \(release) is gone from firmware/")
        }
    }

    /// False: it is known, or has no image.
    private static func adopt(
        _ release: ReleaseName, _ tree: borrowing FirmwareTree, _ store: FleetStore, _ doer: Doer, at now: Int64
    ) throws -> Bool {
        guard try store.firmware(release) == nil, let image = try tree.image(of: release) else { return false }
        let metadata = try tree.metadata(of: release) ?? []
        var expectations = try store.model(release.model.text)?.expectations() ?? Expectations()
        expectations.declaredVersion = release.version
        let analysis = try ImageAnalysis(of: image, expecting: expectations)
        var record = FirmwareRecord(
            id: Secrets.identifier(at: now), model: release.model.text, version: release.version.name,
            size: Int64(analysis.bytes), digest: analysis.digest, analysis: analysis.json.text,
            uploader: doer.actor, created: now)
        record.adopt(metadata)
        // What lies there may be of another release, or nothing.
        try tree.setMetadata(record.metadata, of: release)
        try store.save(record, activity(.firmwareUploaded, release, doer, ["found": true], at: now))
        return true
    }

    // MARK: - The log

    private func activity(
        _ kind: Activity.Kind, _ record: FirmwareRecord, _ doer: Doer, _ detail: [String: JSONValue] = [:]
    ) -> Activity {
        Self.activity(kind, record.model, record.version, doer, detail, at: milliseconds())
    }

    private func activity(
        _ kind: Activity.Kind, _ release: ReleaseName, _ doer: Doer, _ detail: [String: JSONValue] = [:]
    ) -> Activity {
        Self.activity(kind, release, doer, detail, at: milliseconds())
    }

    private static func activity(
        _ kind: Activity.Kind, _ release: ReleaseName, _ doer: Doer, _ detail: [String: JSONValue], at time: Int64
    ) -> Activity {
        activity(kind, release.model.text, release.version.name, doer, detail, at: time)
    }

    private static func activity(
        _ kind: Activity.Kind, _ model: String, _ version: String, _ doer: Doer, _ detail: [String: JSONValue],
        at time: Int64
    ) -> Activity {
        let members = detail.merging(["model": .string(model), "version": .string(version)]) { $1 }
        return Activity(
            time: time, actor: doer.actor, address: doer.address, kind: kind, detail: JSONValue.object(members).text)
    }
}

extension FleetStore {
    fileprivate func firmware(_ release: ReleaseName) throws -> FirmwareRecord? {
        try firmware(release.model.text, release.version.name)
    }
}

extension ManagementProblem {
    /// What files or the database have in the way of what somebody has asked for. What they can mend is said.
    init(saving error: any Error) {
        switch error {
        case let problem as ManagementProblem: self = problem
        case FirmwareTreeError.missing(let release):
            self.init(.unsoundFirmware, "the image of \(release) is gone from the disk")
        case FirmwareTreeError.malformed(let path, let reason):
            self.init(.wrongState, "\(Self.belowFirmware(path)): \(reason)")
        case FirmwareTreeError.tooLong(let path, let limit):
            self.init(.wrongState, "\(Self.belowFirmware(path)): longer than \(limit) bytes")
        default: self.init(.storageFailed, "nothing was changed: \(error)")
        }
    }

    /// Where the data directory is concerns nobody.
    private static func belowFirmware(_ path: String) -> String {
        path.split(separator: "/").suffix(3).joined(separator: "/")
    }
}

extension FirmwareRecord {
    /// Nil where a database says something that can't be.
    var release: ReleaseName? {
        guard let model = ModelName(model), let version = FirmwareVersion(version) else { return nil }
        return ReleaseName(model: model, version: version)
    }

    /// What lies beside the image, for people and for whoever finds it without a database.
    fileprivate var metadata: [UInt8] {
        let members: [String: JSONValue] = [
            "id": .string(id), "model": .string(model), "version": .string(version), "description": .string(text),
            "size": .integer(size), "sha256": .string(hexadecimal(digest)), "uploadedBy": .string(uploader),
            "createdAt": .string(internetTime(created)),
            "signature": .optional(signature.map { Base64.standard.encode($0) }),
        ]
        return JSONValue.object(members).bytes + [UInt8(ascii: "\n")]
    }

    /// What of that can be read.
    fileprivate mutating func adopt(_ metadata: [UInt8]) {
        guard let members = JSONValue(parsing: metadata)?.object else { return }
        text = String((members["description"]?.string ?? "").prefix(FirmwareDesk.Limits.textBytes))
        uploader = members["uploadedBy"]?.string ?? uploader
        created = (try? members["createdAt"]?.string.map(Fields.time)) ?? created
        signature = members["signature"]?.string.flatMap { Base64.standard.decode($0.utf8) }
    }
}

extension ModelRecord {
    /// What its firmware has to be.
    func expectations() throws -> Expectations {
        var expectations = Expectations()
        expectations.chip = chip.flatMap { Chip(name: $0) }
        expectations.flashBytes = flashSize.map { Int($0) }
        for key in keys {
            if key.hasPrefix("-----") {
                try expectations.keys.add(pem: Array(key.utf8))
            } else {
                try expectations.keys.add(digest: key)
            }
        }
        return expectations
    }
}
