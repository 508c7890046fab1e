import Access
import Cryptography
import MQTT
import Testing

/// One listener, and the sign-ins that are tried at it.
private struct World {
    static let fast = ScryptCost(logN: 4, blockSize: 8, parallelization: 1)

    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    static func hash(_ password: String, _ scheme: PasswordHash.Scheme) -> PasswordHash {
        (try? PasswordHash(of: bytes(password), scheme: scheme, salt: Array("0123456789ab".utf8)))!
    }

    static func secret(_ text: String) -> SecretDigest {
        SecretDigest(of: bytes(text), salt: [UInt8](repeating: 7, count: SecretDigest.saltBytes))
    }

    static func passwordFile() -> PasswordFile {
        let text = """
            alice:\(hash("secret", .pbkdf2SHA512(iterations: 101)).text)
            bob:\(hash("secret", .sha512).text)
            DEV1:\(hash("of the file", .sha512).text)
            """
        return (try? PasswordFile.parse(bytes(text), file: "users"))!
    }

    static func accounts() -> Accounts {
        var accounts = Accounts()
        accounts.devices["DEV1"] = .init(deviceId: "DEV1", secret: secret("device secret"))
        accounts.devices["DEV2"] = .init(deviceId: "DEV2", secret: nil)
        accounts.devices["DEAD"] = .init(deviceId: "DEAD", secret: secret("device secret"))
        accounts.devices["DEAD"]?.isBlocked = true
        let hash = hash("person secret", .scrypt(fast)).text
        accounts.people["ann@example.com"] = .init(id: "1", email: "ann@example.com", passwordHash: hash)
        accounts.people["gone@example.com"] = .init(id: "2", email: "gone@example.com", passwordHash: hash)
        accounts.people["gone@example.com"]?.isBlocked = true
        accounts.people["first@example.com"] = .init(id: "3", email: "first@example.com", passwordHash: hash)
        accounts.people["first@example.com"]?.mustChangePassword = true
        accounts.services["node-red"] = .init(name: "node-red", secret: secret("service secret"))
        accounts.services["old"] = .init(name: "old", secret: secret("service secret"))
        accounts.services["old"]?.isBlocked = true
        accounts.revokedCertificates = ["0BAD"]
        return accounts
    }

    static func certificate(
        _ name: String?, serial: String = "1234", isForClients: Bool = true, subject: String = "CN=x,O=y"
    ) -> ClientCertificate {
        ClientCertificate(
            commonName: name.map(bytes), subject: bytes(subject), serial: serial,
            fingerprint: [UInt8](repeating: 1, count: 32), isForClients: isForClients)
    }

    static func control(_ change: (inout AccessControl.Listener) -> Void) -> AccessControl {
        var listener = AccessControl.Listener()
        listener.allowsAnonymous = false
        change(&listener)
        var control = AccessControl(listeners: [listener])
        if listener.admitsAccounts { control.accounts = accounts() }
        return control
    }

    static func signIn(
        _ userName: String? = nil, _ password: String? = nil, certificate: ClientCertificate? = nil, key: String? = nil
    ) -> SignIn {
        var signIn = SignIn(listener: 0)
        signIn.userName = userName.map(bytes)
        signIn.password = password.map(bytes)
        signIn.certificate = certificate
        signIn.keyIdentity = key.map(bytes)
        return signIn
    }
}

/// What came of a sign-in in the end, and on which way.
private struct Outcome: Equatable, CustomStringConvertible {
    var identity: Identity?
    var code = ConnectReturnCode.accepted
    var description: String { identity.map { "\($0)" } ?? "\(code)" }

    static let refused4 = Outcome(code: .badUserNameOrPassword)
    static let refused5 = Outcome(code: .notAuthorized)
    static let anonymous = Outcome(identity: .anonymous)
    static func user(_ name: String) -> Outcome { Outcome(identity: .user(Array(name.utf8))) }
    static func device(_ name: String) -> Outcome { Outcome(identity: .device(name)) }

