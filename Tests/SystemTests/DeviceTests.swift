import Foundation
import Glibc
import Seeded
import Testing

extension System {
    /// What devices do, as REST, the log and `$SYS` tell it, and what is said to them.
    @Suite struct `Devices that are watched` {
        private let martlet: RESTMartlet

        init() throws { martlet = try RESTMartlet(["device_offline_after 2"]) }

        private func record(_ device: String) throws -> RESTClient.Answer {
            try martlet.client.get("GET", "/api/device/\(device)", token: martlet.owner)
        }

        private func awaits(
            _ device: String, _ presence: String, _ reason: String? = nil, _ comment: Comment? = nil,
            location: SourceLocation = #_sourceLocation
        ) throws {
            let isSo = try eventually {
                let record = try record(device)
                return record["device", "presence"] as? String == presence
                    && record["device", "offlineReason"] as? String == reason
            }
            let found = try record(device).text
            #expect(isSo, "\(comment ?? ""): \(found)", sourceLocation: location)
        }

        /// The oldest first.
        private func activity(of device: String) throws -> [String] {
            let list = try martlet.client.get("GET", "/api/device/\(device)/activity?limit=500", token: martlet.owner)
            return (list["activity"] as? [[String: Any]] ?? []).reversed().compactMap { $0["kind"] as? String }
        }

        private func command(_ device: String, _ body: String, query: String = "") throws -> RESTClient.Answer {
            try martlet.client.ask("POST", "/api/device/\(device)/command\(query)", token: martlet.owner, body: body)
        }

        // MARK: - Presence

