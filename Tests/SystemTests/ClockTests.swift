import Foundation
import Glibc
import Testing

extension System {
    /// A person, or a machine that has found a time server, sets the clock on the wall a day ahead or back while devices are
    /// there. What lasts is measured by another clock.
    @Suite(.disabled(if: isSanitized, "a sanitizer wants to be loaded first"))
    struct `A clock that is set` {
        private static let day = 86_400
        private static let offlineAfter = 4.0

        private let martlet: RESTMartlet
        private let faults: Faults

        init() throws {
            martlet = try RESTMartlet(["device_offline_after \(Int(Self.offlineAfter))"], withFaults: true)
            faults = try #require(martlet.faults)
        }

        // MARK: - What tests ask

        private struct Job {
            let runs: Int
            let skipped: Int
            let latest: Date?
        }

        private func jobs(_ token: String) throws -> [String: Job] {
            let list = try martlet.client.get("GET", "/api/admin/jobs", token: token)["jobs"] as? [[String: Any]] ?? []
            return try Dictionary(
                uniqueKeysWithValues: list.map { job in
                    (
                        try #require(job["name"] as? String),
                        Job(
                            runs: try #require(job["runs"] as? Int), skipped: try #require(job["skipped"] as? Int),
                            latest: time(job["lastRunAt"]))
                    )
                })
        }

        private func time(_ value: Any?) -> Date? {
            (value as? String).flatMap { try? Date.ISO8601FormatStyle(includingFractionalSeconds: true).parse($0) }
        }

        /// Whether that is now by a clock that is off by so many seconds.
        private func isNow(_ time: Date?, off seconds: Int) -> Bool {
            time.map { abs($0.timeIntervalSinceNow - Double(seconds)) < 60 } ?? false
        }

        /// From now on the clock is off by so many seconds. Returns once presence has been looked at by it, with an
        /// administrator's log-in of that time.
        private func setClock(_ seconds: Int) throws -> String {
            faults.moveClock(seconds: seconds)
            let token = try martlet.logIn("admin@x")
            let before = try jobs(token)["presence"]?.runs ?? 0
            let isSeen = try eventually(within: 20) {
                let job = try jobs(token)["presence"]
                return job.map { $0.runs >= before + 2 && isNow($0.latest, off: seconds) } ?? false
            }
            guard isSeen else { throw Unexpected("no job runs by the clock that is \(seconds) s off") }
            return token
        }

        private func record(_ device: String, _ token: String) throws -> RESTClient.Answer {
            try martlet.client.get("GET", "/api/device/\(device)", token: token)
        }

        private func awaits(
            _ device: String, _ presence: String, _ reason: String? = nil, by token: String,
            location: SourceLocation = #_sourceLocation
        ) throws {
            let isSo = try eventually(within: 20) {
                let record = try record(device, token)
                return record["device", "presence"] as? String == presence
                    && record["device", "offlineReason"] as? String == reason
            }
            let found = try record(device, token).text
            #expect(isSo, "not \(presence): \(found)", sourceLocation: location)
        }

        private func activity(of device: String, _ token: String) throws -> [String: Int] {
            let list = try martlet.client.get("GET", "/api/device/\(device)/activity?limit=500", token: token)
            let kinds = (list["activity"] as? [[String: Any]] ?? []).compactMap { $0["kind"] as? String }
            return Dictionary(kinds.map { ($0, 1) }, uniquingKeysWith: +)
        }

        private func status(_ token: String) throws -> Int {
            try martlet.client.ask("GET", "/api/auth/me", token: token).status
        }

        private func give(_ device: String, _ payload: String, seconds: Int, _ token: String) throws {
            try martlet.client.get(
                "POST", "/api/device/\(device)/command?queue=\(seconds)", token: token, body: "\"\(payload)\"")
        }

        // MARK: - While the server runs

