internal import Cryptography
package import Firmware
package import Fleet
internal import JSON
internal import Store

// Firmware for single devices: the table decides, here it is done.

extension FleetKeeper {
    // MARK: - What people ask for

    package func start(
        _ release: ReleaseName, on device: String, by requester: Requester
    ) async throws -> Deployment {
        await drain()  // What the device has said until now counts.
        let moment = now()
        let state = live.state(of: device)
        if let current = state?.firmwareVersion, FirmwareVersion(current) == release.version {
            throw ManagementProblem(.wrongState, "\(device) runs \(release.version.name) already")
        }
        let deployment = Deployment(
            id: Secrets.identifier(at: moment.wall), device: device, model: release.model.text,
            version: release.version.name, previousVersion: state?.firmwareVersion, actor: requester.actor,
            created: moment.wall)
        _ = try await message(of: deployment)
        if let known = deployments.deployment(of: device) { throw Self.underWay(known) }
        let activity = Activity(
            time: moment.wall, actor: requester.actor, address: requester.address, device: device, kind: .otaStarted,
            detail: Self.detail(deployment))
        try keepNow(deployment, activity)
        let actions: [DeploymentTable.Action]
        do throws(DeploymentTable.Refusal) {
            actions = try deployments.start(deployment, isOnline: state?.isOnline ?? false, at: moment)
        } catch {
            throw Self.underWay(deployment)
        }
        live.withState { $0.table.setDeployment(deployment) }
        note(actions, at: moment)
        save()
        await sendOffers()
        return deployments.deployment(of: device) ?? deployment
    }

    private static func underWay(_ deployment: Deployment) -> ManagementProblem {
        ManagementProblem(
            .updateUnderWay, "\(deployment.device) is being updated to \(deployment.version); cancel that first")
    }

    package func cancel(_ device: String, by requester: Requester) async throws -> Deployment {
        await drain()
        let moment = now()
        var actions: [DeploymentTable.Action] = []
        // Tried on a copy: what the disk does not take has not happened.
        var table = deployments
        do throws(DeploymentTable.Refusal) {
            actions = try table.cancel(device, at: moment)
        } catch {
            switch error {
            case .none, .underWay: throw ManagementProblem(.wrongState, "no update of \(device) is under way")
            case .tooLate:
                throw ManagementProblem(.wrongState, "\(device) has said that it is done, and starts with it already")
            }
        }
        guard case .changed(let deployment, _) = actions.first else {
            preconditionFailure("what was canceled has changed")
        }
        let activity = Activity(
            time: moment.wall, actor: requester.actor, address: requester.address, device: device, kind: .otaCanceled,
            detail: Self.detail(deployment))
        try keepNow(deployment, activity)
        deployments = table
        withdraw(deployment)
        show(deployment)
        return deployment
    }

    package func stop(_ model: String, _ version: String, _ reason: String) async {
        let moment = now()
        for deployment in deployments.deployments(of: model, version) {
            note(deployments.fail(deployment.id, of: deployment.device, reason, at: moment), at: moment)
        }
        save()
    }

    package func address(of release: ReleaseName, for device: String) async -> String {
        management.firmwareURL(of: release, for: device, from: origin(of: device))
    }

    // MARK: - What devices say

    func report(
        _ payload: [UInt8], _ device: String, _ topic: FleetEvent.Topic, at moment: Moment,
        _ state: inout LiveFleet.State
    ) -> [DeploymentTable.Action] {
        guard state.table.isBlocked(device) == false else { return [] }
        switch topic {
        case .otaStatus:
            let known = state.table.state(of: device)?.firmwareVersion
            let actions = deployments.reported(device, payload, reportsVersion: known != nil, at: moment)
            if actions == nil { state.table.noteUnreadable(device) }
            return actions ?? []
        case .health:
            guard deployments.deployment(of: device) != nil, let health = JSONValue(parsing: payload) else { return [] }
            return deployments.tookHealth(
                device, version: health["fw"]?.string, uptime: health["uptime"]?.integer,
                isConnected: state.table.hasConnection(device), at: moment)
        case .status, .other: return []
        }
    }

    // MARK: - What follows

    /// What the table wants done: to the disk and to whoever watches with the next batch, to the device after that.
    func note(_ actions: [DeploymentTable.Action], at moment: Moment) {
        for action in actions {
            switch action {
            case .changed(let deployment, let isProgress):
                keep(deployment, Self.activity(deployment, isProgress: isProgress, at: moment))
                show(deployment)
            case .offer(let deployment): dueOffers.append(deployment)
            case .withdraw(let deployment): withdraw(deployment)
            }
        }
    }

    private func show(_ deployment: Deployment) {
        live.withState { state in
            state.table.setDeployment(deployment)
            state.untold.insert(deployment.device)
        }
    }

