import Access
import MQTT
import Testing

@Suite struct `The shipped policies` {
    private func rights(
        _ policy: ShippedPolicy, _ user: String? = nil, owned: [String] = [], manages: Bool = false
    ) -> Rights {
        Rights(
            policy: .shipped(policy), userName: user.map { Array($0.utf8) }, client: Array("c".utf8), owned: owned,
            reachesManagement: manages)
    }

    @Test(arguments: ShippedPolicy.allCases) func `parse, and explain themselves`(_ policy: ShippedPolicy) throws {
        #expect(try Policy.parse(policy.text, file: policy.file, dialect: .martlet).warnings.isEmpty)
        #expect(Policy.shipped(named: policy.rawValue)?.file == policy.file)
        #expect(policy.text.starts(with: "# ".utf8))
    }

    @Test func `let a device touch its own topics, each in one direction, and nothing else`() {
        let device = rights(.device, "A1")
        for topic in ["health", "status", "ota/status", "telemetry", "telemetry/x/y"] {
            #expect(device.writes("devices/A1/\(topic)") && !device.reads("devices/A1/\(topic)"))
            #expect(!device.writes("devices/A2/\(topic)") && !device.reads("devices/A2/\(topic)"))
        }
        for topic in ["command", "ota"] {
            #expect(device.reads("devices/A1/\(topic)") && !device.writes("devices/A1/\(topic)"))
            #expect(!device.reads("devices/A2/\(topic)") && !device.writes("devices/A2/\(topic)"))
        }
        for topic in [
            "x", "devices", "devices/A1", "devices/A1/", "devices/A1/x", "devices/a1/health", "devices/A1/health/x",
            "devices/A1/command/x", "$SYS/broker/uptime", "$SYS/devices/A1", "$CONTROL/fleet/v1", "/devices/A1/health",
        ] { #expect(!device.reads(topic) && !device.writes(topic)) }
        #expect(device.coverage(of: "devices/A1/command") == .all)
        #expect(device.coverage(of: "devices/A1/ota") == .all)
        #expect(device.coverage(of: "devices/A2/command") == .none)
        #expect(device.coverage(of: "devices/A1/health") == .none)
        for filter in ["#", "+/+/command", "devices/#", "devices/+/+", "devices/A1/#", "+/A1/ota"] {
            #expect(device.coverage(of: filter) == .some)
        }
        for filter in ["$SYS/#", "$SYS/devices/A1", "devices/A2/#", "+", "devices/+/health", "devices/A1"] {
            #expect(device.coverage(of: filter) == .none)
        }
    }

    @Test func `let an owner see and command their devices`() {
        let owner = rights(.owner, "u@x", owned: ["B", "A"], manages: true)
        for device in ["A", "B"] {
            #expect(owner.reads("devices/\(device)") && owner.reads("devices/\(device)/ota"))
            #expect(owner.reads("devices/\(device)/telemetry/x") && owner.reads("$SYS/devices/\(device)"))
            #expect(owner.writes("devices/\(device)/command") && !owner.writes("devices/\(device)/ota"))
            #expect(!owner.writes("$SYS/devices/\(device)") && !owner.writes("devices/\(device)/health"))
        }
        #expect(!owner.reads("devices/C/status") && !owner.writes("devices/C/command"))
        #expect(!owner.reads("$SYS/devices/C") && !owner.reads("$SYS/activity") && !owner.reads("$CONTROL/fleet/v1"))
        #expect(owner.coverage(of: "devices/A/#") == .all && owner.coverage(of: "$SYS/devices/B") == .all)
        #expect(owner.coverage(of: "devices/#") == .some && owner.coverage(of: "$SYS/devices/+") == .some)
        #expect(owner.coverage(of: "devices/C/#") == .none && owner.coverage(of: "$SYS/broker/#") == .none)
    }

    @Test func `let a service see the fleet and command it`() {
        let backend = rights(.backend, "node-red")
        #expect(backend.reads("devices/A/ota") && backend.reads("$SYS/broker/uptime"))
        #expect(backend.writes("devices/A/command") && !backend.writes("devices/A/ota"))
        #expect(!backend.reads("$SYS/devices/A") && !backend.writes("devices/A/health") && !backend.reads("x"))
        #expect(backend.coverage(of: "devices/+/telemetry/#") == .all && backend.coverage(of: "#") == .some)
    }

    @Test func `let an admin do everything`() {
        let admin = rights(.admin, "admin@x", manages: true)
        #expect(admin.reads("a/b") && admin.writes("devices/A/ota"))
        #expect(admin.reads("$SYS/devices/A") && admin.reads("$SYS/activity") && admin.writes("$CONTROL/fleet/v1"))
        #expect(!admin.writes("$SYS/broker/uptime"))
        #expect(admin.coverage(of: "#") == .all && admin.coverage(of: "$SYS/#") == .all)
    }

    @Test func `let who tries things out stand in for a device, and command none`() {
        let loopback = rights(.loopback)
        for topic in ["health", "status", "ota/status", "telemetry", "telemetry/a/b"] {
            #expect(loopback.reads("devices/A/\(topic)") && loopback.writes("devices/A/\(topic)"))
        }
        #expect(loopback.reads("devices/A/command") && !loopback.writes("devices/A/command"))
        #expect(!loopback.reads("devices/A/ota") && !loopback.writes("devices/A/ota"))
        #expect(loopback.reads("devices/A/x") && !loopback.writes("devices/A/x") && !loopback.writes("devices/A"))
        for topic in ["x", "wills/a", "devicesx", "/devices/A/ota", "Devices/A/command"] {
            #expect(loopback.reads(topic) && loopback.writes(topic))
        }
        #expect(loopback.reads("$SYS/broker/uptime") && !loopback.writes("$SYS/broker/uptime"))
        for topic in ["$SYS/devices/A", "$SYS/activity", "$SYS/rollouts/1", "$CONTROL/fleet/v1", "$x"] {
            #expect(!loopback.reads(topic) && !loopback.writes(topic))
        }
        #expect(loopback.coverage(of: "wills/#") == .all && loopback.coverage(of: "$SYS/broker/#") == .all)
        #expect(loopback.coverage(of: "devices/+/status") == .all && loopback.coverage(of: "devices/#") == .some)
        #expect(loopback.coverage(of: "devices/+/ota") == .none && loopback.coverage(of: "#") == .some)
    }
}

@Suite struct `The rights of somebody` {
    private func policy(_ text: String, _ dialect: Policy.Dialect = .mosquitto) throws -> Policy {
        try Policy.parse(Array(text.utf8), file: "f", dialect: dialect)
    }

