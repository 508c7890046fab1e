import MQTT
import Seeded

@testable import Broker

/// Clients that do what they like, shards whose mail comes when it likes, and a model that watches every packet: what
/// each session is owed, in which order, and which identifiers are in use. With a disk the broker crashes now and then, and
/// the model knows what it must not have lost. Everything follows from the seed.
final class Simulation {
    struct Settings {
        var shards = 1
        var limits = Limits.withoutDamping
        var steps = 1500
        /// Whether a client that was persistent may come back clean, and the other way round.
        var changesKind = false
        /// Whether there is a disk, and the broker crashes.
        var hasDisk = false
        var durability = DurabilityRules(.acknowledged)
        /// Whether clients have wills.
        var hasWills = false
        /// Of a thousand steps those in which the clock goes on, and how far.
        var advances = 0
        var longestAdvance: Int64 = 20_000
        /// Of a thousand steps those in which limits change, as after SIGHUP, and those in which memory is short or no longer.
        var reloads = 0
        var sheds = 0

        /// Whether the broker may drop what waits for a session.
        var mayDrop: Bool { limits.queuedMessages > 0 || limits.queuedBytes > 0 || reloads > 0 || sheds > 0 }
        /// Of a hundred steps those in which a commit begins or ends.
        var commits = 10
        /// Of a thousand steps those in which the broker crashes.
        var crashes = 4
        /// Whether it begins again with another number of shards.
        var changesShards = false
        /// The most messages that a client publishes at once.
        var burst = 1
        /// Whether messages are retained.
        var retains = true
        /// How many times out of a hundred a client that is away comes back.
        var returns = 30
    }

    /// Messages whose order counts [MQTT-4.6.0-6]. A session that begins anew may live elsewhere, so each counts for itself.
    struct Stream: Hashable {
        let publisher: Publisher
        let topic: String
        let qos: QoS
    }

    struct Publisher: Hashable {
        let name: Substring
        /// Its session's.
        let tag: Int
    }

    /// What the model knows of one session.
    final class Session {
        struct InFlight {
            let payload: String
            let qos: QoS
            let durability: Durability
            /// The round in which it went out.
            let sent: CommitTicket
            /// Nil for one that was retained.
            let queued: Queued?
            /// PUBREC has come, in that round.
            var received: CommitTicket?
            /// PUBREL has gone out.
            var isReleased = false
        }

        let isClean: Bool
        let tag: Int
        var journal: SessionJournal
        /// It has ended, and its client has been told that there is none.
        var isForgotten = false
        var subscriptions: [(filter: String, qos: QoS)] = []
        var owed: [Stream: [String]] = [:]
        var publishers: [Substring: [Publisher]] = [:]
        var owedExactlyOnce = Set<String>()
        var owedAtLeastOnce = Set<String>()
        var got: [String: Int] = [:]
        var gotExactlyOnce = Set<String>()
        /// What comes after a crash too.
        var promised = Set<String>()
        /// QoS 2, by what has been sent.
        var sentExactlyOnce = Set<String>()
        /// Behind the latest that was new to the client.
        var next: [Stream: Int] = [:]
        /// PUBLISH packets that are not over.
        var inFlight: [PacketIdentifier: InFlight] = [:]
        /// Identifiers of QoS 2 messages from the client, and what was promised of each.
        var incoming: [PacketIdentifier: Durability] = [:]
        /// Of a persistent session with a disk; of any where messages may be dropped.
        var queue: [Queued] = []
        /// Payloads of messages that a full queue or short memory has perhaps kept out.
        var mayMiss = Set<String>()
        /// The broker has begun with messages for it: until they are read what needs no disk lies there too.
        var hasStoredQueue = false
        /// Its client has not come back since.
        var isUnread = false

        init(isClean: Bool, tag: Int, begunIn round: CommitTicket) {
            self.isClean = isClean
            self.tag = tag
            journal = SessionJournal(begunIn: round)
        }
    }

