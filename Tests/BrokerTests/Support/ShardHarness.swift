import Access
import Locks
import MQTT
import Seeded
import Testing

@testable import Broker

/// Some shards around one directory, and whatever the server is to them: it feeds packets in, does what the outbox
/// says, and carries mail and connections from shard to shard. Between any two steps of it a test may look and act.
final class ShardHarness {
    /// What one shard posts to another, in order.
    private enum Post {
        case mail(Mail)
        case move(TestConnection)
    }

    private final class Shard {
        var state: ShardState
        var outbox: Outbox
        var connections: [TestConnection?] = []

        init(_ state: ShardState) {
            outbox = Outbox(shards: state.shards)
            self.state = state
        }
    }

    let directory: Lock<Directory>
    /// The clock.
    private(set) var now = Instant(milliseconds: 1_000_000)
    private(set) var events: [BrokerEvent] = []
    /// Whether everything that is under way is carried on after each action of a test, until nothing is.
    var settlesAtOnce = true
    /// Publishers that the broker wants to wait.
    private(set) var holds = 0
    /// Sees each packet on its way to a client.
    var observe: ((TestConnection, ControlPacket) -> Void)?
    /// Sees each packet of a client when a shard handles it.
    var observeHandled: ((TestConnection, ControlPacket) -> Void)?

    private let shards: [Shard]
    /// `posts[sender][receiver]`
    private var posts: [[[Post]]]
    private var generator: SeededGenerator
    /// Passwords that are being checked.
    private(set) var verifications: [(shard: Int, connection: TestConnection, check: PasswordCheck)] = []
    /// Who guesses, at whatever shard.
    let throttle = Lock(SignInThrottle(attempts: 10))
    private var answers: [(TestConnection, ControlPacket)] = []
    /// Commits under way, oldest first, and the payloads that earlier ones have brought to the disk, by topic.
    private(set) var commits: [(shard: Int, ticket: CommitTicket)] = []
    private(set) var disk: [String: String] = [:]

    init(
        shards count: Int = 1, limits: Limits = .withoutDamping, rules: [ListenerRules] = [ListenerRules()],
        access: AccessControl? = nil, seed: UInt64 = 1
    ) {
        let access = access ?? AccessControl(listeners: rules.map { _ in AccessControl.Listener() })
        let directory = Lock(Directory(shards: count, seed: seed))
        let now = now
        let throttle = throttle
        var limits = limits
        // Short, so that a test needs few messages to see several steps.
        limits.messagesPerStep = min(limits.messagesPerStep, 64)
        self.directory = directory
        shards = (0..<count).map {
            Shard(
                ShardState(
                    shard: $0, of: count, limits: limits, rules: rules, access: access, directory: directory,
                    throttle: throttle,
                    now: now))
        }
        posts = Array(repeating: Array(repeating: [], count: count), count: count)
        generator = SeededGenerator(seed: seed)
    }

    // MARK: Connections

    /// A connection that has sent nothing. With `home`, placement has chosen that shard for a session that is new.
    func open(
        on shard: Int = 0, home: Int? = nil, listener: ListenerNumber = 0, proof: ConnectionProof? = nil
    ) -> TestConnection {
        let number = freeNumber(on: home ?? shard)
        let connection = TestConnection(self, on: home ?? shard, number, listener: listener)
        connection.proof = proof
        shards[home ?? shard].connections[Int(number)] = connection
        shards[home ?? shard].state.open(
            number, listener: listener, isPlaced: home != nil, proof: proof, now: now)
        return connection
    }

    /// A connection that has sent its CONNECT; the CONNACK is among its packets.
    func connect(
        _ client: String, cleanSession: Bool = true, keepAlive: UInt16 = 0, will: WillMessage? = nil, on shard: Int = 0,
        home: Int? = nil, listener: ListenerNumber = 0, userName: String? = nil, password: String? = nil,
        proof: ConnectionProof? = nil
    ) -> TestConnection {
        let connection = open(on: shard, home: home, listener: listener, proof: proof)
        connection.sendConnect(
            client, cleanSession: cleanSession, keepAlive: keepAlive, will: will, userName: userName,
            password: password)
        return connection
    }

    private func freeNumber(on shard: Int) -> ConnectionNumber {
        if let free = shards[shard].connections.firstIndex(where: { $0 == nil }) { return ConnectionNumber(free) }
        shards[shard].connections.append(nil)
        return ConnectionNumber(shards[shard].connections.count - 1)
    }

    func send(_ bytes: [UInt8], from connection: TestConnection) {
        guard connection.place != .closed else { return }
        connection.unread.append(bytes)
        handleUnread(connection)
        finish()
    }

