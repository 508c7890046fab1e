internal import Access
internal import HTTP
internal import HTTPTypes
internal import JSON
internal import Store

/// Every route there is, a line or a few each.
enum Routes {
    static let all: [Route] = account + devices + fleet + firmware + administration + service

    // MARK: - One's own account

    private static let account = [
        Route(
            .post, "/api/auth/register", "registerAccount", "Make an account", .everybody,
            body: Schema(
                ["username": name, "email": email, "password": password, "inviteCode": text(most: 128)],
                required: ["email", "password"]),
            success: .created, answer: ["userId": id],
            problems: [.alreadyExists, .registrationClosed, .invalidInvite, .tooManyAttempts, .busy, .storageFailed]
        ) { try await $0.registerAccount($1) },
        Route(
            .post, "/api/auth/login", "logIn", "Log in: the answer's token goes into Authorization: Bearer", .everybody,
            body: Schema(["email": text(most: 254), "password": text(most: 1024)], required: ["email", "password"]),
            answer: ["token": text()],
            problems: [.invalidCredentials, .blocked, .tooManyAttempts, .busy, .storageFailed]
        ) { try await $0.logIn($1) },
        Route(.post, "/api/auth/logout", "logOut", "End this log-in", .people, problems: [.storageFailed]) {
            api, call in
            try await api.management.logOut(call.signedIn.token, call.requester)
            return Answer(["message": "logged out"])
        },
        Route(
            .post, "/api/auth/password", "changePassword", "Change one's password; other log-ins end", .peopleToChange,
            body: Schema(
                ["currentPassword": text(most: 1024), "newPassword": password],
                required: ["currentPassword", "newPassword"]),
            problems: [.invalidCredentials, .tooManyAttempts, .busy, .storageFailed]
        ) { try await $0.changePassword($1) },
        Route(.get, "/api/auth/me", "getAccount", "Who one is", .people, answer: ["user": user]) { api, call in
            let id = call.signedIn.person.id
            let record = try await api.reader.read { try $0.user(id) }
            guard let record else { throw ManagementProblem(.notFound, "this account is gone") }
            return Answer(["user": api.management.json(record)])
        },
    ]

    // MARK: - Devices

    private static let devices = [
        Route(
            .post, "/api/device/register", "registerDevice",
            "Register a device, or claim one that was imported; its secret is shown this once",
            .people,
            body: Schema(
                [
                    "deviceId": deviceId, "name": name, "model": model, "macAddress": macAddress, "tags": tags,
                    "claimCode": text(most: 128),
                ], required: ["deviceId"]),
            success: .created, answer: ["device": device, "credentials": credentials],
            problems: [.alreadyExists, .tooMany, .claimCodeRequired, .wrongClaimCode, .tooManyAttempts, .storageFailed]
        ) { api, call in
            var members = try await call.body()
            members["owner"] = .string(call.signedIn.person.email)
            return Answer(try await api.perform("registerDevice", members, call), ["message": "registered"])
        },
        Route(
            .get, "/api/device", "listOwnDevices", "One's own devices; without 'page' all of them", .people,
            query: paging, answer: list("devices", of: device)
        ) { try await $0.listOwnDevices($1) },
        Route(
            .get, "/api/device/{deviceId}", "getDevice", "One device", .people, answer: ["device": device],
            problems: [.notFound]
        ) { try await $0.getDevice($1) },
        Route(
            .patch, "/api/device/{deviceId}", "updateDevice", "Change what a device is called", .people,
            body: Schema(
                ["name": name, "model": model, "macAddress": macAddress, "tags": tags], required: []),
            answer: ["device": device], problems: [.notFound, .storageFailed]
        ) { api, call in
            var members = try await call.body()
            members["deviceId"] = .string(call.parameter("deviceId"))
            return Answer(try await api.perform("updateDevice", members, call))
        },
        Route(
            .delete, "/api/device/{deviceId}", "deleteDevice",
            "Delete a device, with its credentials, certificates and connection", .people,
            problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["deviceId": .string(call.parameter("deviceId"))]
            return Answer(try await api.perform("deleteDevice", members, call), ["message": "deleted"])
        },
        Route(
            .post, "/api/device/{deviceId}/credentials", "rotateDeviceCredentials",
            "Give a device a new secret; the old one stops working", .people, answer: ["credentials": credentials],
            problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["deviceId": .string(call.parameter("deviceId"))]
            return Answer(try await api.perform("rotateDeviceCredentials", members, call))
        },
    ]

