package import Access
package import HTTP
internal import HTTPTypes
internal import JSON
internal import Locks
internal import Store

/// What of the configuration decides about requests.
package struct APISettings: Sendable {
    package enum Registration: Sendable { case local, open, invite, closed }

    package var registration = Registration.local
    package var trustedProxies = TrustedProxies([]) { _ in nil }
    /// Pages that may call, besides ours.
    package var corsOrigins: Set<Origin> = []
    /// Names by which the loopback may be asked, besides its own.
    package var ownHosts: Set<String> = []

    package init() {}
}

/// The REST interface: requests in, answers out, wherever they come from.
package struct API: Sendable {
    /// Of a JSON body.
    static let bodyBytes = 64 << 10

    let management: Management
    let reader: FleetReader
    private let tokens = KnownTokens()
    let settings: @Sendable () -> APISettings
    let parseAddress: @Sendable (String) -> [UInt8]?
    let isReady: @Sendable () async -> Bool
    let accounts: @Sendable () -> Accounts
    /// What the server counts.
    let serverMetrics: @Sendable () async -> Metrics
    private let report: @Sendable (String) -> Void

    /// `accounts`: as they are now. `isReady`: whether the broker serves. `report`: of what went wrong here, for the log; whoever
    /// asked is not told of files and statements.
    package init(
        _ management: Management, accounts: @escaping @Sendable () -> Accounts,
        settings: @escaping @Sendable () -> APISettings, parseAddress: @escaping @Sendable (String) -> [UInt8]?,
        isReady: @escaping @Sendable () async -> Bool,
        serverMetrics: @escaping @Sendable () async -> Metrics = { Metrics() },
        report: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.management = management
        reader = FleetReader(management.store)
        self.accounts = accounts
        self.settings = settings
        self.parseAddress = parseAddress
        self.isReady = isReady
        self.serverMetrics = serverMetrics
        self.report = report
    }

    // MARK: - Requests

    package func respond(to request: Request) async -> Response {
        var response: Response
        let settings = settings()
        do {
            try checkHost(request, settings)
            if let preflight = preflight(request, settings) { return preflight }
            response = try await answer(request, settings)
        } catch let error as BodyError {
            response = Self.response(to: Self.problem(error))
        } catch {
            response = Self.response(to: problem(error, request))
        }
        allowOrigin(request, settings, &response.head.headerFields)
        protect(&response.head.headerFields)
        response.compress(for: request.fields)
        return response
    }

    private func answer(_ request: Request, _ settings: APISettings) async throws -> Response {
        let method: HTTPRequest.Method = request.method == .head ? .get : request.method
        guard let path = Self.segments(request.rawPath) else {
            throw ManagementProblem(.invalidRequest, "the path can't be read")
        }
        var allowed: [HTTPRequest.Method] = []
        for route in Routes.all {
            guard let parameters = route.parameters(in: path) else { continue }
            guard route.method == method else {
                allowed.append(route.method)
                continue
            }
            return try await answer(request, route, parameters, settings)
        }
        guard !allowed.isEmpty else { throw ManagementProblem(.notFound, "there is nothing at this path") }
        var response = Self.response(
            to: ManagementProblem(.methodNotAllowed, "\(request.method.rawValue) is not for this path"))
        let names = allowed.map(\.rawValue) + (allowed.contains(.get) ? ["HEAD"] : []) + ["OPTIONS"]
        response.head.headerFields[.allow] = names.sorted().joined(separator: ", ")
        return response
    }

    private func answer(
        _ request: Request, _ route: Route, _ parameters: [String: String], _ settings: APISettings
    ) async throws -> Response {
        let origin = origin(of: request, settings)
        let call = Call(
            request: request, route: route, parameters: parameters, address: origin.text,
            source: SignInThrottle.Source(address: origin.bytes), isLocal: origin.isLocal,
            caller: try caller(request, route.access))
        if let content = try await Routes.content(route, self, call) { return content }
        let answer = try await route.handler(self, call)
        var members = answer.members
        members["success"] = true
        return Self.response(route.success, JSONValue.object(members).bytes)
    }

    /// Who asks, as far as the route wants to know. Throws where they may not.
    func caller(_ request: Request, _ access: Route.Access) throws -> Caller? {
        switch access {
        case .everybody, .peopleAndDevices: return nil
        default: break
        }
        let accounts = accounts()
        guard let text = Self.bearer(request.fields), let token = tokens.token(text, accounts),
            let person = accounts.people[token.email], person.id == token.subject,
            token.isValid(at: management.milliseconds() / 1000)
        else { throw ManagementProblem(.notAuthenticated, "this needs a log-in: Authorization: Bearer TOKEN") }
        guard !person.isBlocked else { throw ManagementProblem(.blocked, "this account is blocked") }
        switch access {
        case .people, .administrators:
            guard !person.mustChangePassword else {
                throw ManagementProblem(
                    .passwordChangeRequired, "the password has to be changed first: POST /api/auth/password")
            }
        case .everybody, .peopleAndDevices, .peopleToChange: break
        }
        if case .administrators = access, person.role != .admin {
            throw ManagementProblem(.forbidden, "this is for administrators")
        }
        return Caller(token: token, person: person)
    }

    private static func bearer(_ fields: HTTPFields) -> Substring? {
        let values = fields[values: .authorization]
        guard values.count == 1, let space = values[0].utf8.firstIndex(of: UInt8(ascii: " ")),
            values[0][..<space].lowercased() == "bearer"
        else { return nil }
        return values[0][values[0].utf8.index(after: space)...]
    }

    /// Decoded, without empty ones; nil: it can't be decoded.
    private static func segments(_ path: Substring) -> [String]? {
        var segments: [String] = []
        for part in path.utf8.split(separator: UInt8(ascii: "/")) {
            guard let text = percentDecoded(Substring(part)) else { return nil }
            segments.append(text)
        }
        return segments
    }

    // MARK: - Where it comes from

    private func origin(of request: Request, _ settings: APISettings) -> (text: String, bytes: [UInt8], isLocal: Bool) {
        let peer = request.peer
        if settings.trustedProxies.contains(peer.address),
            let named = forwardedAddress(request.fields, trusting: settings.trustedProxies, parse: parseAddress)
        {
            return (named.text, named.bytes, false)
        }
        let isLocal = peer.isLoopback && !isForwarded(request.fields) && !isOfOtherSite(request, settings)
        return (peer.host, peer.address, isLocal)
    }

    /// A page of another site makes a browser ask for it, and may not do what only this machine may.
    private func isOfOtherSite(_ request: Request, _ settings: APISettings) -> Bool {
        guard let text = request.fields[.origin] else { return false }
        guard let origin = Origin(text), let place = request.head.request.authority.flatMap({ HostAndPort($0) }) else {
            return true
        }
        return !settings.corsOrigins.contains(origin)
            && origin != Origin(scheme: request.peer.isSecure ? "https" : "http", place)
    }

    /// What a page of another site makes a browser send to the loopback by giving that site's name this address.
    private func checkHost(_ request: Request, _ settings: APISettings) throws(ManagementProblem) {
        guard request.peer.isLoopback, !request.peer.address.isEmpty, let authority = request.head.request.authority
        else { return }
        guard let place = HostAndPort(authority),
            place.isLoopback || settings.ownHosts.contains(place.host)
        else { throw ManagementProblem(.misdirected, "this machine has no such name here; see base_url") }
    }

    // MARK: - Other sites' pages

    /// The answer to whether another site's page may ask (Fetch, 3.2.2).
    private func preflight(_ request: Request, _ settings: APISettings) -> Response? {
        guard request.method == .options else { return nil }
        var fields: HTTPFields = [.allow: "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"]
        allowOrigin(request, settings, &fields)
        if fields[.accessControlAllowOrigin] != nil, request.fields[.accessControlRequestMethod] != nil {
            fields[.accessControlAllowMethods] = "DELETE, GET, HEAD, PATCH, POST, PUT"
            fields[.accessControlAllowHeaders] = "Authorization, Content-Type"
            fields[.accessControlMaxAge] = "600"
        }
        protect(&fields)
        return Response(.noContent, fields)
    }

    private func allowOrigin(_ request: Request, _ settings: APISettings, _ fields: inout HTTPFields) {
        guard !settings.corsOrigins.isEmpty else { return }
        fields[.vary] = fields[.vary].map { "\($0), Origin" } ?? "Origin"
        guard let text = request.fields[.origin], let origin = Origin(text), settings.corsOrigins.contains(origin)
        else {
            return
        }
        fields[.accessControlAllowOrigin] = text
    }

    /// No page of ours is in what is answered here: nothing may be run, framed, guessed at or kept.
    private static let protection: HTTPFields = [
        .xContentTypeOptions: "nosniff", .contentSecurityPolicy: "default-src 'none'; frame-ancestors 'none'",
        .referrerPolicy: "no-referrer", .cacheControl: "no-store",
    ]

    private func protect(_ fields: inout HTTPFields) {
        for field in Self.protection where fields[field.name] == nil { fields.append(field) }
    }

    // MARK: - Answers

    private static let jsonFields: HTTPFields = {
        var fields = protection
        fields[.contentType] = "application/json"
        return fields
    }()

    static func response(_ status: HTTPResponse.Status, _ body: [UInt8]) -> Response {
        Response(status, jsonFields, body: .bytes(body))
    }

    static func response(to problem: ManagementProblem) -> Response {
        let status = problem.code.status
        let body = problemDocument(status, code: problem.code.rawValue, detail: problem.message)
        var response = Response(status, [.contentType: "application/problem+json"], body: .bytes(body))
        if status == .unauthorized { response.head.headerFields[.wwwAuthenticate] = "Bearer" }
        return response
    }

    private func problem(_ error: any Error, _ request: Request) -> ManagementProblem {
        let problem = error as? ManagementProblem
        if let problem, problem.code != .storageFailed, problem.code != .failed { return problem }
        report("\(request.method.rawValue) \(request.rawPath.prefix(128)): \(problem?.message ?? "\(error)")")
        let hint = "the server's log says why"
        guard let problem else { return ManagementProblem(.failed, "this could not be done; \(hint)") }
        guard problem.code == .storageFailed else { return problem }
        return ManagementProblem(.storageFailed, "nothing was changed: the disk does not take it; \(hint)")
    }

    static func problem(_ error: BodyError) -> ManagementProblem {
        switch error {
        case .tooLong(let limit): ManagementProblem(.tooLarge, "a body has at most \(limit) bytes here")
        case .malformed(let refusal): ManagementProblem(.invalidRequest, refusal.reason)
        case .connectionLost: ManagementProblem(.invalidRequest, "the body did not come to its end")
        }
    }
}

