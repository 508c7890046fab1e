internal import Access
internal import Certificates
internal import Fleet
internal import JSON
internal import Store

extension Management {
    func registerDevice(
        _ id: DeviceId, name: String, model: String?, macAddress: String?, owner: Email?, tags: [String],
        claimCode: String?, _ requester: Requester
    ) throws -> JSONValue? {
        var owner = owner
        if requester.isLimited {
            guard owner == nil || owner?.text == requester.person else {
                throw ManagementProblem(.forbidden, "people register devices for themselves")
            }
            owner = try requester.person.map { try Email($0) }
        }
        // It would sign in as the service.
        guard accounts.services[id.text.lowercased()] == nil else { throw Self.isService(id) }
        let person = try owner.map { try self.person($0) }
        if requester.isLimited, let person, person.devices.count >= settings().maxDevicesPerUser {
            throw ManagementProblem(.tooMany, "a person has at most \(settings().maxDevicesPerUser) devices")
        }
        if accounts.devices[id.text] != nil || claimCode != nil {
            return try claimDevice(id, claimCode, for: person, requester) { record in
                if !name.isEmpty { record.name = name }
                record.model = model ?? record.model
                record.macAddress = macAddress ?? record.macAddress
                if !tags.isEmpty { record.tags = tags }
            }
        }
        let time = milliseconds()
        var record = DeviceRecord(id: Secrets.identifier(at: time), deviceId: id.text, name: name, registered: time)
        record.model = model
        record.macAddress = macAddress
        record.owner = person?.email
        record.tags = tags
        let (secret, digest) = SecretDigest.make()
        try store.add(
            record, owner: person?.id, secret: digest,
            activity(.deviceRegistered, by: requester, device: id.text, ["owner": .optional(person?.email)]))
        fleet.add([id.text], at: now())
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

    func getDevice(_ id: DeviceId, _ requester: Requester) throws -> JSONValue? {
        _ = try device(id, requester)
        return .object(["device": json(try record(id))])
    }

    func updateDevice(
        _ id: DeviceId, _ change: ManagementCommand.DeviceChange, _ requester: Requester
    ) throws -> JSONValue? {
        _ = try device(id, requester)
        var record = try record(id)
        let before = record
        record.name = change.name ?? record.name
        record.model = change.model ?? record.model
        record.macAddress = change.macAddress ?? record.macAddress
        record.tags = change.tags ?? record.tags
        if record != before { try store.update(record, activity(.deviceUpdated, by: requester, device: id.text)) }
        return .object(["device": json(record)])
    }

    private func record(_ id: DeviceId) throws -> DeviceRecord {
        guard let record = try store.device(id.text) else {
            throw ManagementProblem(.notFound, "there is no device \(id.text)")
        }
        return record
    }

    func blockDevice(_ id: DeviceId, _ isBlocked: Bool, _ requester: Requester) throws -> JSONValue? {
        guard try device(id, requester).isBlocked != isBlocked else { return nil }
        let kind: Activity.Kind = isBlocked ? .deviceBlocked : .deviceUnblocked
        try store.setBlocked(isBlocked, device: id.text, activity(kind, by: requester, device: id.text))
        fleet.setBlocked(isBlocked, id.text)
        adopt { $0.devices[id.text]?.isBlocked = isBlocked }
        return nil
    }

    func rotateDeviceCredentials(_ id: DeviceId, _ requester: Requester) throws -> JSONValue? {
        _ = try device(id, requester)
        let (secret, digest) = SecretDigest.make()
        try store.setSecret(digest, device: id.text, activity(.credentialsRotated, by: requester, device: id.text))
        adopt { $0.devices[id.text]?.secret = digest }
        return .object(["credentials": credentials(id.text, secret)])
    }

    func deleteDevice(_ id: DeviceId, _ requester: Requester) throws -> JSONValue? {
        _ = try device(id, requester)
        do {
            try takeOverCertificates(for: requester)  // The store revokes what it knows of.
        } catch {
            // One that is not revoked would count again for a later device of the same name.
            throw ManagementProblem(
                .failed,
                "\(id.text) is not removed: which certificates it has can't be read"
                    + (requester.isLimited ? "" : ": \(error)"))
        }
        let revoked = try store.delete(
            device: id.text, activity(.deviceDeleted, by: requester, device: id.text))
        fleet.remove(id.text)
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
                .failed,
                "\(id.text) is removed, but the list of revoked certificates is as it was"
                    + (requester.isLimited ? "" : ": \(error)"))
        }
        return nil
    }

    /// Others' devices are as if they were not there.
    func device(_ id: DeviceId, _ requester: Requester) throws(ManagementProblem) -> Accounts.Device {
        let isTheirs =
            !requester.isLimited
            || requester.person.flatMap { accounts.people[$0] }?.devices.contains(id.text) ?? false
        guard isTheirs, let device = accounts.devices[id.text] else {
            throw ManagementProblem(.notFound, "there is no device \(id.text)")
        }
        return device
    }

    /// With what it does at this moment.
    nonisolated func json(_ device: DeviceRecord) -> JSONValue { .text(withState(text(device), of: device.deviceId)) }

    nonisolated func withState(_ record: JSONText, of device: String) -> JSONText {
        let state = fleet.state(of: device) ?? DeviceState()
        return record.adding(JSONText { state.write(into: &$0) })
    }

    /// What the store knows of it.
    nonisolated func text(_ device: DeviceRecord) -> JSONText {
        JSONText {
            $0.add("id", device.id)
            $0.add("_id", device.id)
            $0.add("deviceId", device.deviceId)
            $0.add("name", device.name)
            $0.add("owner", device.owner)
            $0.add("model", device.model)
            $0.add("macAddress", device.macAddress)
            $0.add("tags", .array(device.tags.map { .string($0) }))
            $0.add("registeredAt", timestamp(device.registered))
            $0.add("blocked", .bool(device.isBlocked))
        }
    }

    func credentials(_ userName: String, _ secret: String) -> JSONValue {
        .object(["username": .string(userName), "password": .string(secret)])
    }
}