    // MARK: - What devices do

    private static let fleet = [
        Route(
            .post, "/api/device/{deviceId}/led", "setLed", "Switch a device's LED or relay; it says so by its status",
            .people, body: Schema(["state": ledState], required: ["state"]),
            answer: ["state": ledState, "commandId": id],
            problems: [.notFound, .deviceOffline, .blocked, .storageFailed]
        ) { api, call in
            var members = try await call.body()
            members["deviceId"] = .string(call.parameter("deviceId"))
            return Answer(try await api.perform("setLed", members, call), ["message": "sent"])
        },
        Route(
            .post, "/api/device/{deviceId}/command", "sendCommand",
            "Send a device any JSON. Who is away gets it only with 'queue'; what is not acknowledged within 30 seconds, or "
                + "those of 'queue', is not sent again",
            .people,
            query: [.init(name: "queue", schema: queueSeconds, about: "seconds for which it waits for the device")],
            body: .anything, answer: ["commandId": id, "state": commandState, "expiresAt": time],
            problems: [.notFound, .deviceOffline, .blocked, .storageFailed]
        ) { api, call in
            var members = try call.query()
            members["deviceId"] = .string(call.parameter("deviceId"))
            members["payload"] = try await call.anyBody()
            return Answer(try await api.perform("sendCommand", members, call))
        },
        Route(
            .get, "/api/device/{deviceId}/health", "getDeviceHealth",
            "What a device has reported: a point for each minute, or for longer where there are more than a thousand",
            .people,
            query: [
                .init(name: "from", schema: time, about: "not before; a day before 'to'"),
                .init(name: "to", schema: time, about: "before; now"),
            ],
            answer: [
                "deviceId": text(), "from": time, "to": time, "step": number, "count": number,
                "health": ["type": "array", "items": ["type": "object"]], "latest": anything, "latestAt": perhapsTime,
            ], problems: [.notFound]
        ) { api, call in
            var members = try call.query()
            members["deviceId"] = .string(call.parameter("deviceId"))
            return Answer(try await api.perform("getDeviceHealth", members, call))
        },
        Route(
            .get, "/api/device/{deviceId}/activity", "listDeviceActivity",
            "What happened to a device, the latest first", .people, query: paging,
            answer: list("activity", of: activity), problems: [.notFound]
        ) { api, call in
            var members = try call.query()
            members["deviceId"] = .string(call.parameter("deviceId"))
            return Answer(try await api.perform("listDeviceActivity", members, call))
        },
        Route(
            .get, "/api/dashboard", "getDashboard",
            "How many devices there are, and how they are: one's own, all for administrators", .people, query: paging,
            answer: list("devices", of: device).merging(["totals": totals]) { $1 }
        ) { api, call in Answer(try await api.perform("getDashboard", try call.query(), call)) },
    ]

    // MARK: - Administration

