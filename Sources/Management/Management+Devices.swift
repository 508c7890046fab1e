internal import Access
internal import Certificates
internal import Store

extension Management {
    func registerDevice(
        _ id: DeviceId, name: String, model: String?, macAddress: String?, owner: Email?, _ requester: Requester
    ) throws -> JSONValue? {
        guard accounts.devices[id.text] == nil else {
            throw ManagementProblem(.alreadyExists, "there is a device \(id.text) already")
        }
        // It would sign in as the service.
        guard accounts.services[id.text.lowercased()] == nil else {
            throw ManagementProblem(.alreadyExists, "there is a service of the name \(id.text.lowercased())")
        }
        let person = try owner.map { try self.person($0) }
        let now = milliseconds()
        var record = DeviceRecord(id: Secrets.identifier(at: now), deviceId: id.text, name: name, registered: now)
        record.model = model
        record.macAddress = macAddress
        record.owner = person?.email
        let (secret, digest) = SecretDigest.make()
        try store.add(
            record, owner: person?.id, secret: digest,
            activity(.deviceRegistered, by: requester, device: id.text, ["owner": .optional(person?.email)]))
        adopt { accounts in
            accounts.devices[id.text] = Accounts.Device(deviceId: id.text, secret: digest)
            if let person {
                var devices = accounts.people[person.email]?.devices ?? []
                devices.insert(id.text, at: devices.firstIndex { $0 > id.text } ?? devices.endIndex)
                accounts.people[person.email]?.devices = devices
            }
        }
        return .object(["device": json(record), "credentials": credentials(id.text, secret)])
    }

    func listDevices(_ request: ManagementCommand.PageRequest) throws -> JSONValue? {
        let page = try store.devices(page: request.page, limit: request.limit)
        return list("devices", page.elements.map(json), request, total: page.total)
    }

    func blockDevice(_ id: DeviceId, _ isBlocked: Bool, _ requester: Requester) throws -> JSONValue? {
        guard try device(id).isBlocked != isBlocked else { return nil }
        let kind: Activity.Kind = isBlocked ? .deviceBlocked : .deviceUnblocked
        try store.setBlocked(isBlocked, device: id.text, activity(kind, by: requester, device: id.text))
        adopt { $0.devices[id.text]?.isBlocked = isBlocked }
        return nil
    }

    func rotateDeviceCredentials(_ id: DeviceId, _ requester: Requester) throws -> JSONValue? {
        _ = try device(id)
        let (secret, digest) = SecretDigest.make()
        try store.setSecret(digest, device: id.text, activity(.credentialsRotated, by: requester, device: id.text))
        adopt { $0.devices[id.text]?.secret = digest }
        return .object(["credentials": credentials(id.text, secret)])
    }

    func deleteDevice(_ id: DeviceId, _ requester: Requester) throws -> JSONValue? {
        _ = try device(id)
        try? takeOverCertificates(for: requester)  // The store revokes what it knows of.
        let revoked = try store.delete(
            device: id.text, activity(.deviceDeleted, by: requester, device: id.text))
        adopt { accounts in
            accounts.devices[id.text] = nil
            accounts.revokedCertificates.formUnion(revoked)
            let owners = accounts.people.values.filter { $0.devices.contains(id.text) }.map(\.email)
            for owner in owners { accounts.people[owner]?.devices.removeAll { $0 == id.text } }
        }
        guard !revoked.isEmpty else { return nil }
        // For whoever reads the list of revoked certificates; here they count no more in any case.
        do {
            _ = try certificates.revoke(id.text, now: .now)
        } catch {
            throw ManagementProblem(
                .failed, "\(id.text) is removed, but the list of revoked certificates is as it was: \(error)")
        }
        return nil
    }

    private func device(_ id: DeviceId) throws(ManagementProblem) -> Accounts.Device {
        guard let device = accounts.devices[id.text] else {
            throw ManagementProblem(.notFound, "there is no device \(id.text)")
        }
        return device
    }

    private func json(_ device: DeviceRecord) -> JSONValue {
        .object([
            "id": .string(device.id), "deviceId": .string(device.deviceId), "name": .string(device.name),
            "owner": .optional(device.owner), "model": .optional(device.model),
            "macAddress": .optional(device.macAddress), "registeredAt": timestamp(device.registered),
            "blocked": .bool(device.isBlocked),
        ])
    }

    func credentials(_ userName: String, _ secret: String) -> JSONValue {
        .object(["username": .string(userName), "password": .string(secret)])
    }
}