        @Test func `makes nobody come or go, and silence lasts as long as before`() throws {
            let (connected, secret) = try martlet.addDevice()
            let (heard, _) = try martlet.addDevice()
            let client = try martlet.signedIn(connected, secret)
            // By password: log-ins end.
            let gateway = try martlet.signedIn("admin@x", RESTMartlet.password)
            var token = martlet.admin
            try awaits(connected, "ONLINE", by: token)
            // A day on, and back.
            for off in [Self.day, 0] {
                let start = monotonicNanoseconds()
                try gateway.send(Packet.publish("devices/\(heard)/health", #"{"heap":1}"#, qos: 1))
                #expect(try gateway.receive().type == 4)
                try awaits(heard, "ONLINE", by: token)
                token = try setClock(off)
                try awaits(heard, "OFFLINE", "SILENT", by: token)
                let silence = Double(monotonicNanoseconds() - start) / 1e9
                #expect(silence >= Self.offlineAfter && silence < 3 * Self.offlineAfter * patience)
                // What is shown goes by the clock.
                let isShown = try eventually(within: 20) {
                    try client.ping()
                    return isNow(time(try record(connected, token)["device", "lastSeen"]), off: off)
                }
                #expect(isShown)
                #expect(isNow(time(try record(heard, token)["device", "offlineAt"]), off: off))
                #expect(try record(connected, token)["device", "presence"] as? String == "ONLINE")
            }
            let stayed = try activity(of: connected, token)
            #expect(stayed["DEVICE_ONLINE"] == 1 && stayed["DEVICE_OFFLINE"] == nil, "\(stayed)")
            let isLogged = try eventually { try activity(of: heard, token)["DEVICE_OFFLINE"] == 2 }
            #expect(isLogged)
            #expect(try activity(of: heard, token)["DEVICE_ONLINE"] == 2)
            try martlet.stop()
        }

        @Test func `makes no job run more often, or less`() throws {
            let start = monotonicNanoseconds()
            let before = try jobs(martlet.admin)
            var token = ""
            // Each waits for two more runs.
            for off in [Self.day, 0] { token = try setClock(off) }
            let after = try jobs(token)
            let passed = Int((monotonicNanoseconds() - start) / 1_000_000_000)
            #expect(Set(after.keys) == ["presence", "log-ins", "health", "retention", "database"])
            for (name, job) in after {
                let (runs, skipped) = (job.runs - (before[name]?.runs ?? 0), job.skipped - (before[name]?.skipped ?? 0))
                if ["presence", "log-ins"].contains(name) {
                    #expect(runs + skipped <= passed + 2 && runs > 2, "\(name): \(runs) runs in \(passed) s")
                } else {
                    #expect(runs == 0 && skipped == 0, "\(name), whose time is far off")
                }
            }
            try martlet.stop()
        }

        @Test(arguments: [day, -day]) func `changes nothing of how long commands wait`(_ jump: Int) throws {
            let (away, secret) = try martlet.addDevice()
            let (there, other) = try martlet.addDevice()
            func connect() throws -> RawClient {
                try martlet.mqtt(there, other, client: "lasting", cleanSession: false).client
            }
            var client = try connect()
            try client.subscribe([("devices/\(there)/command", 1)])
            try awaits(there, "ONLINE", by: martlet.admin)
            try give(there, "in flight", seconds: 600, martlet.owner)
            let first = try client.receive()
            client.cut()
            let start = monotonicNanoseconds()
            try give(away, "brief", seconds: 5, martlet.owner)
            try give(away, "lasting", seconds: 600, martlet.owner)

            let token = try setClock(jump)
            client = try connect()
            let again = try client.receive()
            #expect(again.isDuplicate && again.identifier == first.identifier && again.text == #""in flight""#)
            let isOver = try eventually(within: 20) { try activity(of: away, token)["COMMAND_EXPIRED"] != nil }
            #expect(isOver)
            let passed = Double(monotonicNanoseconds() - start) / 1e9
            #expect(passed >= 5, "it had \(passed) s")
            let reader = try martlet.signedIn(away, secret)
            try reader.subscribe([("devices/\(away)/command", 1)])
            let packet = try reader.receive()
            #expect(packet.text == #""lasting""#)
            try reader.send(Packet.acknowledge(0x40, packet.identifier))
            let isDelivered = try eventually { try activity(of: away, token)["COMMAND_DELIVERED"] == 1 }
            #expect(isDelivered)
            #expect(try activity(of: away, token)["COMMAND_EXPIRED"] == 1)
            try martlet.stop()
        }

        @Test func `ends log-ins whose time is over by it, and those of later do not count yet`() throws {
            let owner = martlet.owner
            let byToken = try martlet.signedIn("owner@x", owner)
            let byPassword = try martlet.signedIn("other@x", RESTMartlet.password)
            #expect(try status(owner) == 200)
            // It was made tomorrow.
            _ = try setClock(-Self.day)
            #expect(try status(owner) == 401)
            #expect(try status(martlet.logIn("owner@x")) == 200)
            try byToken.ping()
            _ = try setClock(0)
            #expect(try status(owner) == 200, "the clock is right again")

            _ = try setClock(Self.day + 100)
            #expect(try status(owner) == 401)
            #expect(byToken.isClosed(), "the connection ends with its log-in")
            try byPassword.ping()
            let later = try martlet.logIn("owner@x")
            #expect(try status(later) == 200)
            _ = try setClock(0)
            #expect(try status(owner) == 401, "what is over stays so")
            #expect(try status(later) == 401, "not yet")
            #expect(try status(martlet.logIn("owner@x")) == 200)
            try byPassword.ping()
            try martlet.stop()
        }

        // MARK: - While it does not

        @Test func `back while the server is away keeps nobody online, and no command for longer than was asked`()
            throws
        {
            let (device, secret) = try martlet.addDevice()
            let (away, other) = try martlet.addDevice()
            var token = try setClock(Self.day)
            let client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE", by: token)
            try give(away, "brief", seconds: 5, token)
            try give(away, "lasting", seconds: 600, token)
            let isSaved = try eventually {
                let row = try martlet.sql("SELECT online, last_seen FROM device_state WHERE online = 1")
                let seen = row.split(separator: "|").last.flatMap { Double($0.trimmingCharacters(in: .newlines)) }
                return isNow(seen.map { Date(timeIntervalSince1970: $0 / 1000) }, off: Self.day)
            }
            #expect(isSaved)
            martlet.program.signal(SIGKILL)
            _ = try martlet.program.waitForEnd()
            #expect(client.isClosed())
            faults.moveClock(seconds: 0)
            try martlet.restart()
            let restart = monotonicNanoseconds()
            token = try setClock(0)
            try awaits(device, "OFFLINE", "SERVER_RESTARTED", by: token)
            let isOver = try eventually(within: 20) { try activity(of: away, token)["COMMAND_EXPIRED"] == 1 }
            #expect(isOver)
            #expect(Double(monotonicNanoseconds() - restart) / 1e9 < 30 * patience)
            #expect(isNow(time(try record(device, token)["device", "lastSeen"]), off: Self.day), "so it was noted")
            _ = try martlet.signedIn(device, secret)
            let isSeen = try eventually {
                isNow(time(try record(device, token)["device", "lastSeen"]), off: 0)
            }
            #expect(isSeen)
            let reader = try martlet.signedIn(away, other)
            try reader.subscribe([("devices/\(away)/command", 1)])
            #expect(try reader.receive().text == #""lasting""#)
            try martlet.stop()
        }

        @Test func `ahead while the server is away gives devices their time to come back, and commands are over`()
            throws
        {
            let (device, secret) = try martlet.addDevice()
            let (gone, other) = try martlet.addDevice()
            let (away, _) = try martlet.addDevice()
            let before = [try martlet.signedIn(device, secret), try martlet.signedIn(gone, other)]
            for name in [device, gone] { try awaits(name, "ONLINE", by: martlet.admin) }
            try give(away, "lasting", seconds: 600, martlet.owner)
            martlet.program.signal(SIGTERM)
            #expect(try martlet.program.waitForEnd() == .exited(0))
            #expect(before.allSatisfy { $0.isClosed() })
            faults.moveClock(seconds: Self.day)
            try martlet.restart()
            let client = try martlet.signedIn(device, secret)
            let token = try setClock(Self.day)
            try awaits(gone, "OFFLINE", "SERVER_RESTARTED", by: token)
            try awaits(device, "ONLINE", by: token)
            try client.ping()
            let stayed = try activity(of: device, token)
            #expect(stayed["DEVICE_OFFLINE"] == nil && stayed["DEVICE_ONLINE"] == 1, "\(stayed)")
            let isOver = try eventually { try activity(of: away, token)["COMMAND_EXPIRED"] == 1 }
            #expect(isOver)
            #expect(try status(martlet.owner) == 401)
            #expect(try status(martlet.logIn("owner@x")) == 200)
            try martlet.stop()
        }
    }
}
