internal import Access
internal import Certificates
internal import Cryptography
internal import JSON
internal import Store

// Certificates and the activity log.

extension Management {
    /// Takes over what the directory of certificates says: what was issued and revoked since. That is where certificates
    /// are made, with or without a broker. Blocks on the disk.
    package func takeOverCertificates(for requester: Requester) throws {
        let known = try store.certificateSerials()
        var issued: [(CertificateRecord, Activity)] = []
        var revoked: [(serial: String, Activity)] = []
        for certificate in try certificates.list() {
            let serial = "\(certificate.serial)"
            if known[serial] == nil {
                let record = CertificateRecord(certificate)
                let detail: [String: JSONValue] = ["serial": .string(serial)]
                issued.append(
                    (record, activity(.certificateIssued, by: requester, device: record.deviceId, detail)))
            }
            if certificate.revoked != nil, known[serial] != true {
                let detail: [String: JSONValue] = ["serial": .string(serial), "reason": .string(Self.revocationReason)]
                revoked.append((serial, activity(.certificateRevoked, by: requester, detail)))
            }
        }
        guard !issued.isEmpty || !revoked.isEmpty else { return }
        try store.note(issued: issued, revoked: revoked, reason: Self.revocationReason)
        if !revoked.isEmpty { adopt { $0.revokedCertificates.formUnion(revoked.map(\.serial)) } }
    }

    /// The directory keeps no reasons (RFC 5280 5.3.1).
    private static var revocationReason: String { "unspecified" }

    func listCertificates(_ request: ManagementCommand.PageRequest) throws -> JSONValue? {
        let page = try store.certificates(page: request.page, limit: request.limit)
        let certificates = page.elements.map { certificate in
            JSONValue.object([
                "serial": .string(certificate.serial), "deviceId": .optional(certificate.deviceId),
                "subject": .string(certificate.subject), "notBefore": timestamp(certificate.notBefore),
                "notAfter": timestamp(certificate.notAfter), "issuedAt": timestamp(certificate.issued),
                "revokedAt": certificate.revoked.map(timestamp) ?? .null, "reason": .optional(certificate.reason),
            ])
        }
        return list("certificates", certificates, request, total: page.total)
    }

    func listActivity(
        _ request: ManagementCommand.PageRequest, _ wanted: ManagementCommand.ActivityRequest
    ) throws -> JSONValue? {
        var filter = FleetStore.ActivityFilter(device: wanted.device?.text)
        filter.actor = wanted.actor
        filter.kind = wanted.kind.flatMap(Activity.Kind.init)
        (filter.from, filter.to) = (wanted.from, wanted.to)
        let page = try store.activity(filter, page: request.page, limit: request.limit)
        return list("activity", page.elements.map(json), request, total: page.total)
    }

    nonisolated func json(_ entry: Activity) -> JSONValue {
        .object([
            "time": timestamp(entry.time), "actor": .string(entry.actor), "address": .optional(entry.address),
            "deviceId": .optional(entry.device), "kind": .string(entry.kind.rawValue),
            "detail": JSONValue(parsing: Array(entry.detail.utf8)) ?? .null,
        ])
    }

    /// Each entry of the log, as a list of them has it, once it is written. In order; on the thread that has written it.
    package nonisolated func tellOfActivity(_ listener: @escaping @Sendable ([[UInt8]]) -> Void) {
        store.tellOfActivity { entries in listener(entries.map { self.json($0).bytes }) }
    }
}

extension CertificateRecord {
    fileprivate init(_ certificate: IssuedCertificate) {
        self.init(
            serial: "\(certificate.serial)", deviceId: certificate.kind == .device ? certificate.name : nil,
            subject: "CN=\(certificate.name)", notBefore: certificate.notBefore.seconds * 1000,
            notAfter: certificate.notAfter.seconds * 1000,
            fingerprint: bytes(hexadecimal: Array(certificate.fingerprint.utf8)) ?? [],
            issued: certificate.issued.seconds * 1000)
    }
}