/// Somebody who has logged in.
struct Caller: Sendable {
    let token: WebToken
    let person: Accounts.Person
}

/// A request, and what is known of it.
struct Call: Sendable {
    let request: Request
    let route: Route
    let parameters: [String: String]
    /// Where it comes from, for the activity log.
    let address: String
    let source: SignInThrottle.Source
    /// From this machine itself.
    let isLocal: Bool
    var caller: Caller?

    func parameter(_ name: String) -> String { parameters[name] ?? "" }

    /// Only where the route wants a log-in.
    var signedIn: Caller {
        guard let caller else { preconditionFailure("\(route.operation) asks for a log-in") }
        return caller
    }

    var requester: Requester {
        var requester = Requester(signedIn.person, with: signedIn.token, from: address)
        requester.source = source
        return requester
    }

    /// The members of the body: those that the route takes, and all that it needs, of the types that it says. Where the body
    /// may be left out, none.
    func body() async throws -> [String: JSONValue] {
        let bytes = try await bytesOfBody()
        if bytes.isEmpty, route.isBodyOptional { return [:] }
        guard let members = JSONValue(parsing: bytes, allowingRepeatedNames: false)?.object else {
            throw ManagementProblem(.invalidRequest, "the body is a JSON object, with each name once")
        }
        try route.body?.check(members, of: route.operation)
        return members
    }

