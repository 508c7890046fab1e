internal import Access
internal import Certificates
internal import Cryptography
package import Store

// Certificates and the activity log.

extension Management {
    /// Notes a certificate that was issued.
    package func record(_ certificate: CertificateRecord, for requester: Requester) throws {
        let detail: [String: JSONValue] = ["serial": .string(certificate.serial)]
        try store.add(
            certificate, activity(.certificateIssued, by: requester, device: certificate.deviceId, detail))
    }

    /// From now on it proves nothing.
    package func revoke(certificate serial: String, reason: String, for requester: Requester) throws {
        let detail: [String: JSONValue] = ["serial": .string(serial), "reason": .string(reason)]
        guard
            try store.revoke(
                certificate: serial, reason: reason, activity(.certificateRevoked, by: requester, detail))
        else { return }
        adopt { $0.revokedCertificates.insert(serial) }
    }

    /// Takes over what the directory of certificates says: what was issued and revoked since. That is where certificates
    /// are made, with or without a broker. Blocks on the disk.
    package func takeOverCertificates(for requester: Requester) throws {
        var known = try store.certificateSerials()
        for certificate in try certificates.list() {
            let serial = "\(certificate.serial)"
            let isDevice = certificate.kind == .device
            if known[serial] == nil {
                try record(
                    CertificateRecord(
                        serial: serial, deviceId: isDevice ? certificate.name : nil, subject: "CN=\(certificate.name)",
                        notBefore: certificate.notBefore.seconds * 1000, notAfter: certificate.notAfter.seconds * 1000,
                        fingerprint: bytes(hexadecimal: Array(certificate.fingerprint.utf8)) ?? [],
                        issued: certificate.issued.seconds * 1000),
                    for: requester)
                known[serial] = false
            }
            if certificate.revoked != nil, known[serial] == false {
                try revoke(certificate: serial, reason: "unspecified", for: requester)
            }
        }
    }

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

    func listActivity(_ request: ManagementCommand.PageRequest, _ device: DeviceId?) throws -> JSONValue? {
        let page = try store.activity(device: device?.text, page: request.page, limit: request.limit)
        let entries = page.elements.map { entry in
            JSONValue.object([
                "time": timestamp(entry.time), "actor": .string(entry.actor), "address": .optional(entry.address),
                "deviceId": .optional(entry.device), "kind": .string(entry.kind.rawValue),
                "detail": JSONValue(parsing: Array(entry.detail.utf8)) ?? .null,
            ])
        }
        return list("activity", entries, request, total: page.total)
    }
}
