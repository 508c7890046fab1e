package import Access
internal import Cryptography
package import Firmware
package import JSON
package import Store

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

    case createInvite(Email?, role: Accounts.Role, seconds: Int64)
    case listInvites(PageRequest)
    case deleteInvite(String)

    /// `claimCode`: for one that was imported.
    case registerDevice(
        DeviceId, name: String, model: String?, macAddress: String?, owner: Email?, tags: [String], claimCode: String?)
    case importDevices([ImportedDevice])
    case listDevices(PageRequest)
    case getDevice(DeviceId)
    case updateDevice(DeviceId, DeviceChange)
    case blockDevice(DeviceId, isBlocked: Bool)
    case rotateDeviceCredentials(DeviceId)
    case deleteDevice(DeviceId)

    /// Its LED or relay.
    case setLed(DeviceId, isOn: Bool)
    /// `queueSeconds`: how long it waits for a device that is away; nil: it does not.
    case sendCommand(DeviceId, payload: JSONValue, queueSeconds: Int64?)
    /// Milliseconds since 1970; nil: a day until now.
    case getDeviceHealth(DeviceId, from: Int64?, to: Int64?)
    case listDeviceActivity(DeviceId, PageRequest)
    /// All devices for administrators, one's own for others.
    case getDashboard(PageRequest)

    case listModels(PageRequest)
    case getModel(ModelName)
    /// All that is known of it, or the defaults.
    case setModel(ModelRecord)
    /// Nil: of all models.
    case listFirmware(ModelName?, PageRequest)
    case getFirmware(ReleaseName)
    /// The next part of an image, of somebody at the machine itself.
    case uploadFirmware(ReleaseName, UploadPart)
    /// What is wrong with the tree.
    case examineFirmware
    case verifyFirmware(ReleaseName)
    case approveFirmware(ReleaseName)
    case promoteFirmware(ReleaseName)
    case blockFirmware(ReleaseName, reason: String)
    case unblockFirmware(ReleaseName)
    case deleteFirmware(ReleaseName)
    /// Whether its device runs what it should.
    case checkForUpdate(DeviceId)
    case startDeployment(DeviceId)
    case cancelDeployment(DeviceId)
    case listDeployments(DeviceId, PageRequest)

    case addService(ServiceName, policy: String)
    case listServices(PageRequest)
    case blockService(ServiceName, isBlocked: Bool)
    case rotateServiceCredentials(ServiceName)
    case removeService(ServiceName)

    case listSessions(PageRequest)
    case deleteSession(client: String)
    case listClients(PageRequest)
    case disconnectClient(String)
    case listRetained(filter: String, PageRequest)
    case deleteRetained(topic: String)

    case listKeys(PageRequest)
    /// What log-ins are signed with.
    case rotateKey
    /// What addresses of firmware are signed with. `revokes`: those given out end at once.
    case rotateURLKey(revokes: Bool)

    /// What is done by itself.
    case listJobs(PageRequest)
    case listCertificates(PageRequest)
    case listActivity(PageRequest, ActivityRequest)
    case reloadCertificates

    /// A part of an image. The first begins an upload anew, whatever has come of it before; the last ends it.
    package struct UploadPart: Sendable, Equatable {
        package var offset: Int64
        package var bytes: [UInt8]
        package var isLast: Bool
        /// With the last.
        var fields = UploadFields()
    }

    /// `page` from 1, `limit` from 1 to 500.
    package struct PageRequest: Sendable, Equatable {
        package static let most = 500
        package var page = 1
        package var limit = 50

        package init() {}
    }

    /// What is to be another with a device; nil: nothing.
    package struct DeviceChange: Sendable, Equatable {
        package var name: String?
        package var model: String?
        package var macAddress: String?
        package var tags: [String]?

        package init() {}
    }

    /// Which entries of the activity log are wanted; nil: any.
    package struct ActivityRequest: Sendable, Equatable {
        package var device: DeviceId?
        package var actor: String?
        /// `LOGIN`, for instance.
        package var kind: String?
        /// Milliseconds since 1970; the end is not in it.
        package var from: Int64?
        package var to: Int64?

        package init() {}
    }

    /// Whether it is about one device, which its owner may do as well as an administrator, or about one's own.
    var isForOwners: Bool {
        switch self {
        case .registerDevice, .getDevice, .updateDevice, .rotateDeviceCredentials, .deleteDevice, .setLed, .sendCommand,
            .getDeviceHealth, .listDeviceActivity, .getDashboard, .checkForUpdate, .startDeployment,
            .cancelDeployment, .listDeployments:
            true
        default: false
        }
    }

    /// Whether only somebody at the machine itself asks so: others hand in what they have by HTTP.
    var isLocal: Bool {
        if case .uploadFirmware = self { true } else { false }
    }

    /// Whether a secret goes in or comes out: not over MQTT, where others may be listening.
    var handlesSecrets: Bool {
        switch self {
        case .registerUser, .setUserPassword, .registerDevice, .rotateDeviceCredentials, .addService,
            .rotateServiceCredentials, .createInvite, .importDevices:
            true
        default: false
        }
    }
}

