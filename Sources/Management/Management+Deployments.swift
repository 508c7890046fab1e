internal import Access
internal import Firmware
internal import Fleet
internal import JSON
internal import Store

extension Management {
    /// A device is to run what its model shall.
    func startDeployment(_ id: DeviceId, _ requester: Requester) async throws -> JSONValue? {
        guard try !device(id, requester).isBlocked else { throw ManagementProblem(.blocked, "\(id.text) is blocked") }
        guard let desk = fleet.desk else {
            throw ManagementProblem(.wrongState, "without a broker that runs no device can be told")
        }
        guard try store.device(id.text)?.model != nil else {
            throw ManagementProblem(.wrongState, "\(id.text) has no model, by which its firmware could be found")
        }
        let (answer, offer) = try await update(of: id.text)
        guard let offer else {
            let latest = answer["latestVersion"]?.string
            throw ManagementProblem(
                .wrongState,
                latest.map { "\(id.text) runs \($0) already" }
                    ?? "there is no firmware for \(id.text) that it could have")
        }
        // Meanwhile they may have lost the right.
        _ = try device(id, asTheyAreNow(requester))
        let deployment = try await desk.start(offer.release, on: id.text, by: requester)
        var members: [String: JSONValue] = ["deployment": json(deployment), "message": "the update is on its way"]
        if requester.receivesSecrets {
            members["firmwareUrl"] = .string(await desk.address(of: offer.release, for: id.text))
        }
        return .object(members)
    }

    func cancelDeployment(_ id: DeviceId, _ requester: Requester) async throws -> JSONValue? {
        _ = try device(id, requester)
        guard let desk = fleet.desk else {
            throw ManagementProblem(.wrongState, "without a broker that runs no update is under way")
        }
        return .object(["deployment": json(try await desk.cancel(id.text, by: requester)), "message": "canceled"])
    }

    func listDeployments(
        _ id: DeviceId, _ request: ManagementCommand.PageRequest, _ requester: Requester
    ) throws -> JSONValue? {
        _ = try device(id, requester)
        let page = try store.deployments(of: id.text, page: request.page, limit: request.limit)
        return list("history", page.elements.map(json), request, total: page.total)
    }

    nonisolated func json(_ deployment: Deployment) -> JSONValue {
        .object([
            "id": .string(deployment.id), "_id": .string(deployment.id), "deviceId": .string(deployment.device),
            "model": .string(deployment.model), "fromVersion": .optional(deployment.previousVersion),
            "toVersion": .string(deployment.version), "status": .string(deployment.state.rawValue),
            "progress": .integer(Int64(deployment.progress ?? 0)), "reason": .optional(deployment.reason),
            "attempts": .integer(Int64(deployment.attempts)), "triggeredBy": .string(deployment.actor),
            "onItsWord": .bool(deployment.isOnItsWord), "createdAt": timestamp(deployment.created),
            "startedAt": deployment.started.map(timestamp) ?? .null,
            "endedAt": deployment.ended.map(timestamp) ?? .null,
            "due": deployment.state.isOver ? .null : timestamp(deployment.due),
        ])
    }
}
