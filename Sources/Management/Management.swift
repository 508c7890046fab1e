package import Access
internal import Certificates
internal import Dispatch
package import Fleet
internal import FoundationEssentials
package import JSON
package import Store

/// Who asks, and what they may.
package struct Requester: Sendable {
    /// For the activity log: an e-mail, or `local:NAME` for somebody at the machine itself.
    package var actor: String
    /// Where from, if over the network.
    package var address: String?
    /// The e-mail of the person it is, who then can't shut themselves out.
    package var person: String?
    /// Whether they may be answered a secret.
    package var receivesSecrets: Bool
    /// Where from, for those who could guess a code.
    package var source: SignInThrottle.Source?
    /// They may only do what is about their own devices; others' are as if they were not there.
    package var isLimited = false
    /// What they have shown of themselves, which has to count still when it comes to a change. Nil: nothing that could end.
    package var token: WebToken?

    package init(actor: String, address: String? = nil, person: String? = nil, receivesSecrets: Bool) {
        self.actor = actor
        self.address = address
        self.person = person
        self.receivesSecrets = receivesSecrets
    }

    /// Somebody who has logged in.
    package init(_ person: Accounts.Person, with token: WebToken?, from address: String) {
        self.init(actor: person.email, address: address, person: person.email, receivesSecrets: true)
        isLimited = person.role != .admin
        self.token = token
    }

    /// Somebody at the machine, by the name of their account there.
    package static func local(_ name: String) -> Requester {
        Requester(actor: "local:\(name)", receivesSecrets: true)
    }

    /// The same, by the number of the account.
    package static func local(user: UInt32) -> Requester { .local(userName(user)) }
}