    private static let administration = [
        Route(
            .get, "/api/admin/users", "listUsers", "All people", .administrators, query: paging,
            answer: list("users", of: user)
        ) { api, call in Answer(try await api.perform("listUsers", try call.query(), call)) },
        Route(
            .get, "/api/admin/devices", "listDevices", "All devices", .administrators, query: paging,
            answer: list("devices", of: device)
        ) { api, call in Answer(try await api.perform("listDevices", try call.query(), call)) },
        Route(
            .post, "/api/admin/devices/import", "importDevices",
            "Make many devices: CSV whose first line names the columns, of deviceId, claimCode, name, model, macAddress, tags "
                + "(between ;) and owner. A line of JSON each says what became of it, with what it signs in with and, where none "
                + "was given, what it is claimed with, this once; a line without a report was not made, unless the connection "
                + "broke meanwhile. The last line counts",
            .administrators, media: Route.Media(body: "text/csv", answer: "application/x-ndjson")
        ) { _, _ in Answer() },
        Route(
            .post, "/api/admin/user/{userId}/block", "blockUser",
            "Block somebody, whose log-ins and connections end, or let them in again; without a body the other of both",
            .administrators, body: Schema(["blocked": boolean], required: []), isBodyOptional: true,
            answer: ["blocked": boolean], problems: [.notFound, .lastAdmin, .ownAccount, .storageFailed]
        ) { try await $0.blockUser($1) },
        Route(
            .post, "/api/admin/user/{userId}/role", "setUserRole", "Make somebody an administrator, or not",
            .administrators, body: Schema(["role": role], required: ["role"]), answer: ["role": role],
            problems: [.notFound, .lastAdmin, .storageFailed]
        ) { api, call in
            var members = try await call.body()
            members["email"] = .string(try await api.email(of: call.parameter("userId")))
            let role = members["role"] ?? .null
            return Answer(try await api.perform("setUserRole", members, call), ["role": role])
        },
        Route(
            .delete, "/api/admin/user/{userId}", "deleteUser", "Delete somebody; their devices stay", .administrators,
            problems: [.notFound, .lastAdmin, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["email": .string(try await api.email(of: call.parameter("userId")))]
            return Answer(try await api.perform("deleteUser", members, call), ["message": "deleted"])
        },
        Route(
            .get, "/api/admin/invites", "listInvites",
            "Invites, the latest first; those used, or over, until a month later", .administrators, query: paging,
            answer: list("invites", of: invite)
        ) { api, call in Answer(try await api.perform("listInvites", try call.query(), call)) },
        Route(
            .post, "/api/admin/invites", "createInvite",
            "Let somebody make an account; the code is shown this once, and counts once", .administrators,
            body: Schema(["email": email, "role": role, "expiresIn": inviteSeconds], required: []),
            isBodyOptional: true, success: .created, answer: ["invite": invite, "code": text()],
            problems: [.alreadyExists, .tooMany, .storageFailed]
        ) { api, call in Answer(try await api.perform("createInvite", try await call.body(), call)) },
        Route(
            .delete, "/api/admin/invites/{inviteId}", "deleteInvite", "Call an invite back", .administrators,
            problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["inviteId": .string(call.parameter("inviteId"))]
            return Answer(try await api.perform("deleteInvite", members, call), ["message": "deleted"])
        },
        Route(
            .post, "/api/admin/device/{deviceId}/block", "blockDevice",
            "Block a device, whose connection ends, or let it in again; without a body the other of both",
            .administrators, body: Schema(["blocked": boolean], required: []), isBodyOptional: true,
            answer: ["blocked": boolean], problems: [.notFound, .storageFailed]
        ) { try await $0.blockDevice($1) },
        Route(
            .get, "/api/admin/activity", "listActivity", "Who did what, the latest first", .administrators,
            query: paging + [
                .init(name: "deviceId", schema: deviceId, about: "about this device"),
                .init(name: "actor", schema: text(most: 254), about: "by them"),
                .init(name: "kind", schema: activityKind, about: "of this kind"),
                .init(name: "from", schema: time, about: "not before"),
                .init(name: "to", schema: time, about: "before"),
            ], answer: list("activity", of: activity)
        ) { api, call in Answer(try await api.perform("listActivity", try call.query(), call)) },
        Route(
            .get, "/api/admin/sessions", "listSessions", "Sessions of MQTT: who is away the longest first",
            .administrators, query: paging, answer: list("sessions", of: session)
        ) { api, call in Answer(try await api.perform("listSessions", try call.query(), call)) },
        Route(
            .delete, "/api/admin/sessions/{clientId}", "deleteSession", "End a session, and its connection",
            .administrators, problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["clientId": .string(call.parameter("clientId"))]
            return Answer(try await api.perform("deleteSession", members, call), ["message": "deleted"])
        },
        Route(
            .get, "/api/admin/clients", "listClients", "Who is connected to MQTT", .administrators, query: paging,
            answer: list("clients", of: client)
        ) { api, call in Answer(try await api.perform("listClients", try call.query(), call)) },
        Route(
            .delete, "/api/admin/clients/{clientId}", "disconnectClient",
            "End a client's connection; its session stays if it is persistent, its will is published", .administrators,
            problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["clientId": .string(call.parameter("clientId"))]
            return Answer(try await api.perform("disconnectClient", members, call), ["message": "disconnected"])
        },
        Route(
            .get, "/api/admin/retained", "listRetained", "Retained messages; without 'topic' all but the server's own",
            .administrators,
            query: paging + [.init(name: "topic", schema: topicFilter, about: "a topic filter, such as devices/#")],
            answer: list("retained", of: retained)
        ) { api, call in Answer(try await api.perform("listRetained", try call.query(), call)) },
        Route(
            .delete, "/api/admin/retained/{topic}", "deleteRetained",
            "Clear what is retained for a topic, whose slashes are written as %2F", .administrators,
            problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["topic": .string(call.parameter("topic"))]
            return Answer(try await api.perform("deleteRetained", members, call), ["message": "deleted"])
        },
        Route(
            .get, "/api/admin/keys", "listKeys", "What is signed with; never the keys themselves", .administrators,
            query: paging, answer: list("keys", of: key)
        ) { api, call in Answer(try await api.perform("listKeys", try call.query(), call)) },
        Route(
            .post, "/api/admin/keys/url", "rotateURLKey",
            "Sign addresses of firmware with a new key from now on; those given out work on, unless 'revoke' is true",
            .administrators, body: Schema(["revoke": boolean], required: []), isBodyOptional: true, success: .created,
            answer: ["key": key], problems: [.tooMany, .storageFailed]
        ) { api, call in Answer(try await api.perform("rotateURLKey", try await call.body(), call)) },
        Route(
            .post, "/api/admin/keys/jwt", "rotateKey",
            "Sign log-ins with a new key from now on; those that are stay as long as they would have", .administrators,
            success: .created, answer: ["key": key], problems: [.tooMany, .storageFailed]
        ) { api, call in Answer(try await api.perform("rotateKey", [:], call)) },
        Route(
            .get, "/api/admin/jobs", "listJobs", "What the server does by itself, and how it went", .administrators,
            query: paging, answer: list("jobs", of: job)
        ) { api, call in Answer(try await api.perform("listJobs", try call.query(), call)) },
        Route(
            .get, "/api/admin/certificates", "listCertificates", "Certificates of devices, the latest first",
            .administrators, query: paging, answer: list("certificates", of: certificate)
        ) { api, call in Answer(try await api.perform("listCertificates", try call.query(), call)) },
        Route(
            .get, "/api/admin/services", "listServices", "Programs that sign in to MQTT", .administrators,
            query: paging, answer: list("services", of: serviceAccount)
        ) { api, call in Answer(try await api.perform("listServices", try call.query(), call)) },
        Route(
            .post, "/api/admin/services", "addService", "Let a program sign in; its secret is shown this once",
            .administrators, body: Schema(["name": serviceName, "policy": policy], required: ["name"]),
            success: .created, answer: ["service": serviceAccount, "credentials": credentials],
            problems: [.alreadyExists, .storageFailed]
        ) { api, call in Answer(try await api.perform("addService", try await call.body(), call)) },
        Route(
            .delete, "/api/admin/services/{name}", "removeService", "Let a program in no more", .administrators,
            problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["name": .string(call.parameter("name"))]
            return Answer(try await api.perform("removeService", members, call), ["message": "deleted"])
        },
        Route(
            .post, "/api/admin/services/{name}/credentials", "rotateServiceCredentials",
            "Give a program a new secret; the old one stops working", .administrators,
            answer: ["credentials": credentials], problems: [.notFound, .storageFailed]
        ) { api, call in
            let members: [String: JSONValue] = ["name": .string(call.parameter("name"))]
            return Answer(try await api.perform("rotateServiceCredentials", members, call))
        },
    ]

    // MARK: - The server itself

    private static let service = [
        Route(.get, "/api/openapi.json", "getDescription", "This description", .everybody) { _, _ in Answer() },
        Route(
            .get, "/metrics", "getMetrics",
            "What the server counts, as Prometheus reads it; from this machine, and for administrators", .everybody,
            media: .init(answer: "text/plain"), problems: [.notAuthenticated, .forbidden]
        ) { _, _ in Answer() },
        Route(.get, "/healthz", "isAlive", "Whether the process answers", .everybody) { _, _ in
            Answer(["status": "ok"])
        },
        Route(
            .get, "/readyz", "isReady", "Whether the broker serves", .everybody, problems: [.busy]
        ) { api, _ in
            guard await api.isReady() else { throw ManagementProblem(.busy, "the broker does not serve") }
            return Answer(["status": "ok"])
        },
    ]

    /// What is no answer of the usual form.
    static func content(_ route: Route, _ api: API, _ call: Call) async throws -> Response? {
        if route.operation == "importDevices" { return try await api.importDevices(call) }
        if route.operation == "getMetrics" { return try await api.metrics(call) }
        if route.operation == "downloadFirmware" { return try await api.downloadFirmware(call) }
        guard route.operation == "getDescription" else { return nil }
        return .content(
            OpenAPI.bytes, type: "application/json", eTag: OpenAPI.eTag, for: call.request, [.cacheControl: "no-cache"])
    }
}

// MARK: - What takes more than a line

extension API {
    /// A command by its name, as `control.sock` has it.
    func perform(_ name: String, _ members: [String: JSONValue], _ call: Call) async throws -> JSONValue? {
        try await management.perform(try ManagementCommand(name, members), for: call.requester)
    }