    private let client = Array("c".utf8)

    @Test func `without a name, or with one of a password file, are those of the listener's file`() throws {
        var (first, second) = (AccessControl.Listener(), AccessControl.Listener())
        first.policy = try policy("topic read a\nuser bob\ntopic read b\n")
        second.policy = try policy("")
        let access = AccessControl(listeners: [first, second, AccessControl.Listener()])
        let bob = Array("bob".utf8)
        for (number, rights) in try [
            (0, #require(access.rights(of: .anonymous(listener: 0), client: client))),
            (1, #require(access.rights(of: .anonymous(listener: 1), client: client))),
            (2, #require(access.rights(of: .anonymous(listener: 2), client: client))),
        ] {
            #expect(rights.reads("a") == (number != 1) && rights.reads("b") == (number == 2))
            #expect(rights.isUnrestricted == (number == 2))
        }
        let principal = Principal(identity: .user(bob), userName: bob, listener: 0)
        let rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.reads("b") && !rights.reads("a") && !rights.writes("b"))
    }

    @Test func `without an acl_file reach everything but the management of a fleet`() throws {
        var access = AccessControl(listeners: [AccessControl.Listener()])
        access.accounts.people["a@x"] = Accounts.Person(id: "1", email: "a@x", passwordHash: "")
        let rights = try #require(access.rights(of: .anonymous(listener: 0), client: client))
        #expect(!rights.isUnrestricted && rights.reads("a") && rights.writes("devices/A/ota"))
        for topic in ["$SYS/devices/A", "$SYS/rollouts/1", "$SYS/activity", "$CONTROL/fleet/v1"] {
            #expect(!rights.reads(topic) && !rights.writes(topic))
            #expect(rights.coverage(of: topic) == .none)
        }
        #expect(rights.reads("$SYS/broker/uptime") && rights.coverage(of: "$SYS/broker/#") == .all)
        #expect(rights.coverage(of: "#") == .all && rights.coverage(of: "$SYS/#") == .some)
        #expect(rights.coverage(of: "$SYS/+/A") == .some && rights.coverage(of: "$CONTROL/#") == .none)
    }

    @Test func `who is a device end with the device, whatever an acl_file says`() throws {
        var listener = AccessControl.Listener()
        listener.policy = try policy("pattern readwrite #\ntopic readwrite #\nuser A1\ntopic readwrite #\n")
        var access = AccessControl(listeners: [listener])
        let principal = Principal(identity: .device("A1"), userName: Array("A1".utf8), listener: 0)
        #expect(access.rights(of: principal, client: client) == nil)
        access.accounts.devices["A1"] = Accounts.Device(deviceId: "A1", secret: nil)
        let rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.writes("devices/A1/health") && !rights.writes("devices/A2/health") && !rights.reads("x"))
        access.accounts.devices["A1"]?.isBlocked = true
        #expect(access.rights(of: principal, client: client) == nil)
    }

    @Test func `who is a person go by their role and their devices of the moment`() throws {
        var access = AccessControl(listeners: [AccessControl.Listener()])
        let principal = Principal(identity: .person("7"), userName: Array("u@x".utf8), listener: 0)
        #expect(access.rights(of: principal, client: client) == nil)
        var person = Accounts.Person(id: "7", email: "u@x", passwordHash: "")
        person.devices = ["Z", "B", "A"]
        access.accounts.people["u@x"] = person
        var rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.reads("devices/Z/status") && rights.reads("$SYS/devices/B") && !rights.reads("devices/C/status"))
        access.accounts.people["u@x"]?.role = .admin
        rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.writes("$CONTROL/fleet/v1") && rights.reads("devices/C/status"))
        access.accounts.people["new@x"] = access.accounts.people.removeValue(forKey: "u@x")
        #expect(access.rights(of: principal, client: client) != nil, "the e-mail has changed, the person has not")
        access.accounts.people["new@x"]?.isBlocked = true
        #expect(access.rights(of: principal, client: client) == nil)
        access.accounts.people["new@x"]?.isBlocked = false
        access.accounts.people["new@x"]?.mustChangePassword = true
        #expect(access.rights(of: principal, client: client) == nil)
    }

