import Foundation
import Glibc
import Testing

extension System {
    /// Devices, people and services at a broker that nobody has configured: who gets in, what they may do, and what
    /// happens at once when that changes.
    @Suite struct `Signing in` {
        private let directory: TemporaryDirectory
        private let broker: StandardMartlet

        init() throws {
            directory = try TemporaryDirectory()
            broker = try StandardMartlet(in: directory, environment: ["MARTLET_LOGIN_ATTEMPTS": "3"])
        }

        /// A person with this password.
        private func addPerson(_ email: String, _ options: String..., password: String) throws {
            let (end, output) = try broker.command(
                ["user", "add", email, "--password-stdin"] + options, input: password)
            guard end == .exited(0) else { throw Unexpected(output) }
        }

        /// What comes to a client before the message "end", as TOPIC=PAYLOAD.
        private func messages(to client: RawClient) throws -> [String] {
            var messages: [String] = []
            while true {
                let packet = try client.receive()
                guard packet.type == 3, packet.text != "end" else { return messages }
                messages.append("\(String(decoding: packet.topic, as: UTF8.self))=\(packet.text)")
            }
        }

        // MARK: - Devices

        @Test func `a device signs in by its name in any case, and its secret`() throws {
            let secret = try broker.password("device", "add", "0c5d32dd2568")
            for name in ["0C5D32DD2568", "0c5d32dd2568", "esp32_0c5d32dd2568", "ESP32_0C5d32DD2568"] {
                #expect(try broker.publish(["-u", name, "-P", secret]) == .exited(0), "\(name)")
            }
            let other = try broker.password("device", "add", "OTHER")
            #expect(try broker.publish(["-u", "0C5D32DD2568", "-P", other]) == .exited(4))
            #expect(try broker.publish(["-u", "0C5D32DD2568", "-P", secret + "x"]) == .exited(4))
            #expect(try broker.publish(["-u", "0C5D32DD2568"]) == .exited(4), "without a password")
            #expect(try broker.publish(["-u", "NOBODY", "-P", secret]) == .exited(4))
            #expect(try broker.publish([]) == .exited(5), "without a name")
            let stranger = try Authority("another")
            let distrustful = try Program(
                "mosquitto_pub",
                [
                    "-h", "localhost", "-p", "8883", "--cafile", stranger.file("ca.crt"), "-u", "OTHER", "-P", other,
                    "-t", "a", "-m", "b",
                ])
            #expect(try distrustful.waitForEnd() != .exited(0))
            try broker.program.waitForLine(containing: "alert unknown ca")
            for word in [secret, other] { #expect(!broker.program.output.contains(word)) }
            try broker.stop()
        }

        @Test func `a device signs in by its certificate, as nobody else`() throws {
            let secret = try broker.password("device", "add", "OTHER")
            try broker.run("device", "add", "A")
            for name in ["A", "UNREGISTERED"] { try broker.run("certs", "device", name, "--out", directory.path) }
            #expect(try broker.publish(broker.showing("A")) == .exited(0))
            for name in ["A", "a", "esp32_a"] {
                #expect(try broker.publish(broker.showing("A") + ["-u", name]) == .exited(0), "\(name)")
            }
            #expect(try broker.publish(broker.showing("A") + ["-u", "OTHER"]) == .exited(4))
            #expect(try broker.publish(broker.showing("A") + ["-u", "OTHER", "-P", secret]) == .exited(4))
            #expect(try broker.publish(broker.showing("UNREGISTERED")) == .exited(5))
            try broker.run("device", "add", "unregistered")
            #expect(try broker.publish(broker.showing("UNREGISTERED")) == .exited(0), "registered meanwhile")
            try broker.stop()
        }

        @Test func `a certificate has to be a client's, in its time, and of this authority`() throws {
            try broker.run("device", "add", "A")
            let authority = try Authority("another")
            try authority.issue("stranger", "/CN=A")
            // From here on it issues in the name of the broker's.
            try authority.directory.write(directory.text("data/certs/ca.pem"), "ca.crt")
            try authority.directory.write(directory.text("data/certs/ca.key"), "ca.key")
            try authority.issue("good", "/CN=A")
            try authority.issue("web", "/CN=A", "extendedKeyUsage=serverAuth")
            try authority.issue("old", "/CN=A", dates: ("20200101000000Z", "20200201000000Z"))
            try authority.issue("early", "/CN=A", dates: ("20900101000000Z", "20910101000000Z"))
            func publish(_ name: String) throws -> Program.End {
                try broker.publish(["--cert", authority.file("\(name).crt"), "--key", authority.file("\(name).key")])
            }
            #expect(try publish("good") == .exited(0))
            for (name, reason) in [
                ("stranger", "unable to get local issuer certificate"), ("web", "unsuitable certificate purpose"),
                ("old", "certificate has expired"), ("early", "certificate is not yet valid"),
            ] {
                #expect(try publish(name) != .exited(0), "\(name)")
                try broker.program.waitForLine(containing: "certificate verify failed: \(reason)")
            }
            try broker.stop()
        }

        @Test(arguments: ["-tls1_2", "-tls1_3"])
        func `a revoked certificate ends its connection, and neither signs in nor resumes`(_ version: String) throws {
            try broker.run("device", "add", "A")
            try broker.run("certs", "device", "A", "--out", directory.path)
            let session = "\(directory.path)/session"
            let files = "-cert \(directory.path)/A.pem -key \(directory.path)/A.key -CAfile \(broker.authority)"
            // CONNECT, and time for a ticket.
            let input = #"printf '\020\015\000\004MQTT\004\002\000\000\000\001s'; sleep 1"#
            let first = try secureClient(
                StandardMartlet.securePort, "\(version) \(files) -sess_out \(session)", input: input)
            #expect(first.contains("New, TLSv1"))
            let resumed = try secureClient(StandardMartlet.securePort, "\(version) \(files) -sess_in \(session)")
            #expect(resumed.contains("Reused, TLSv1"))

            let device = try Program(
                "mosquitto_sub", broker.secure + broker.showing("A") + ["-i", "live", "-t", "devices/A/command"])
            try broker.program.waitForLine(containing: "as live")
            try broker.run("certs", "revoke", "A")
            try broker.program.waitForLine(containing: "Client live")
            #expect(eventually { broker.program.output.contains("Client live [127.0.0.1") })
            #expect(try broker.publish(broker.showing("A")) != .exited(0))
            try broker.program.waitForLine(containing: "certificate verify failed: certificate revoked")
            let again = try secureClient(StandardMartlet.securePort, "\(version) \(files) -sess_in \(session)")
            #expect(!again.contains("Reused, TLSv1"))
            device.signal(SIGKILL)
            // A new one serves.
            try broker.run("certs", "device", "A", "--out", directory.path, "--force")
            #expect(try broker.publish(broker.showing("A")) == .exited(0))
            try broker.stop()
        }

        @Test func `a device gets what is meant for it, whatever it asks for`() throws {
            try broker.run("certs", "device", "A", "--out", directory.path)
            let secret = try broker.password("device", "add", "A")
            try broker.run("device", "add", "B")
            let back = try broker.client("back", "backend", try broker.password("service", "add", "backend"))
            let chief = try broker.client(
                "chief", "chief", try broker.password("service", "add", "chief", "--policy", "admin"))
            let filters: [(filter: String, code: UInt8)] = [
                ("devices/A/command", 0), ("devices/A/ota", 0), ("#", 0), ("devices/#", 0), ("devices/A/#", 0),
                ("devices/+/command", 0), ("+/+/+", 0), ("$share/g/#", 0), ("$share/g/devices/+/command", 0),
                ("$share/g/devices/A/command", 0), ("devices/A/health", 0x80), ("devices/B/command", 0x80),
                ("devices/B/#", 0x80), ("devices/a/command", 0x80), ("$SYS/#", 0x80), ("$CONTROL/#", 0x80),
                ("$share/g/devices/B/#", 0x80), ("home/#", 0x80),
            ]
            let devices = try filters.enumerated().map { number, one in
                let device = try broker.client("a\(number)", "esp32_a", secret)
                #expect(try device.subscribe([(one.filter, 0)]) == [one.code], "\(one.filter)")
                return device
            }
            let shown = try Program.unbuffered(
                "mosquitto_sub",
                broker.secure + broker.showing("A") + [
                    "-v", "-t", "#", "-t", "$share/h/#", "-t", "devices/+/+", "-W", "20", "-i", "shown",
                ])
            try broker.program.waitForLine(containing: "as shown")
            #expect(
                eventually {
                    try? back.publish("devices/A/command", "ready")
                    return shown.output.contains("devices/A/command ready\n")
                })
            for device in devices { try device.settle() }

            for topic in ["devices/B/command", "devices/A/command", "devices/A/command/x"] {
                try back.publish(topic, "back")
            }
            try back.ping()
            for topic in [
                "devices/A/ota", "devices/B/ota", "devices/A/health", "devices/A/telemetry/x", "home/x", "devices/A",
                "devices/A/command/x", "devices/a/command",
            ] { try chief.publish(topic, "chief") }
            try chief.publish("devices/A/command", "end")
            let seen = ["devices/A/command=back", "devices/A/ota=chief"]
            for (device, one) in zip(devices, filters) {
                if one.code == 0x80 {
                    try device.ping()
                } else if one.filter == "devices/A/ota" {
                    #expect(try device.receive().text == "chief")
                } else if !one.filter.hasPrefix("$share") {
                    let expected = one.filter.hasSuffix("command") ? Array(seen.prefix(1)) : seen
                    #expect(try messages(to: device) == expected, "\(one.filter)")
                } else {
                    // Its group has other members; what it got is its own.
                    try device.settle()
                }
            }
            #expect(eventually { shown.output.contains("devices/A/command end\n") })
            for line in shown.lines {
                #expect(line.hasPrefix("devices/A/command ") || line.hasPrefix("devices/A/ota "))
            }
            #expect(!shown.output.contains("devices/B"))
            try broker.stop()
        }

