internal import Access
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
