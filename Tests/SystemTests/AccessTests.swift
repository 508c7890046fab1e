import Conformance
import Foundation
import Glibc
import Synchronization
import Testing

extension System {
    /// `password_file` and `acl_file`: who gets in, what they may touch, and what SIGHUP changes of it while they are there.
    @Suite struct `Passwords and rights` {
        private static let policy = """
            topic read public/#
            user alice
            topic readwrite #
            user bob
            topic read rooms/#
            pattern readwrite own/%u/#
            pattern write from/%c

            """

        private let directory: TemporaryDirectory
        private let broker: ConfiguredMartlet

        /// Everybody's password is "secret".
        init() throws {
            directory = try TemporaryDirectory()
            try Self.write(["alice": "secret", "bob": "secret", "carol": "secret"], to: directory)
            try directory.write(Self.policy, "acl")
            broker = try ConfiguredMartlet(stayingRoot(Self.lines), in: directory)
            try broker.program.waitForLine(containing: "started")
        }

        private static let lines = [
            "allow_anonymous false", "password_file DIR/passwords", "acl_file DIR/acl", "log_dest stderr",
            "log_type all",
        ]

        private static func write(
            _ passwords: KeyValuePairs<String, String>, to directory: TemporaryDirectory, iterations: Int = 1_000
        ) throws {
            let file = "\(directory.path)/passwords"
            for (index, (name, password)) in passwords.enumerated() {
                try passwd(["-I", "\(iterations)", "-b"] + (index == 0 ? ["-c"] : []) + [file, name, password])
            }
        }

        private static func passwd(_ arguments: [String]) throws {
            let program = try Program(Martlet.binary, ["passwd"] + arguments)
            guard try program.waitForEnd() == .exited(0) else { throw Unexpected(program.output) }
        }

        private func open(
            _ client: String, _ user: String?, _ password: String? = "secret", cleanSession: Bool = true
        ) throws -> (client: RawClient, code: UInt8) {
            try Self.open(broker.port, Array(client.utf8), user.map { Array($0.utf8) }, password, cleanSession)
        }

        private static func open(
            _ port: UInt16, _ identifier: [UInt8], _ user: [UInt8]?, _ password: String?, _ cleanSession: Bool = true
        ) throws -> (client: RawClient, code: UInt8) {
            let client = try RawClient(port: port)
            var connect = Wire.Connect(clientIdentifier: identifier)
            connect.cleanSession = cleanSession
            connect.userName = user
            connect.password = user == nil ? nil : password.map { Array($0.utf8) }
            try client.send(Packet.packet(0x10, connect.body))
            let answer = try client.receive()
            guard answer.first == 0x20, answer.body.count == 2 else {
                throw Unexpected("CONNACK expected, not \(answer)")
            }
            return (client, answer.body[1])
        }

        private func connect(_ client: String, _ user: String, cleanSession: Bool = true) throws -> RawClient {
            let (connection, code) = try open(client, user, cleanSession: cleanSession)
            guard code == 0 else { throw Unexpected("\(user) is refused with \(code)") }
            return connection
        }

        private func reload() throws {
            let before = broker.program.lines.count { $0.contains("configuration reloaded") }
            broker.program.signal(SIGHUP)
            guard
                eventually(
                    within: 10, { broker.program.lines.count { $0.contains("configuration reloaded") } > before })
            else { throw Unexpected("no reload; it said:\n\(broker.program.output.suffix(2_000))") }
        }

        /// Publishes as alice and returns the topics that `reader` has got once all of it has been handled.
        private func topics(_ topics: [String], for reader: RawClient, by alice: RawClient) throws -> [String] {
            for topic in topics { try alice.publish(topic, "x") }
            try alice.ping()
            try reader.send(Packet.pingRequest)
            var got: [String] = []
            while true {
                let packet = try reader.receive()
                if packet.first == 0xd0 { return got }
                got.append(String(decoding: packet.topic, as: UTF8.self))
            }
        }