    static func of(_ signIn: SignIn, at control: AccessControl) -> Outcome {
        var admission = control.admission(of: signIn)
        if case .unproven(let check) = admission { admission = control.admission(after: check, proven: check.run()) }
        switch admission {
        case .accepted(let principal):
            #expect(control.isCurrent(principal), "accepted, but not current: \(principal)")
            return Outcome(identity: principal.identity)
        case .refused(let code): return Outcome(code: code)
        case .unproven: return Outcome(code: .serverUnavailable)
        }
    }
}

@Suite struct `Admission at a listener of a configuration file` {
    /// As mosquitto 2.0.11 answers, row by row. Columns: neither; right, wrong; unknown, unknown without a password; known
    /// without one, with an empty one; an empty name; right for a `$6$` hash.
    @Test(arguments: [
        (true, true, "A A 0 5 5 5 5 5 A A B"), (true, false, "A A U U U U U U A A U"),
        (false, true, "5 5 0 5 5 5 5 5 5 5 B"), (false, false, "5 5 5 5 5 5 5 5 5 5 5"),
    ])
    func `is what Mosquitto's is`(_ allowsAnonymous: Bool, _ hasFile: Bool, _ expected: String) {
        let control = World.control {
            $0.allowsAnonymous = allowsAnonymous
            $0.passwordFile = hasFile ? World.passwordFile() : nil
        }
        let rows: [(String?, String?)] = [
            (nil, nil), (nil, nil), ("alice", "secret"), ("alice", "wrong"), ("zed", "secret"), ("zed", nil),
            ("alice", nil), ("alice", ""), ("", "secret"), ("", nil), ("bob", "secret"),
        ]
        for (row, letter) in zip(rows, expected.split(separator: " ")) {
            let expected: Outcome =
                switch letter {
                case "A": .anonymous
                case "5": .refused5
                case "0": .user("alice")
                case "B": .user("bob")
                default: .user(row.0 ?? "")
                }
            #expect(Outcome.of(World.signIn(row.0, row.1), at: control) == expected, "\(row)")
        }
    }

    @Test(arguments: [
        (World.signIn(), Outcome.refused4), (World.signIn("alice", "secret"), .refused4),
        (World.signIn(certificate: World.certificate("dev1")), .user("dev1")),
        (World.signIn("alice", "wrong", certificate: World.certificate("dev1")), .user("dev1")),
        (World.signIn(certificate: World.certificate(nil)), .refused4),
        (World.signIn(certificate: World.certificate("")), .refused4),
        (World.signIn(certificate: World.certificate("a\0b")), .refused4),
        (World.signIn(key: "sensor"), .user("sensor")), (World.signIn(key: "other"), .refused4),
        (World.signIn("alice", "x", key: "sensor"), .user("sensor")),
    ])
    private func `goes by the certificate or the key where it says so`(_ signIn: SignIn, _ expected: Outcome) throws {
        let keys = try PreSharedKeys.parse(World.bytes("sensor:0102\n"), file: "keys")
        for allowsAnonymous in [true, false] {
            let control = World.control {
                $0.allowsAnonymous = allowsAnonymous
                $0.usesCertificateName = true
                $0.keys = keys
                $0.passwordFile = World.passwordFile()
            }
            #expect(Outcome.of(signIn, at: control) == expected)
        }
    }

    @Test func `refuses a certificate name that is not UTF-8`() {
        var certificate = World.certificate("x")
        certificate.commonName = [0xC3, 0x28]
        let control = World.control { $0.usesCertificateName = true }
        #expect(Outcome.of(World.signIn(certificate: certificate), at: control) == .refused4)
    }

    @Test func `takes the whole subject where it says so`() {
        let control = World.control { $0.usesCertificateSubject = true }
        #expect(Outcome.of(World.signIn(certificate: World.certificate(nil)), at: control) == .user("CN=x,O=y"))
        #expect(Outcome.of(World.signIn("alice", "x"), at: control) == .refused4)
    }

