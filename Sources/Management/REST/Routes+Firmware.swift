internal import Firmware
internal import Fleet
internal import HTTPTypes
internal import JSON
internal import Store

extension Routes {
    static let firmware =
        [
            Route(
                .get, "/api/models", "listModels", "Models of devices: those of one run the same firmware",
                .administrators, query: paging, answer: list("models", of: modelRecord)
            ) { api, call in Answer(try await api.perform("listModels", try call.query(), call)) },
            Route(
                .get, "/api/models/{model}", "getModel", "What is known of a model", .administrators,
                answer: ["model": modelRecord], problems: [.notFound]
            ) { api, call in Answer(try await api.perform("getModel", ["model": call.model], call)) },
            Route(
                .put, "/api/models/{model}", "setModel",
                "Describe a model: what is left out is as if nobody had said it. Keys are public ones as PEM, or digests of keys",
                .administrators,
                body: Schema(
                    [
                        "chip": chip, "flashSize": ["type": ["integer", "string"]], "otaPayload": otaPayload,
                        "packetLimit": packetLimit, "keys": ["type": "array", "items": text()],
                    ], required: []),
                answer: ["model": ["type": "object"]], problems: [.storageFailed]
            ) { api, call in
                var members = try await call.body()
                members["model"] = call.model
                return Answer(try await api.perform("setModel", members, call))
            },
            Route(
                .get, "/api/firmware", "listFirmware", "Releases, the latest first", .administrators,
                query: paging + [.init(name: "model", schema: model, about: "of this model")],
                answer: list("firmware", of: release)
            ) { api, call in Answer(try await api.perform("listFirmware", try call.query(), call)) },
            Route(
                .post, "/api/firmware/{model}/{version}", "uploadFirmware",
                "Hand in an image. What it turns out to be is in its analysis; nobody gets it before it is verified, approved and "
                    + "promoted",
                .administrators,
                query: [
                    .init(name: "description", schema: text(most: 1024), about: "what is new"),
                    .init(name: "signature", schema: text(), about: "a detached signature of the image, in Base64"),
                ],
                media: .init(body: "application/octet-stream"), success: .created,
                answer: ["firmware": release], problems: [.alreadyExists, .tooLarge, .busy, .storageFailed]
            ) { try await $0.uploadFirmware($1) },
            Route(
                .get, "/api/firmware/{model}/{version}", "getFirmware", "One release", .administrators,
                answer: ["firmware": release], problems: [.notFound]
            ) { api, call in Answer(try await api.perform("getFirmware", call.release, call)) },
            Route(
                .delete, "/api/firmware/{model}/{version}", "deleteFirmware",
                "Delete a release that devices shall not run", .administrators,
                problems: [.notFound, .wrongState, .storageFailed]
            ) { api, call in
                Answer(try await api.perform("deleteFirmware", call.release, call), ["message": "deleted"])
            },
            step("verify", "Look whether devices can be given it", [.unsoundFirmware]),
            step(
                "approve",
                "Say that devices may have it; where there are several administrators, another than who uploaded it", []
            ),
            step("promote", "Let devices of its model run it from now on", [.unsoundFirmware]),
            Route(
                .post, "/api/firmware/{model}/{version}/block", "blockFirmware",
                "Let no device get a version any more, and end the addresses that were given out", .administrators,
                body: Schema(["reason": text(most: 1024)], required: []), isBodyOptional: true, answer: blocking,
                problems: [.wrongState, .storageFailed]
            ) { api, call in
                let members = try await call.body().merging(call.release) { $1 }
                return Answer(try await api.perform("blockFirmware", members, call))
            },
            Route(
                .post, "/api/firmware/{model}/{version}/unblock", "unblockFirmware", "Let devices have it again",
                .administrators, answer: blocking, problems: [.wrongState, .storageFailed]
            ) { api, call in Answer(try await api.perform("unblockFirmware", call.release, call)) },
            Route(
                .get, "/api/ota/{deviceId}/check", "checkForUpdate",
                "Whether a device runs what it should; for its people, and for itself, by HTTP Basic or its certificate, as it "
                    + "signs in to MQTT. The device is also told where to fetch it",
                .peopleAndDevices, answer: ["updateAvailable": boolean],
                problems: [
                    .notFound, .notAuthenticated, .invalidCredentials, .blocked, .passwordChangeRequired,
                    .tooManyAttempts,
                ]
            ) { try await $0.checkForUpdate($1) },
            Route(
                .post, "/api/ota/{deviceId}/start", "startDeployment",
                "Let a device run what its model shall: it is told now, or when it comes", .people,
                answer: ["deployment": deployment, "firmwareUrl": text()],
                problems: [
                    .notFound, .blocked, .wrongState, .updateUnderWay, .packetLimit, .storageFailed,
                ]
            ) { api, call in Answer(try await api.perform("startDeployment", call.device, call)) },
            Route(
                .post, "/api/ota/{deviceId}/cancel", "cancelDeployment",
                "End an update that is under way, until the device says that it is done", .people,
                answer: ["deployment": deployment], problems: [.notFound, .wrongState, .storageFailed]
            ) { api, call in Answer(try await api.perform("cancelDeployment", call.device, call)) },
            Route(
                .get, "/api/ota/{deviceId}/history", "listDeployments", "Updates of a device, the latest first",
                .people, query: paging, answer: list("history", of: deployment), problems: [.notFound]
            ) { api, call in
                let members = try call.query().merging(call.device) { $1 }
                return Answer(try await api.perform("listDeployments", members, call))
            },
            Route(
                .get, "/firmware/{model}/{version}/firmware.bin", "downloadFirmware",
                "Fetch an image, or a range of it, by an address that was made for one device", .everybody,
                query: ["d", "e", "k", "s"].map { .init(name: $0, schema: text(), about: "of the address") },
                media: .init(answer: "application/octet-stream"), problems: [.forbidden, .expired]
            ) { _, _ in Answer() },
        ]