        @Test func `a device writes its reports, and nothing else`() throws {
            let secret = try broker.password("device", "add", "A")
            let chief = try broker.client(
                "chief", "chief", try broker.password("service", "add", "chief", "--policy", "admin"))
            try chief.subscribe([("#", 0), ("$SYS/devices/#", 0), ("$CONTROL/#", 0)])
            let device = try broker.client("A", "A", secret)
            let reports = [
                "devices/A/health", "devices/A/status", "devices/A/ota/status", "devices/A/telemetry/a/b",
            ]
            let others = [
                "devices/A/command", "devices/A/ota", "devices/A/x", "devices/A", "devices/B/health",
                "devices/a/health", "home/x", "$SYS/devices/A", "$CONTROL/fleet/v1", "devices/A/health/x",
            ]
            for topic in others + reports { try device.publish(topic, "m") }
            try device.ping()
            try chief.publish("x", "end")
            #expect(try messages(to: chief) == reports.map { "\($0)=m" })
            try broker.stop()
        }

        // MARK: - The loopback

        @Test func `without a name the loopback has just the rights of the manual`() throws {
            let table: [(topic: String, reads: Bool, writes: Bool)] = [
                ("devices/A/health", true, true), ("devices/A/status", true, true),
                ("devices/A/ota/status", true, true),
                ("devices/A/telemetry/x/y", true, true), ("devices/A/command", true, false),
                ("devices/A/ota", false, false), ("devices/A/other", true, false), ("devices/A/health/x", true, false),
                ("devices/A", true, false), ("home/lamp", true, true), ("a", true, true),
                ("/devices/A/ota", true, true),
                ("devicesA/ota", true, true), ("Devices/A/ota", true, true), ("$CONTROL/fleet/v1", false, false),
                ("$CONTROL/fleet/v1/response", false, false), ("$other/x", false, false),
            ]
            let anonymous = try broker.client("anonymous")
            let chief = try broker.client(
                "chief", "chief", try broker.password("service", "add", "chief", "--policy", "admin"))
            try chief.subscribe([("#", 0), ("$CONTROL/#", 0)])
            for row in table { try anonymous.publish(row.topic, "m") }
            try anonymous.publish("$SYS/broker/version", "m")
            try anonymous.publish("x", "end")
            #expect(try messages(to: chief) == table.filter(\.writes).map { "\($0.topic)=m" })

            for (number, row) in table.enumerated() {
                let code = try anonymous.subscribe([(row.topic, 0)], identifier: UInt16(number + 1))
                #expect(code == [row.reads ? 0 : 0x80], "\(row.topic)")
            }
            for (filter, code) in [
                ("$SYS/broker/uptime", 0), ("$SYS/#", 0), ("$SYS/devices/#", 0x80), ("$SYS/activity", 0x80),
                ("$CONTROL/#", 0x80), ("devices/+/ota", 0x80), ("#", 0),
            ] as [(String, UInt8)] {
                #expect(try broker.client("f").subscribe([(filter, 0)]) == [code], "\(filter)")
            }
            let reader = try broker.client("reader")
            try reader.subscribe([("#", 0)])
            for row in table { try chief.publish(row.topic, "n") }
            try chief.publish("x", "end")
            let expected = table.filter { $0.reads && !$0.topic.hasPrefix("$") }.map { "\($0.topic)=n" }
            #expect(try messages(to: reader) == expected)
            #expect(try broker.connect("n", "unknown", "x").code == 4, "a name is checked here as well")
            #expect(try broker.connect("n", "unknown").code == 4)
            try broker.stop()
        }