        @Test func `give each the return code of its mistake, and a line in the log`() throws {
            #expect(try open("a", "alice").code == 0)
            let refused: [(String?, String?)] = [
                ("alice", "wrong"), ("alice", nil), ("alice", ""), ("nobody", "secret"), (nil, nil),
                ("alice", String(repeating: "x", count: 60_000)),
            ]
            for (user, password) in refused {
                let (client, code) = try open("c", user, password)
                #expect(code == 5, "\(user ?? "anonymous")")
                #expect(client.isClosed())
            }
            #expect(eventually { broker.program.lines.count { $0.contains("disconnected: not authorised.") } >= 5 })
            #expect(!broker.program.output.contains("secret") && !broker.program.output.contains("wrong"))
        }

        @Test func `serve mosquitto's clients`() throws {
            let port = ["-p", "\(broker.port)"]
            let reader = try Program.unbuffered(
                "mosquitto_sub", port + ["-u", "bob", "-P", "secret", "-t", "#", "-F", "%t", "-i", "reader", "-d"])
            try reader.waitForLine(containing: "Subscribed")
            for (user, topic) in [("alice", "rooms/1"), ("alice", "secret"), ("bob", "rooms/1"), ("bob", "own/bob/1")] {
                let publisher = try Program(
                    "mosquitto_pub", port + ["-u", user, "-P", "secret", "-t", topic, "-m", user, "-q", "1"])
                #expect(try publisher.waitForEnd() == .exited(0))
            }
            try reader.waitForLine(containing: "own/bob/1")
            #expect(reader.lines.filter { !$0.contains(" ") } == ["rooms/1", "own/bob/1"])
            let wrong = try Program("mosquitto_pub", port + ["-u", "bob", "-P", "x", "-t", "t", "-m", "m"])
            #expect(try wrong.waitForEnd() != .exited(0))
            #expect(wrong.output.contains("not authorised"))
        }

        @Test func `follow a reload: who is taken away goes, who has another password too, and nobody else`() throws {
            let alice = try connect("a", "alice")
            let (bob, carol) = (try connect("b", "bob", cleanSession: false), try connect("c", "carol"))
            try bob.subscribe([("rooms/#", 1)])
            try Self.passwd(["-b", "\(directory.path)/passwords", "bob", "new"])
            try Self.passwd(["-D", "\(directory.path)/passwords", "carol"])
            try reload()
            #expect(bob.isClosed() && carol.isClosed())
            try alice.ping()
            #expect(broker.program.lines.count { $0.contains("disconnected: no longer authorised.") } == 2)
            #expect(try open("c", "carol").code == 5)
            #expect(try open("b", "bob").code == 5)
            try alice.send(Packet.publish("rooms/1", "kept", qos: 1))
            #expect(try alice.receive().first == 0x40)
            let (back, code) = try open("b", "bob", "new", cleanSession: false)
            #expect(code == 0)
            #expect(try Array(back.receive().topic) == Array("rooms/1".utf8))
        }

        @Test func `follow a reload: a narrower policy stops subscriptions, a wider one gives them back`() throws {
            let (alice, bob) = (try connect("a", "alice"), try connect("b", "bob"))
            try bob.subscribe([("rooms/#", 0), ("#", 0)])
            let all = ["rooms/1", "own/bob/x", "own/alice/x", "public/x"]
            #expect(try topics(all, for: bob, by: alice) == ["rooms/1", "own/bob/x"])
            try directory.write("user alice\ntopic #\nuser bob\ntopic read own/bob/x\ntopic read public/#\n", "acl")
            try reload()
            #expect(try topics(all, for: bob, by: alice) == ["own/bob/x", "public/x"])
            try directory.write("", "acl")
            try reload()
            #expect(try topics(all, for: bob, by: alice) == [])
            try directory.write(Self.policy, "acl")
            try reload()
            #expect(try topics(all, for: bob, by: alice) == ["rooms/1", "own/bob/x"])
        }