    func metrics(_ call: Call) async throws -> Response {
        if !call.isLocal { _ = try caller(call.request, .administrators) }
        var metrics = await serverMetrics()
        metrics.add(await management.metrics())
        return Response(.ok, [.contentType: Metrics.mediaType], body: .bytes(Array(metrics.text.utf8)))
    }

    func registerAccount(_ call: Call) async throws -> Answer {
        let members = try await call.body()
        let isInvited = members["inviteCode"] ?? .null != .null
        switch settings().registration {
        case _ where isInvited: break
        case .open: break
        case .local:
            guard call.isLocal else {
                throw ManagementProblem(.registrationClosed, "accounts are made from this machine itself")
            }
        case .invite: throw ManagementProblem(.registrationClosed, "accounts are made with an 'inviteCode'")
        case .closed: throw ManagementProblem(.registrationClosed, "accounts are made by an administrator")
        }
        let email = try Email(try call.text("email", members))
        let name = try Fields.name(members["username"]?.string ?? "")
        let password = try Fields.password(try call.text("password", members))
        let id =
            isInvited
            ? try await management.registerAccount(
                email, name: name, password: password, invite: try call.text("inviteCode", members),
                from: call.source, at: call.address)
            : try await management.registerAccount(
                email, name: name, password: password, from: call.isLocal ? nil : call.source, at: call.address)
        return Answer(["userId": .string(id), "message": "registered"])
    }