    @Test func `asks for a certificate where it is required, and for the password besides`() {
        let control = World.control {
            $0.requiresCertificate = true
            $0.passwordFile = World.passwordFile()
        }
        #expect(Outcome.of(World.signIn("alice", "secret"), at: control) == .refused5)
        let certificate = World.certificate("dev1")
        #expect(Outcome.of(World.signIn(certificate: certificate), at: control) == .refused5)
        #expect(Outcome.of(World.signIn("alice", "secret", certificate: certificate), at: control) == .user("alice"))
        #expect(Outcome.of(World.signIn("alice", "x", certificate: certificate), at: control) == .refused5)
    }

    @Test func `asks accounts where the password file does not have the name`() {
        let control = World.control {
            $0.passwordFile = World.passwordFile()
            $0.admitsAccounts = true
        }
        #expect(Outcome.of(World.signIn("DEV1", "of the file"), at: control) == .user("DEV1"))
        #expect(Outcome.of(World.signIn("DEV1", "device secret"), at: control) == .refused5)
        #expect(Outcome.of(World.signIn("dev1", "device secret"), at: control) == .device("DEV1"))
        #expect(Outcome.of(World.signIn("node-red", "service secret"), at: control).identity == .service("node-red"))
    }

    @Test func `takes nobody at their word who has an account`() {
        let control = World.control {
            $0.allowsAnonymous = true
            $0.admitsAccounts = true
        }
        #expect(Outcome.of(World.signIn("dev1", "wrong"), at: control) == .refused5)
        #expect(Outcome.of(World.signIn("DEV2"), at: control) == .refused5)
        #expect(Outcome.of(World.signIn("ann@example.com", "wrong"), at: control) == .refused5)
        #expect(Outcome.of(World.signIn("old"), at: control) == .refused5)
        #expect(Outcome.of(World.signIn("telegraf"), at: control) == .user("telegraf"))
    }

    @Test func `knows a device by its certificate, also where certificates are names`() {
        let control = World.control {
            $0.usesCertificateName = true
            $0.admitsAccounts = true
        }
        #expect(Outcome.of(World.signIn(certificate: World.certificate("dev1")), at: control) == .device("DEV1"))
        #expect(Outcome.of(World.signIn(certificate: World.certificate("DEAD")), at: control) == .refused5)
        #expect(Outcome.of(World.signIn(certificate: World.certificate("pump")), at: control) == .user("pump"))
        #expect(
            Outcome.of(World.signIn(certificate: World.certificate("pump", serial: "0BAD")), at: control) == .refused5)
    }
}

@Suite struct `Admission of accounts` {
    private static let control = World.control {
        $0.admitsAccounts = true
        $0.followsMosquitto = false
    }

    @Test(arguments: [
        (World.signIn("DEV1", "device secret"), Outcome.device("DEV1")),
        (World.signIn("dev1", "device secret"), .device("DEV1")),
        (World.signIn("esp32_DEV1", "device secret"), .device("DEV1")),
        (World.signIn("ESP32_dev1", "device secret"), .device("DEV1")),
        (World.signIn("esp32_esp32_DEV1", "device secret"), .refused4),
        (World.signIn("DEV1", "wrong"), .refused4), (World.signIn("DEV1"), .refused4),
        (World.signIn("DEV1", ""), .refused4),
        (World.signIn("DEV2", ""), .refused4), (World.signIn("DEV2"), .refused4),
        (World.signIn("DEV3", "device secret"), .refused4),
        (World.signIn("DEAD", "device secret"), .refused5), (World.signIn("DEAD", "wrong"), .refused4),
        (World.signIn("node-red", "service secret"), Outcome(identity: .service("node-red"))),
        (World.signIn("Node-RED", "service secret"), .refused4), (World.signIn("node-red", "wrong"), .refused4),
        (World.signIn("old", "service secret"), .refused5), (World.signIn("old", "wrong"), .refused4),
        (World.signIn("ann@example.com", "person secret"), Outcome(identity: .person("1"))),
        (World.signIn("Ann@Example.COM", "person secret"), Outcome(identity: .person("1"))),
        (World.signIn("ann@example.com", "wrong"), .refused4), (World.signIn("ann@example.com"), .refused4),
        (World.signIn("nobody@example.com", "person secret"), .refused4),
        (World.signIn("gone@example.com", "person secret"), .refused5),
        (World.signIn("gone@example.com", "wrong"), .refused4),
        (World.signIn("first@example.com", "person secret"), .refused5),
        (World.signIn(), .refused5), (World.signIn("", "x"), .refused5), (World.signIn("zed", ""), .refused4),
        (World.signIn("+", "x"), .refused4), (World.signIn("dev1/", "device secret"), .refused4),
        (World.signIn("dév1", "device secret"), .refused4), (World.signIn("@", ""), .refused4),
    ])
    private func `by name`(_ signIn: SignIn, _ expected: Outcome) {
        #expect(Outcome.of(signIn, at: Self.control) == expected)
    }

