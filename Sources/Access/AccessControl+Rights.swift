extension AccessControl {
    /// What somebody who has signed in may do now; nil when they may no longer be connected at all: deleted or blocked.
    /// Costs a look into a dictionary or two. `client` is the Client Identifier.
    package func rights(of principal: Principal, client: [UInt8]) -> Rights? {
        switch principal.identity {
        case .anonymous, .user:
            guard let policy = listeners[principal.listener].policy else {
                return accounts.isEmpty ? .everything : .everythingUnmanaged
            }
            return Rights(policy: policy, userName: principal.userName, client: client)
        case .device(let id):
            guard let device = accounts.devices[id], !device.isBlocked else { return nil }
            return Rights(policy: Policy.shipped(.device), userName: Array(id.utf8), client: client)
        case .person(let id):
            guard let person = person(id, userName: principal.userName), !person.isBlocked, !person.mustChangePassword
            else {
                return nil
            }
            return Rights(
                policy: Policy.shipped(person.role == .admin ? .admin : .owner), userName: principal.userName,
                client: client, owned: person.devices, reachesManagement: true)
        case .service(let name):
            guard let service = accounts.services[name], !service.isBlocked else { return nil }
            guard let policy = policies[service.policy] ?? Policy.shipped(named: service.policy) else {
                return .nothing
            }
            return Rights(
                policy: policy, userName: Array(name.utf8), client: client,
                reachesManagement: service.policy == ShippedPolicy.admin.rawValue && policies[service.policy] == nil)
        }
    }

    /// `people` goes by e-mail, which is the user name unless it has been changed since.
    private func person(_ id: String, userName: [UInt8]?) -> Accounts.Person? {
        if let userName, let person = accounts.people[String(decoding: userName, as: UTF8.self)], person.id == id {
            return person
        }
        return accounts.people.values.first { $0.id == id }
    }
}

extension Accounts {
    /// There is no fleet: a data directory has at least its first admin.
    var isEmpty: Bool { devices.isEmpty && people.isEmpty && services.isEmpty }
}