    /// Nil: nobody reads of it. Progress is counted together, but not with that of the update before.
    private static func activity(
        _ deployment: Deployment, isProgress: Bool, at moment: Moment
    ) -> (activity: Activity, isCounted: Bool)? {
        let kind: Activity.Kind
        switch deployment.state {
        case .inProgress: kind = .otaProgress
        case .success: kind = .otaSuccess
        case .failed: kind = .otaFailed
        case .rolledBack: kind = .otaRolledBack
        case .timedOut: kind = .otaTimedOut
        case .queued, .started, .canceled: return nil
        }
        let activity = Activity(
            time: moment.wall, actor: actor(deployment.device), device: deployment.device, kind: kind,
            detail: detail(deployment))
        return (activity, isProgress)
    }

    private static func detail(_ deployment: Deployment) -> String {
        var members: [String: JSONValue] = [
            "deployment": .string(deployment.id), "version": .string(deployment.version),
        ]
        if let reason = deployment.reason { members["reason"] = .string(reason) }
        if let progress = deployment.progress { members["progress"] = .integer(Int64(progress)) }
        return JSONValue.object(members).text
    }

    // MARK: - To the device

    func sendOffers() async {
        while !dueOffers.isEmpty {
            let due = dueOffers
            dueOffers = []
            for deployment in due { await send(deployment) }
            save()
        }
    }

    private func send(_ deployment: Deployment) async {
        let payload: [UInt8]
        do {
            payload = try await message(of: deployment)
        } catch {
            let reason = (error as? ManagementProblem)?.message ?? "\(error)"
            return note(deployments.fail(deployment.id, of: deployment.device, reason, at: now()), at: now())
        }
        // Meanwhile it may have ended.
        guard let known = deployments.deployment(of: deployment.device), known.id == deployment.id, known.isOffered
        else { return }
        let number = takeNumber()
        // Only the latest is waited for; before it is sent, for it may be acknowledged before that is over.
        withdraw(deployment)
        offers[number] = (deployment.id, deployment.device)
        let left = max(1, known.due - now().wall)
        let reach = await broker.send(
            payload, on: .ota, number: number, to: deployment.device, within: left, andOthers: false)
        guard reach.awaited == 0 else { return }
        offers[number] = nil
        // At QoS 0 there is no more to know than that it went out.
        note(
            reach.sent == 0
                ? deployments.unheard(deployment.id, of: deployment.device, at: now())
                : deployments.acknowledged(deployment.id, of: deployment.device, at: now()), at: now())
    }

    /// Nobody waits for what the device was told, and a session that has it does not tell it again.
    private func withdraw(_ deployment: Deployment) {
        let numbers = Set(offers.filter { $0.value.deployment == deployment.id }.keys)
        guard !numbers.isEmpty else { return }
        for number in numbers { offers[number] = nil }
        broker.withdraw(numbers)
    }

    /// With an address of this moment. Throws a `ManagementProblem` where the device can't have it.
    private func message(of deployment: Deployment) async throws -> [UInt8] {
        guard let model = ModelName(deployment.model), let version = FirmwareVersion(deployment.version) else {
            throw ManagementProblem(.failed, "'\(deployment.model)' is no model")
        }
        let release = ReleaseName(model: model, version: version)
        guard let (_, record) = try await management.firmware.open(release) else {
            throw ManagementProblem(.wrongState, "no device gets \(release) any more")
        }
        let settings = try management.store.model(deployment.model) ?? ModelRecord(unknown: model)
        let url = management.firmwareURL(of: release, for: deployment.device, from: origin(of: deployment.device))
        let payload: [UInt8]
        switch settings.otaPayload {
        case .url: payload = Array(url.utf8)
        case .json:
            let text = JSONText {
                $0.add("deployment", deployment.id)
                $0.add("version", deployment.version)
                $0.add("url", url)
                $0.add("size", .integer(record.size))
                $0.add("sha256", hexadecimal(record.digest))
            }
            payload = JSONValue.text(text).bytes
        }
        let bytes = Self.packetBytes(topic: "devices/\(deployment.device)/ota", payload: payload.count)
        guard bytes <= settings.packetLimit else {
            throw ManagementProblem(
                .packetLimit,
                "the message about \(release) takes \(bytes) bytes, and devices of \(model) take \(settings.packetLimit); "
                    + "a shorter 'base_url' or otaPayload url may help")
        }
        return payload
    }

    /// A PUBLISH of QoS 1 (MQTT 3.3).
    private static func packetBytes(topic: String, payload: Int) -> Int {
        let remaining = 2 + topic.utf8.count + 2 + payload
        return remaining + (remaining < 128 ? 2 : remaining < 16_384 ? 3 : 4)
    }

    /// Scheme, host and port by which a device reaches this server: that by which it has come, unless `base_url` says more.
    private func origin(of device: String) -> String {
        let settings = management.settings()
        if let base = settings.baseURL { return base }
        let host = hosts[device] ?? "localhost"
        let bracketed = host.contains(":") ? "[\(host)]" : host
        guard let port = settings.httpsPort else { return "http://\(bracketed):\(settings.httpPort ?? 80)" }
        return "https://\(bracketed):\(port)"
    }
}