/// What can be asked about the fleet and changed in it: one implementation for whoever asks. It owns the store; nobody
/// else writes to it. An actor on a queue of its own, since it waits for the disk, and computes passwords.
package actor Management {
    /// Commands of one request.
    package static let commandsAtOnce = 32
    /// E-mail and password of the first administrator, a line each, until the password is changed.
    package static let firstAdminFile = "first-admin"
    static let firstAdminEmail = "admin@localhost"

    private let executor = QueueExecutor("management", qos: .utility)
    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    let store: FleetStore
    let directory: DataDirectory
    let certificates: CertificateDirectory
    let milliseconds: @Sendable () -> Int64
    private let onChange: @Sendable (Accounts) -> Void
    private let reloadCertificates: (@Sendable () async throws -> Void)?
    let broker: (any BrokerKeeper)?
    /// The devices as they are.
    package nonisolated let fleet: LiveFleet
    nonisolated let firmware: FirmwareDesk
    nonisolated let urlKeys = URLKeys()
    /// Nil: nothing is done by itself.
    private(set) var scheduler: Scheduler?
    let now: @Sendable () -> Moment
    /// What the store holds.
    package internal(set) var accounts: Accounts
    let passwords: (any PasswordDesk)?
    let settings: @Sendable () -> ManagementSettings

    /// `onChange` gets the whole new value after each change, in order, before the change is answered. `milliseconds`:
    /// since 1970. `report`: what somebody should read in the log. `broker`: nil where there is nothing of one. `isServing`: devices can connect; `now` then is by both clocks. Reads the store, on the caller's thread.
    package init(
        _ store: FleetStore, in directory: DataDirectory,
        milliseconds: @escaping @Sendable () -> Int64 = currentMilliseconds,
        broker: (any BrokerKeeper)? = nil, passwords: (any PasswordDesk)? = nil,
        verifier: (any FirmwareVerifier)? = nil,
        settings: @escaping @Sendable () -> ManagementSettings = { ManagementSettings() },
        isServing: Bool = false, now: @escaping @Sendable () -> Moment = { Moment(monotonic: 0, wall: 0) },
        reloadCertificates: (@Sendable () async throws -> Void)? = nil,
        report: @escaping @Sendable (String) -> Void = { _ in },
        onChange: @escaping @Sendable (Accounts) -> Void = { _ in }
    ) throws {
        self.store = store
        self.directory = directory
        certificates = CertificateDirectory(dataDirectory: directory.path)
        self.milliseconds = milliseconds
        self.reloadCertificates = reloadCertificates
        self.broker = broker
        self.passwords = passwords
        self.settings = settings
        self.onChange = onChange
        accounts = try store.accounts()
        fleet = try LiveFleet(
            store, offlineAfter: settings().deviceOfflineAfter, isServing: isServing, at: now())
        firmware = try FirmwareDesk(
            store, in: directory.path, verifier: verifier, milliseconds: milliseconds, report: report)
        self.now = now
    }

    /// Whose jobs are listed.
    package func setScheduler(_ scheduler: Scheduler) { self.scheduler = scheduler }

    /// Ends the store, and lets the next process have the directory; whatever is asked afterwards fails.
    package func close() throws {
        defer { directory.release() }
        try store.close()
    }

    // MARK: - The envelope

    /// Answers `{"commands":[{"command":NAME,"correlationData":TEXT,...}]}` with
    /// `{"responses":[{"command","correlationData","data"|"error":{"code","message"}}]}`, one after the other; one that
    /// fails does not stop the next.
    package func respond(to request: [UInt8], from requester: Requester) async -> [UInt8] {
        guard let value = JSONValue(parsing: request) else {
            return Self.refusal(ManagementProblem(.invalidRequest, "the request is not JSON"))
        }
        guard let commands = value["commands"]?.array, !commands.isEmpty else {
            let problem = ManagementProblem(.invalidRequest, "a request is an object with a list of 'commands'")
            return Self.refusal(problem)
        }
        guard commands.count <= Self.commandsAtOnce else {
            let problem = ManagementProblem(
                .invalidRequest, "a request has at most \(Self.commandsAtOnce) commands")
            return Self.refusal(problem)
        }
        var responses: [JSONValue] = []
        for command in commands { responses.append(await respond(to: command, from: requester)) }
        return Self.envelope(responses)
    }

    /// The same over MQTT, of somebody who was an administrator when they asked. Nothing secret goes this way.
    package func respond(to request: [UInt8], fromAdministrator email: String, at address: String) async -> [UInt8] {
        guard let person = accounts.people[email], person.role == .admin, !person.isBlocked else {
            return Self.refusal(ManagementProblem(.forbidden, "this is for administrators"))
        }
        return await respond(
            to: request, from: Requester(actor: email, address: address, person: email, receivesSecrets: false))
    }

    private func respond(to command: JSONValue, from requester: Requester) async -> JSONValue {
        guard case .object(var members) = command, let name = members.removeValue(forKey: "command")?.string else {
            return Self.failure(ManagementProblem(.invalidRequest, "a command is an object with a 'command'"))
        }
        let correlation = members.removeValue(forKey: "correlationData")
        var response: [String: JSONValue] = ["command": .string(String(name.prefix(64)))]
        do throws(ManagementProblem) {
            if let correlation {
                guard correlation.string != nil else {
                    throw ManagementProblem(.invalidRequest, "'correlationData' is a string")
                }
                response["correlationData"] = correlation
            }
            let data = try await perform(try ManagementCommand(name, members), for: requester)
            if let data { response["data"] = data }
        } catch {
            response["error"] = Self.description(of: error)
        }
        return .object(response)
    }

    /// What the store now holds, and others shall know.
    func adopt(_ change: (inout Accounts) -> Void) {
        change(&accounts)
        onChange(accounts)
    }

    func activity(
        _ kind: Activity.Kind, by requester: Requester, device: String? = nil, _ detail: [String: JSONValue] = [:]
    ) -> Activity {
        Activity(
            time: milliseconds(), actor: requester.actor, address: requester.address, device: device, kind: kind,
            detail: JSONValue.object(detail).text)
    }

    private static func envelope(_ responses: [JSONValue]) -> [UInt8] {
        Array(JSONValue.object(["responses": .array(responses)]).text.utf8)
    }

    /// What answers a request that was not looked at.
    package static func refusal(_ problem: ManagementProblem) -> [UInt8] { envelope([failure(problem)]) }

    private static func failure(_ problem: ManagementProblem) -> JSONValue {
        .object(["error": description(of: problem)])
    }

    private static func description(of problem: ManagementProblem) -> JSONValue {
        .object(["code": .string(problem.code.rawValue), "message": .string(problem.message)])
    }

    // MARK: - Commands

    /// Since a request was let in, and while a password was hashed for it, whoever asks may have been blocked, demoted or
    /// logged out.
    func asTheyAreNow(_ requester: Requester) throws(ManagementProblem) -> Requester {
        guard let token = requester.token else { return requester }
        guard accounts.counts(token), let person = accounts.people[token.email], person.id == token.subject,
            !person.isBlocked
        else { throw ManagementProblem(.notAuthenticated, "this log-in has ended meanwhile") }
        var requester = requester
        requester.isLimited = person.role != .admin
        return requester
    }

    /// The same of somebody who has to be an administrator.
    func refuseUnlessAdministrator(_ requester: Requester) throws(ManagementProblem) {
        guard try !asTheyAreNow(requester).isLimited else {
            throw ManagementProblem(.forbidden, "this is for administrators")
        }
    }

    /// Nil where there is nothing to answer but that it is done.
    package func perform(
        _ command: ManagementCommand, for requester: Requester
    ) async throws(ManagementProblem) -> JSONValue? {
        let requester = try asTheyAreNow(requester)
        guard requester.receivesSecrets || !command.handlesSecrets else {
            throw ManagementProblem(.forbidden, "a command with a secret in it or in its answer is not taken this way")
        }
        guard !requester.isLimited || command.isForOwners else {
            throw ManagementProblem(.forbidden, "this is for administrators")
        }
        guard !command.isLocal || requester.person == nil else {
            throw ManagementProblem(.forbidden, "an image is handed in by HTTP: POST /api/firmware/{model}/{version}")
        }
        if case .reloadCertificates = command { return try await reload(requester) }
        do {
            switch command {
            case .registerUser(let email, let name, let password, let role):
                return try await registerUser(email, name: name, password: password, role: role, requester)
            case .setUserPassword(let email, let password):
                return try await setUserPassword(email, password, requester)
            case .listSessions(let page): return try await listSessions(page)
            case .deleteSession(let client): return try await deleteSession(client, requester)
            case .listClients(let page): return try await listClients(page)
            case .disconnectClient(let client): return try await disconnectClient(client, requester)
            case .listRetained(let filter, let page): return try await listRetained(filter, page)
            case .deleteRetained(let topic): return try await deleteRetained(topic, requester)
            case .setLed(let id, let isOn): return try await setLed(id, isOn: isOn, requester)
            case .sendCommand(let id, let payload, let seconds):
                return try await sendCommand(id, payload, queueSeconds: seconds, requester)
            case .listModels(let page): return try await listModels(page)
            case .getModel(let model): return try await getModel(model)
            case .listFirmware(let model, let page): return try await listFirmware(model, page)
            case .getFirmware(let release): return try await getFirmware(release)
            case .uploadFirmware(let release, let part): return try await uploadFirmware(release, part, requester)
            case .examineFirmware: return try await examineFirmware()
            case .verifyFirmware(let release): return try await verifyFirmware(release, requester)
            case .approveFirmware(let release): return try await approveFirmware(release, requester)
            case .promoteFirmware(let release): return try await promoteFirmware(release, requester)
            case .blockFirmware(let release, let reason):
                return try await blockFirmware(release, reason: reason, requester)
            case .unblockFirmware(let release): return try await unblockFirmware(release, requester)
            case .deleteFirmware(let release): return try await deleteFirmware(release, requester)
            case .checkForUpdate(let id): return try await checkForUpdate(id, requester)
            case .startDeployment(let id): return try await startDeployment(id, requester)
            case .cancelDeployment(let id): return try await cancelDeployment(id, requester)
            default: return try performAtOnce(command, for: requester)
            }
        } catch {
            throw ManagementProblem(saving: error)
        }
    }

    private func performAtOnce(_ command: ManagementCommand, for requester: Requester) throws -> JSONValue? {
        switch command {
        case .listUsers(let page): try listUsers(page)
        case .blockUser(let email, let isBlocked): try blockUser(email, isBlocked, requester)
        case .setUserRole(let email, let role): try setUserRole(email, role, requester)
        case .deleteUser(let email): try deleteUser(email, requester)
        case .createInvite(let email, let role, let seconds):
            try createInvite(for: email, role: role, seconds: seconds, requester)
        case .listInvites(let page): try listInvites(page)
        case .deleteInvite(let id): try deleteInvite(id, requester)
        case .registerDevice(let id, let name, let model, let macAddress, let owner, let tags, let claimCode):
            try registerDevice(
                id, name: name, model: model, macAddress: macAddress, owner: owner, tags: tags, claimCode: claimCode,
                requester)
        case .importDevices(let devices):
            .object(["reports": .array(try importDevices(devices, for: requester).map(\.value))])
        case .listDevices(let page): try listDevices(page)
        case .getDevice(let id): try getDevice(id, requester)
        case .updateDevice(let id, let change): try updateDevice(id, change, requester)
        case .blockDevice(let id, let isBlocked): try blockDevice(id, isBlocked, requester)
        case .rotateDeviceCredentials(let id): try rotateDeviceCredentials(id, requester)
        case .deleteDevice(let id): try deleteDevice(id, requester)
        case .listDeployments(let id, let page): try listDeployments(id, page, requester)
        case .setModel(let model): try setModel(model, requester)
        case .addService(let name, let policy): try addService(name, policy, requester)
        case .listServices(let page): try listServices(page)
        case .blockService(let name, let isBlocked): try blockService(name, isBlocked, requester)
        case .rotateServiceCredentials(let name): try rotateServiceCredentials(name, requester)
        case .removeService(let name): try removeService(name, requester)
        case .listCertificates(let page): try listCertificates(page)
        case .listActivity(let page, let filter): try listActivity(page, filter)
        case .listJobs(let page): listJobs(page)
        case .getDashboard(let page): try getDashboard(page, requester)
        case .getDeviceHealth(let id, let from, let to): try getDeviceHealth(id, from: from, to: to, requester)
        case .listDeviceActivity(let id, let page): try listDeviceActivity(id, page, requester)
        case .listKeys(let page): try listKeys(page)
        case .rotateKey: try rotateKey(requester)
        case .rotateURLKey(let revokes): try rotateURLKey(revokes: revokes, requester)
        case .reloadCertificates, .registerUser, .setUserPassword, .listSessions, .deleteSession, .listClients,
            .disconnectClient, .listRetained, .deleteRetained, .setLed, .sendCommand, .listModels, .getModel,
            .listFirmware, .getFirmware, .uploadFirmware, .examineFirmware, .verifyFirmware, .approveFirmware,
            .promoteFirmware, .blockFirmware,
            .unblockFirmware, .deleteFirmware, .checkForUpdate, .startDeployment, .cancelDeployment:
            preconditionFailure("perform() sees to it")
        }
    }

    private func reload(_ requester: Requester) async throws(ManagementProblem) -> JSONValue? {
        do {
            try takeOverCertificates(for: requester)
            try await reloadCertificates?()
            return nil
        } catch {
            throw ManagementProblem(.failed, "\(error)")
        }
    }
}

/// Milliseconds since 1970. The corresponding C function is `clock_gettime`.
package func currentMilliseconds() -> Int64 { Int64((Date().timeIntervalSince1970 * 1000).rounded(.down)) }
