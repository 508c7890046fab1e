import Foundation
import Glibc

/// A device as its firmware behaves: it says what it runs, listens for updates, and says how one goes.
final class UpdatedDevice {
    /// What it was told.
    struct Offer {
        /// As it came.
        let packet: Received
        let members: [String: Any]

        init(_ packet: Received) {
            self.packet = packet
            members = packet.members
        }

        var deployment: String { members["deployment"] as? String ?? "" }
        var version: String { members["version"] as? String ?? "" }
        /// Alone where there is nothing else.
        var url: String { members["url"] as? String ?? packet.text }
    }

    let id: String
    let secret: String
    private let martlet: RESTMartlet
    /// Whether its session outlives its connection.
    private let isLasting: Bool
    private var connection: RawClient?
    /// Messages that have come while something else was waited for.
    private var waiting: [Received] = []

    /// Of that model. `runs`: connected, and has said so; nil: it never was there.
    init(
        _ martlet: RESTMartlet, model: String? = "m", runs version: String? = "1.0.0", id: String? = nil,
        isLasting: Bool = false
    ) throws {
        (self.martlet, self.isLasting) = (martlet, isLasting)
        (self.id, secret) = try martlet.addDevice(model: model, id: id)
        guard let version else { return }
        try connect()
        try says(version: version)
    }

    private func established() throws -> RawClient {
        guard let connection else { throw Unexpected("\(id) has no connection") }
        return connection
    }

    // MARK: - Its connection

    /// `listens`: at which QoS; nil: it does not.
    func connect(listens qos: UInt8? = 1) throws {
        waiting = []
        let (connection, code) = try martlet.mqtt(id, secret, client: id, cleanSession: !isLasting)
        guard code == 0 else { throw Unexpected("\(id) is refused with \(code)") }
        self.connection = connection
        if let qos { try listen(qos: qos) }
    }

    func listen(qos: UInt8 = 1) throws {
        let codes = try established().subscribe([("devices/\(id)/ota", qos)])
        guard codes == [qos] else { throw Unexpected("\(id) may not listen: \(codes)") }
    }

    /// As by a power cut. Returns once that is known.
    func loseConnection() throws {
        try established().cut()
        connection = nil
        let isMissed = try eventually {
            try martlet.settle()
            return try martlet.record(id)["device", "online"] as? Bool == false
        }
        guard isMissed else { throw Unexpected("nobody misses \(id)") }
    }

    func comeBack() throws {
        try loseConnection()
        try connect()
    }

    var isClosed: Bool { connection?.isClosed() ?? true }

    private func next(_ isWanted: (Received) -> Bool) throws -> Received {
        let connection = try established()
        while true {
            let packet = try connection.receive()
            if isWanted(packet) { return packet }
            guard packet.type == 3 else { throw Unexpected("\(id) got \(packet)") }
            waiting.append(packet)
        }
    }

    // MARK: - What it is told

    func offer() throws -> Offer {
        Offer(try waiting.isEmpty ? next { $0.type == 3 } : waiting.removeFirst())
    }

    func acknowledge(_ offer: Offer) throws {
        try established().send(Packet.acknowledge(0x40, offer.packet.identifier))
        try ping()
        try martlet.settle()
    }

    /// Whether there is something that it has not looked at; after a round trip, before which all of it has come.
    func wasTold() throws -> Bool {
        try ping()
        return !waiting.isEmpty
    }

    private func ping() throws {
        try established().send(Packet.pingRequest)
        _ = try next { $0.type == 13 }
    }

    // MARK: - What it says

    private func publish(_ topic: String, _ payload: String) throws {
        try established().send(Packet.publish("devices/\(id)/\(topic)", payload, qos: 1))
        _ = try next { $0.type == 4 }
    }

    /// How an update goes. Returns once that counts.
    func says(_ text: String) throws {
        try publish("ota/status", text)
        try martlet.settle()
    }

