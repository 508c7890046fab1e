internal import Cryptography
internal import Fleet
internal import HTTPTypes
internal import JSON
internal import Store

// What goes in and comes out, as JSON Schema 2020-12 says it.

extension Routes {
    static func text(most: Int64? = nil) -> JSONValue {
        var schema: [String: JSONValue] = ["type": "string"]
        if let most { schema["maxLength"] = .integer(most) }
        return .object(schema)
    }

    static let id: JSONValue = ["type": "string", "format": "uuid"]
    static let email: JSONValue = [
        "type": "string", "format": "email", "maxLength": 254,
        "pattern": "^[A-Za-z0-9.!%&'*+=?^_{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
    ]
    static let password: JSONValue = ["type": "string", "minLength": 6, "maxLength": 128]
    static let deviceId: JSONValue = [
        "type": "string", "pattern": "^(?![Ee][Ss][Pp]32_)[A-Za-z0-9_-]{1,64}$", "minLength": 1, "maxLength": 64,
    ]
    static let model: JSONValue = [
        "type": "string", "pattern": "^[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,31}$", "minLength": 1, "maxLength": 32,
    ]
    static let macAddress: JSONValue = [
        "type": "string", "pattern": "^([0-9A-Fa-f]{2}[:-]?){5}[0-9A-Fa-f]{2}$", "minLength": 12, "maxLength": 17,
    ]
    static let serviceName: JSONValue = [
        "type": "string", "pattern": "^(?!esp32_)[a-z0-9._-]{1,64}$", "minLength": 1, "maxLength": 64,
    ]
    /// Without control characters; bytes are counted, of which a letter may have more than one.
    static let name: JSONValue = [
        "type": "string", "pattern": "^[^\\u0000-\\u001F\\u007F-\\u009F]*$", "maxLength": 128,
    ]
    static let boolean: JSONValue = ["type": "boolean"]
    static let time: JSONValue = ["type": "string", "format": "date-time"]
    static let role: JSONValue = ["type": "string", "enum": ["user", "admin"]]
    static let policy: JSONValue = [
        "type": "string", "enum": .array(ManagementCommand.servicePolicies.map { .string($0) }),
    ]
    static let tags: JSONValue = [
        "type": "array", "maxItems": 32, "items": ["type": "string", "minLength": 1, "maxLength": 64],
    ]
    static let activityKind: JSONValue = [
        "type": "string", "enum": .array(Activity.Kind.allCases.map { .string($0.rawValue) }),
    ]
    static let anything: JSONValue = [:]
    static let ledState: JSONValue = ["type": "string", "enum": ["ON", "OFF"]]
    static let commandState: JSONValue = ["type": "string", "enum": ["SENT", "QUEUED"]]
    static let queueSeconds: JSONValue = [
        "type": "integer", "minimum": .integer(OutgoingCommand.queueSeconds.lowerBound),
        "maximum": .integer(OutgoingCommand.queueSeconds.upperBound),
    ]
    static let perhapsText: JSONValue = ["type": ["string", "null"]]
    static let perhapsTime: JSONValue = ["type": ["string", "null"], "format": "date-time"]