        // MARK: - Services

        @Test func `a service has its policy, until it is blocked, rotated or removed`() throws {
            let secret = try broker.password("service", "add", "node-red")
            let deviceSecret = try broker.password("device", "add", "A")
            let device = try broker.client("A", "A", deviceSecret)
            try device.subscribe([("#", 0)])
            var service = try broker.client("s", "node-red", secret)
            let codes = try service.subscribe([
                ("devices/#", 0), ("$SYS/broker/uptime", 0), ("$SYS/devices/A", 0), ("home/#", 0), ("$CONTROL/#", 0),
            ])
            #expect(codes == [0, 0, 0x80, 0x80, 0x80])
            for topic in ["devices/A/ota", "devices/A/health", "home/x"] { try service.publish(topic, "no") }
            try service.publish("devices/A/command", "on")
            #expect(try device.receive().text == "on")
            #expect(try broker.publish(["-u", "node-red", "-P", secret]) == .exited(0), "over TLS as well")

            try broker.run("service", "block", "node-red")
            #expect(service.isClosed())
            #expect(try broker.connect("s", "node-red", secret).code == 5)
            try broker.run("service", "block", "node-red", "--unblock")
            service = try broker.client("s", "node-red", secret)
            let next = try broker.password("service", "credentials", "node-red")
            #expect(service.isClosed())
            #expect(try broker.connect("s", "node-red", secret).code == 4)
            service = try broker.client("s", "node-red", next)
            try broker.run("service", "remove", "node-red")
            #expect(service.isClosed())
            #expect(try broker.connect("s", "node-red", next).code == 4)
            try device.ping()
            try broker.stop()
        }