    static let topics = ["a", "a/b", "a/c", "b", "b/c"]
    private static let filters = ["#", "a/#", "+", "a/+", "+/c", "a", "a/b", "b/c", "b/#"]

    let settings: Settings
    private(set) var broker: ShardHarness
    private(set) var shards: Int
    /// Those of the moment, and the largest that there were.
    var limits: Limits
    var longestQueue: Int
    var widestWindow: Int
    var shedding = Shedding.none
    var generator: SeededGenerator
    private(set) var clients: [SimulatedClient] = []
    private var names: [Int: String] = [:]
    private var isClean: [Int: Bool] = [:]
    var sessions: [String: Session] = [:]
    /// Persistent sessions that have ended, whose end is perhaps not on the disk, in order.
    var endedSessions: [String: [Session]] = [:]
    /// Identifiers of messages from the broker that this has forgotten, or given to other messages, while a client may know
    /// them: in a crash, or with a session of which the client has not heard that it is over.
    var lostIdentifiers: [String: Set<PacketIdentifier>] = [:]
    /// Messages that are not on the disk yet.
    var messages: [Message] = []
    /// What is retained, or was when it was last known to be on the disk and since, by topic.
    var retained: [String: [Retained]] = [:]
    /// How far into its streams each connection has come.
    private var positions: [Int: [Stream: Int]] = [:]
    private var latestTag = 0
    /// Sessions whose client is connected, by the tag of its connection.
    var connected: [Int: Session] = [:]
    /// By their payload.
    var wills: [String: WillMessage] = [:]
    /// By the tag of the connection that has it.
    var willPayloads: [Int: String] = [:]
    /// What an earlier broker has left, the first to come first.
    var pendingWills: [PendingWill] = []
    private(set) var problem: String?
    /// What has happened; kept when somebody wants to read it.
    var trace: ((@autoclosure () -> String) -> Void)?
    private(set) var delivered = 0
    private(set) var crashes = 0
    private(set) var expired = 0
    /// Wills that an earlier broker had left, and that were published.
    var lateWills = 0

    init(seed: UInt64, settings: Settings) {
        self.settings = settings
        generator = SeededGenerator(seed: seed)
        shards = settings.shards
        limits = settings.limits
        longestQueue = limits.queuedMessages
        widestWindow = limits.inFlightMessages
        broker = ShardHarness(shards: settings.shards, limits: settings.limits, seed: seed)
        begin(from: SimulatedDisk())
        for number in 0..<6 {
            let client = SimulatedClient(name: "client \(number)", cleanSession: number % 2 == 0)
            client.receive = { [unowned self] in received($0, by: client.name) }
            client.forget = { [unowned self] in lostIdentifiers[client.name] = nil }
            client.mistake = { [unowned self] in mistaken($0, by: client.name) }
            clients.append(client)
        }
    }

    deinit { _ = broker.crash() }

    private func begin(from disk: SimulatedDisk) {
        broker.settlesAtOnce = false
        broker.observe = { [unowned self] in sent($1, on: $0) }
        broker.observeHandled = { [unowned self] in handled($1, from: $0) }
        broker.observeEnd = { [unowned self] in ended($0, $1) }
        broker.observeTick = { [unowned self] in ticked($0) }
        guard settings.hasDisk else { return }
        broker.rowsRead = 1 + generator.below(20)
        broker.keepOnDisk(settings.durability, from: disk)
    }

    func fail(_ text: String) { if problem == nil { problem = text } }

    // MARK: Running

    func run() {
        for _ in 0..<settings.steps {
            if settings.hasDisk, generator.happens(settings.commits) { carryOnCommit() }
            if settings.hasDisk, generator.below(1000) < settings.crashes { crash() }
            if settings.reloads > 0, generator.below(1000) < settings.reloads { reload() }
            if settings.sheds > 0, generator.below(1000) < settings.sheds { shed() }
            if settings.advances > 0, generator.below(1000) < settings.advances { advance() }
            if generator.happens(40) { broker.step() } else { act(generator.element(of: clients)) }
            if problem != nil { return }
        }
        calmDown()
        if let wrong = broker.disk.problem { fail(wrong) }
        for client in clients { check(client) }
        if settings.hasDisk { checkDisk() }
    }