    static let credentials = object(["username": text(), "password": text()])
    static let user = object([
        "id": id, "_id": id, "username": text(), "name": text(), "email": text(), "role": role, "blocked": boolean,
        "mustChangePassword": boolean, "createdAt": time,
    ])
    static let device = object([
        "id": id, "_id": id, "deviceId": text(), "name": text(), "owner": perhapsText, "model": perhapsText,
        "macAddress": perhapsText, "registeredAt": time, "blocked": boolean, "tags": tags,
        "online": boolean, "presence": ["type": "string", "enum": ["ONLINE", "OFFLINE", "NEVER_SEEN"]],
        "lastSeen": perhapsTime, "offlineAt": perhapsTime, "offlineReason": offlineReason, "flapping": boolean,
        "ledState": boolean, "status": anything, "firmwareVersion": perhapsText, "targetVersion": perhapsText,
        "otaStatus": otaStatus, "otaProgress": ["type": ["integer", "null"]], "otaReason": perhapsText,
        "otaStartedAt": perhapsTime, "health": anything, "healthAt": perhapsTime,
        "lastHeap": anything, "lastTemp": anything,
    ])
    private static let otaStatus: JSONValue = [
        "type": "string", "enum": .array(["IDLE"] + Deployment.State.allCases.map { .string($0.rawValue) }),
    ]
    private static let offlineReason: JSONValue = [
        "type": ["string", "null"], "enum": .array(OfflineReason.allCases.map { .string($0.rawValue) } + [.null]),
    ]
    static let totals = object([
        "devices": number, "online": number, "offline": number, "neverSeen": number, "blocked": number,
        "flapping": number,
    ])
    static let serviceAccount = object(["name": text(), "policy": policy, "blocked": boolean, "createdAt": time])
    static let topicFilter = text(most: 65_535)
    static let inviteSeconds: JSONValue = [
        "type": "integer", "minimum": .integer(Management.inviteSeconds.lowerBound),
        "maximum": .integer(Management.inviteSeconds.upperBound), "description": "seconds; a week",
    ]
    static let invite = object([
        "id": id, "_id": id, "role": role, "email": perhapsText, "createdBy": text(), "createdAt": time,
        "expiresAt": time, "usedAt": perhapsTime, "usedBy": perhapsText,
    ])
    static let session = object([
        "clientId": text(), "userName": perhapsText, "connected": boolean, "absentSince": perhapsTime,
        "queued": ["type": "integer", "minimum": 0],
    ])
    static let number: JSONValue = ["type": "integer", "minimum": 0]
    static let client = object([
        "clientId": text(), "userName": perhapsText, "address": perhapsText, "port": number,
        "protocol": ["type": "string", "enum": ["mqtt", "websockets"]], "version": text(), "secure": boolean,
        "cleanSession": boolean, "keepAlive": number, "connectedSince": time, "subscriptions": number, "queued": number,
    ])
    static let retained = object([
        "topic": text(), "qos": ["type": "integer", "minimum": 0, "maximum": 2], "size": number,
        "payload": ["type": "string", "contentEncoding": "base64", "description": "the first 256 bytes"],
        "userName": perhapsText, "clientId": perhapsText,
    ])
    static let job = object([
        "name": text(), "interval": ["type": "integer", "minimum": 1, "description": "seconds"], "runs": number,
        "failures": number, "skipped": number, "running": boolean, "lastRunAt": perhapsTime,
        "lastMilliseconds": ["type": ["integer", "null"]],
        "lastResult": ["type": ["string", "null"], "enum": ["OK", "FAILED", .null]], "lastProblem": perhapsText,
    ])
    static let key = object([
        "id": text(), "_id": text(), "purpose": ["type": "string", "enum": ["jwt", "url"]], "createdAt": time,
        "inUse": boolean,
    ])
    static let certificate = object([
        "serial": text(), "deviceId": perhapsText, "subject": text(), "notBefore": time, "notAfter": time,
        "issuedAt": time, "revokedAt": perhapsTime, "reason": perhapsText,
    ])
    static let activity = object([
        "time": time, "actor": text(), "address": perhapsText, "deviceId": perhapsText, "kind": activityKind,
        "detail": ["type": "object"],
    ])

    static func object(_ members: [String: JSONValue]) -> JSONValue {
        [
            "type": "object", "properties": .object(members),
            "required": .array(members.keys.sorted().map { .string($0) }),
        ]
    }

    static let paging = [
        Route.QueryParameter(
            name: "page", schema: ["type": "integer", "minimum": 1, "maximum": 1_000_000], about: "from 1 on"),
        Route.QueryParameter(
            name: "limit", schema: ["type": "integer", "minimum": 1, "maximum": 500], about: "of one page; 50"),
    ]

    static func list(_ name: String, of schema: JSONValue) -> [String: JSONValue] {
        let number: JSONValue = ["type": "integer", "minimum": 0]
        return [
            name: ["type": "array", "items": schema], "page": number, "limit": number, "count": number, "total": number,
        ]
    }
}

/// `/api/openapi.json` (OpenAPI 3.1), from the routes.
enum OpenAPI {
    static let bytes = document.bytes
    static let eTag = "\"\(Base64.url.encode(Array(sha256(bytes).prefix(12))))\""