    /// Only the header of a packet has come.
    func announce(_ bytes: [UInt8], from connection: TestConnection) throws {
        guard case .on(let shard, let number) = connection.place else { return }
        let header = try #require(try FixedHeader(bytes.span, at: 0))
        do throws(CloseReason) {
            try shards[shard].state.announce(header, from: number)
        } catch {
            shards[shard].state.end(number, error, now: now, into: &shards[shard].outbox)
        }
        apply(shard)
        finish()
    }

    func end(_ connection: TestConnection, _ reason: CloseReason) {
        guard case .on(let shard, let number) = connection.place else { return }
        shards[shard].state.end(number, reason, now: now, into: &shards[shard].outbox)
        apply(shard)
        finish()
    }

    func setFull(_ connection: TestConnection, _ isFull: Bool) {
        guard case .on(let shard, let number) = connection.place else { return }
        shards[shard].state.setFull(number, isFull, into: &shards[shard].outbox)
        apply(shard)
        finish()
    }

    private func handleUnread(_ connection: TestConnection) {
        while case .on(let shard, let number) = connection.place, !connection.unread.isEmpty,
            !shards[shard].state.isPaused(number),
            !verifications.contains(where: { $0.connection === connection })
        {
            let bytes = connection.unread[0]
            let owner = shards[shard]
            do throws(CloseReason) {
                guard let header = try Self.header(of: bytes), bytes.count == header.packetLength else {
                    preconditionFailure("a test sends whole packets")
                }
                if let observeHandled, let packet = try? ControlPacket.whole(bytes) {
                    observeHandled(connection, packet)
                }
                let body = bytes.span.extracting(header.length..<header.packetLength)
                try owner.state.receive(header, body, from: number, now: now, into: &owner.outbox)
            } catch {
                owner.state.end(number, error, now: now, into: &owner.outbox)
            }
            // A CONNECT that is moved is sent again where it came to; one that waits is handled later.
            let isKept = owner.outbox.hold.contains(.packet)
            apply(shard)
            if connection.place != .moving, !isKept { connection.unread.removeFirst() }
        }
        if connection.place == .closed { connection.unread = [] }
    }

    /// The oldest check of a password that is under way comes to its end; `isTaken`: unless there is no room for it.
    func finishVerification(isTaken: Bool = true) {
        let (index, connection, check) = verifications.removeFirst()
        let (shard, number) = (shards[index], connection.number)
        let source = connection.proof?.source ?? .local
        if isTaken {
            shard.state.finish(
                check, from: source, for: number, proven: check.run(), now: now, into: &shard.outbox)
        } else {
            shard.state.abandon(check, from: source, for: number, now: now, into: &shard.outbox)
        }
        apply(index)
        handleWoken(index)
        finish()
    }

    /// Other rules for everybody, or for those who are named.
    func adopt(_ access: AccessControl, changed: Set<Identity>? = nil) {
        for shard in shards.indices {
            shards[shard].state.adopt(access, changed: changed, now: now, into: &shards[shard].outbox)
            apply(shard)
        }
        finish()
    }

    private static func header(of bytes: [UInt8]) throws(CloseReason) -> FixedHeader? {
        do throws(MalformedPacket) {
            return try FixedHeader(bytes.span, at: 0)
        } catch {
            throw .malformed(error)
        }
    }

    // MARK: Doing what the outbox says

    private func apply(_ index: Int) {
        let shard = shards[index]
        var closed: [ConnectionNumber: TestConnection] = [:]
        var verifying: [TestConnection] = []
        for effect in shard.outbox.effects {
            switch effect {
            case .acknowledgeConnect(let number, let acknowledgement):
                hand(.connectAcknowledgement(acknowledgement), to: number, of: shard)
            case .publish(let number, let message, let qos, let identifier, let isDuplicate, let isRetained):
                let packet = ControlPacket.publish(
                    message, qos: qos, packetIdentifier: identifier, isDuplicate: isDuplicate, isRetained: isRetained)
                hand(packet, to: number, of: shard)
            case .acknowledge(let number, let acknowledgement):
                hand(.acknowledgement(acknowledgement), to: number, of: shard)
            case .acknowledgeSubscribe(let number, let acknowledgement):
                hand(.subscribeAcknowledgement(acknowledgement), to: number, of: shard)
            case .respondToPing(let number): hand(.pingResponse, to: number, of: shard)
            case .close(let number):
                guard let connection = shard.connections[Int(number)] else {
                    Issue.record("connection \(number), which is closed, is closed")
                    continue
                }
                closed[number] = connection
                connection.place = .closed
                shard.connections[Int(number)] = nil
            case .move(let number, let target):
                guard let connection = shard.connections[Int(number)] else {
                    Issue.record("connection \(number), which is closed, is moved")
                    continue
                }
                connection.place = .moving
                shard.connections[Int(number)] = nil
                posts[index][target].append(.move(connection))
            case .verify(let number):
                guard let connection = shard.connections[Int(number)] else {
                    Issue.record("the password of connection \(number), which is closed, is checked")
                    continue
                }
                verifying.append(connection)
            }
        }
        for event in shard.outbox.events {
            switch event {
            case .closed(let number, _, let reason): closed[number]?.closeReason = reason
            case .connected(let number, let client, _, _, _, _, _): shard.connections[Int(number)]?.client = client
            default: break
            }
        }
        verifications += zip(verifying, shard.outbox.passwordChecks).map { (index, $0, $1) }
        events += shard.outbox.events
        if shard.outbox.hold.contains(.mailbox) { holds += 1 }
        shard.outbox.hold = []
        shard.outbox.clear()
        for target in shards.indices where !shard.outbox.mail[target].isEmpty {
            posts[index][target].append(.mail(shard.outbox.takeMail(for: target)))
        }
    }