    @Test(arguments: [
        (World.signIn(certificate: World.certificate("DEV2")), Outcome.device("DEV2")),
        (World.signIn(certificate: World.certificate("dev1")), .device("DEV1")),
        (World.signIn("esp32_dev1", "anything", certificate: World.certificate("DEV1")), .device("DEV1")),
        (World.signIn("DEV2", "x", certificate: World.certificate("DEV1")), .refused4),
        (World.signIn("node-red", "service secret", certificate: World.certificate("DEV1")), .refused4),
        (World.signIn(certificate: World.certificate("DEV1", isForClients: false)), .refused5),
        (World.signIn(certificate: World.certificate("DEV1", serial: "0BAD")), .refused5),
        (World.signIn("DEV1", "device secret", certificate: World.certificate("DEV1", serial: "0BAD")), .refused5),
        (World.signIn(certificate: World.certificate("DEAD")), .refused5),
        (World.signIn(certificate: World.certificate("DEV3")), .refused5),
        (World.signIn(certificate: World.certificate(nil)), .refused5),
        (World.signIn("DEV1", "device secret", certificate: World.certificate("laptop")), .device("DEV1")),
        (World.signIn("DEV1", "wrong", certificate: World.certificate("laptop")), .refused4),
    ])
    private func `by certificate`(_ signIn: SignIn, _ expected: Outcome) {
        #expect(Outcome.of(signIn, at: Self.control) == expected)
    }

    @Test func `takes no name at its word where anonymous clients are let in by default`() {
        let control = World.control {
            $0.allowsAnonymous = true
            $0.admitsAccounts = true
            $0.followsMosquitto = false
        }
        #expect(Outcome.of(World.signIn(), at: control) == .anonymous)
        #expect(Outcome.of(World.signIn("telegraf", "x"), at: control) == .refused4)
    }

    @Test func `gives a device its canonical name, whatever it signed in as`() {
        guard case .accepted(let principal) = Self.control.admission(of: World.signIn("esp32_dev1", "device secret"))
        else {
            Issue.record("not accepted")
            return
        }
        #expect(principal.userName == World.bytes("DEV1"))
    }

    /// Not by the clock: it is the same work.
    @Test func `costs as much for who does not exist as for who does`() throws {
        func check(_ name: String, at control: AccessControl) -> PasswordCheck? {
            guard case .unproven(let check) = control.admission(of: World.signIn(name, "x")) else { return nil }
            return check
        }
        var control = Self.control
        control.accounts.people["ann@example.com"]?.passwordHash = World.hash("person secret", .forPeople).text
        let (known, unknown) = (check("ann@example.com", at: control), check("nobody@example.com", at: control))
        #expect(known != nil && known?.costMicroseconds == unknown?.costMicroseconds)
        #expect(known?.refusal == unknown?.refusal && known?.bytes == unknown?.bytes)
        #expect(unknown?.run() == nil)
        let file = World.control { $0.passwordFile = World.passwordFile() }
        #expect(check("alice", at: file)?.costMicroseconds == check("zed", at: file)?.costMicroseconds)
    }