    @Test func `who is a service go by its policy, which may be a file of its own`() throws {
        var access = AccessControl(listeners: [AccessControl.Listener()])
        let name = Array("grafana".utf8)
        let principal = Principal(identity: .service("grafana"), userName: name, listener: 0)
        #expect(access.rights(of: principal, client: client) == nil)
        access.accounts.services["grafana"] = Accounts.Service(name: "grafana", secret: SecretDigest(bytes: []))
        var rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.reads("devices/A/status") && rights.writes("devices/A/command") && !rights.reads("x"))
        access.accounts.services["grafana"]?.policy = "figures"
        rights = try #require(access.rights(of: principal, client: client))
        #expect(!rights.reads("devices/A/status"), "a policy that is not there gives nothing")
        access.policies["figures"] = try policy("topic read $SYS/#\npattern write %u/x", .martlet)
        rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.reads("$SYS/broker/uptime") && rights.writes("grafana/x") && !rights.reads("$SYS/devices/A"))
        access.accounts.services["grafana"]?.policy = "admin"
        rights = try #require(access.rights(of: principal, client: client))
        #expect(rights.writes("$CONTROL/fleet/v1") && rights.reads("$SYS/devices/A"))
        access.accounts.services["grafana"]?.isBlocked = true
        #expect(access.rights(of: principal, client: client) == nil)
    }

    @Test(arguments: [
        ("topic read a/#", "a/b", Rights.Coverage.all), ("topic read a/#", "a/#", .all), ("topic read a/#", "a", .all),
        ("topic read a/#", "a/+/c", .all), ("topic read a/#", "+/b", .some), ("topic read a/#", "#", .some),
        ("topic read a/#", "b/#", .none), ("topic read foo/+", "foo/+", .all), ("topic read foo/+", "foo/#", .some),
        ("topic read a", "a/#", .some), ("topic deny a\ntopic read a/#", "a/#", .some), ("topic read #", "#", .all),
        ("topic read #", "$SYS/#", .none), ("topic read $foo/#", "#", .none), ("topic read $foo/#", "+/x", .none),
        ("topic read $foo/#", "$foo/+", .all), ("topic read +/x", "$foo/x", .none), ("topic read +/x", "#", .some),
        ("topic write a/#", "a/b", .none), ("topic read #\ntopic deny a", "#", .some), ("", "#", .none),
        ("topic read #\ntopic deny a/#", "a/b", .none), ("topic read #\ntopic deny a/#", "b/#", .all),
        ("topic read a/b\npattern deny a/#", "a/b", .all), ("topic read a/b\npattern deny a/#", "a/+", .some),
        ("pattern read x\npattern deny a/#", "a/+", .none), ("pattern read %c/#", "c/#", .all),
        ("pattern read %c/#", "d/#", .none), ("pattern read %c/#", "+/x", .some), ("pattern read x-%c", "x-c", .all),
        ("topic read $SYS/#", "$SYS/#", .some), ("topic read $SYS/#", "$SYS/broker/#", .all),
    ])
    func `cover filters whole, in part or not at all`(_ text: String, _ filter: String, _ coverage: Rights.Coverage)
        throws
    {
        #expect(Rights(policy: try policy(text), userName: nil, client: client).coverage(of: filter) == coverage)
    }

    @Test func `are small enough for each session to keep`() {
        #expect(MemoryLayout<Rights>.size <= 64)
    }

    @Test func `that are everything or nothing say so`() {
        #expect(Rights.everything.reads("$CONTROL/x") && Rights.everything.coverage(of: "#") == .all)
        #expect(!Rights.nothing.reads("a") && !Rights.nothing.writes("a") && Rights.nothing.coverage(of: "#") == .none)
    }
}