extension ManagementCommand {
    /// The policies of `acl/` that a service may have: not what depends on being a device or a person.
    static let servicePolicies = ["admin", "backend"]

    /// From the members of a request besides `command` and `correlationData`.
    package init(_ name: String, _ members: [String: JSONValue]) throws(ManagementProblem) {
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

        case "createInvite":
            let email = try members.optional("email", Email.init)
            let role = try members.role() ?? .user
            let seconds = try members.number("expiresIn", Management.inviteSeconds) ?? Management.usualInviteSeconds
            self = .createInvite(email, role: role, seconds: seconds)
        case "listInvites": self = .listInvites(try members.page())
        case "deleteInvite": self = .deleteInvite(try members.text("inviteId"))

        case "registerDevice":
            self = .registerDevice(
                try members.deviceId(), name: try Fields.name(members.optionalText("name") ?? ""),
                model: try members.optional("model", Fields.model),
                macAddress: try members.optional("macAddress", Fields.macAddress),
                owner: try members.optional("owner", Email.init), tags: try members.tags() ?? [],
                claimCode: try members.optionalText("claimCode"))
        case "importDevices": self = .importDevices(try members.importedDevices())
        case "listDevices": self = .listDevices(try members.page())
        case "getDevice": self = .getDevice(try members.deviceId())
        case "updateDevice":
            let id = try members.deviceId()
            var change = DeviceChange()
            change.name = try members.optional("name", Fields.name)
            change.model = try members.optional("model", Fields.model)
            change.macAddress = try members.optional("macAddress", Fields.macAddress)
            change.tags = try members.tags()
            self = .updateDevice(id, change)
        case "blockDevice":
            self = .blockDevice(try members.deviceId(), isBlocked: try members.flag("blocked") ?? true)
        case "rotateDeviceCredentials": self = .rotateDeviceCredentials(try members.deviceId())
        case "deleteDevice": self = .deleteDevice(try members.deviceId())

        case "setLed":
            let id = try members.deviceId()
            let state = try members.text("state")
            guard ["ON", "OFF"].contains(state) else {
                throw ManagementProblem(.invalidRequest, "'state' is ON or OFF")
            }
            self = .setLed(id, isOn: state == "ON")
        case "sendCommand":
            let id = try members.deviceId()
            let seconds = try members.number("queue", OutgoingCommand.queueSeconds)
            self = .sendCommand(id, payload: try members.payload(), queueSeconds: seconds)
        case "getDeviceHealth":
            let id = try members.deviceId()
            let from = try members.optional("from", Fields.time)
            self = .getDeviceHealth(id, from: from, to: try members.optional("to", Fields.time))
        case "listDeviceActivity":
            let id = try members.deviceId()
            self = .listDeviceActivity(id, try members.page())
        case "getDashboard": self = .getDashboard(try members.page())

        case "listModels": self = .listModels(try members.page())
        case "getModel": self = .getModel(try members.model())
        case "setModel": self = .setModel(try members.modelRecord())
        case "listFirmware":
            let model = try members.optional("model", Fields.modelName)
            self = .listFirmware(model, try members.page())
        case "getFirmware": self = .getFirmware(try members.release())
        case "uploadFirmware":
            let release = try members.release()
            self = .uploadFirmware(release, try members.uploadPart())
        case "examineFirmware": self = .examineFirmware
        case "verifyFirmware": self = .verifyFirmware(try members.release())
        case "approveFirmware": self = .approveFirmware(try members.release())
        case "promoteFirmware": self = .promoteFirmware(try members.release())
        case "blockFirmware":
            let release = try members.release()
            self = .blockFirmware(release, reason: try members.optional("reason", Fields.remark) ?? "")
        case "unblockFirmware": self = .unblockFirmware(try members.release())
        case "deleteFirmware": self = .deleteFirmware(try members.release())
        case "checkForUpdate": self = .checkForUpdate(try members.deviceId())
        case "startDeployment": self = .startDeployment(try members.deviceId())
        case "cancelDeployment": self = .cancelDeployment(try members.deviceId())
        case "listDeployments":
            let id = try members.deviceId()
            self = .listDeployments(id, try members.page())

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

        case "listClients": self = .listClients(try members.page())
        case "disconnectClient": self = .disconnectClient(try members.text("clientId"))
        case "listRetained":
            let filter = try members.optionalText("topic") ?? "#"
            self = .listRetained(filter: filter, try members.page())
        case "deleteRetained": self = .deleteRetained(topic: try members.text("topic"))

        case "listKeys": self = .listKeys(try members.page())
        case "rotateKey": self = .rotateKey
        case "rotateURLKey": self = .rotateURLKey(revokes: try members.flag("revoke") ?? false)

        case "listJobs": self = .listJobs(try members.page())
        case "listCertificates": self = .listCertificates(try members.page())
        case "listActivity":
            var request = ActivityRequest()
            let page = try members.page()
            request.device = try members.optional("deviceId", DeviceId.init)
            request.actor = try members.optionalText("actor")
            request.kind = try members.optional("kind", Fields.activityKind)
            request.from = try members.optional("from", Fields.time)
            request.to = try members.optional("to", Fields.time)
            self = .listActivity(page, request)
        case "reloadCertificates": self = .reloadCertificates
        default: throw ManagementProblem(.unknownCommand, "there is no command of this name")
        }
        try members.finish()
    }

    /// The members of a request that nobody has read yet.
    fileprivate struct Members {
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

        mutating func texts(_ name: String) throws(ManagementProblem) -> [String]? {
            guard let value = take(name) else { return nil }
            guard let texts = value.array?.map(\.string), !texts.contains(nil) else {
                throw mistyped(name, "a list of strings")
            }
            return texts.compactMap(\.self)
        }

        mutating func tags() throws(ManagementProblem) -> [String]? { try texts("tags").map(Fields.tags) }

        mutating func importedDevices() throws(ManagementProblem) -> [ImportedDevice] {
            guard let values = take("devices")?.array, !values.isEmpty else {
                throw mistyped("devices", "a list of objects, each with a 'deviceId'")
            }
            var devices: [ImportedDevice] = []
            for (index, value) in values.enumerated() {
                guard let object = value.object else { throw mistyped("devices", "a list of objects") }
                var members = Members(command: command, left: object)
                let line = try members.number("line", 1...Int64(Int32.max)).map { Int($0) } ?? index + 1
                var device = ImportedDevice(line: line, deviceId: try members.text("deviceId"))
                device.claimCode = try members.optionalText("claimCode")
                device.name = try members.optionalText("name")
                device.model = try members.optionalText("model")
                device.macAddress = try members.optionalText("macAddress")
                device.owner = try members.optionalText("owner")
                device.tags = try members.texts("tags") ?? []
                try members.finish()
                devices.append(device)
            }
            return devices
        }

        /// Whatever JSON it is.
        mutating func payload() throws(ManagementProblem) -> JSONValue {
            guard let payload = left.removeValue(forKey: "payload") else { throw missing("payload") }
            return payload
        }

        mutating func deviceId() throws(ManagementProblem) -> DeviceId { try DeviceId(text("deviceId")) }

        mutating func model() throws(ManagementProblem) -> ModelName { try Fields.modelName(text("model")) }

        mutating func release() throws(ManagementProblem) -> ReleaseName {
            ReleaseName(model: try model(), version: try Fields.version(text("version")))
        }

        mutating func uploadPart() throws(ManagementProblem) -> UploadPart {
            let offset = try number("offset", 0...Int64(FirmwareDesk.Limits.imageBytes)) ?? 0
            guard let bytes = Base64.standard.decode(try text("data").utf8) else {
                throw mistyped("data", "a part of the image in Base64")
            }
            var part = UploadPart(offset: offset, bytes: bytes, isLast: try flag("last") ?? false)
            part.fields.text = try optional("description", Fields.remark) ?? ""
            part.fields.signature = try optional("signature", Fields.signature)
            return part
        }

        mutating func modelRecord() throws(ManagementProblem) -> ModelRecord {
            var record = ModelRecord(name: try model().text, packetLimit: 0)
            if let payload = try optionalText("otaPayload") {
                guard let known = ModelRecord.OTAPayload(rawValue: payload) else {
                    throw ManagementProblem(.invalidRequest, "'otaPayload' is json or url")
                }
                record.otaPayload = known
            }
            record.chip = try optional("chip", Fields.chip)
            record.flashSize = try flashSize()
            record.packetLimit =
                try number("packetLimit", ModelRecord.packetLimits) ?? record.otaPayload.usualPacketLimit
            record.keys = try Fields.firmwareKeys(texts("keys") ?? [])
            return record
        }

        /// Bytes, or as datasheets have it: `4MB`.
        private mutating func flashSize() throws(ManagementProblem) -> Int64? {
            guard let text = left["flashSize"]?.string else { return try number("flashSize", Fields.flashSizes) }
            left["flashSize"] = nil
            let unit = text.uppercased().hasSuffix("MB") ? text.dropLast(2) : text.dropLast()
            guard text.uppercased().hasSuffix("MB") || text.uppercased().hasSuffix("M"), let number = Int64(unit),
                (1...1024).contains(number)
            else { throw mistyped("flashSize", "a number of bytes, or a text such as 4MB") }
            return number << 20
        }

        mutating func password() throws(ManagementProblem) -> String? { try optional("password", Fields.password) }

        mutating func role() throws(ManagementProblem) -> Accounts.Role? {
            guard let text = try optionalText("role") else { return nil }
            guard let role = Accounts.Role(rawValue: text) else {
                throw ManagementProblem(.invalidRole, "a role is 'user' or 'admin'")
            }
            return role
        }

        mutating func number(_ name: String, _ range: ClosedRange<Int64>) throws(ManagementProblem) -> Int64? {
            guard let value = take(name) else { return nil }
            guard let number = value.integer, range.contains(number) else {
                throw mistyped(name, "a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }

        mutating func page() throws(ManagementProblem) -> PageRequest {
            var request = PageRequest()
            if let page = try number("page", 1...1_000_000) { request.page = Int(page) }
            if let limit = try number("limit", 1...Int64(PageRequest.most)) { request.limit = Int(limit) }
            return request
        }

        func finish() throws(ManagementProblem) {
            guard let name = left.keys.min() else { return }
            throw ManagementProblem(.invalidRequest, "\(command) does not take '\(name.prefix(64))'")
        }
    }
}

extension ManagementCommand.PageRequest {
    /// From a request that has nothing else.
    init(_ members: [String: JSONValue]) throws(ManagementProblem) {
        var members = ManagementCommand.Members(command: "a list", left: members)
        self = try members.page()
        try members.finish()
    }
}