    @Test func `counts as guessing only what can be guessed`() {
        let control = World.control {
            $0.admitsAccounts = true
            $0.passwordFile = World.passwordFile()
        }
        func name(_ signIn: SignIn) -> String? {
            control.guessedName(of: signIn).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(name(World.signIn("Ann@example.com", "x")) == "ann@example.com")
        #expect(name(World.signIn("alice", "x")) == "alice" && name(World.signIn("bob", "x")) == "bob")
        #expect(name(World.signIn("zed", "x")) == "zed")
        #expect(name(World.signIn("dev1", "x")) == nil && name(World.signIn("node-red", "x")) == nil)
        #expect(name(World.signIn()) == nil && name(World.signIn(certificate: World.certificate("DEV1"))) == nil)
    }
}

@Suite struct `Somebody who has signed in` {
    private static func principal(_ signIn: SignIn, at control: AccessControl) throws -> Principal {
        var admission = control.admission(of: signIn)
        if case .unproven(let check) = admission { admission = control.admission(after: check, proven: check.run()) }
        guard case .accepted(let principal) = admission else { throw CancellationError() }
        return principal
    }

    private static let control = World.control {
        $0.allowsAnonymous = true
        $0.admitsAccounts = true
        $0.passwordFile = World.passwordFile()
    }

    /// A change after which a sign-in no longer counts.
    private struct Loss: Sendable {
        let signIn: SignIn
        let change: @Sendable (inout AccessControl) -> Void

        init(_ signIn: SignIn, _ change: @escaping @Sendable (inout AccessControl) -> Void) {
            self.signIn = signIn
            self.change = change
        }
    }

    private static let losses: [Loss] = [
        Loss(World.signIn("alice", "secret"), { $0.listeners[0].passwordFile = .empty }),
        Loss(
            World.signIn("alice", "secret"),
            { control in
                control.listeners[0].passwordFile = nil
                control.listeners[0].allowsAnonymous = false
            }
        ),
        Loss(
            World.signIn("alice", "secret"),
            { control in
                let text = "alice:\(World.hash("new", .sha512).text)"
                control.listeners[0].passwordFile = try? PasswordFile.parse(World.bytes(text), file: "f")
            }
        ),
        Loss(World.signIn("dev1", "device secret"), { $0.accounts.devices["DEV1"]?.isBlocked = true }),
        Loss(World.signIn("dev1", "device secret"), { $0.accounts.devices["DEV1"] = nil }),
        Loss(World.signIn("dev1", "device secret"), { $0.accounts.devices["DEV1"]?.secret = World.secret("new") }),
        Loss(World.signIn("dev1", "device secret"), { $0.accounts.devices["DEV1"]?.secret = nil }),
        Loss(World.signIn("dev1", "device secret"), { $0.listeners[0].admitsAccounts = false }),
        Loss(World.signIn(certificate: World.certificate("DEV1")), { $0.accounts.devices["DEV1"]?.isBlocked = true }),
        Loss(
            World.signIn(certificate: World.certificate("DEV1")), { _ = $0.accounts.revokedCertificates.insert("1234") }
        ),
        Loss(World.signIn(certificate: World.certificate("DEV1")), { $0.accounts.devices["DEV1"] = nil }),
        Loss(
            World.signIn("ann@example.com", "person secret"),
            { $0.accounts.people["ann@example.com"]?.isBlocked = true }),
        Loss(World.signIn("ann@example.com", "person secret"), { $0.accounts.people["ann@example.com"] = nil }),
        Loss(
            World.signIn("ann@example.com", "person secret"),
            { $0.accounts.people["ann@example.com"]?.mustChangePassword = true }
        ),
        Loss(
            World.signIn("ann@example.com", "person secret"),
            { $0.accounts.people["ann@example.com"]?.passwordHash = World.hash("new", .scrypt(World.fast)).text }
        ),
        Loss(World.signIn("node-red", "service secret"), { $0.accounts.services["node-red"] = nil }),
        Loss(World.signIn("node-red", "service secret"), { $0.accounts.services["node-red"]?.isBlocked = true }),
        Loss(
            World.signIn("node-red", "service secret"),
            { $0.accounts.services["node-red"]?.secret = World.secret("new") }),
        Loss(World.signIn(), { $0.listeners[0].allowsAnonymous = false }),
        Loss(World.signIn(), { $0.listeners[0].usesCertificateName = true }),
        Loss(World.signIn(), { $0.listeners = [] }),
    ]