        @Test(arguments: [
            ("acl", "user alice\ntopic readwrit #\n", "acl:2: "), ("acl", "topic read a#\n", "acl:1: "),
            ("passwords", "alice:$7$oops\n", "passwords:1: "), ("passwords", "alice\n", "passwords:1: "),
        ])
        func `stay as they were when a file is malformed, and the log says where`(
            _ file: String, _ text: String, _ reason: String
        ) throws {
            let (alice, bob) = (try connect("a", "alice"), try connect("b", "bob"))
            try bob.subscribe([("#", 0)])
            try directory.write(text, file)
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "the configuration is not reloaded, what was in force stays")
            #expect(broker.program.output.contains(reason), "\(broker.program.output)")
            #expect(!broker.program.output.contains("oops"))
            #expect(try topics(["rooms/1", "public/x"], for: bob, by: alice) == ["rooms/1"])
            #expect(try open("c", "carol").code == 0)
            #expect(try open("c", "carol", "wrong").code == 5)
        }

        @Test func `are not widened by names with wildcards, nor by a NUL`() throws {
            try Self.write(
                [
                    "alice": "secret", "+": "secret", "bob/x": "secret", "$SYS": "secret",
                    "bob": "secret",
                ],
                to: directory)
            try reload()
            let alice = try connect("a", "alice")
            for name in ["+", "bob/x", "$SYS"] {
                let (thief, code) = try open("thief", name)
                #expect(code == 0, "\(name)")
                try thief.subscribe([("#", 0), ("own/+/+", 0), ("own/\(name)/#", 0)])
                #expect(
                    try topics(["own/bob/x", "own/bob/x/y", "own/alice/x"], for: thief, by: alice) == [], "\(name)")
            }
            for client in ["+", "#", "a/b"] {
                let thief = try connect(client, "bob")
                let reader = try connect("reader", "alice")
                try reader.subscribe([("from/#", 0)])
                for topic in ["from/a", "from/a/b", "from/x"] { try thief.publish(topic, "x") }
                try thief.ping()
                #expect(try topics(["from/alice"], for: reader, by: alice) == ["from/alice"], "\(client)")
            }
            // [MQTT-1.5.3-2]
            let nul = try RawClient(port: broker.port)
            var connect = Wire.Connect(clientIdentifier: Array("n".utf8))
            connect.userName = Array("bob\0".utf8)
            connect.password = Array("secret".utf8)
            try nul.send(Packet.packet(0x10, connect.body))
            #expect(nul.isClosed())
        }

        @Test func `are tried without holding up who is connected, however many are wrong`() throws {
            try Self.write(["alice": "secret", "bob": "secret"], to: directory, iterations: 150_000)
            try reload()
            let (alice, bob) = (try connect("a", "alice"), try connect("b", "bob"))
            try bob.subscribe([("rooms/#", 0)])
            let (port, refusals, isOver) = (broker.port, Counter(), Counter())
            let storm = (0..<30).map { number in
                { @Sendable in
                    var guess = 0
                    while isOver.value == 0 {
                        // Another name each time, as from a dictionary: one that is not there costs the same.
                        guess += 1
                        let user = Array("\(number) \(guess)".utf8)
                        let answer = try? Self.open(port, Array("s\(number)".utf8), user, "guess")
                        if answer?.code == 5 { refusals.add() }
                    }
                }
            }
            let thread = Thread { try? concurrently(storm) }
            thread.start()
            defer { isOver.add() }
            // Each of these has been checked; whoever waited for them would get no further than they do.
            var rounds = 0
            while refusals.value < 40 {
                #expect(try topics(["rooms/1"], for: bob, by: alice) == ["rooms/1"])
                rounds += 1
            }
            #expect(rounds > 4 * 40)
            try broker.program.waitForLine(containing: "too many failed sign-ins, further ones have to wait")
            #expect(!broker.program.output.contains("guess"))
        }
    }
}

/// Counts what several threads do.
private final class Counter: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock { $0 } }
    func add() { count.withLock { $0 += 1 } }
}