    /// What it runs, and for how long if it says so. Returns once that counts, unless it shall not be waited for.
    func says(version: String, uptime: Int? = nil, isAwaited: Bool = true) throws {
        let uptime = uptime.map { #","uptime":\#($0)"# } ?? ""
        try publish("health", #"{"fw":"\#(version)"\#(uptime)}"#)
        if isAwaited { try martlet.settle() }
    }

    // MARK: - On its way

    /// What a device and its server can be in the midst of.
    enum Stage: CaseIterable { case away, told, started, loading, done }

    /// An update of a device that is connected, so far. Returns what it was told; nil: it is away.
    @discardableResult
    func reach(_ stage: Stage) throws -> Offer? {
        if stage == .away { try loseConnection() }
        try martlet.started(id)
        guard stage != .away else { return nil }
        let offer = try offer()
        guard stage != .told else { return offer }
        try acknowledge(offer)
        try martlet.awaits(id, "STARTED")
        guard stage != .started else { return offer }
        try says(#"{"status":"IN_PROGRESS","progress":40}"#)
        try martlet.awaits(id, "IN_PROGRESS", progress: 40)
        guard stage != .loading else { return offer }
        try says("SUCCESS")
        try martlet.awaits(id, "IN_PROGRESS", progress: 100)
        return offer
    }
}

extension UpdatedDevice.Stage {
    /// What that is called.
    var state: String {
        switch self {
        case .away, .told: "QUEUED"
        case .started: "STARTED"
        case .loading, .done: "IN_PROGRESS"
        }
    }
}

extension Received {
    /// Of a PUBLISH whose payload is a JSON object.
    var members: [String: Any] {
        (try? JSONSerialization.jsonObject(with: Data(payload))) as? [String: Any] ?? [:]
    }
}

/// A deployment as the history has it.
struct ShownDeployment: Equatable, CustomStringConvertible {
    let id: String
    let status: String
    let progress: Int
    let reason: String?
    let attempts: Int
    let fromVersion: String?
    let toVersion: String
    let triggeredBy: String
    let isOnItsWord: Bool
    let hasStarted: Bool
    let hasEnded: Bool
    let isDue: Bool

    init?(_ value: Any?) {
        guard let members = value as? [String: Any], let id = members["id"] as? String,
            let status = members["status"] as? String, let progress = members["progress"] as? Int,
            let attempts = members["attempts"] as? Int, let version = members["toVersion"] as? String
        else { return nil }
        (self.id, self.status, self.progress, self.attempts, toVersion) = (id, status, progress, attempts, version)
        reason = members["reason"] as? String
        fromVersion = members["fromVersion"] as? String
        triggeredBy = members["triggeredBy"] as? String ?? ""
        isOnItsWord = members["onItsWord"] as? Bool ?? false
        hasStarted = members["startedAt"] is String
        hasEnded = members["endedAt"] is String
        isDue = members["due"] is String
    }

    var description: String { "\(status) \(progress) % \(reason ?? "") (\(attempts))" }
}

extension RESTMartlet {
    /// Where devices of that model shall run that release.
    convenience init(
        promoting release: String, _ lines: [String] = [], people: [Role] = [.owner], withFaults: Bool = false
    ) throws {
        try self.init(lines, people: people, withFaults: withFaults)
        try self.release(release, ["verify", "approve", "promote"])
    }

    func record(_ device: String) throws -> RESTClient.Answer {
        try client.get("GET", "/api/device/\(device)", token: admin)
    }

    func start(_ device: String, token: String? = nil) throws -> RESTClient.Answer {
        try client.ask("POST", "/api/ota/\(device)/start", token: token ?? admin)
    }

    /// The same, where it has to succeed.
    @discardableResult
    func started(_ device: String) throws -> ShownDeployment {
        let answer = try start(device)
        guard answer.status == 200, let deployment = ShownDeployment(answer["deployment"]) else {
            throw Unexpected("\(device) is not updated: \(answer.text)")
        }
        return deployment
    }

    func cancel(_ device: String, token: String? = nil) throws -> RESTClient.Answer {
        try client.ask("POST", "/api/ota/\(device)/cancel", token: token ?? admin)
    }

    /// The latest first.
    func history(_ device: String) throws -> [ShownDeployment] {
        let answer = try client.get("GET", "/api/ota/\(device)/history", token: admin)
        return (answer["history"] as? [Any] ?? []).compactMap { ShownDeployment($0) }
    }

    /// Returns once all that devices have said counts: who ends an update is answered after that, also where there is none.
    func settle() throws {
        let device = try bystander ?? addDevice(model: nil).id
        bystander = device
        guard try cancel(device).code == "wrong_state" else { throw Unexpected("\(device) is updated") }
    }

    /// The latest once that is so.
    func settled(_ device: String) throws -> ShownDeployment {
        try settle()
        guard let latest = try history(device).first else { throw Unexpected("\(device) was never updated") }
        return latest
    }

    /// Until the latest is in that state, on the disk and as it is shown.
    @discardableResult
    func awaits(_ device: String, _ status: String, progress: Int? = nil) throws -> ShownDeployment {
        var found: (ShownDeployment?, RESTClient.Answer)?
        let isSo = try eventually {
            let (latest, record) = (try history(device).first, try record(device))
            found = (latest, record)
            return latest?.status == status && record["device", "otaStatus"] as? String == status
                && (progress == nil || latest?.progress == progress)
                && (progress == nil || record["device", "otaProgress"] as? Int == progress)
        }
        guard isSo, let latest = found?.0 else {
            throw Unexpected("\(device) is not \(status): \(found?.0?.description ?? "") \(found?.1.text ?? "")")
        }
        return latest
    }

    /// What the log says of its updates, the oldest first; `OTA_PROGRESS 3` is one that stands for three.
    func updateActivity(_ device: String) throws -> [String] {
        let answer = try client.get("GET", "/api/device/\(device)/activity?limit=500", token: admin)
        return (answer["activity"] as? [[String: Any]] ?? []).reversed().compactMap { entry in
            guard let kind = entry["kind"] as? String, kind.hasPrefix("OTA_") else { return nil }
            let count = (entry["detail"] as? [String: Any])?["count"] as? Int
            return count.map { "\(kind) \($0)" } ?? kind
        }
    }

    /// The status of an answer to who asks for it.
    func fetch(_ url: String) throws -> Int { try client.ask("GET", target(url)).status }

    // MARK: - The server ends

    /// By that signal, and another one starts. `away`: as if it had not been there for so long, to updates that are under way.
    func restart(by signal: Int32, away: Duration = .zero, only device: String? = nil) throws {
        program.signal(signal)
        let end = try program.waitForEnd(within: 10 * patience)
        guard end == (signal == SIGKILL ? .killed(by: SIGKILL) : .exited(0)) else {
            throw Unexpected("\(end):\n\(program.output.suffix(2_000))")
        }
        let passed = away.components.seconds * 1_000
        if passed > 0 {
            let which = device.map { " AND device = (SELECT id FROM device WHERE device_id = '\($0)')" } ?? ""
            try sql(
                """
                UPDATE deployment SET created = created - \(passed), since = since - \(passed), due = due - \(passed)
                WHERE ended IS NULL\(which)
                """)
        }
        try restart()
    }
}
