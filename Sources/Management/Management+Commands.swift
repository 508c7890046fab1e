internal import Access
package import Firmware
package import Fleet
internal import JSON
package import Store

/// Whoever gives commands to devices: the keeper of the fleet, where a broker runs.
package protocol CommandDesk: Sendable {
    /// Throws a `ManagementProblem`, or why the disk does not take it; then nothing was sent.
    func send(_ command: OutgoingCommand, by requester: Requester) async throws -> CommandReceipt

    /// A device is told of a release. Throws a `ManagementProblem`, or why the disk does not take it; then it is not.
    func start(_ release: ReleaseName, on device: String, by requester: Requester) async throws -> Deployment
    func cancel(_ device: String, by requester: Requester) async throws -> Deployment
    /// Nobody gets that release any more.
    func stop(_ model: String, _ version: String, _ reason: String) async
    /// By which a device can fetch a release from now on.
    func address(of release: ReleaseName, for device: String) async -> String
}

/// A command that somebody gives.
package struct OutgoingCommand: Sendable {
    /// Milliseconds in which a device has to have acknowledged it.
    package static let usualLifetime: Int64 = 30_000
    /// Seconds for which one may wait for its device.
    package static let queueSeconds: ClosedRange<Int64> = 1...604_800

    package let device: String
    package let payload: [UInt8]
    /// How the log calls it.
    package let kind: Activity.Kind
    /// Milliseconds in which it waits for a device that is away; nil: it does not.
    package let queueMilliseconds: Int64?

    /// Of its payload, so much is in the log.
    private static let loggedBytes = 1_024

    func detail(id: String) -> String {
        var detail: [String: JSONValue] = ["commandId": .string(id)]
        if kind == .commandSent {
            let shown = String(decoding: payload.prefix(Self.loggedBytes), as: UTF8.self)
            detail["payload"] = .string(payload.count > Self.loggedBytes ? shown + "..." : shown)
        }
        if let queueMilliseconds { detail["queue"] = .integer(queueMilliseconds / 1000) }
        return JSONValue.object(detail).text
    }
}

/// What became of it so far.
package struct CommandReceipt: Sendable {
    /// UUIDv7.
    package let id: String
    /// It waits for its device.
    package let isQueued: Bool
    /// Milliseconds since 1970.
    package let expires: Int64
}

extension Management {
    func setLed(_ id: DeviceId, isOn: Bool, _ requester: Requester) async throws -> JSONValue? {
        let command = OutgoingCommand(
            device: id.text, payload: Array((isOn ? "LED_ON" : "LED_OFF").utf8), kind: isOn ? .ledOn : .ledOff,
            queueMilliseconds: nil)
        let receipt = try await send(command, to: id, requester)
        return .object(["state": .string(isOn ? "ON" : "OFF"), "commandId": .string(receipt.id)])
    }

    func sendCommand(
        _ id: DeviceId, _ payload: JSONValue, queueSeconds: Int64?, _ requester: Requester
    ) async throws -> JSONValue? {
        let command = OutgoingCommand(
            device: id.text, payload: payload.bytes, kind: .commandSent,
            queueMilliseconds: queueSeconds.map { $0 * 1000 })
        let receipt = try await send(command, to: id, requester)
        return .object([
            "commandId": .string(receipt.id), "state": .string(receipt.isQueued ? "QUEUED" : "SENT"),
            "expiresAt": timestamp(receipt.expires),
        ])
    }

    private func send(
        _ command: OutgoingCommand, to id: DeviceId, _ requester: Requester
    ) async throws -> CommandReceipt {
        guard try !device(id, requester).isBlocked else {
            throw ManagementProblem(.blocked, "\(id.text) is blocked")
        }
        guard let desk = fleet.desk else {
            throw ManagementProblem(.deviceOffline, "without a broker that runs no device is online")
        }
        return try await desk.send(command, by: requester)
    }

    /// Whether what somebody has asked for a while ago may still be done.
    func mayCommand(_ device: String, _ actor: String) -> Bool {
        guard accounts.devices[device]?.isBlocked == false else { return false }
        // At the machine itself nobody is blocked.
        guard let person = accounts.people[actor] else { return actor.hasPrefix("local:") }
        return !person.isBlocked && (person.role == .admin || person.devices.contains(device))
    }

    // MARK: - What devices have said

    /// Milliseconds that are shown where nobody says since when.
    private static let usualHistory: Int64 = 24 * 3_600_000

    func getDeviceHealth(
        _ id: DeviceId, from: Int64?, to: Int64?, _ requester: Requester
    ) throws -> JSONValue? {
        _ = try device(id, requester)
        let to = to ?? milliseconds() + 1
        let from = from ?? to - Self.usualHistory
        guard from < to else { throw ManagementProblem(.invalidRequest, "'from' is before 'to'") }
        let (points, step) = try healthPoints(id.text, from: from, to: to)
        let state = fleet.state(of: id.text)
        return .object([
            "deviceId": .string(id.text), "from": timestamp(from), "to": timestamp(to), "step": .integer(step / 1000),
            "count": .integer(Int64(points.count)), "health": .array(points),
            "latest": state?.health ?? .null, "latestAt": state?.healthTime.map(timestamp) ?? .null,
        ])
    }

    func listDeviceActivity(
        _ id: DeviceId, _ request: ManagementCommand.PageRequest, _ requester: Requester
    ) throws -> JSONValue? {
        _ = try device(id, requester)
        var wanted = ManagementCommand.ActivityRequest()
        wanted.device = id
        return try listActivity(request, wanted)
    }

    /// All devices for administrators, one's own for others.
    func getDashboard(_ request: ManagementCommand.PageRequest, _ requester: Requester) throws -> JSONValue? {
        if requester.isLimited {
            let ids = requester.person.flatMap { accounts.people[$0] }?.devices ?? []
            let page = ids.dropFirst((request.page - 1) * request.limit).prefix(request.limit)
            let records = try store.devices(Array(page)).sorted { $0.deviceId < $1.deviceId }
            return dashboard(records, fleet.totals(of: ids), request)
        }
        let page = try store.devices(page: request.page, limit: request.limit)
        return dashboard(page.elements, fleet.totals(of: accounts.devices.keys), request)
    }

    private func dashboard(
        _ records: [DeviceRecord], _ totals: FleetTotals, _ request: ManagementCommand.PageRequest
    ) -> JSONValue {
        var members = list("devices", records.map(json), request, total: totals.devices).object ?? [:]
        members["totals"] = totals.json
        return .object(members)
    }
}
