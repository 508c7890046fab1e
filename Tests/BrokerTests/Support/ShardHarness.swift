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
        /// The sender has closed its part of the round that is under way.
        case closed
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
    private(set) var now: Instant
    private(set) var events: [BrokerEvent] = []
    /// Whether everything that is under way is carried on after each action of a test, until nothing is.
    var settlesAtOnce = true
    /// Publishers that the broker wants to wait.
    private(set) var holds = 0
    /// Sees each packet on its way to a client.
    var observe: ((TestConnection, ControlPacket) -> Void)?
    /// Sees each packet of a client when a shard handles it.
    var observeHandled: ((TestConnection, ControlPacket) -> Void)?
    /// Sees each connection that a shard has ended, before anything that comes of it.
    var observeEnd: ((TestConnection, CloseReason) -> Void)?
    /// Sees each shard that is about to look at the clock.
    var observeTick: ((Int) -> Void)?

    private let shards: [Shard]
    /// `posts[sender][receiver]`
    private var posts: [[[Post]]]
    private var generator: SeededGenerator
    /// Passwords that are being checked.
    private(set) var verifications: [(shard: Int, connection: TestConnection, check: PasswordCheck)] = []
    /// Who guesses, at whatever shard.
    let throttle = Lock(SignInThrottle(attempts: 10))
    private var answers: [(TestConnection, ControlPacket)] = []
    /// What rounds that have ended have brought to the disk.
    private(set) var disk = SimulatedDisk()
    /// Rounds that are on their way there: one at most.
    private(set) var commits: [(parts: [Changes], retained: [RetainedMessage])] = []
    private var round: CommitTicket = 1
    /// How many of this process's rounds are on the disk.
    private(set) var roundsWritten: CommitTicket = 0
    private var isRoundUnderWay = false
    /// Shards that have not heard yet that a round begins, or that it is over.
    private var closing: [Int] = []
    private var ending: [Int] = []
    private var parts: [Changes] = []
    private var reads: [(shard: Int, request: QueueRequest)] = []
    /// Messages that are read from a queue on the disk at once.
    var rowsRead = 16

    init(
        shards count: Int = 1, limits: Limits = .withoutDamping, rules: [ListenerRules] = [ListenerRules()],
        access: AccessControl? = nil, seed: UInt64 = 1, now: Instant = Instant(milliseconds: 1_000_000)
    ) {
        self.now = now
        let access = access ?? AccessControl(listeners: rules.map { _ in AccessControl.Listener() })
        let directory = Lock(Directory(shards: count, seed: seed))
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

    /// As somebody who manages the broker does.
    func disconnect(_ client: String, on shard: Int = 0) -> Bool {
        let isEnded = shards[shard].state.disconnect(ClientIdentifier(client), now: now, into: &shards[shard].outbox)
        apply(shard)
        finish()
        return isEnded
    }

    func clients(on shard: Int = 0, skipping: Int = 0, atMost: Int = .max) -> (clients: [ClientFigures], total: Int) {
        shards[shard].state.clients(skipping: skipping, atMost: atMost)
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
            !verifications.contains(where: { $0.connection === connection }),
            !shards[shard].state.heldConnects.contains(where: { $0.connection == number })
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
        if let observeEnd {
            for case .closed(let number, _, let reason) in shard.outbox.events {
                if let connection = shard.connections[Int(number)] { observeEnd(connection, reason) }
            }
        }
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
        reads += shard.state.takeQueueRequests().map { (index, $0) }
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
        guard !isRoundUnderWay, shards.contains(where: { $0.state.hasUncommitted }) else { return }
        beginRound()
        settle()
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
    func keepOnDisk(_ durability: DurabilityRules = DurabilityRules(.acknowledged), from disk: SimulatedDisk = .init())
    {
        self.disk = disk
        for shard in shards { shard.state.keepOnDisk(durability, sessions: disk.nextSession) }
        directory.withLock { $0.begin(with: disk.retained, durability) }
        for session in disk.restored {
            let reference = directory.withLock { $0.restore(session) }
            shards[Int(reference.number) % shards.count].state.restore(session, as: reference, now: now)
        }
        for shard in shards { shard.state.endRestoring() }
    }

    /// Whether there is anything that is not on the disk and would get there by itself.
    var hasUncommitted: Bool { isRoundUnderWay || shards.contains { $0.state.hasUncommitted } }

    /// Whether somebody waits for a round.
    var awaitsCommit: Bool { shards.contains { $0.state.awaitsCommit } }

    func beginRound() {
        guard !isRoundUnderWay else { return }
        isRoundUnderWay = true
        closing = Array(shards.indices)
    }

    private func close(_ shard: Int) {
        guard shards[shard].state.hasOpen(round) else { return }
        shards[shard].state.closeRound()
        for other in shards.indices where other != shard { posts[shard][other].append(.closed) }
        submitIfClosed(shard)
    }

    private func submitIfClosed(_ shard: Int) {
        guard let part = shards[shard].state.takeClosed() else { return }
        parts.append(part)
        guard parts.count == shards.count else { return }
        commits.append((parts, directory.withLock { $0.takeUnsavedRetained() }))
        parts = []
    }

    /// The round that is under way is on the disk, and the shards hear of it one by one.
    func finishCommit() {
        write()
        round += 1
        isRoundUnderWay = false
        ending = Array(shards.indices)
        finish()
    }

    private func write() {
        let commit = commits.removeFirst()
        disk.write(commit.parts, commit.retained)
        roundsWritten += 1
    }

    /// The round that what happens now on a shard is in.
    func openRound(of shard: Int) -> CommitTicket { shards[shard].state.hasOpen(round) ? round : round + 1 }

    /// Where a client's session lives; nil: it has none.
    func home(of client: String) -> Int? { directory.withLock { $0.home(of: ClientIdentifier(client)) } }

    /// The process ends here and now. Returns what the disk has; `isWritten`: with the commit that was under way, if one was.
    func crash(isWritten: Bool = false) -> SimulatedDisk {
        if isWritten, !commits.isEmpty { write() }
        let moving = posts.joined().joined().compactMap {
            if case .move(let connection) = $0 { connection } else { nil }
        }
        for connection in shards.flatMap(\.connections).compactMap({ $0 }) + moving { connection.place = .closed }
        for shard in shards { shard.connections = [] }
        (observe, observeHandled, observeEnd, observeTick) = (nil, nil, nil, nil)
        posts = []
        answers = []
        verifications = []
        disk.endProcess()
        return disk
    }

    private func end(_ index: Int) {
        let shard = shards[index]
        _ = shard.state.commitEnded(now: now, into: &shard.outbox)
        apply(index)
        handleWoken(index)
    }

    private func answer(_ read: (shard: Int, request: QueueRequest)) {
        let shard = shards[read.shard]
        let (rows, isAll) = disk.read(read.request, atMost: rowsRead)
        shard.state.take(rows, of: read.request, isAll: isAll, now: now, into: &shard.outbox)
        apply(read.shard)
        handleWoken(read.shard)
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
        var choices: [Choice] = []
        for sender in shards.indices {
            for receiver in shards.indices where !posts[sender][receiver].isEmpty {
                choices.append(.carry(sender, receiver))
            }
            if shards[sender].state.hasWork { choices.append(.work(sender)) }
        }
        // A shard hears that a round is over before it hears of the next.
        choices += ending.indices.map { .end($0) }
        choices += closing.indices.filter { !ending.contains(closing[$0]) }.map { .close($0) }
        choices += reads.indices.map { .read($0) }
        guard !choices.isEmpty else { return false }
        switch generator.element(of: choices) {
        case .carry(let sender, let receiver): carry(from: sender, to: receiver)
        case .work(let shard): work(shard)
        case .end(let index): end(ending.remove(at: index))
        case .close(let index): close(closing.remove(at: index))
        case .read(let index): answer(reads.remove(at: index))
        }
        return true
    }

    private enum Choice {
        case carry(Int, Int)
        case work(Int)
        case end(Int)
        case close(Int)
        case read(Int)
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
            shards[receiver].state.deliver(mail, from: sender, into: &shards[receiver].outbox)
            apply(receiver)
        case .closed:
            // That the last round is over was posted before this one began.
            if let index = ending.firstIndex(of: receiver) { end(ending.remove(at: index)) }
            close(receiver)
            shards[receiver].state.noteClosed(by: sender)
            submitIfClosed(receiver)
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
        observeTick?(shard)
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

    // MARK: Devices

    /// From now on what devices do is told.
    func watchDevices() { for shard in shards { shard.state.tellsOfDevices = true } }

    /// As whoever manages devices does it, shard by shard. Returns to how many of the device's connections it went, and how
    /// many of them will acknowledge it.
    func handOut(
        _ payload: String, number: UInt64 = 1, to device: String, within milliseconds: Int64 = 30_000,
        andOthers: Bool = true
    ) -> (sent: Int, awaited: Int) {
        let command = ApplicationMessage(topic: "devices/\(device)/command", payload: Array(payload.utf8))
        let receivers = receivers(of: command)
        var (sent, awaited) = (0, 0)
        for shard in shards.indices {
            let those = shards[shard].state.deliver(
                command, number: number, for: device, expires: now + milliseconds, to: receivers, andOthers: andOthers,
                into: &shards[shard].outbox)
            sent += those.sent
            awaited += those.awaited
            apply(shard)
        }
        finish()
        return (sent, awaited)
    }

    func withdraw(_ numbers: Set<UInt64>) { for shard in shards { shard.state.withdraw(numbers) } }

    /// The same. Returns to how many of the device's connections it went.
    func command(
        _ payload: String, number: UInt64 = 1, to device: String, within milliseconds: Int64 = 30_000,
        andOthers: Bool = true
    ) -> Int {
        handOut(payload, number: number, to: device, within: milliseconds, andOthers: andOthers).sent
    }

    /// The answer to an administrator's request.
    func answer(_ payload: String, to person: String) {
        let message = ApplicationMessage(topic: "$CONTROL/fleet/v1/response", payload: Array(payload.utf8))
        let receivers = receivers(of: message)
        for shard in shards.indices {
            shards[shard].state.answer(message, to: person, receivers, into: &shards[shard].outbox)
            apply(shard)
        }
        finish()
    }

    private func receivers(of message: ApplicationMessage) -> [Receiver] {
        var receivers: [Receiver] = []
        directory.withLock { $0.match(message.topic.span, into: &receivers) }
        return receivers
    }

    /// Commands that the shards remember.
    var commandsUnderWay: Int { shards.map(\.state.commands.count).reduce(0, +) }

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