    /// False when there was nothing to do.
    @discardableResult
    private func carryOnCommit() -> Bool {
        if !broker.commits.isEmpty {
            trace?("the commit ends")
            broker.finishCommit()
            noteWritten(through: broker.roundsWritten)
        } else if broker.hasUncommitted {
            trace?("a round begins, or goes on")
            broker.beginRound()
        } else {
            return false
        }
        return true
    }

    private func crash() {
        crashes += 1
        let disk = broker.crash(isWritten: generator.happens(50))
        trace?("crash \(crashes)")
        for client in clients { client.forgetConnection() }
        connected = [:]
        survive(disk, written: broker.roundsWritten, now: broker.now + 1)
        if settings.changesShards { shards = 1 + generator.below(3) }
        broker = ShardHarness(
            shards: shards, limits: limits, seed: generator.next(), now: broker.now + 1)
        shedding = .none
        begin(from: disk)
    }

    private func advance() {
        let milliseconds = 1 + Int64(generator.below(generator.happens(50) ? 1000 : Int(settings.longestAdvance)))
        trace?("\(milliseconds) ms later")
        broker.advance(milliseconds)
    }

    private func settle() {
        repeat { broker.settle() } while settings.hasDisk && carryOnCommit()
    }

    private func act(_ client: SimulatedClient) {
        guard let connection = client.connection, client.isOpen else {
            if generator.happens(settings.returns) { connect(client) }
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
            for _ in 0..<(1 + generator.below(settings.burst)) where client.mayPublish {
                client.publish(
                    generator.element(of: Self.topics), generator.element(of: QoS.allCases),
                    isRetained: settings.retains && generator.happens(10))
            }
        case 400..<700: for _ in 0..<(1 + generator.below(8)) { client.readNext() }
        default:
            for _ in 0..<(1 + generator.below(8)) where !client.answers.isEmpty {
                client.answer(generator.happens(80) ? 0 : generator.below(client.answers.count))
            }
        }
    }

    private func connect(_ client: SimulatedClient) {
        // Who does not know whether its session was discarded can only ask for that again.
        if settings.changesKind, client.isAnswered, generator.happens(30) { client.cleanSession.toggle() }
        latestTag += 1
        names[latestTag] = client.name
        isClean[latestTag] = client.cleanSession
        let connection = client.connect(to: broker, on: generator.below(shards), tag: latestTag)
        connection.sendConnect(
            client.name, cleanSession: client.cleanSession, keepAlive: keepAlive(of: client.name),
            will: newWill(of: client.name, tag: latestTag))
    }

