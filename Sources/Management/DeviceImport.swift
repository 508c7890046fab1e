internal import Access
internal import Cryptography
package import JSON
internal import Store

/// A device as a list of many names it, not looked at yet.
package struct ImportedDevice: Sendable, Equatable {
    /// Of the file, from 1.
    package var line: Int
    package var deviceId: String
    /// What it is claimed with; nil: one is made.
    package var claimCode: String?
    package var name: String?
    package var model: String?
    package var macAddress: String?
    package var owner: String?
    package var tags: [String] = []

    package init(line: Int, deviceId: String) {
        self.line = line
        self.deviceId = deviceId
    }
}

/// What became of one.
package struct ImportReport: Sendable {
    package enum Result: String, Sendable { case imported, exists, error }

    package let result: Result
    package let value: JSONValue

    init(_ result: Result, _ line: Int, _ deviceId: String?, _ more: [String: JSONValue] = [:]) {
        self.result = result
        var members = more
        members["line"] = .integer(Int64(line))
        members["deviceId"] = .optional(deviceId)
        members["result"] = .string(result.rawValue)
        value = .object(members)
    }

    init(_ problem: ManagementProblem, _ line: Int, _ deviceId: String?) {
        self.init(
            .error, line, deviceId, ["code": .string(problem.code.rawValue), "detail": .string(problem.message)])
    }
}

/// The columns of a file of devices, as its first line names them.
package struct ImportColumns: Sendable, Equatable {
    package static let names = ["deviceId", "claimCode", "name", "model", "macAddress", "tags", "owner"]

    private let columns: [String]

    package init(_ header: CSVReader.Record) throws(ManagementProblem) {
        let known = Self.names.joined(separator: ", ")
        if let problem = header.problem { throw ManagementProblem(.invalidRequest, "line \(header.line): \(problem)") }
        var columns: [String] = []
        for name in header.fields {
            guard Self.names.contains(name) else {
                throw ManagementProblem(
                    .invalidRequest,
                    "the first line names the columns, of \(known); '\(name.prefix(64))' is none of them")
            }
            guard !columns.contains(name) else { throw ManagementProblem(.invalidRequest, "two columns are '\(name)'") }
            columns.append(name)
        }
        guard columns.contains("deviceId") else {
            throw ManagementProblem(
                .invalidRequest, "the first line names the columns, of \(known): 'deviceId' is missing")
        }
        self.columns = columns
    }

    /// Throws a report: the line can't be read. Empty fields are as if they were not there; tags stand between `;`.
    package func device(_ record: CSVReader.Record) -> Result<ImportedDevice, Unreadable> {
        if let problem = record.problem {
            return .failure(Unreadable(line: record.line, reason: "line \(record.line): \(problem)"))
        }
        guard record.fields.count == columns.count else {
            let reason = "line \(record.line): \(record.fields.count) fields, where the first has \(columns.count)"
            return .failure(Unreadable(line: record.line, reason: reason))
        }
        var device = ImportedDevice(line: record.line, deviceId: "")
        for (name, field) in zip(columns, record.fields) where !field.isEmpty {
            switch name {
            case "deviceId": device.deviceId = field
            case "claimCode": device.claimCode = field
            case "name": device.name = field
            case "model": device.model = field
            case "macAddress": device.macAddress = field
            case "owner": device.owner = field
            default: device.tags = field.split(separator: ";").map(String.init)
            }
        }
        return .success(device)
    }

    package struct Unreadable: Error, Sendable {
        package let line: Int
        package let reason: String

        package var report: ImportReport { ImportReport(ManagementProblem(.invalidRequest, reason), line, nil) }
    }
}

/// What became of all.
package struct ImportSummary: Sendable {
    private var counts: [ImportReport.Result: Int64] = [:]

    package init() {}

    package var hasErrors: Bool { counts[.error] ?? 0 > 0 }

    package mutating func count(_ report: ImportReport) { counts[report.result, default: 0] += 1 }

    /// `problem`: why it ended before its end.
    package func value(_ problem: ManagementProblem? = nil) -> JSONValue {
        var members: [String: JSONValue] = ["result": "summary", "complete": .bool(problem == nil)]
        for (name, result) in [("imported", ImportReport.Result.imported), ("exists", .exists), ("errors", .error)] {
            members[name] = .integer(counts[result] ?? 0)
        }
        if let problem {
            members["code"] = .string(problem.code.rawValue)
            members["detail"] = .string(problem.message)
        }
        return .object(members)
    }
}

extension Management {
    /// In one transaction, which is one entry in the activity log: an import must not push everything else out of that.
    package static let importedAtOnce = 200

