import Conformance

/// An MQTT broker as one value: no shards, no network, no clock, nothing clever. It says what each client must see.
///
/// Clients are numbered; what the client `n` sees is appended to `output[n]`. Where the broker is free to choose, the
/// model does not choose either, but says by `moves(of:)` what may happen next to a session, and whoever asks the model
/// decides. There are five such freedoms:
/// - Between shards a copy takes its time. Of one publisher they stay in order [MQTT-4.6.0-6]; of several, any order
///   is right, for the specification orders only what comes "from any given Client".
/// - What is retained for a new subscription goes out in any order of topics, and live messages may come in between.
///   The specification says what has to be sent, not when (3.3.1.3, 3.8.4).
/// - A session with much to send is served in steps, between which others get their turn.
/// - Between shards a packet of several filters is handled as a sequence of packets [MQTT-3.8.4-4] [MQTT-3.10.4-6]:
///   between two filters others may publish and retain. The session itself does nothing else meanwhile, so what its
///   client sees begins with the one SUBACK or UNSUBACK.
/// - Between shards the will of a session that is gone with its connection may come when its Client Identifier is used
///   again: it is published because the connection is closed [MQTT-3.1.2-8], but nothing says before what.
///
/// Everything else follows from the specification and from the choices that Martlet documents.
package struct ReferenceBroker: Hashable, Sendable {
    package struct Limits: Hashable, Sendable {
        /// QoS 1 and 2 messages on their way to one client.
        package var inFlight = 20
        /// QoS 1 and 2 messages that wait for one session; 0 for no limit.
        package var queued = 0
        /// Bytes of their payloads, for both; one message always goes, or waits. 0 for no limit.
        package var inFlightBytes = 0
        package var queuedBytes = 0
        /// QoS 0 waits for a session whose client is away, too.
        package var queuesAtMostOnce = false
        /// Messages that a session is sent in one step.
        package var step = 256

        package init() {}
    }

    struct Connection: Hashable, Sendable {
        /// Nil until CONNECT is accepted.
        var client: String?
        var keepAlive = 0
        var latestPacket: Int
        var will: Publish?
        /// The client does not read, and as much waits for it as may.
        var isFull = false
    }

    struct Session: Hashable, Sendable {
        let client: String
        var isClean = true
        var connection: Int?
        var subscriptions: [Subscribed] = []
        /// QoS 1 and 2 for the client, in their order: first what is in flight, then what waits.
        var outgoing: [Outgoing] = []
        var latestIdentifier: UInt16 = 0
        /// QoS 2 from the client, received and not released; sorted.
        var incoming: [UInt16] = []
        /// What is retained for new subscriptions and has not been sent.
        var unread: [Unread] = []
        /// Copies that are on their way to this session; sorted by origin.
        var mail: [Mail] = []
        /// The last step has left something that could go.
        var isBehind = false
        /// The SUBSCRIBE or UNSUBSCRIBE that is carried out.
        var request: Request?

        var isWaiting: Bool { outgoing.last?.stage == .waiting }
        var isOwed: Bool { outgoing.contains(where: \.isOwed) }
    }

    struct Subscribed: Hashable, Sendable {
        var subscription: Subscription
        let levels: [[UInt8]]
    }

    struct Outgoing: Hashable, Sendable {
        enum Stage: Hashable, Sendable { case waiting, published, released }

        var publish: Publish
        var stage = Stage.waiting
        /// In flight when the connection ended, and not sent again yet.
        var isOwed = false
    }

    /// What is retained for one new subscription.
    struct Unread: Hashable, Sendable {
        let subscription: Subscription
        var topics: [String]
    }

    /// A SUBSCRIBE or UNSUBSCRIBE, some of whose filters have had their turn.
    struct Request: Hashable, Sendable {
        enum Part: Hashable, Sendable {
            case subscribe(Subscription)
            case unsubscribe(String)
        }

        var parts: ArraySlice<Part>
        let answer: Seen
    }

    /// The will of a session that is gone.
    struct Will: Hashable, Sendable {
        let publish: Publish
        let origin: Int
        let client: String
    }

    struct Mail: Hashable, Sendable {
        let publish: Publish
        /// The client over whose connection it came.
        let origin: Int
    }

    private let limits: Limits
    /// Whether copies for others' sessions take their time, as between shards.
    let delaysMail: Bool
    private var now = 0
    private(set) var sessions: [Session] = []  // Sorted by Client Identifier: equal states are equal values.
    private var connections: [Connection?]
    private var retained: [Publish] = []  // Sorted by topic.
    private var isStopping = false
    /// What has to be published still, in any order.
    private(set) var wills: [Will] = []
    package var output: [[Seen]]

    package init(clients: Int, limits: Limits, delaysMail: Bool) {
        self.limits = limits
        self.delaysMail = delaysMail
        connections = Array(repeating: nil, count: clients)
        output = Array(repeating: [], count: clients)
    }

    package func isOpen(_ client: Int) -> Bool { connections[client] != nil }

    /// Of which session the connection is.
    package func session(of client: Int) -> String? { connections[client]?.client }

    // MARK: Connections

    /// A network connection, over which nothing has come yet.
    package mutating func open(_ client: Int) { connections[client] = Connection(latestPacket: now) }

    /// The network fails, or the client goes without a word.
    package mutating func lose(_ client: Int) { end(client) }

    package mutating func receive(_ packet: Sent, from client: Int) {
        guard connections[client] != nil else { return }
        connections[client]?.latestPacket = now
        guard let name = connections[client]?.client, let session = sessions.firstIndex(where: { $0.client == name })
        else {
            guard case .connect(let connect) = packet else { return end(client) }  // [MQTT-3.1.0-1]
            return self.connect(connect, client)
        }
        finishRequest(of: session)
        switch packet {
        case .connect, .violation: end(client)  // [MQTT-3.1.0-2] [MQTT-4.8.0-1]
        case .publish(let publish): self.publish(publish, from: client, session)
        case .acknowledge(let type, let identifier): acknowledge(type, identifier, client, session)
        case .subscribe(let subscriptions, let identifier):
            let answer = Seen.suback(identifier, subscriptions.map { UInt8($0.maximumQoS) })
            begin(Request(parts: subscriptions.map { .subscribe($0) }[...], answer: answer), session)
        case .unsubscribe(let filters, let identifier):
            let answer = Seen.acknowledgement(.unsuback, identifier)  // [MQTT-3.10.4-5]
            begin(Request(parts: filters.map { .unsubscribe($0) }[...], answer: answer), session)
        case .ping: output[client].append(.pingresp)
        case .disconnect:
            connections[client]?.will = nil  // [MQTT-3.14.4-3]
            end(client)
        }
    }

    private mutating func connect(_ connect: Sent.Connect, _ client: Int) {
        if connect.client.isEmpty, !connect.isClean {  // [MQTT-3.1.3-8]
            output[client].append(.connack(sessionPresent: false, code: 2))
            return end(client)
        }
        let name = connect.client.isEmpty ? "nameless-\(client)" : connect.client
        if let earlier = sessions.first(where: { $0.client == name })?.connection { end(earlier) }  // [MQTT-3.1.4-2]
        if connect.isClean { sessions.removeAll { $0.client == name } }  // [MQTT-3.1.2-6]
        let isPresent = sessions.contains { $0.client == name }
        if !isPresent {
            sessions.insert(Session(client: name), at: sessions.firstIndex { $0.client > name } ?? sessions.count)
        }
        guard let session = sessions.firstIndex(where: { $0.client == name }) else { return }
        connections[client] = Connection(
            client: name, keepAlive: connect.keepAlive, latestPacket: now, will: connect.will)
        sessions[session].isClean = connect.isClean
        sessions[session].connection = client
        output[client].append(.connack(sessionPresent: isPresent, code: 0))
        for item in sessions[session].outgoing.indices where sessions[session].outgoing[item].stage != .waiting {
            sessions[session].outgoing[item].isOwed = true
        }
        catchUp(session)
    }

    private mutating func end(_ client: Int) {
        guard let connection = connections[client] else { return }
        let session = sessions.firstIndex { $0.connection == client }
        if let session { finishRequest(of: session) }
        connections[client] = nil
        output[client].append(.closed)
        var isGone = false
        if let session {
            sessions[session].connection = nil
            sessions[session].isBehind = false
            isGone = sessions[session].isClean
            if isGone { sessions.remove(at: session) }
        }
        guard let will = connection.will, let name = connection.client else { return }  // [MQTT-3.1.2-8]
        if delaysMail, isGone {
            wills.append(Will(publish: will, origin: client, client: name))
        } else {
            route(will, origin: client, from: name)
        }
    }

    /// Publishes one of the wills that have to be.
    package mutating func publishWill(_ index: Int) {
        let will = wills.remove(at: index)
        route(will.publish, origin: will.origin, from: nil)
    }

    /// The client's output is at its bound, or is below it again.
    package mutating func fill(_ client: Int, _ isFull: Bool) {
        guard let name = connections[client]?.client else { return }
        connections[client]?.isFull = isFull
        guard let session = sessions.firstIndex(where: { $0.client == name }) else { return }
        finishRequest(of: session)
        catchUp(session)
    }

    // MARK: Time

    package mutating func advance(seconds: Int) { now += seconds }

    /// Whose time is up: ten seconds to CONNECT, one and a half keep-alives from packet to packet [MQTT-3.1.2-24].
    package var overdue: [Int] {
        connections.indices.filter { client in
            guard let connection = connections[client] else { return false }
            let silence = Double(now - connection.latestPacket)
            if connection.client == nil { return silence >= 10 }
            return connection.keepAlive > 0 && silence >= 1.5 * Double(connection.keepAlive)
        }
    }

    // MARK: From publishers

    private mutating func publish(_ publish: Publish, from client: Int, _ session: Int) {
        let name = sessions[session].client
        switch publish.qos {
        case 0: route(publish, origin: client, from: name)
        case 1:
            route(publish, origin: client, from: name)
            output[client].append(.acknowledgement(.puback, publish.identifier))
        default:
            // Routed when it first comes; until PUBREL its identifier says that it has been [MQTT-4.3.3-2].
            if !sessions[session].incoming.contains(publish.identifier) {
                sessions[session].incoming.append(publish.identifier)
                sessions[session].incoming.sort()
                route(publish, origin: client, from: name)
            }
            output[client].append(.acknowledgement(.pubrec, publish.identifier))
        }
    }

    /// First levels of topics that are the server's own.
    private static let ownLevels = ["$SYS", "$CONTROL"].map { Array($0.utf8) }

    /// One copy for each session with a matching subscription, at the highest QoS that it was granted.
    private mutating func route(_ publish: Publish, origin: Int, from publisher: String?) {
        let levels = TopicText.levels(publish.topic.utf8)
        if Self.ownLevels.contains(levels[0]) { return }  // Acknowledged and dropped.
        if publish.isRetained { store(publish) }
        for index in sessions.indices {
            let granted = sessions[index].subscriptions.filter { TopicText.matches($0.levels, levels) }
            guard let maximum = granted.map(\.subscription.maximumQoS).max() else { continue }
            // DUP and RETAIN of the publisher go no further [MQTT-3.3.1-3] [MQTT-3.3.1-9].
            let copy = Publish(topic: publish.topic, payload: publish.payload, qos: min(publish.qos, maximum))
            if delaysMail || isStopping, sessions[index].client != publisher {
                let mail = Mail(publish: copy, origin: origin)
                let place = sessions[index].mail.firstIndex { $0.origin > origin } ?? sessions[index].mail.count
                sessions[index].mail.insert(mail, at: place)
            } else {
                hand(copy, to: index)
            }
        }
    }

    private mutating func store(_ publish: Publish) {
        retained.removeAll { $0.topic == publish.topic }
        // Whoever has not read the old one will not: the new one comes to him live.
        for session in sessions.indices {
            for reading in sessions[session].unread.indices {
                sessions[session].unread[reading].topics.removeAll { $0 == publish.topic }
            }
            sessions[session].unread.removeAll(where: \.topics.isEmpty)
        }
        guard !publish.payload.isEmpty else { return }  // [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        let kept = Publish(topic: publish.topic, payload: publish.payload, qos: publish.qos, isRetained: true)
        retained.insert(kept, at: retained.firstIndex { $0.topic > publish.topic } ?? retained.count)
    }

    // MARK: To subscribers

    private mutating func begin(_ request: Request, _ session: Int) {
        sessions[session].request = request
        carryOut(session)
        if !delaysMail { finishRequest(of: session) }
    }

    /// What comes next for a session comes behind the SUBSCRIBE or UNSUBSCRIBE that has begun.
    private mutating func finishRequest(of session: Int) {
        while sessions[session].request != nil { carryOut(session) }
    }

    /// One filter of a request; after the last one, its answer.
    private mutating func carryOut(_ session: Int) {
        guard let client = sessions[session].connection, var request = sessions[session].request else { return }
        let part = request.parts.popFirst()
        switch part {
        case .subscribe(let subscription): subscribe(subscription, session)
        case .unsubscribe(let filter):
            sessions[session].subscriptions.removeAll { $0.subscription.filter == filter }
            sessions[session].unread.removeAll { $0.subscription.filter == filter }
        case nil: break
        }
        sessions[session].request = request.parts.isEmpty ? nil : request
        guard request.parts.isEmpty else { return }
        output[client].append(request.answer)
        if case .subscribe = part { catchUp(session) }
    }

    private mutating func subscribe(_ subscription: Subscription, _ session: Int) {  // [MQTT-3.8.4-3]
        let levels = TopicText.levels(subscription.filter.utf8)
        sessions[session].subscriptions.removeAll { $0.subscription.filter == subscription.filter }
        sessions[session].subscriptions.append(Subscribed(subscription: subscription, levels: levels))
        let topics = retained.map(\.topic).filter {
            TopicText.matches(levels, TopicText.levels($0.utf8))
        }
        if !topics.isEmpty { sessions[session].unread.append(Unread(subscription: subscription, topics: topics)) }
    }

    private mutating func acknowledge(_ type: Acknowledgement, _ identifier: UInt16, _ client: Int, _ session: Int) {
        // What nothing awaits is ignored, but a PUBREC or PUBREL is answered, so that the peer can finish.
        let index = sessions[session].outgoing.firstIndex {
            $0.stage != .waiting && $0.publish.identifier == identifier
        }
        let item = index.map { sessions[session].outgoing[$0] }
        switch type {
        case .puback:
            guard let index, item?.publish.qos == 1 else { return }
            sessions[session].outgoing.remove(at: index)
            catchUp(session)
        case .pubrec:
            if let index, item?.publish.qos == 2 { sessions[session].outgoing[index].stage = .released }
            output[client].append(.acknowledgement(.pubrel, identifier))
            if limits.inFlightBytes > 0 { catchUp(session) }  // The payload is on its way no more.
        case .pubrel:
            sessions[session].incoming.removeAll { $0 == identifier }
            output[client].append(.acknowledgement(.pubcomp, identifier))
        case .pubcomp:
            guard let index, item?.stage == .released else { return }
            sessions[session].outgoing.remove(at: index)
            catchUp(session)
        case .unsuback: end(client)
        }
    }

    /// Gives a copy to a session, whose client may be away.
    private mutating func hand(_ publish: Publish, to session: Int) {
        let client = sessions[session].connection
        let isReading = client.map { connections[$0]?.isFull == false } ?? false
        let waiting = sessions[session].outgoing.filter { $0.stage == .waiting }
        let isQueued = publish.qos > 0 || limits.queuesAtMostOnce && (client == nil || !waiting.isEmpty)
        guard isQueued else {
            // QoS 0 is not kept for a client that is away, nor for one that does not read.
            if let client, isReading { output[client].append(.publish(publish)) }
            return
        }
        let bytes = waiting.reduce(publish.payload.utf8.count) { $0 + $1.publish.payload.utf8.count }
        if limits.queued > 0, waiting.count >= limits.queued { return }
        if limits.queuedBytes > 0, !waiting.isEmpty, bytes > limits.queuedBytes { return }
        sessions[session].outgoing.append(Outgoing(publish: publish))
        // Not past what waits or has to be sent again [MQTT-4.6.0-6].
        if waiting.isEmpty, !sessions[session].isOwed, isReading, mayGo(publish, session) {
            send(sessions[session].outgoing.count - 1, session)
        }
    }

    /// Whether the limits let a message be on its way beside those that are.
    private func mayGo(_ publish: Publish?, _ session: Int) -> Bool {
        if publish?.qos == 0 { return true }
        let inFlight = sessions[session].outgoing.filter { $0.stage != .waiting }
        let published = inFlight.filter { $0.stage == .published }
        let bytes = published.reduce(publish?.payload.utf8.count ?? 0) { $0 + $1.publish.payload.utf8.count }
        if limits.inFlightBytes > 0, !inFlight.isEmpty, bytes > limits.inFlightBytes { return false }
        return inFlight.count < limits.inFlight
    }

    /// One step of what a session still has to get: first what has to be sent again [MQTT-4.4.0-1], in its order
    /// [MQTT-4.6.0-1], then what waits.
    private mutating func catchUp(_ session: Int) {
        sessions[session].isBehind = false
        guard let client = sessions[session].connection, connections[client]?.isFull == false else { return }
        var sent = 0
        while let next = sessions[session].outgoing.firstIndex(where: { $0.isOwed || $0.stage == .waiting }) {
            let item = sessions[session].outgoing[next]
            guard item.isOwed || mayGo(item.publish, session) else { return }
            if sent == limits.step {
                sessions[session].isBehind = true
                return
            }
            sent += 1
            guard item.isOwed else {
                send(next, session)
                continue
            }
            sessions[session].outgoing[next].isOwed = false
            var again = item.publish
            again.isDuplicate = true
            output[client].append(
                item.stage == .released ? .acknowledgement(.pubrel, again.identifier) : .publish(again))
        }
    }

    /// Packet Identifiers ascend, which the specification leaves open: it wants one that is not in use [MQTT-2.3.1-4].
    private mutating func send(_ index: Int, _ session: Int) {
        guard let client = sessions[session].connection else { return }
        guard sessions[session].outgoing[index].publish.qos > 0 else {
            return output[client].append(.publish(sessions[session].outgoing.remove(at: index).publish))
        }
        sessions[session].latestIdentifier += 1
        sessions[session].outgoing[index].publish.identifier = sessions[session].latestIdentifier
        sessions[session].outgoing[index].stage = .published
        output[client].append(.publish(sessions[session].outgoing[index].publish))
    }

    // MARK: What is left open

    /// What may happen next to a session by itself. Whatever else happens, in the end all of it has.
    package enum Move {
        /// A copy comes that was on its way.
        case mail(Int)
        /// A retained message goes out: of the oldest new subscription, any of the topics [MQTT-3.3.1-6].
        case retained(Int)
        /// Another step.
        case step
        /// The next filter of the SUBSCRIBE or UNSUBSCRIBE that is carried out; until the last one, nothing else.
        case filter
    }

    package func moves(of session: Int) -> [Move] {
        let state = sessions[session]
        if state.request != nil { return [.filter] }
        // Of each origin the oldest [MQTT-4.6.0-6].
        var moves = state.mail.indices.filter { $0 == 0 || state.mail[$0 - 1].origin != state.mail[$0].origin }
            .map { Move.mail($0) }
        guard let client = state.connection, connections[client]?.isFull == false else { return moves }
        if state.isBehind { moves.append(.step) }
        if let unread = state.unread.first, !state.isWaiting, !state.isOwed, mayGo(nil, session) {
            moves += unread.topics.indices.map { .retained($0) }
        }
        return moves
    }

    package mutating func perform(_ move: Move, of session: Int) {
        switch move {
        case .mail(let index): hand(sessions[session].mail.remove(at: index).publish, to: session)
        case .retained(let index): sendRetained(index, session)
        case .step: catchUp(session)
        case .filter: carryOut(session)
        }
    }

    private mutating func sendRetained(_ index: Int, _ session: Int) {
        let maximum = sessions[session].unread[0].subscription.maximumQoS
        let topic = sessions[session].unread[0].topics.remove(at: index)
        if sessions[session].unread[0].topics.isEmpty { sessions[session].unread.removeFirst() }
        guard let client = sessions[session].connection, var publish = retained.first(where: { $0.topic == topic })
        else { return }
        publish.qos = min(publish.qos, maximum)
        guard publish.qos > 0 else { return output[client].append(.publish(publish)) }
        sessions[session].outgoing.append(Outgoing(publish: publish))
        if mayGo(publish, session) { send(sessions[session].outgoing.count - 1, session) }
    }

    // MARK: The end

    /// SIGTERM: all wills are published while their receivers are there, in any order; `finish` closes the connections.
    package mutating func stop() {
        isStopping = true
        for client in connections.indices {
            if let will = connections[client]?.will { route(will, origin: client, from: nil) }
        }
    }

    /// What was under way has arrived.
    package mutating func finish() { if isStopping { crash() } }

    /// Everything is in memory, so everything is gone.
    package mutating func crash() {
        for client in connections.indices where connections[client] != nil { output[client].append(.closed) }
        let output = output
        self = ReferenceBroker(clients: connections.count, limits: limits, delaysMail: delaysMail)
        self.output = output
    }
}
