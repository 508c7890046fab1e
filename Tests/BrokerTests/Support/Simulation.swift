import MQTT
import Seeded

@testable import Broker

/// Clients that do what they like, shards whose mail comes when it likes, and a model that watches every packet: what
/// each session is owed, in which order, and which identifiers are in use. Everything follows from the seed.
final class Simulation {
    struct Settings {
        var shards = 1
        var limits = Limits.withoutDamping
        var steps = 1500
        /// Whether a client that was persistent may come back clean, and the other way round.
        var changesKind = false
    }

    /// Messages whose order counts [MQTT-4.6.0-6]. A clean session that begins anew may live elsewhere, so for it each
    /// connection counts for itself.
    private struct Stream: Hashable {
        let publisher: String
        let topic: String
        let qos: QoS
    }

    /// What the model knows of one session.
    private final class Session {
        let isClean: Bool
        let tag: Int
        var subscriptions: [(filter: String, qos: QoS)] = []
        var owed: [Stream: [String]] = [:]
        var owedExactlyOnce = Set<String>()
        var owedAtLeastOnce = Set<String>()
        var got: [String: Int] = [:]
        /// PUBLISH packets that are not over: the payload, and whether PUBREC has come.
        var inFlight: [PacketIdentifier: (payload: String, isReleased: Bool)] = [:]
        var incoming = Set<PacketIdentifier>()

        init(isClean: Bool, tag: Int) {
            self.isClean = isClean
            self.tag = tag
        }
    }

    private static let topics = ["a", "a/b", "a/c", "b", "b/c"]
    private static let filters = ["#", "a/#", "+", "a/+", "+/c", "a", "a/b", "b/c", "b/#"]

    private let settings: Settings
    private let broker: ShardHarness
    private var generator: SeededGenerator
    private var clients: [SimulatedClient] = []
    private var names: [Int: String] = [:]
    private var isClean: [Int: Bool] = [:]
    private var sessions: [String: Session] = [:]
    /// How far into its streams each connection has come.
    private var positions: [Int: [Stream: Int]] = [:]
    private var latestTag = 0
    private(set) var problem: String?
    private(set) var delivered = 0

    init(seed: UInt64, settings: Settings) {
        self.settings = settings
        generator = SeededGenerator(seed: seed)
        broker = ShardHarness(shards: settings.shards, limits: settings.limits, seed: seed)
        broker.settlesAtOnce = false
        for number in 0..<6 {
            let client = SimulatedClient(name: "client \(number)", cleanSession: number % 2 == 0)
            client.receive = { [unowned self] in received($0, by: client.name) }
            clients.append(client)
        }
        broker.observe = { [unowned self] in sent($1, on: $0) }
        broker.observeHandled = { [unowned self] in handled($1, from: $0) }
    }

    private func fail(_ text: String) { if problem == nil { problem = text } }

    // MARK: Running

    func run() {
        for _ in 0..<settings.steps {
            if generator.happens(40) { broker.step() } else { act(generator.element(of: clients)) }
            if problem != nil { return }
        }
        calmDown()
        for client in clients { check(client) }
    }

    private func act(_ client: SimulatedClient) {
        guard let connection = client.connection, client.isOpen else {
            if generator.happens(30) { connect(client) }
            return
        }
        let die = generator.below(1000)
        if die < 6 { return connect(client) }  // Beside its own connection: it takes itself over.
        guard client.isConnected else { return client.readNext() }
        switch die {
        case 6..<16:
            connection.disconnect()
            client.forgetConnection()
        case 16..<36:
            guard connection.shard != nil else { return }
            connection.drop()
            client.forgetConnection()
        case 36..<76:
            connection.subscribe(
                (generator.element(of: Self.filters), generator.element(of: QoS.allCases)),
                identifier: client.unusedIdentifier())
        case 76..<96:
            connection.unsubscribe(generator.element(of: Self.filters), identifier: client.unusedIdentifier())
        case 96..<116: broker.setFull(connection, generator.happens(40))
        case 116..<400:
            guard client.mayPublish else { return }
            client.publish(
                generator.element(of: Self.topics), generator.element(of: QoS.allCases),
                isRetained: generator.happens(10))
        case 400..<700: for _ in 0..<(1 + generator.below(8)) { client.readNext() }
        default:
            for _ in 0..<(1 + generator.below(8)) where !client.answers.isEmpty {
                client.answer(generator.happens(80) ? 0 : generator.below(client.answers.count))
            }
        }
    }

    private func connect(_ client: SimulatedClient) {
        if settings.changesKind, generator.happens(30) { client.cleanSession.toggle() }
        latestTag += 1
        names[latestTag] = client.name
        isClean[latestTag] = client.cleanSession
        let connection = client.connect(to: broker, on: generator.below(settings.shards), tag: latestTag)
        connection.sendConnect(client.name, cleanSession: client.cleanSession)
    }

    /// All persistent sessions come back, and everything is read and answered.
    private func calmDown() {
        broker.settle()
        for client in clients where !client.isOpen && !client.cleanSession { connect(client) }
        broker.settle()
        for client in clients { if let connection = client.connection { broker.setFull(connection, false) } }
        for _ in 0..<10_000 where problem == nil {
            broker.settle()
            guard clients.contains(where: { !$0.inbox.isEmpty || !$0.answers.isEmpty }) else { return }
            for client in clients {
                while !client.inbox.isEmpty { client.readNext() }
                while !client.answers.isEmpty { client.answer(0) }
            }
        }
        fail("it never calms down")
    }

    // MARK: Watching