    func logIn(_ call: Call) async throws -> Answer {
        let members = try await call.body()
        let (email, password) = (try call.text("email", members), try call.text("password", members))
        guard email.utf8.count <= 254, password.utf8.count <= 1024 else {
            throw ManagementProblem(.invalidRequest, "an e-mail address has at most 254 bytes, a password 1024")
        }
        let token = try await management.logIn(email, password, from: call.source, at: call.address)
        return Answer(["token": .string(token), "message": "logged in"])
    }

    func changePassword(_ call: Call) async throws -> Answer {
        let members = try await call.body()
        try await management.changePassword(
            try call.text("currentPassword", members), to: try call.text("newPassword", members), call.signedIn.token,
            call.requester, from: call.source)
        return Answer(["message": "changed"])
    }

    func listOwnDevices(_ call: Call) async throws -> Answer {
        let query = try call.query()
        var request = try ManagementCommand.PageRequest(query)
        let ids = call.signedIn.person.devices
        if query["page"] == nil, query["limit"] == nil { request.limit = max(ids.count, 1) }
        let page = ids.dropFirst((request.page - 1) * request.limit).prefix(request.limit)
        let devices = try await reader.devices(page, management.text).map {
            JSONValue.text(management.withState($1, of: $0))
        }
        return Answer(management.list("devices", devices, request, total: ids.count))
    }