        @Test func `are online and offline as their connections begin and end`() throws {
            let (device, secret) = try martlet.addDevice()
            try awaits(device, "NEVER_SEEN")
            var client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE")
            try client.send(Packet.disconnect)
            try awaits(device, "OFFLINE", "DISCONNECTED")

            client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE")
            client.cut()
            try awaits(device, "OFFLINE", "CONNECTION_LOST")

            client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE")
            try client.send([0xF0, 0])
            try awaits(device, "OFFLINE", "PROTOCOL_VIOLATION")

            client = try martlet.signedIn(device, secret, client: "same")
            let other = try martlet.signedIn(device, secret, client: "same")
            #expect(client.isClosed())
            try awaits(device, "ONLINE", nil, "taken over by itself")
            let second = try martlet.signedIn(device, secret, client: "second")
            other.cut()
            try second.ping()
            try awaits(device, "ONLINE", nil, "by its second connection")
            try martlet.client.get(
                "POST", "/api/admin/device/\(device)/block", token: martlet.admin, body: #"{"blocked":true}"#)
            try awaits(device, "OFFLINE", "NOT_AUTHORIZED")
            #expect(second.isClosed())
            // What is known at once gets into the log with the next batch.
            let expected = (0..<8).map { $0 % 2 == 0 ? "DEVICE_ONLINE" : "DEVICE_OFFLINE" }
            let isLogged = try eventually {
                try activity(of: device).filter { $0.hasPrefix("DEVICE_O") } == expected
            }
            #expect(isLogged)
            try martlet.stop()
        }

        @Test func `are missed when only messages tell of them, and after a crash`() throws {
            let (device, secret) = try martlet.addDevice()
            let admin = try martlet.signedIn("admin@x", martlet.admin)
            try admin.send(Packet.publish("devices/\(device)/health", #"{"heap":1}"#, qos: 1))
            #expect(try admin.receive().type == 4)
            try awaits(device, "ONLINE")
            try awaits(device, "OFFLINE", "SILENT")

            let client = try martlet.signedIn(device, secret)
            try client.send(Packet.publish("devices/\(device)/status", "ON", qos: 1))
            #expect(try client.receive().type == 4)
            try awaits(device, "ONLINE")
            // On the disk with the presence that is told after it.
            let isSaved = try eventually {
                try martlet.sql("SELECT online, led FROM device_state WHERE led = 1").contains("1|1")
            }
            #expect(isSaved)
            martlet.program.signal(SIGKILL)
            _ = try martlet.program.waitForEnd()
            try martlet.restart()
            #expect(try record(device)["device", "ledState"] as? Bool == true)
            try awaits(device, "OFFLINE", "SERVER_RESTARTED")
            try martlet.stop()
        }

        @Test func `by the thousand are each as it happened to them`() throws {
            let count = 2_000
            let table = "deviceId\n" + (0..<count).map { "MANY-\($0)\n" }.joined()
            let imported = try martlet.client.ask(
                "POST", "/api/admin/devices/import", token: martlet.admin, body: table,
                fields: ["Content-Type: text/csv"])
            var secrets: [String: String] = [:]
            for line in imported.text.split(separator: "\n") {
                guard let report = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
                    let device = report["deviceId"] as? String,
                    let credentials = report["credentials"] as? [String: String]
                else { continue }
                secrets[device] = credentials["password"]
            }
            #expect(secrets.count == count, "\(imported.text.prefix(500))")
            var random = SeededGenerator(seed: 8)
            // Those that are open, by Client Identifier, and what has to be seen: a reason only where there was one end.
            var open: [String: RawClient] = [:]
            var expected: [String: String] = [:]
            for (device, secret) in secrets.sorted(by: { $0.key < $1.key }) {
                let connections = random.below(3)
                for _ in 0..<connections {
                    let name = random.below(2) == 0 ? device : "\(device)-\(random.below(2))"
                    // Who has that name already is thrown out.
                    open[name] = try martlet.signedIn(device, secret, client: name)
                    let end = random.below(4)
                    if end == 0 { try open[name]?.send(Packet.disconnect) }
                    if end == 1 { open[name]?.cut() }
                    guard end < 2 else { continue }
                    open[name] = nil
                    expected[device] = connections > 1 ? "OFFLINE" : end == 0 ? "DISCONNECTED" : "CONNECTION_LOST"
                }
                let isThere = open.keys.contains { $0 == device || $0.hasPrefix("\(device)-") }
                if isThere { expected[device] = "ONLINE" }
            }
            func wrong() throws -> [String] {
                var wrong: [String] = []
                for page in 1...(count / 500) {
                    let list = try martlet.client.get(
                        "GET", "/api/admin/devices?limit=500&page=\(page)", token: martlet.admin)
                    for device in list["devices"] as? [[String: Any]] ?? [] {
                        let name = device["deviceId"] as? String ?? ""
                        let presence = device["presence"] as? String
                        let reason = device["offlineReason"] as? String
                        let wanted = expected[name] ?? "NEVER_SEEN"
                        if presence != wanted, reason != wanted { wrong.append("\(name): \(device), not \(wanted)") }
                    }
                }
                return wrong
            }
            let isSo = try eventually { try wrong().isEmpty }
            let others = try wrong()
            #expect(isSo, "\(others.count) are wrong, such as \(others.first ?? "")")
            let online = expected.values.count { $0 == "ONLINE" }
            let totals = try martlet.client.get("GET", "/api/dashboard", token: martlet.admin)
            #expect(totals["totals", "online"] as? Int == online && online > 500)
            #expect(totals["totals", "offline"] as? Int == expected.count - online)
            open = [:]
            try martlet.stop()
        }

        // MARK: - Reports

        @Test func `have what they report kept as it came, whatever shape it has`() throws {
            let (device, secret) = try martlet.addDevice()
            let client = try martlet.signedIn(device, secret)
            func publish(_ topic: String, _ payload: String) throws {
                try client.send(Packet.publish("devices/\(device)/\(topic)", payload, qos: 1))
                #expect(try client.receive().type == 4)
            }
            try publish(
                "health", #"{"heap":18000,"uptime":5,"fw":"1.2.3","wifi":{"rssi":-61,"ssid":"a"},"l":[1,{"x":null}]}"#)
            try publish("health", #"{"heap":20000,"fw":"1.2.3"}"#)
            for garbage in ["", "{", "\u{0}", "nan", #"{"heap":}"#, String(repeating: "[", count: 10_000)] {
                try publish("health", garbage)
                try publish("status", garbage)
            }
            try publish("status", "ON")
            let isOn = try eventually { try record(device)["device", "ledState"] as? Bool == true }
            #expect(isOn)
            try publish("status", #"{"state":"OFF","relay":[true]}"#)
            let isOff = try eventually { try record(device)["device", "ledState"] as? Bool == false }
            #expect(isOff)
            let known = try record(device)
            #expect(known["device", "health", "heap"] as? Int == 20000 && known["device", "lastHeap"] as? Int == 20000)
            #expect(known["device", "firmwareVersion"] as? String == "1.2.3")
            #expect((known["device", "status", "relay"] as? [Bool]) == [true])
            let history = try martlet.client.get("GET", "/api/device/\(device)/health", token: martlet.owner)
            let points = history["health"] as? [[String: Any]] ?? []
            #expect(points.reduce(0) { $0 + ($1["reports"] as? Int ?? 0) } == 2, "\(history.text)")
            #expect(points.contains { $0["wifi.rssi"] as? Int == -61 })
            // What others may write for it, or for nobody, is not its own.
            let (other, otherSecret) = try martlet.addDevice()
            let thief = try martlet.signedIn(other, otherSecret)
            try thief.send(Packet.publish("devices/\(device)/status", "ON", qos: 1))
            #expect(try thief.receive().type == 4)
            try thief.send(Packet.publish("devices/\(other)/status", "ON", qos: 1))
            #expect(try thief.receive().type == 4)
            let isTheirs = try eventually { try record(other)["device", "ledState"] as? Bool == true }
            #expect(isTheirs)
            #expect(try record(device)["device", "ledState"] as? Bool == false)
            try martlet.stop()
            try martlet.restart()
            let again = try martlet.client.get("GET", "/api/device/\(device)/health", token: martlet.owner)
            #expect((again["health"] as? [[String: Any]])?.isEmpty == false, "\(again.text)")
            #expect(again["latest", "heap"] as? Int == 20000)
            try martlet.stop()
        }

        @Test func `are counted on the dashboard, each for those whose they are`() throws {
            let (device, secret) = try martlet.addDevice()
            _ = try martlet.addDevice(token: martlet.other)
            let client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE")
            let own = try martlet.client.get("GET", "/api/dashboard", token: martlet.owner)
            #expect(own["total"] as? Int == 1 && own["count"] as? Int == 1)
            #expect(own["totals", "online"] as? Int == 1 && own["totals", "neverSeen"] as? Int == 0)
            #expect((own["devices"] as? [[String: Any]])?.first?["deviceId"] as? String == device)
            let all = try martlet.client.get("GET", "/api/dashboard?limit=1&page=2", token: martlet.admin)
            #expect(all["total"] as? Int == 2 && all["count"] as? Int == 1 && all["totals", "devices"] as? Int == 2)
            let others = try martlet.client.get("GET", "/api/dashboard", token: martlet.other)
            #expect(others["totals", "online"] as? Int == 0)
            client.cut()
            try martlet.stop()
        }

        // MARK: - Commands

        @Test func `get commands while they are there, and their acknowledgement is in the log`() throws {
            let (device, secret) = try martlet.addDevice()
            let refused = try command(device, "{}")
            #expect(refused.status == 409 && refused.code == "device_offline")
            let client = try martlet.signedIn(device, secret)
            try client.subscribe([("devices/\(device)/command", 1)])
            try awaits(device, "ONLINE")
            let sent = try command(device, #"{ "reboot" : [1, 2.50] }"#)
            #expect(sent.status == 200 && sent["state"] as? String == "SENT")
            let packet = try client.receive()
            #expect(packet.first == 0x32)
            #expect(packet.text == #"{ "reboot" : [1, 2.50] }"#)
            try client.send(Packet.acknowledge(0x40, packet.identifier))
            let isRecorded = try eventually { try activity(of: device).contains("COMMAND_DELIVERED") }
            #expect(isRecorded)
            let led = try martlet.client.ask(
                "POST", "/api/device/\(device)/led", token: martlet.owner, body: #"{"state":"OFF"}"#)
            #expect(led.status == 200 && led["state"] as? String == "OFF")
            let switched = try client.receive()
            #expect(switched.text == "LED_OFF")
            #expect(try activity(of: device).contains("LED_OFF"))
            let wrong = try martlet.client.ask(
                "POST", "/api/device/\(device)/led", token: martlet.owner, body: #"{"state":"on"}"#)
            #expect(wrong.status == 400)
            #expect(try command(device, "{").status == 400)
            try martlet.stop()
        }

        @Test func `get what waited for them, also after a crash, unless it has expired`() throws {
            let (device, secret) = try martlet.addDevice()
            let brief = try command(device, #""brief""#, query: "?queue=1")
            #expect(brief.status == 200 && brief["state"] as? String == "QUEUED")
            let lasting = try command(device, #""lasting""#, query: "?queue=600")
            #expect(lasting["state"] as? String == "QUEUED")
            #expect(try command(device, "1", query: "?queue=0").status == 400)
            let isOver = try eventually { try activity(of: device).contains("COMMAND_EXPIRED") }
            #expect(isOver)
            martlet.program.signal(SIGKILL)
            _ = try martlet.program.waitForEnd()
            try martlet.restart()
            let client = try martlet.signedIn(device, secret)
            try client.subscribe([("devices/\(device)/command", 1)])
            let packet = try client.receive(within: 10)
            #expect(packet.text == #""lasting""#)
            try client.send(Packet.acknowledge(0x40, packet.identifier))
            let isRecorded = try eventually { try activity(of: device).contains("COMMAND_DELIVERED") }
            #expect(isRecorded)
            #expect(try martlet.sql("SELECT count(*) FROM command").hasPrefix("0"))
            try martlet.stop()
        }

        // MARK: - Management over MQTT

        @Test func `are managed by mosquitto's clients as by REST, by administrators alone`() throws {
            let (device, secret) = try martlet.addDevice()
            let client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE")
            func program(_ tool: String, _ user: String, _ arguments: [String]) throws -> Program {
                let password = user == "admin@x" ? martlet.admin : martlet.owner
                return try Program.unbuffered(
                    tool, ["-p", "\(martlet.mqttPort)", "-u", user, "-P", password] + arguments)
            }
            let response = "$CONTROL/fleet/v1/response"
            let answers = try program("mosquitto_sub", "admin@x", ["-t", response, "-q", "1", "-d"])
            let strangers = try program("mosquitto_sub", "owner@x", ["-t", response, "-t", "$SYS/activity", "-d"])
            let states = try program("mosquitto_sub", "owner@x", ["-t", "$SYS/devices/\(device)", "-d"])
            let log = try program("mosquitto_sub", "admin@x", ["-t", "$SYS/activity", "-d"])
            for program in [answers, states, log] { try program.waitForLine(containing: "Subscribed") }
            try states.waitForLine(containing: #""online":true"#)
            func ask(_ user: String, _ commands: String) throws {
                let request = try program(
                    "mosquitto_pub", user,
                    ["-t", "$CONTROL/fleet/v1", "-q", "1", "-m", #"{"commands":[\#(commands)]}"#])
                #expect(try request.waitForEnd() == .exited(0))
            }
            try ask("owner@x", #"{"command":"blockDevice","deviceId":"\#(device)","correlationData":"theirs"}"#)
            try ask(
                "admin@x",
                #"{"command":"setLed","deviceId":"\#(device)","state":"ON","correlationData":"led"},"#
                    + #"{"command":"rotateDeviceCredentials","deviceId":"\#(device)"},"#
                    + #"{"command":"blockDevice","deviceId":"\#(device)","correlationData":"mine"},{"command":"no"}"#)
            try answers.waitForLine(containing: #""correlationData":"mine""#)
            #expect(answers.output.contains(#""correlationData":"led","data""#))
            #expect(answers.output.contains("forbidden") && answers.output.contains("unknown_command"))
            #expect(!answers.output.contains("theirs"))
            #expect(client.isClosed())
            try states.waitForLine(containing: #""blocked":true"#)
            try log.waitForLine(containing: "DEVICE_BLOCKED")
            #expect(!strangers.output.contains("responses") && !strangers.output.contains("DEVICE_BLOCKED"))
            #expect(try record(device)["device", "blocked"] as? Bool == true)
            try martlet.stop()
        }

        @Test func `are counted for Prometheus, on this machine and for administrators`() throws {
            let (device, secret) = try martlet.addDevice()
            let client = try martlet.signedIn(device, secret)
            try awaits(device, "ONLINE")
            let metrics = try martlet.client.get("GET", "/metrics")
            #expect(metrics.head["Content-Type"]?.hasPrefix("text/plain; version=0.0.4") == true)
            let lines = metrics.text.split(separator: "\n")
            #expect(lines.contains("martlet_devices_online 1") && lines.contains("martlet_mqtt_clients_connected 1"))
            // Each sample belongs to the family above it, and no family comes twice.
            var (families, family) = (Set<Substring>(), "")
            for line in lines {
                let words = line.split(separator: " ")
                if line.hasPrefix("# TYPE") {
                    family = String(words[2])
                    #expect(families.insert(words[2]).inserted, "\(line)")
                    #expect((words[3] == "counter") == family.hasSuffix("_total"), "\(line)")
                } else if !line.hasPrefix("#") {
                    #expect(words[0].prefix { $0 != "{" } == family && Double(words[1]) != nil, "\(line)")
                }
            }
            // What the dashboard draws is there.
            let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
            let dashboard = try String(contentsOf: root.appending(path: "packaging/grafana.json"), encoding: .utf8)
            let drawn = dashboard.matches(of: /(martlet|process)_[a-z_]+/).map(\.output.0)
            #expect(drawn.count > 20 && Set(drawn).subtracting(families).isEmpty)
            let forwarded = ["X-Forwarded-For: 192.0.2.1"]
            #expect(try martlet.client.ask("GET", "/metrics", fields: forwarded).status == 401)
            #expect(try martlet.client.ask("GET", "/metrics", token: martlet.owner, fields: forwarded).status == 403)
            #expect(try martlet.client.ask("GET", "/metrics", token: martlet.admin, fields: forwarded).status == 200)
            client.cut()
            try martlet.stop()
        }

        @Test func `and what is done by itself can be seen`() throws {
            let isDone = try eventually {
                let jobs = try martlet.client.get("GET", "/api/admin/jobs", token: martlet.admin)["jobs"]
                return (jobs as? [[String: Any]])?.contains {
                    $0["name"] as? String == "presence" && $0["lastResult"] as? String == "OK"
                } ?? false
            }
            #expect(isDone)
            try martlet.stop()
        }
    }
}