        // MARK: - People

        @Test func `a person sees and commands what is theirs, at once when it becomes so`() throws {
            try addPerson("ann@example.org", password: "ann's own")
            let secret = try broker.password("device", "add", "A", "--owner", "ann@example.org")
            let other = try broker.password("device", "add", "B")
            let devices = [try broker.client("A", "A", secret), try broker.client("B", "B", other)]
            for device in devices { try device.subscribe([("#", 0)]) }
            let ann = try broker.client("ann", "Ann@Example.org", "ann's own")
            // The state of one's device comes at any time: to a connection of its own.
            let watcher = try broker.client("watcher", "Ann@Example.org", "ann's own")
            let codes = try watcher.subscribe([
                ("devices/A/#", 0), ("$SYS/devices/A", 0), ("devices/B/#", 0), ("$SYS/devices/B", 0),
                ("$SYS/broker/uptime", 0), ("home/x", 0), ("devices/C/#", 0),
            ])
            #expect(codes == [0, 0, 0x80, 0x80, 0x80, 0x80, 0x80])
            #expect(try String(decoding: watcher.receive().topic, as: UTF8.self) == "$SYS/devices/A")
            try ann.subscribe([("devices/A/#", 0)])
            for topic in ["devices/B/command", "devices/A/ota", "devices/A/status", "home/x", "$CONTROL/fleet/v1"] {
                try ann.publish(topic, "no")
            }
            try ann.publish("devices/A/command", "on")
            #expect(try devices[0].receive().text == "on")
            #expect(try ann.receive().text == "on", "what goes to one's own device is one's own")
            try devices[0].publish("devices/A/telemetry/x", "7")
            try devices[1].publish("devices/B/telemetry/x", "8")
            try devices[1].ping()
            #expect(try ann.receive().text == "7")

            let third = try broker.password("device", "add", "C", "--owner", "ann@example.org")
            #expect(try ann.subscribe([("devices/C/#", 0)]) == [0])
            let device = try broker.client("C", "C", third)
            try device.publish("devices/C/status", "ON")
            #expect(try ann.receive().text == "ON")
            try broker.run("device", "remove", "A")
            #expect(devices[0].isClosed())
            #expect(try ann.subscribe([("devices/A/#", 0)]) == [0x80])
            #expect(try broker.publish(["-u", "ann@example.org", "-P", "ann's own"]) == .exited(0), "over TLS as well")
            try broker.stop()
        }