    func getDevice(_ call: Call) async throws -> Answer {
        let id = try DeviceId(call.parameter("deviceId"))
        let caller = call.signedIn.person
        let isTheirs = caller.role == .admin || caller.devices.contains(id.text)
        guard isTheirs, let device = try await reader.devices([id.text], management.text).first else {
            throw ManagementProblem(.notFound, "there is no device \(id.text)")
        }
        return Answer(["device": .text(management.withState(device.text, of: id.text))])
    }

    /// By id, or by e-mail.
    func email(of user: String) async throws -> String {
        if user.contains("@") { return user }
        guard let record = try await reader.read({ try $0.user(user) }) else {
            throw ManagementProblem(.notFound, "there is no user \(user.prefix(64))")
        }
        return record.email
    }

    func blockUser(_ call: Call) async throws -> Answer {
        let body = try await call.body()
        let email = try Email(try await email(of: call.parameter("userId")))
        let wasBlocked = await management.isBlocked(email)
        let isBlocked = try call.flag("blocked", body) ?? !wasBlocked
        _ = try await management.perform(.blockUser(email, isBlocked: isBlocked), for: call.requester)
        return Answer(["blocked": .bool(isBlocked)])
    }

    func blockDevice(_ call: Call) async throws -> Answer {
        let body = try await call.body()
        let id = try DeviceId(call.parameter("deviceId"))
        let wasBlocked = await management.isBlocked(id)
        let isBlocked = try call.flag("blocked", body) ?? !wasBlocked
        _ = try await management.perform(.blockDevice(id, isBlocked: isBlocked), for: call.requester)
        return Answer(["blocked": .bool(isBlocked)])
    }
}

extension Call {
    func text(_ name: String, _ members: [String: JSONValue]) throws(ManagementProblem) -> String {
        guard let value = members[name] else { throw ManagementProblem(.invalidRequest, "'\(name)' is missing") }
        guard let text = value.string else { throw ManagementProblem(.invalidRequest, "'\(name)' is a string") }
        return text
    }

    func flag(_ name: String, _ members: [String: JSONValue]) throws(ManagementProblem) -> Bool? {
        guard let value = members[name] else { return nil }
        guard let flag = value.bool else { throw ManagementProblem(.invalidRequest, "'\(name)' is true or false") }
        return flag
    }
}

extension Management {
    func isBlocked(_ email: Email) -> Bool { accounts.people[email.text]?.isBlocked ?? false }
    func isBlocked(_ device: DeviceId) -> Bool { accounts.devices[device.text]?.isBlocked ?? false }
}