    /// Makes devices that can sign in, and belong to nobody before somebody claims them, unless an owner is named. What can't
    /// be made does not keep the others from it. One report each, in order.
    package func importDevices(
        _ devices: [ImportedDevice], for requester: Requester
    ) throws(ManagementProblem) -> [ImportReport] {
        try refuseUnlessAdministrator(requester)
        guard requester.receivesSecrets else {
            throw ManagementProblem(.forbidden, "what a device signs in with is not answered this way")
        }
        guard devices.count <= Self.importedAtOnce else {
            throw ManagementProblem(.invalidRequest, "at most \(Self.importedAtOnce) devices are imported at once")
        }
        var rows: [FleetStore.NewDevice] = []
        var added: Set<String> = []
        let reports = devices.map { device in
            do throws(ManagementProblem) {
                let id = try DeviceId(device.deviceId)
                guard accounts.devices[id.text] == nil, !added.contains(id.text) else {
                    return ImportReport(.exists, device.line, id.text)
                }
                let (row, more) = try row(device, id)
                rows.append(row)
                added.insert(id.text)
                return ImportReport(.imported, device.line, id.text, more)
            } catch {
                return ImportReport(error, device.line, device.deviceId)
            }
        }
        guard let first = rows.first, let last = rows.last else { return reports }
        let detail: [String: JSONValue] = [
            "count": .integer(Int64(rows.count)), "first": .string(first.record.deviceId),
            "last": .string(last.record.deviceId),
        ]
        try saving { try store.add(rows, activity(.devicesImported, by: requester, detail)) }
        fleet.add(rows.map(\.record.deviceId), at: now())
        adopt { accounts in
            for row in rows {
                accounts.devices[row.record.deviceId] = Accounts.Device(
                    deviceId: row.record.deviceId, secret: row.secret)
            }
            let owned = Dictionary(grouping: rows.filter { $0.record.owner != nil }) { $0.record.owner ?? "" }
            for (owner, rows) in owned {
                let devices = (accounts.people[owner]?.devices ?? []) + rows.map(\.record.deviceId)
                accounts.people[owner]?.devices = devices.sorted()
            }
        }
        return reports
    }

    private func row(
        _ device: ImportedDevice, _ id: DeviceId
    ) throws(ManagementProblem) -> (FleetStore.NewDevice, answer: [String: JSONValue]) {
        guard accounts.services[id.text.lowercased()] == nil else { throw Self.isService(id) }
        let now = milliseconds()
        var record = DeviceRecord(
            id: Secrets.identifier(at: now), deviceId: id.text, name: try Fields.name(device.name ?? ""),
            registered: now)
        if let model = device.model { record.model = try Fields.model(model) }
        if let address = device.macAddress { record.macAddress = try Fields.macAddress(address) }
        record.tags = try Fields.tags(device.tags)
        let owner = try device.owner.map { (text) throws(ManagementProblem) in try person(try Email(text)) }
        record.owner = owner?.email
        guard owner == nil || device.claimCode == nil else {
            throw ManagementProblem(.invalidRequest, "a device that has an owner is not claimed; leave out one of both")
        }
        let (secret, digest) = SecretDigest.make()
        var answer: [String: JSONValue] = ["credentials": credentials(id.text, secret)]
        var claim: SecretDigest?
        if owner == nil {
            let code = try device.claimCode.map(Fields.claimCode) ?? Secrets.makeCode()
            if device.claimCode == nil { answer["claimCode"] = .string(code) }
            claim = SecretDigest(of: Array(code.utf8), salt: randomBytes(SecretDigest.saltBytes))
        }
        return (FleetStore.NewDevice(record: record, owner: owner?.id, secret: digest, claim: claim), answer)
    }

    static func isService(_ id: DeviceId) -> ManagementProblem {
        ManagementProblem(.alreadyExists, "there is a service of the name \(id.text.lowercased())")
    }

    /// A device that was imported becomes somebody's who shows its code, and gets new credentials: whoever had it before,
    /// or made the list, does not speak for it any more.
    func claimDevice(
        _ id: DeviceId, _ code: String?, for person: Accounts.Person?, _ requester: Requester,
        _ change: (inout DeviceRecord) -> Void
    ) throws -> JSONValue? {
        let claim = try store.claim(of: id.text)
        if accounts.devices[id.text] != nil, claim == nil {
            throw ManagementProblem(.alreadyExists, "there is a device \(id.text) already")
        }
        guard let code else {
            throw ManagementProblem(
                .claimCodeRequired, "\(id.text) has to be claimed: with the 'claimCode' it came with")
        }
        let wrong = ManagementProblem(.wrongClaimCode, "there is no device \(id.text) with this claim code")
        // Not a name that anybody could sign in with.
        try proving(Array("\0claim \(id.text)".utf8), from: requester.source, else: wrong) {
            claim?.matches(Array(code.utf8)) ?? false ? () : nil
        }
        guard let person else { throw ManagementProblem(.invalidRequest, "a device is claimed for an 'owner'") }
        guard var record = try store.device(id.text) else { throw wrong }
        change(&record)
        record.owner = person.email
        let (secret, digest) = SecretDigest.make()
        let detail: [String: JSONValue] = ["owner": .string(person.email), "claimed": true]
        try store.claim(
            record, owner: person.id, secret: digest,
            activity(.deviceRegistered, by: requester, device: id.text, detail))
        adopt { accounts in
            accounts.devices[id.text]?.secret = digest
            accounts.people[person.email]?.devices = (person.devices + [id.text]).sorted()
        }
        return .object(["device": json(record), "credentials": credentials(id.text, secret)])
    }
}