    /// A client's packet that a shard handles now.
    private func handled(_ packet: ControlPacket, from connection: TestConnection) {
        guard let name = names[connection.tag], let session = sessions[name],
            session.tag == connection.tag || !session.isClean
        else { return }
        switch packet {
        case .subscribe(let subscriptions, _):
            for subscription in subscriptions {
                let filter = String(decoding: subscription.filter, as: UTF8.self)
                session.subscriptions.removeAll { $0.filter == filter }
                session.subscriptions.append((filter, subscription.maximumQoS))
            }
        case .unsubscribe(let filters, _):
            for filter in filters {
                session.subscriptions.removeAll { $0.filter == String(decoding: filter, as: UTF8.self) }
            }
        case .publish(let message, let qos, let identifier, _, _):
            if qos == .exactlyOnce, !session.incoming.insert(identifier).inserted { return }
            owe(message, qos, from: session.isClean ? "\(name) on \(connection.tag)" : name)
        case .acknowledgement(let acknowledgement):
            let identifier = acknowledgement.packetIdentifier
            switch acknowledgement.type {
            case .publishRelease: session.incoming.remove(identifier)
            case .publishReceived: session.inFlight[identifier]?.isReleased = true
            case .publishAcknowledgement, .publishComplete: session.inFlight[identifier] = nil
            default: break
            }
        case .disconnect: if session.isClean { sessions[name] = nil }
        default: break
        }
    }

    private func owe(_ message: ApplicationMessage, _ qos: QoS, from publisher: String) {
        let topic = String(decoding: message.topic, as: UTF8.self)
        let payload = String(decoding: message.payload, as: UTF8.self)
        for client in clients {
            guard let session = sessions[client.name] else { continue }
            let granted = session.subscriptions.filter { NaiveDirectory.matches($0.filter, topic) }.map(\.qos).max()
            guard let granted else { continue }
            let stream = Stream(publisher: publisher, topic: topic, qos: min(qos, granted))
            session.owed[stream, default: []].append(payload)
            if stream.qos == .exactlyOnce { session.owedExactlyOnce.insert(payload) }
            if stream.qos == .atLeastOnce { session.owedAtLeastOnce.insert(payload) }
        }
    }

    /// A packet on its way to a client.
    private func sent(_ packet: ControlPacket, on connection: TestConnection) {
        guard let name = names[connection.tag] else { return fail("a packet for nobody") }
        if case .connectAcknowledgement(let acknowledgement) = packet {
            accepted(acknowledgement, name, connection.tag)
        }
        if case .publish = packet, let session = sessions[name] { published(packet, to: session, name, connection) }
        let client = clients.first { $0.connection === connection }
        client?.inbox.append(packet)
    }

    private func accepted(_ acknowledgement: ConnectAcknowledgement, _ name: String, _ tag: Int) {
        let isClean = isClean[tag] ?? true
        let isKept = !isClean && sessions[name].map { !$0.isClean } ?? false
        if acknowledgement.sessionPresent != isKept {
            fail("\(name): session present \(acknowledgement.sessionPresent)")
        }
        if !isKept { sessions[name] = Session(isClean: isClean, tag: tag) }
    }

    private func published(
        _ packet: ControlPacket, to session: Session, _ name: String, _ connection: TestConnection
    ) {
        guard let delivery = TestConnection.deliveries(in: [packet]).first else { return }
        let text = "\(name): \(delivery)"
        if delivery.qos == .atMostOnce {
            if delivery.packetIdentifier != 0 || delivery.isDuplicate { fail("\(text) with what QoS 0 has not") }
        } else if let other = session.inFlight[delivery.packetIdentifier] {
            if !delivery.isDuplicate { fail("\(text), but its identifier is in use for \(other.payload)") }
            if other.payload != delivery.payload { fail("\(text), but it was \(other.payload)") }
            if other.isReleased { fail("\(text) after its PUBREC") }
        } else {
            if delivery.isDuplicate { fail("\(text), but it is new") }
            session.inFlight[delivery.packetIdentifier] = (delivery.payload, false)
            let window = settings.limits.inFlightMessages
            if window > 0, session.inFlight.count > window { fail("\(text) beyond the window") }
        }
        guard !delivery.isRetained else { return }
        // The next place in a stream where it fits: messages may be missing before it, none may come after it again.
        let publisher = delivery.payload.split(separator: " ").prefix(2).joined(separator: " ")
        let streams = session.owed.keys.filter {
            $0.topic == delivery.topic && $0.qos == delivery.qos
                && ($0.publisher == publisher || $0.publisher.hasPrefix(publisher + " on "))
        }
        for stream in streams {
            let start = positions[connection.tag]?[stream] ?? 0
            guard let place = session.owed[stream]?[start...].firstIndex(of: delivery.payload) else { continue }
            positions[connection.tag, default: [:]][stream] = place + 1
            delivered += 1
            return
        }
        fail("\(text), which nothing asked for or which is out of order")
    }

    private func received(_ delivery: Delivery, by name: String) {
        guard let session = sessions[name], !delivery.isRetained else { return }
        session.got[delivery.payload, default: 0] += 1
        if session.owedExactlyOnce.contains(delivery.payload), session.got[delivery.payload] ?? 0 > 1 {
            fail("\(name): \(delivery) comes twice")
        }
    }

    private func check(_ client: SimulatedClient) {
        guard let session = sessions[client.name], client.isOpen,
            client.connection?.tag == session.tag || !session.isClean
        else { return }
        let owed = session.owedAtLeastOnce.union(session.owedExactlyOnce)
        let missing = owed.filter { session.got[$0] == nil }.sorted()
        if let first = missing.first { fail("\(client.name): \(first) is lost, and \(missing.count - 1) more") }
        if !session.inFlight.isEmpty { fail("\(client.name): \(session.inFlight.count) messages are never over") }
    }
}
