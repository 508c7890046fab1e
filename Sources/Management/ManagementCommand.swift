package import Access

/// One request, validated: what the command line, `control.sock` and `$CONTROL/fleet/v1` ask for. Names are the
/// operationIds of the REST API.
package enum ManagementCommand: Sendable, Equatable {
    /// Without a password one is made, and answered.
    case registerUser(Email, name: String, password: String?, role: Accounts.Role)
    case listUsers(PageRequest)
    case blockUser(Email, isBlocked: Bool)
    case setUserPassword(Email, password: String?)
    case setUserRole(Email, Accounts.Role)
    case deleteUser(Email)

    case registerDevice(DeviceId, name: String, model: String?, macAddress: String?, owner: Email?)
    case listDevices(PageRequest)
    case blockDevice(DeviceId, isBlocked: Bool)
    case rotateDeviceCredentials(DeviceId)
    case deleteDevice(DeviceId)

    case addService(ServiceName, policy: String)
    case listServices(PageRequest)
    case blockService(ServiceName, isBlocked: Bool)
    case rotateServiceCredentials(ServiceName)
    case removeService(ServiceName)

    case listSessions(PageRequest)
    case deleteSession(client: String)

    case listCertificates(PageRequest)
    case listActivity(PageRequest, device: DeviceId?)
    case reloadCertificates

    /// `page` from 1, `limit` from 1 to 500.
    package struct PageRequest: Sendable, Equatable {
        package static let most = 500
        package var page = 1
        package var limit = 50

        package init() {}
    }

    /// Whether a secret goes in or comes out: not over MQTT, where others may be listening.
    var handlesSecrets: Bool {
        switch self {
        case .registerUser, .setUserPassword, .registerDevice, .rotateDeviceCredentials, .addService,
            .rotateServiceCredentials:
            true
        default: false
        }
    }
}

extension ManagementCommand {
    /// The policies of `acl/` that a service may have: not what depends on being a device or a person.
    static let servicePolicies = ["admin", "backend"]

    /// From the members of a request besides `command` and `correlationData`.
    init(_ name: String, _ members: [String: JSONValue]) throws(ManagementProblem) {
        var members = Members(command: name, left: members)
        switch name {
        case "registerUser":
            self = .registerUser(
                try Email(members.text("email")), name: try Fields.name(members.optionalText("name") ?? ""),
                password: try members.password(), role: try members.role() ?? .user)
        case "listUsers": self = .listUsers(try members.page())
        case "blockUser":
            self = .blockUser(try Email(members.text("email")), isBlocked: try members.flag("blocked") ?? true)
        case "setUserPassword":
            self = .setUserPassword(try Email(members.text("email")), password: try members.password())
        case "setUserRole":
            let email = try Email(members.text("email"))
            guard let role = try members.role() else { throw members.missing("role") }
            self = .setUserRole(email, role)
        case "deleteUser": self = .deleteUser(try Email(members.text("email")))

        case "registerDevice":
            self = .registerDevice(
                try members.deviceId(), name: try Fields.name(members.optionalText("name") ?? ""),
                model: try members.optional("model", Fields.model),
                macAddress: try members.optional("macAddress", Fields.macAddress),
                owner: try members.optional("owner", Email.init))
        case "listDevices": self = .listDevices(try members.page())
        case "blockDevice":
            self = .blockDevice(try members.deviceId(), isBlocked: try members.flag("blocked") ?? true)
        case "rotateDeviceCredentials": self = .rotateDeviceCredentials(try members.deviceId())
        case "deleteDevice": self = .deleteDevice(try members.deviceId())

        case "addService":
            let service = try ServiceName(members.text("name"))
            let policy = try members.optionalText("policy") ?? "backend"
            guard Self.servicePolicies.contains(policy) else {
                throw ManagementProblem(
                    .invalidPolicy, "a service's policy is one of \(Self.servicePolicies.joined(separator: ", "))")
            }
            self = .addService(service, policy: policy)
        case "listServices": self = .listServices(try members.page())
        case "blockService":
            self = .blockService(try ServiceName(members.text("name")), isBlocked: try members.flag("blocked") ?? true)
        case "rotateServiceCredentials": self = .rotateServiceCredentials(try ServiceName(members.text("name")))
        case "removeService": self = .removeService(try ServiceName(members.text("name")))

        case "listSessions": self = .listSessions(try members.page())
        case "deleteSession": self = .deleteSession(client: try members.text("clientId"))

        case "listCertificates": self = .listCertificates(try members.page())
        case "listActivity":
            self = .listActivity(try members.page(), device: try members.optional("deviceId", DeviceId.init))
        case "reloadCertificates": self = .reloadCertificates
        default: throw ManagementProblem(.unknownCommand, "there is no command of this name")
        }
        try members.finish()
    }

    /// The members of a request that nobody has read yet.
    private struct Members {
        let command: String
        var left: [String: JSONValue]

        func missing(_ name: String) -> ManagementProblem {
            ManagementProblem(.invalidRequest, "\(command) needs '\(name)'")
        }

        func mistyped(_ name: String, _ type: String) -> ManagementProblem {
            ManagementProblem(.invalidRequest, "'\(name)' is \(type)")
        }

        /// Null is as good as nothing.
        private mutating func take(_ name: String) -> JSONValue? {
            let value = left.removeValue(forKey: name)
            return value == .null ? nil : value
        }

        mutating func optionalText(_ name: String) throws(ManagementProblem) -> String? {
            guard let value = take(name) else { return nil }
            guard let text = value.string else { throw mistyped(name, "a string") }
            return text
        }

        mutating func text(_ name: String) throws(ManagementProblem) -> String {
            guard let text = try optionalText(name) else { throw missing(name) }
            return text
        }

        mutating func optional<Value>(
            _ name: String, _ make: (String) throws(ManagementProblem) -> Value
        ) throws(ManagementProblem) -> Value? {
            guard let text = try optionalText(name) else { return nil }
            return try make(text)
        }

        mutating func flag(_ name: String) throws(ManagementProblem) -> Bool? {
            guard let value = take(name) else { return nil }
            guard let flag = value.bool else { throw mistyped(name, "true or false") }
            return flag
        }

        mutating func deviceId() throws(ManagementProblem) -> DeviceId { try DeviceId(text("deviceId")) }

        mutating func password() throws(ManagementProblem) -> String? { try optional("password", Fields.password) }

        mutating func role() throws(ManagementProblem) -> Accounts.Role? {
            guard let text = try optionalText("role") else { return nil }
            guard let role = Accounts.Role(rawValue: text) else {
                throw ManagementProblem(.invalidRole, "a role is 'user' or 'admin'")
            }
            return role
        }

        mutating func page() throws(ManagementProblem) -> PageRequest {
            var request = PageRequest()
            for (name, path) in [("page", \PageRequest.page), ("limit", \PageRequest.limit)] {
                guard let value = take(name) else { continue }
                let most = name == "page" ? 1_000_000 : PageRequest.most
                guard let number = value.integer.flatMap({ Int(exactly: $0) }), (1...most).contains(number) else {
                    throw mistyped(name, "a number from 1 to \(most)")
                }
                request[keyPath: path] = number
            }
            return request
        }

        func finish() throws(ManagementProblem) {
            guard let name = left.keys.min() else { return }
            throw ManagementProblem(.invalidRequest, "\(command) does not take '\(name.prefix(64))'")
        }
    }
}