    /// Whatever JSON the body is, as it was written.
    func anyBody() async throws -> JSONValue {
        let bytes = try await bytesOfBody()
        guard let text = JSONText(verbatim: bytes) else { throw ManagementProblem(.invalidRequest, "the body is JSON") }
        return .text(text)
    }

    private func bytesOfBody() async throws -> [UInt8] {
        let bytes = try await request.body.collect(upTo: API.bodyBytes)
        let type = request.fields[.contentType]?.lowercased().prefix { $0 != ";" }.filter { $0 != " " } ?? ""
        guard bytes.isEmpty || type == "application/json" || type.hasSuffix("+json") else {
            throw ManagementProblem(.unsupportedMediaType, "a body is application/json")
        }
        return bytes
    }

    /// The parameters of the query, each once, as a command has its members: numbers as numbers.
    func query() throws -> [String: JSONValue] {
        guard let parameters = queryParameters(request.query) else {
            throw ManagementProblem(.invalidRequest, "the query can't be read")
        }
        var members: [String: JSONValue] = [:]
        for (name, value) in parameters {
            guard let known = route.query.first(where: { $0.name == name }) else {
                throw ManagementProblem(.invalidRequest, "there is no parameter '\(name.prefix(64))' here")
            }
            guard members[name] == nil else {
                throw ManagementProblem(.invalidRequest, "'\(name)' is there twice")
            }
            let isNumber = known.schema["type"]?.string == "integer"
            members[name] = isNumber ? Int64(value).map { .integer($0) } ?? .string(value) : .string(value)
        }
        return members
    }
}