    @Test(arguments: losses.indices)
    func `is no longer accepted once the proof no longer counts`(_ index: Int) throws {
        let loss = Self.losses[index]
        let principal = try Self.principal(loss.signIn, at: Self.control)
        var control = Self.control
        control.accounts.devices["DEV9"] = .init(deviceId: "DEV9", secret: nil)
        control.accounts.revokedCertificates.insert("4321")
        #expect(control.isCurrent(principal), "another's change")
        loss.change(&control)
        #expect(!control.isCurrent(principal))
    }

    @Test func `by a certificate outlives a new secret, and by a secret a revoked certificate`() throws {
        var control = Self.control
        let certificate = try Self.principal(World.signIn(certificate: World.certificate("DEV1")), at: control)
        let secret = try Self.principal(World.signIn("dev1", "device secret"), at: control)
        control.accounts.devices["DEV1"]?.secret = World.secret("new")
        #expect(control.isCurrent(certificate) && !control.isCurrent(secret))
        control = Self.control
        control.accounts.revokedCertificates.insert("1234")
        #expect(!control.isCurrent(certificate) && control.isCurrent(secret))
    }

    @Test func `by a pre-shared key ends with the key, named or not`() throws {
        for isNamed in [true, false] {
            var control = World.control {
                $0.allowsAnonymous = true
                $0.usesCertificateName = isNamed
                $0.keys = try? PreSharedKeys.parse(World.bytes("sensor:0102\n"), file: "keys")
            }
            let principal = try Self.principal(World.signIn(key: "sensor"), at: control)
            control.listeners[0].keys = try PreSharedKeys.parse(World.bytes("sensor:0102\nother:03\n"), file: "keys")
            #expect(control.isCurrent(principal))
            control.listeners[0].keys = try PreSharedKeys.parse(World.bytes("sensor:0103\n"), file: "keys")
            #expect(!control.isCurrent(principal))
            control.listeners[0].keys = nil
            #expect(!control.isCurrent(principal))
        }
    }

    @Test func `at their word has to prove it once there is an account of that name`() throws {
        var control = World.control {
            $0.allowsAnonymous = true
            $0.admitsAccounts = true
        }
        let principal = try Self.principal(World.signIn("pump"), at: control)
        control.accounts.services["pump"] = .init(name: "pump", secret: World.secret("x"))
        #expect(!control.isCurrent(principal))
    }

    @Test func `with a password stay where none is asked for any more, unless it is an account's name`() throws {
        var control = Self.control
        let alice = try Self.principal(World.signIn("alice", "secret"), at: control)
        let device = try Self.principal(World.signIn("DEV1", "of the file"), at: control)
        control.listeners[0].passwordFile = nil
        #expect(control.isCurrent(alice) && !control.isCurrent(device))
        control.listeners[0].usesCertificateSubject = true
        #expect(!control.isCurrent(alice))
    }

    @Test func `while the password was being checked may have been blocked`() throws {
        var control = Self.control
        guard case .unproven(let check) = control.admission(of: World.signIn("ann@example.com", "person secret")) else {
            Issue.record("no check")
            return
        }
        let principal = check.run()
        #expect(principal != nil)
        control.accounts.people["ann@example.com"]?.isBlocked = true
        guard case .refused(.notAuthorized) = control.admission(after: check, proven: principal) else {
            Issue.record("not refused")
            return
        }
    }
}