    private func hand(_ packet: ControlPacket, to number: ConnectionNumber, of shard: Shard) {
        guard let connection = shard.connections[Int(number)] else {
            Issue.record("\(packet) for connection \(number), which is closed")
            return
        }
        observe?(connection, packet)
        connection.packets.append(packet)
        if connection.acknowledgesAtOnce, let answer = packet.answer { answers.append((connection, answer)) }
    }

    // MARK: Carrying on

    private func finish() {
        guard settlesAtOnce else { return }
        settle()
        beginCommits()
    }

    func publishAsServer(_ topic: String, _ payload: String, isRetained: Bool) {
        shards[0].state.route(
            ApplicationMessage(topic: topic, payload: Array(payload.utf8)), qos: .atMostOnce, isRetained: isRetained,
            isServersOwn: true, into: &shards[0].outbox)
        apply(0)
        finish()
    }

    // MARK: The store

    /// From now on there is one, and a test says when a commit ends.
    func keepOnDisk(waits: Bool = true) {
        directory.withLock { $0.begin(with: []) }
        for shard in shards { shard.state.keepOnDisk(waits: waits) }
    }

    private func beginCommits() {
        for (index, shard) in shards.enumerated() {
            if let ticket = shard.state.beginCommit() { commits.append((index, ticket)) }
        }
    }

    /// The oldest commit is on the disk.
    func finishCommit() {
        let (index, ticket) = commits.removeFirst()
        for retained in directory.withLock({ $0.takeUnsavedRetained() }) {
            let topic = String(decoding: retained.message.bytes[retained.message.topicRange], as: UTF8.self)
            let payload = retained.message.bytes[retained.message.topicRange.upperBound...]
            disk[topic] = payload.isEmpty ? nil : String(decoding: payload, as: UTF8.self)
        }
        _ = shards[index].state.commitEnded(ticket, into: &shards[index].outbox)
        apply(index)
        finish()
    }

    /// Does one thing that is under way, picked by the seed; false when nothing is.
    @discardableResult
    func step() -> Bool {
        if !answers.isEmpty {
            let (connection, answer) = answers.removeFirst()
            var bytes: [UInt8] = []
            answer.encode(into: &bytes)
            if connection.place != .closed {
                connection.unread.append(bytes)
                handleUnread(connection)
            }
            return true
        }
        var choices: [(sender: Int, receiver: Int)] = []
        for sender in shards.indices {
            for receiver in shards.indices where !posts[sender][receiver].isEmpty { choices.append((sender, receiver)) }
            if shards[sender].state.hasWork { choices.append((sender, -1)) }
        }
        guard !choices.isEmpty else { return false }
        let (sender, receiver) = generator.element(of: choices)
        if receiver < 0 { work(sender) } else { carry(from: sender, to: receiver) }
        return true
    }

    func settle() { while step() {} }

    /// One step of the connections that are catching up.
    func work(_ shard: Int = 0) {
        shards[shard].state.work(now: now, into: &shards[shard].outbox)
        apply(shard)
    }

    private func carry(from sender: Int, to receiver: Int) {
        switch posts[sender][receiver].removeFirst() {
        case .mail(let mail):
            shards[receiver].state.deliver(mail, into: &shards[receiver].outbox)
            apply(receiver)
        case .move(let connection):
            let number = freeNumber(on: receiver)
            connection.place = .on(shard: receiver, number)
            shards[receiver].connections[Int(number)] = connection
            shards[receiver].state.open(
                number, listener: connection.listener, isPlaced: true, proof: connection.proof, now: now)
            handleUnread(connection)
        }
    }

    // MARK: Time

    /// The clock goes on, and each shard looks at it.
    func advance(_ milliseconds: Int64) {
        now = now + milliseconds
        for shard in shards.indices { tick(shard) }
        finish()
    }

    private func tick(_ shard: Int) {
        shards[shard].state.tick(now, into: &shards[shard].outbox)
        apply(shard)
        handleWoken(shard)
    }

