import Access
import MQTT

@testable import Broker

/// A broker that tells what devices do. DEV1 is owner@x's; everybody's password is "secret". The second listener has a mount
/// point.
final class FleetWorld {
    enum Who: String, CaseIterable {
        case admin = "admin@x"
        case otherAdmin = "second@x"
        case owner = "owner@x"
        /// Owns DEV2.
        case stranger = "stranger@x"
        case device = "DEV1"
        case otherDevice = "DEV2"
        case service = "backend"
        /// A service, whose policy lets it do everything.
        case mightyService = "mighty"
        case anonymous
    }

    let broker: ShardHarness
    var access: AccessControl

    /// `policy`: of those who are anonymous; nil: they may do everything but manage.
    init(
        shards: Int = 2, limits: Limits = .withoutDamping, policy: Policy? = nil, watchesDevices: Bool = true,
        disk: SimulatedDisk? = nil, now: Instant = Instant(milliseconds: 1_000_000)
    ) {
        access = Self.access(policy)
        var mounted = ListenerRules()
        mounted.mountPoint = Array("ward/7/".utf8)
        broker = ShardHarness(
            shards: shards, limits: limits, rules: [ListenerRules(), mounted], access: access, now: now)
        if watchesDevices { broker.watchDevices() }
        if let disk { broker.keepOnDisk(from: disk) }
    }

    private static func access(_ policy: Policy?) -> AccessControl {
        var access = AccessWorld.control(devices: ["DEV1", "DEV2"]) { $0.policy = policy }
        access.listeners.append(access.listeners[0])
        let hash = AccessWorld.line("").dropFirst()
        for (who, device) in [(Who.admin, nil), (.otherAdmin, nil), (.owner, "DEV1"), (.stranger, "DEV2")] {
            var person = Accounts.Person(id: "id of \(who)", email: who.rawValue, passwordHash: String(hash))
            person.role = device == nil ? .admin : .user
            person.devices = [device].compactMap(\.self)
            access.accounts.people[who.rawValue] = person
        }
        for (who, policy) in [(Who.service, "backend"), (.mightyService, "admin")] {
            var service = Accounts.Service(name: who.rawValue, secret: AccessWorld.secret("secret"))
            service.policy = policy
            access.accounts.services[who.rawValue] = service
        }
        return access
    }

    /// A connection of somebody, who has taken the CONNACK.
    func connect(
        _ who: Who, client: String? = nil, cleanSession: Bool = true, home: Int = 0, will: WillMessage? = nil,
        listener: ListenerNumber = 0
    ) -> TestConnection {
        let isNamed = who != .anonymous
        let connection = broker.connect(
            client ?? "client of \(who)", cleanSession: cleanSession, will: will, home: home, listener: listener,
            userName: isNamed ? who.rawValue : nil, password: isNamed ? "secret" : nil)
        if broker.hasUncommitted { broker.commitAll() }
        precondition(connection.client != nil, "\(who) is refused")
        return connection
    }

    /// One that listens to the commands for a device.
    func listener(
        _ who: Who = .device, to device: String = "DEV1", client: String? = nil, cleanSession: Bool = true,
        home: Int = 0, qos: QoS = .atLeastOnce
    ) -> TestConnection {
        let connection = connect(who, client: client, cleanSession: cleanSession, home: home)
        connection.subscribe(("devices/\(device)/command", qos))
        if broker.hasUncommitted { broker.commitAll() }
        _ = connection.take()
        return connection
    }

    /// Other rights for somebody, at once.
    func change(_ who: Who, _ change: (inout Accounts.Person) -> Void) {
        guard var person = access.accounts.people[who.rawValue] else { preconditionFailure("\(who) is no person") }
        change(&person)
        access.accounts.people[who.rawValue] = person
        broker.adopt(access, changed: [.person(person.id)])
    }

    // MARK: What was told

    /// What devices have said, in order.
    var reports: [DeviceMessage] {
        broker.events.compactMap { if case .deviceMessage(let message) = $0 { message } else { nil } }
    }

    /// The numbers of commands that devices have acknowledged.
    var delivered: [UInt64] {
        broker.events.compactMap { if case .commandDelivered(let number, _) = $0 { number } else { nil } }
    }

    struct Request: Equatable {
        let person: String
        let payload: [UInt8]
    }

    var requests: [Request] {
        broker.events.compactMap {
            if case .request(_, let person, let payload) = $0 { Request(person: person, payload: payload) } else { nil }
        }
    }
}