    private static var document: JSONValue {
        var paths: [String: [String: JSONValue]] = [:]
        for route in Routes.all {
            paths[route.path, default: [:]][route.method.rawValue.lowercased()] = operation(route)
        }
        return [
            "openapi": "3.1.0",
            "info": ["title": "Martlet", "version": "1", "description": "The management of an ESP32 fleet."],
            "paths": .object(paths.mapValues { .object($0) }),
            "components": [
                "securitySchemes": [
                    "logIn": ["type": "http", "scheme": "bearer", "bearerFormat": "JWT"],
                    "device": ["type": "http", "scheme": "basic", "description": "as it signs in to MQTT"],
                    "certificate": ["type": "mutualTLS", "description": "the device's, as it signs in to MQTT"],
                ],
                "schemas": ["Problem": problem],
            ],
        ]
    }

    private static let problem: JSONValue = Routes.object([
        "type": ["type": "string"], "title": ["type": "string"], "status": ["type": "integer"],
        "detail": ["type": "string"], "code": ["type": "string"], "success": ["const": false],
        "message": ["type": "string"],
    ])

    private static func operation(_ route: Route) -> JSONValue {
        var operation: [String: JSONValue] = [
            "operationId": .string(route.operation), "summary": .string(route.summary),
            "parameters": .array(parameters(route)), "responses": .object(responses(route)),
        ]
        operation["security"] =
            switch route.access {
            case .everybody: []
            case .peopleAndDevices: [["logIn": []], ["device": []], ["certificate": []]]
            default: [["logIn": []]]
            }
        if let body = route.body {
            let schema: JSONValue =
                body.isAnything
                ? Routes.anything
                : [
                    "type": "object", "properties": .object(body.members), "additionalProperties": false,
                    "required": .array(body.required.map { .string($0) }),
                ]
            operation["requestBody"] = [
                "required": .bool(!route.isBodyOptional), "content": ["application/json": ["schema": schema]],
            ]
        }
        if let type = route.media?.body {
            operation["requestBody"] = ["required": true, "content": .object([type: ["schema": Routes.text()]])]
        }
        return .object(operation)
    }

    private static func parameters(_ route: Route) -> [JSONValue] {
        let inPath = route.segments.filter(\.isParameter).map { segment -> JSONValue in
            [
                "name": .string(segment.text), "in": "path", "required": true,
                "schema": segment.text == "deviceId" ? Routes.deviceId : ["type": "string", "minLength": 1],
            ]
        }
        let inQuery = route.query.map { parameter -> JSONValue in
            [
                "name": .string(parameter.name), "in": "query", "required": false, "schema": parameter.schema,
                "description": .string(parameter.about),
            ]
        }
        return inPath + inQuery
    }

    private static func responses(_ route: Route) -> [String: JSONValue] {
        var members = route.answer
        members["success"] = ["const": true]
        let isDescription = route.operation == "getDescription"
        let isJSON = route.media?.answer == nil
        let schema = isDescription ? ["type": "object"] : isJSON ? Routes.object(members) : Routes.text()
        let content: [String: JSONValue] = [route.media?.answer ?? "application/json": ["schema": schema]]
        var responses: [String: JSONValue] = [
            "\(route.success.code)": ["description": "done", "content": .object(content)]
        ]
        // Whoever takes requests in has bounds of its own, whatever they are for.
        let ofAll = [("414", ["malformed_request"]), ("431", ["malformed_request"])]
        for (code, names) in problems(route) + ofAll {
            responses[code] = [
                "description": .string(names.joined(separator: ", ")),
                "content": ["application/problem+json": ["schema": ["$ref": "#/components/schemas/Problem"]]],
            ]
        }
        return responses
    }

    /// By status, in order.
    private static func problems(_ route: Route) -> [(String, [String])] {
        var codes = route.problems + [.misdirected]
        // A path, a query, a body can be wrong.
        codes.append(.invalidRequest)
        if route.body != nil { codes += [.tooLarge, .unsupportedMediaType] }
        if route.media?.body != nil { codes.append(.unsupportedMediaType) }
        switch route.access {
        case .everybody: break
        case .peopleToChange: codes += [.notAuthenticated, .blocked]
        case .people, .peopleAndDevices: codes += [.notAuthenticated, .blocked, .passwordChangeRequired]
        case .administrators: codes += [.notAuthenticated, .blocked, .passwordChangeRequired, .forbidden]
        }
        var byStatus: [Int: [String]] = [:]
        for code in codes where !(byStatus[code.status.code] ?? []).contains(code.rawValue) {
            byStatus[code.status.code, default: []].append(code.rawValue)
        }
        return byStatus.sorted { $0.key < $1.key }.map { ("\($0.key)", $0.value) }
    }
}