        @Test func `a role counts at once, and whoever is blocked, removed or renewed is out at once`() throws {
            try addPerson("ann@example.org", password: "ann's own")
            try addPerson("bob@example.org", "--admin", password: "bob's own")
            let bob = try broker.client("bob", "bob@example.org", "bob's own")
            #expect(try bob.subscribe([("#", 0), ("$SYS/#", 0), ("$CONTROL/#", 0)]) == [0, 0, 0])
            var ann = try broker.client("ann", "ann@example.org", "ann's own")
            #expect(try ann.subscribe([("home/x", 0)]) == [0x80])
            try broker.run("user", "role", "ann@example.org", "admin")
            #expect(try ann.subscribe([("home/x", 0)]) == [0])
            try bob.publish("home/x", "m")
            #expect(try ann.receive().text == "m")
            try broker.run("user", "role", "ann@example.org", "user")
            try bob.publish("home/x", "secret")
            try bob.settle()
            try ann.ping()
            #expect(try ann.subscribe([("home/x", 0)]) == [0x80])

            try broker.run("user", "block", "ann@example.org")
            #expect(ann.isClosed())
            #expect(try broker.connect("ann", "ann@example.org", "ann's own").code == 5)
            try broker.run("user", "block", "ann@example.org", "--unblock")
            ann = try broker.client("ann", "ann@example.org", "ann's own")
            try broker.run("user", "passwd", "ann@example.org", "--password-stdin", input: "another one")
            #expect(ann.isClosed())
            #expect(try broker.connect("ann", "ann@example.org", "ann's own").code == 4)
            ann = try broker.client("ann", "ann@example.org", "another one")
            try broker.run("user", "remove", "ann@example.org")
            #expect(ann.isClosed())
            #expect(try broker.connect("ann", "ann@example.org", "another one").code == 4)
            try bob.settle()
            try broker.stop()
        }

        // MARK: - Devices that change