    private static func step(_ name: String, _ summary: String, _ problems: [ManagementProblem.Code]) -> Route {
        let operation = "\(name)Firmware"
        return Route(
            .post, "/api/firmware/{model}/{version}/\(name)", operation, summary, .administrators,
            answer: ["firmware": release], problems: problems + [.notFound, .wrongState, .storageFailed]
        ) { api, call in Answer(try await api.perform(operation, call.release, call)) }
    }

    // MARK: - What goes in and comes out

    private static let chip: JSONValue = [
        "type": "string", "description": .string(Chip.allCases.map(\.name).joined(separator: ", ")),
    ]
    private static let otaPayload: JSONValue = [
        "type": "string", "enum": .array(ModelRecord.OTAPayload.allCases.map { .string($0.rawValue) }),
    ]
    private static let packetLimit: JSONValue = [
        "type": "integer", "minimum": .integer(ModelRecord.packetLimits.lowerBound),
        "maximum": .integer(ModelRecord.packetLimits.upperBound),
    ]
    private static let modelRecord = object([
        "model": text(), "chip": perhapsText, "flashSize": ["type": ["integer", "null"]], "otaPayload": otaPayload,
        "packetLimit": packetLimit, "keys": ["type": "array", "items": text()], "production": perhapsText,
        "blockedVersions": ["type": "array", "items": text()],
    ])
    private static let release = object([
        "id": id, "_id": id, "model": text(), "version": text(), "description": text(), "fileUrl": text(),
        "size": number, "sha256": text(),
        "state": ["type": "string", "enum": .array(FirmwareDesk.Shown.states.map { .string($0) })],
        "analysis": ["type": "object"], "uploadedBy": text(), "createdAt": time, "verifiedAt": perhapsTime,
        "approvedBy": perhapsText, "approvedAt": perhapsTime, "promotedAt": perhapsTime, "blockedReason": perhapsText,
    ])
    private static let deployment = object([
        "id": id, "_id": id, "deviceId": text(), "model": text(), "fromVersion": perhapsText, "toVersion": text(),
        "status": ["type": "string", "enum": .array(Deployment.State.allCases.map { .string($0.rawValue) })],
        "progress": ["type": "integer", "minimum": 0, "maximum": 100], "reason": perhapsText, "attempts": number,
        "triggeredBy": text(), "onItsWord": boolean, "createdAt": time, "startedAt": perhapsTime,
        "endedAt": perhapsTime, "due": perhapsTime,
    ])
    private static let blocking: [String: JSONValue] = ["model": text(), "version": text(), "blocked": boolean]
}

extension Call {
    fileprivate var device: [String: JSONValue] { ["deviceId": .string(parameter("deviceId"))] }
    fileprivate var model: JSONValue { .string(parameter("model")) }
    fileprivate var release: [String: JSONValue] { ["model": model, "version": .string(parameter("version"))] }
}