    /// All persistent sessions come back, and everything is read and answered.
    private func calmDown() {
        broker.shed(.none)
        shedding = .none
        settle()
        for client in clients where !client.isOpen && !client.cleanSession { connect(client) }
        settle()
        for client in clients { if let connection = client.connection { broker.setFull(connection, false) } }
        for _ in 0..<10_000 where problem == nil {
            settle()
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
        trace?("\(connection.tag) \(names[connection.tag] ?? "") on \(connection.shard ?? -1) > \(packet.brief)")
        let round = connection.shard.map { broker.openRound(of: $0) } ?? 0
        if case .connect(let connect) = packet, connect.cleanSession, let name = names[connection.tag],
            let session = sessions[name], !session.isClean, !session.journal.isDiscarded,
            broker.home(of: name) == connection.shard
        {
            discard(session, of: name, in: round)
        }
        guard let name = names[connection.tag], let session = sessions[name],
            session.tag == connection.tag || !session.isClean
        else { return }
        switch packet {
        case .subscribe(let subscriptions, let identifier):
            var filters: [(String, QoS?)] = []
            for subscription in subscriptions {
                let filter = String(decoding: subscription.filter, as: UTF8.self)
                session.subscriptions.removeAll { $0.filter == filter }
                session.subscriptions.append((filter, subscription.maximumQoS))
                filters.append((filter, subscription.maximumQoS))
            }
            session.journal.append(.subscribed(filters: filters, identifier, tag: connection.tag), in: round)
        case .unsubscribe(let filters, let identifier):
            let filters = filters.map { String(decoding: $0, as: UTF8.self) }
            session.subscriptions.removeAll { filters.contains($0.filter) }
            session.journal.append(
                .subscribed(filters: filters.map { ($0, nil) }, identifier, tag: connection.tag), in: round)
        case .publish(let message, let qos, let identifier, _, let isRetained):
            let durability = durability(of: message)
            if qos == .exactlyOnce {
                guard session.incoming[identifier] == nil else { return }
                session.incoming[identifier] = durability
                if durability > .memory { session.journal.append(.received(identifier), in: round) }
            }
            let published = Message(
                message, qos, identifier, by: session, on: connection.tag, in: round, durability)
            owe(published, from: Publisher(name: name[...], tag: session.tag))
            if isRetained { retain(published) }
            if settings.hasDisk, qos > .atMostOnce, durability > .memory { messages.append(published) }
        case .acknowledgement(let acknowledgement):
            let identifier = acknowledgement.packetIdentifier
            switch acknowledgement.type {
            case .publishRelease:
                if session.incoming.removeValue(forKey: identifier) != nil {
                    session.journal.append(.released(identifier), in: round)
                }
            case .publishReceived:
                guard let inFlight = session.inFlight[identifier], inFlight.received == nil else { break }
                inFlight.queued?.received = round
                session.inFlight[identifier]?.received = round
            case .publishAcknowledgement, .publishComplete:
                session.inFlight.removeValue(forKey: identifier)?.queued?.over = round
            default: break
            }
        default: break
        }
    }

    func owe(_ message: Message, from publisher: Publisher) {
        for client in clients {
            guard let session = sessions[client.name] else { continue }
            let granted = session.subscriptions.filter { NaiveDirectory.matches($0.filter, message.topic) }
                .map(\.qos).max()
            guard let granted else { continue }
            let stream = Stream(publisher: publisher, topic: message.topic, qos: min(message.qos, granted))
            if isSurelyDropped(stream.qos, for: session) { continue }
            session.owed[stream, default: []].append(message.payload)
            if !(session.publishers[publisher.name]?.contains(publisher) ?? false) {
                session.publishers[publisher.name, default: []].append(publisher)
            }
            // It may be gone already, and only its client has not heard of it.
            guard !session.journal.isDiscarded else { continue }
            if stream.qos == .exactlyOnce { session.owedExactlyOnce.insert(message.payload) }
            if stream.qos == .atLeastOnce { session.owedAtLeastOnce.insert(message.payload) }
            guard stream.qos > .atMostOnce else { continue }
            message.receivers.append(session)
            guard settings.hasDisk, !session.isClean || settings.mayDrop else { continue }
            session.queue.append(Queued(message, stream.qos))
            if settings.mayDrop { noteQueued(in: session) }
        }
    }

    /// A packet on its way to a client.
    private func sent(_ packet: ControlPacket, on connection: TestConnection) {
        trace?("\(connection.tag) \(names[connection.tag] ?? "") on \(connection.shard ?? -1) < \(packet.brief)")
        guard let name = names[connection.tag] else { return fail("a packet for nobody") }
        if case .connectAcknowledgement(let acknowledgement) = packet {
            if acknowledgement.returnCode == .accepted { accepted(acknowledgement, name, connection) }
        }
        if case .publish = packet, let session = sessions[name] { published(packet, to: session, name, connection) }
        if settings.hasDisk, let session = sessions[name] { promised(packet, session, tag: connection.tag) }
        let client = clients.first { $0.connection === connection }
        client?.inbox.append(packet)
    }

    private func accepted(_ acknowledgement: ConnectAcknowledgement, _ name: String, _ connection: TestConnection) {
        let isClean = isClean[connection.tag] ?? true
        let earlier = sessions[name].flatMap { $0.isClean ? nil : $0 }
        let isKept = earlier.map { !isClean && !$0.journal.isDiscarded } ?? false
        if acknowledgement.sessionPresent != isKept {
            fail("\(name): session present \(acknowledgement.sessionPresent)")
        }
        let round = connection.shard.map { broker.openRound(of: $0) } ?? 0
        if !isKept {
            if let earlier, settings.hasDisk { endedSessions[name, default: []].append(earlier) }
            forgetSessions(of: name)
            sessions[name] = Session(isClean: isClean, tag: connection.tag, begunIn: round)
        }
        connected[connection.tag] = sessions[name]
        sessions[name]?.isUnread = false
        if !isClean { sessions[name]?.journal.append(.came(will: willPayloads[connection.tag]), in: round) }
        pendingWills.removeAll { $0.name == name }  // Its client is back in time.
    }

    /// A session ends, and so does what an earlier broker has left of its client.
    func discard(_ session: Session, of name: String, in round: CommitTicket) {
        session.journal.append(.discarded, in: round)
        lostIdentifiers[name, default: []].formUnion(session.inFlight.keys)
        pendingWills.removeAll { $0.name == name }
    }

    /// A shard is about to look at the clock: who has been away for too long has no session any more, and after that wills
    /// are published.
    private func ticked(_ shard: Int) {
        let round = broker.openRound(of: shard)
        for client in clients where limits.sessionExpiry > 0 && broker.home(of: client.name) == shard {
            guard let session = sessions[client.name], !session.isClean, !session.journal.isDiscarded,
                let absentSince = session.journal.state(after: .max)?.absentSince,
                absentSince + limits.sessionExpiry <= broker.now
            else { continue }
            trace?("the session of \(client.name) expires")
            expired += 1
            discard(session, of: client.name, in: round)
            sessions[client.name] = nil
            if settings.hasDisk { endedSessions[client.name, default: []].append(session) }
        }
        publishWillsDue(on: shard, in: round)
    }

    /// A shard has ended a connection: what becomes of its session, and its will [MQTT-3.1.2-8].
    private func ended(_ connection: TestConnection, _ reason: CloseReason) {
        trace?("\(connection.tag) \(names[connection.tag] ?? "") ends: \(reason)")
        guard let name = names[connection.tag], let session = connected.removeValue(forKey: connection.tag),
            let round = connection.shard.map({ broker.openRound(of: $0) })
        else { return }
        if !session.isClean {
            session.journal.append(.left(broker.now), in: round)
        } else if sessions[name] === session {
            sessions[name] = nil
        }
        if reason != .disconnected, let payload = willPayloads[connection.tag] {
            publishWill(payload, of: session, name, tag: connection.tag, in: round)
        }
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
            if other.received != nil { fail("\(text) after its PUBREC") }
        } else {
            if delivery.isDuplicate { fail("\(text), but it is new") }
            let queued = delivery.isRetained ? nil : session.queue.first { $0.isNext(delivery) }
            let round = connection.shard.map { broker.openRound(of: $0) } ?? 0
            queued?.sent = round
            session.inFlight[delivery.packetIdentifier] = .init(
                payload: delivery.payload, qos: delivery.qos,
                durability: durability(of: delivery.topic), sent: round, queued: queued)
            if delivery.qos == .exactlyOnce { session.sentExactlyOnce.insert(delivery.payload) }
            if widestWindow > 0, session.inFlight.count > widestWindow { fail("\(text) beyond the window") }
        }
        guard !delivery.isRetained else { return }
        // The next place in a stream where it fits: messages may be missing before it, none may come after it again.
        for stream in streams(of: delivery, in: session) {
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
        if delivery.qos == .exactlyOnce, !session.gotExactlyOnce.insert(delivery.payload).inserted,
            !isPublishedAgain(delivery, session)
        {
            fail("\(name): \(delivery) comes twice")
        }
        checkOrder(delivery, session, name)
    }

    /// Whether its publisher has sent it as often as it comes: in a later session, for it may not have heard that the earlier
    /// one was over; or to a later broker, to which what needs no disk is new.
    private func isPublishedAgain(_ delivery: Delivery, _ session: Session) -> Bool {
        let needsDisk = durability(of: delivery.topic) > .memory
        let times = streams(of: delivery, in: session).reduce(0) { times, stream in
            let count = (session.owed[stream] ?? []).count { $0 == delivery.payload }
            return times + (needsDisk ? min(count, 1) : count)
        }
        return times >= session.got[delivery.payload] ?? 0
    }

    private func mistaken(_ delivery: Delivery, by name: String) {
        guard let session = sessions[name] else { return }
        guard lostIdentifiers[name]?.contains(delivery.packetIdentifier) ?? false else {
            return fail("\(name): \(delivery), but the client has another message of that identifier")
        }
        // Its client can't tell it from the other one.
        session.owedExactlyOnce.remove(delivery.payload)
    }

    /// What a persistent session is sent for the first time comes in order, whatever connections end and crashes there are
    /// between.
    private func checkOrder(_ delivery: Delivery, _ session: Session, _ name: String) {
        guard !session.isClean, !settings.changesKind, session.got[delivery.payload] == 1, delivery.qos > .atMostOnce
        else { return }
        for stream in streams(of: delivery, in: session) {
            let start = session.next[stream] ?? 0
            guard let place = session.owed[stream]?[start...].firstIndex(of: delivery.payload) else { continue }
            session.next[stream] = place + 1
            return
        }
        fail("\(name): \(delivery) comes for the first time, and too late")
    }

    private func streams(of delivery: Delivery, in session: Session) -> [Stream] {
        let name = delivery.payload.prefix(through: delivery.payload.lastIndex(of: " ")!).dropLast()
        return (session.publishers[name] ?? []).map { Stream(publisher: $0, topic: delivery.topic, qos: delivery.qos) }
    }

    private func check(_ client: SimulatedClient) {
        guard let session = sessions[client.name], client.isOpen,
            client.connection?.tag == session.tag || !session.isClean
        else { return }
        let owed = session.owedAtLeastOnce.union(session.owedExactlyOnce)
        let missing = owed.subtracting(session.mayMiss).filter { session.got[$0] == nil }.sorted()
        if let first = missing.first { fail("\(client.name): \(first) is lost, and \(missing.count - 1) more") }
        if !session.inFlight.isEmpty { fail("\(client.name): \(session.inFlight.count) messages are never over") }
    }
}

extension ControlPacket {
    /// For somebody who reads a trace.
    fileprivate var brief: String {
        switch self {
        case .connect(let connect): "CONNECT \(connect.cleanSession ? "clean" : "persistent")"
        case .connectAcknowledgement(let acknowledgement): "CONNACK, session \(acknowledgement.sessionPresent)"
        case .publish: TestConnection.deliveries(in: [self]).map { "PUBLISH \($0)" }.joined()
        case .acknowledgement(let acknowledgement): "\(acknowledgement.type) #\(acknowledgement.packetIdentifier)"
        case .subscribe(let subscriptions, let identifier):
            "SUBSCRIBE #\(identifier) "
                + subscriptions.map { "\(String(decoding: $0.filter, as: UTF8.self)) at \($0.maximumQoS.rawValue)" }
                .joined()
        case .subscribeAcknowledgement(let acknowledgement): "SUBACK #\(acknowledgement.packetIdentifier)"
        case .unsubscribe(let filters, let identifier):
            "UNSUBSCRIBE #\(identifier) " + filters.map { String(decoding: $0, as: UTF8.self) }.joined()
        default: "\(self)"
        }
    }
}