        @Test func `a device that is blocked, renewed or removed is out at once, with its session`() throws {
            var secret = try broker.password("device", "add", "A")
            let backend = try broker.client("back", "backend", try broker.password("service", "add", "backend"))
            func connect() throws -> (code: UInt8, isPresent: Bool, client: RawClient) {
                try broker.connect("box", "A", secret, cleanSession: false)
            }
            var box = try connect().client
            try box.subscribe([("devices/A/command", 1)])
            try broker.run("device", "block", "A")
            #expect(box.isClosed())
            #expect(try broker.connect("other", "A", secret).code == 5)
            try backend.send(Packet.publish("devices/A/command", "blocked", qos: 1))
            _ = try backend.receive()
            try broker.run("device", "block", "A", "--unblock")

            var result = try connect()
            #expect(result.code == 0 && result.isPresent)
            box = result.client
            let old = secret
            secret = try broker.password("device", "credentials", "A")
            #expect(box.isClosed())
            #expect(try broker.connect("other", "A", old).code == 4)
            try backend.send(Packet.publish("devices/A/command", "queued", qos: 1))
            _ = try backend.receive()
            try broker.run("device", "remove", "A")
            #expect(try broker.connect("other", "A", secret).code == 4)
            secret = try broker.password("device", "add", "A")
            result = try connect()
            #expect(result.code == 0 && !result.isPresent)
            box = result.client
            #expect(try box.subscribe([("devices/A/command", 1)]) == [1])
            try backend.publish("devices/A/command", "latest")
            #expect(try box.receive().text == "latest", "nothing of the former device's")
            try broker.stop()
        }

        @Test func `nobody takes another's session`() throws {
            let secrets = try ["A", "B"].map { try broker.password("device", "add", $0) }
            let owner = try broker.client("box", "A", secrets[0], cleanSession: false)
            try owner.subscribe([("devices/A/command", 1)])
            func expectRefusals() throws {
                for clean in [true, false] {
                    #expect(try broker.connect("box", "B", secrets[1], cleanSession: clean).code == 5)
                    #expect(try broker.connect("box", cleanSession: clean).code == 5, "without a name")
                }
            }
            try expectRefusals()
            try owner.ping()
            try owner.send(Packet.disconnect)
            #expect(owner.isClosed())
            try expectRefusals()
            let back = try broker.client("box", "A", secrets[0], cleanSession: false)
            let anonymous = try broker.client("local", cleanSession: false)
            #expect(try broker.connect("local", "B", secrets[1]).code == 5)
            try anonymous.ping()
            try back.ping()
            try broker.stop()
        }

        // MARK: - Guessing

        @Test func `whoever guesses waits, and nobody else`() throws {
            try addPerson("ann@example.org", password: "ann's own")
            try addPerson("bob@example.org", password: "bob's own")
            let secret = try broker.password("device", "add", "A")
            for number in 0..<3 {
                #expect(try broker.connect("x", "ann@example.org", "guess \(number)").code == 4)
            }
            #expect(
                try broker.connect("x", "ann@example.org", "ann's own").code == 4, "the right one has to wait as well")
            #expect(try broker.connect("y", "bob@example.org", "bob's own").code == 0)
            #expect(try broker.connect("z", "A", secret).code == 0)
            let elsewhere = try Program(
                "mosquitto_pub",
                ["-h", "::1", "-p", "\(broker.port)", "-t", "a", "-m", "b", "-u", "ann@example.org", "-P", "ann's own"])
            #expect(try elsewhere.waitForEnd(within: 60) == .exited(0), "from another address she gets in")
            // A device's secret can't be guessed, so an old one in many hands keeps nobody out.
            for _ in 0..<50 { #expect(try broker.connect("z", "A", "old").code == 4) }
            #expect(try broker.connect("z", "A", secret).code == 0)
            #expect(broker.program.output.contains("ann@example.org"))
            for word in ["guess", "ann's own"] { #expect(!broker.program.output.contains(word)) }
            try broker.stop()
        }
    }
}

extension RawClient {
    /// An exchange that proves the connection lives, whatever comes before its answer.
    fileprivate func settle() throws {
        try send(Packet.pingRequest)
        while try receive(within: 30) != Received(first: 0xd0, body: []) {}
    }
}