    private func handleWoken(_ shard: Int) {
        while let number = shards[shard].state.takeWoken() {
            if let connection = shards[shard].connections[Int(number)] { handleUnread(connection) }
        }
    }

    /// The clock goes from one deadline of a shard to the next, up to `milliseconds` from now.
    func advanceByDeadlines(_ milliseconds: Int64) {
        let end = now + milliseconds
        while let next = shards.indices.compactMap({ shards[$0].state.nextTick() }).min(), next <= end {
            now = max(now, next)
            for shard in shards.indices { tick(shard) }
        }
        now = end
        finish()
    }

    func nextTick(_ shard: Int = 0) -> Instant? { shards[shard].state.nextTick() }

    // MARK: The rest

    /// A message of the server's own.
    func publish(_ topic: String, _ payload: String, _ qos: QoS = .atMostOnce, isRetained: Bool = false) {
        let message = ApplicationMessage(topic: topic, payload: Array(payload.utf8))
        shards[0].state.route(message, qos: qos, isRetained: isRetained, into: &shards[0].outbox)
        apply(0)
        finish()
    }

    /// As the server does it: the wills first, while those who want them are there.
    func shutDown() {
        for shard in shards.indices {
            shards[shard].state.publishWills(into: &shards[shard].outbox)
            apply(shard)
        }
        finish()
        for shard in shards.indices {
            shards[shard].state.shutDown(now: now, into: &shards[shard].outbox)
            apply(shard)
        }
        finish()
    }

    /// As after SIGHUP.
    func adopt(_ limits: Limits, _ rules: [ListenerRules] = [ListenerRules()]) {
        for shard in shards { shard.state.adopt(limits, rules) }
    }

    func setMailboxFull(_ target: Int, _ isFull: Bool) {
        for shard in shards { shard.state.mailboxIsFull[target] = isFull }
    }

    func noteProgress(_ connection: TestConnection) {
        guard case .on(let shard, let number) = connection.place else { return }
        shards[shard].state.noteProgress(number, now: now)
    }

    func setUnread(_ connection: TestConnection, _ isUnread: Bool) {
        guard case .on(let shard, let number) = connection.place else { return }
        shards[shard].state.setUnread(number, isUnread, now: now)
    }

    func isPaused(_ connection: TestConnection) -> Bool {
        guard case .on(let shard, let number) = connection.place else { return false }
        return shards[shard].state.isPaused(number)
    }

    /// Memory is short, or is no longer.
    func shed(_ stage: Shedding) {
        for shard in shards { shard.state.shed(stage) }
        finish()
    }

    /// What the sessions hold, counted one by one: how many messages on each shard, and bytes of their payloads.
    var heldByLooking: (messages: Int, bytes: Int) {
        var (messages, bytes) = (0, 0)
        for shard in shards {
            var seen: Set<[UInt8]> = []
            for item in shard.state.sessions.flatMap(\.outgoing.items) {
                guard let message = item.message, item.isRetained || seen.insert(message.payload).inserted else {
                    continue
                }
                messages += 1
                bytes += message.payloadCount
            }
        }
        return (messages, bytes)
    }

    /// What is kept of a connection beside its session: who it is, and what it has shown.
    func remains(of connection: TestConnection) -> (proof: Bool, participant: Bool, verification: Bool)? {
        guard case .on(let shard, let number) = connection.place else { return nil }
        let kept = shards[shard].state.connections[Int(number)]
        if case .none = kept.verification { return (kept.proof != nil, kept.participant != nil, false) }
        return (kept.proof != nil, kept.participant != nil, true)
    }

    func hasWork(_ shard: Int = 0) -> Bool { shards[shard].state.hasWork }
    var counters: Counters { shards.map(\.state.figures).reduce(Counters(), +) }
    var figures: Directory { directory.withLock { $0 } }
}

extension ControlPacket {
    static func whole(_ bytes: [UInt8]) throws -> ControlPacket? {
        var offset = 0
        return try next(in: bytes, at: &offset)
    }

    /// What a client answers.
    var answer: ControlPacket? {
        switch self {
        case .publish(_, .atLeastOnce, let identifier, _, _): .acknowledgement(.publishAcknowledgement, identifier)
        case .publish(_, .exactlyOnce, let identifier, _, _): .acknowledgement(.publishReceived, identifier)
        case .acknowledgement(let acknowledgement) where acknowledgement.type == .publishRelease:
            .acknowledgement(.publishComplete, acknowledgement.packetIdentifier)
        default: nil
        }
    }
}

extension Limits {
    /// Takeovers are many, and time stands still between them.
    static var withoutDamping: Limits {
        var limits = Limits()
        limits.takeovers = 0
        return limits
    }
}
