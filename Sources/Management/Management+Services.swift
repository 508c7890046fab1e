internal import Access
internal import JSON
internal import Store

extension Management {
    func addService(_ name: ServiceName, _ policy: String, _ requester: Requester) throws -> JSONValue? {
        guard accounts.services[name.text] == nil else {
            throw ManagementProblem(.alreadyExists, "there is a service \(name.text) already")
        }
        guard accounts.devices[name.text.uppercased()] == nil else {
            throw ManagementProblem(.alreadyExists, "there is a device of the name \(name.text.uppercased())")
        }
        let (secret, digest) = SecretDigest.make()
        let record = ServiceRecord(name: name.text, policy: policy, created: milliseconds())
        let detail: [String: JSONValue] = ["service": .string(name.text), "policy": .string(policy)]
        try store.add(record, secret: digest, activity(.serviceAdded, by: requester, detail))
        var service = Accounts.Service(name: name.text, secret: digest)
        service.policy = policy
        adopt { $0.services[service.name] = service }
        return .object(["service": json(record), "credentials": credentials(name.text, secret)])
    }

    func listServices(_ request: ManagementCommand.PageRequest) throws -> JSONValue? {
        let page = try store.services(page: request.page, limit: request.limit)
        return list("services", page.elements.map(json), request, total: page.total)
    }

    func blockService(_ name: ServiceName, _ isBlocked: Bool, _ requester: Requester) throws -> JSONValue? {
        guard try service(name).isBlocked != isBlocked else { return nil }
        let kind: Activity.Kind = isBlocked ? .serviceBlocked : .serviceUnblocked
        try store.setBlocked(
            isBlocked, service: name.text, activity(kind, by: requester, ["service": .string(name.text)]))
        adopt { $0.services[name.text]?.isBlocked = isBlocked }
        return nil
    }

    func rotateServiceCredentials(_ name: ServiceName, _ requester: Requester) throws -> JSONValue? {
        _ = try service(name)
        let (secret, digest) = SecretDigest.make()
        try store.setSecret(
            digest, service: name.text,
            activity(.credentialsRotated, by: requester, ["service": .string(name.text)]))
        adopt { $0.services[name.text]?.secret = digest }
        return .object(["credentials": credentials(name.text, secret)])
    }

    func removeService(_ name: ServiceName, _ requester: Requester) throws -> JSONValue? {
        _ = try service(name)
        try store.delete(
            service: name.text, activity(.serviceRemoved, by: requester, ["service": .string(name.text)]))
        adopt { $0.services[name.text] = nil }
        return nil
    }

    private func service(_ name: ServiceName) throws(ManagementProblem) -> Accounts.Service {
        guard let service = accounts.services[name.text] else {
            throw ManagementProblem(.notFound, "there is no service \(name.text)")
        }
        return service
    }

    private func json(_ service: ServiceRecord) -> JSONValue {
        .object([
            "name": .string(service.name), "policy": .string(service.policy), "blocked": .bool(service.isBlocked),
            "createdAt": timestamp(service.created),
        ])
    }
}
