import Broker
import CLinux
import Glibc
import Logging
import MQTT
import Synchronization
import Transport

/// Bytes posted to a shard and not handled yet: read by all who post to it, so that none posts without bound.
final class Backlog: Sendable {
    let bytes = Atomic<Int>(0)
    /// Somebody holds publishers until there is room.
    let isAwaited = Atomic<Bool>(false)
    let bound: Int

    init(bound: Int) { self.bound = bound }

    var isFull: Bool { bytes.load(ordering: .sequentiallyConsistent) > bound }
}

/// Everything a shard owns, as one value: descriptors, buffers, and the broker's state. Turns readiness into packets,
/// packets into effects, effects into bytes. Entered once per batch of events.
struct ShardCore: ~Copyable {
    private static let scratchBytes = 256 << 10
    /// The beginning of a packet that is moved in front of its rest; a longer one is collected in the connection.
    private static let movedBytes = 4 << 10
    /// Output is written at the end of a turn, or when this much has come together.
    private static let flushBytes = 64 << 10
    /// Bytes for all connections together after which a turn writes what it has, lest a fan-out fill the memory.
    private static let turnBytes = 8 << 20
    /// Connections accepted in one turn, so that a storm of them doesn't hold up those who are connected.
    private static let acceptsPerTurn = 32
    /// Mail is posted at the end of a turn, or when this much has come together.
    private static let mailBytes = 1 << 20
    /// Effects are done when this many have come together, or this many bytes of messages.
    private static let effectsPerRound = 256
    private static let bytesPerRound = 32 << 10
    private static let listenerTokens: UInt64 = 0xFFFF_FFFE_0000_0000

    var state: ShardState
    private let loop: EventLoop
    private let log: Logger
    private let backlogs: [Backlog]
    private var outbox: Outbox
    private var table = ConnectionTable()
    private var pool = BufferPool()
    private var scratch = [UInt8](repeating: 0, count: ShardCore.scratchBytes)
    private var dirty: [ConnectionNumber] = []
    /// Bytes of messages for them since something was written.
    private var collectedBytes = 0
    /// Full connections whose output has drained.
    private var drained: [ConnectionNumber] = []
    /// Connections that are not read until mailboxes have room, as tokens.
    private var held: [UInt64] = []
    private var listeners: [Listener] = []
    private var pausedListeners: [Int] = []
    private var resumeListeners: Instant?
    private var moved: (number: ConnectionNumber, shard: Int)?
    /// All shards, by number.
    var peers: [Shard] = []
    private var now = Instant(milliseconds: 0)
    /// Turns one after the other whose batch of events had no room left.
    private var fullBatches = 0
    /// The log has said that there are no descriptors left.
    private var isShortNamed = false
    private var isStopping = false

    init(state: consuming ShardState, loop: EventLoop, backlogs: [Backlog], log: Logger) {
        outbox = Outbox(shards: state.shards)
        self.state = state
        self.loop = loop
        self.backlogs = backlogs
        self.log = log
    }

    var counters: Counters { state.counters }

    // MARK: Turns

    /// One batch of events, and whatever the mail before it left to do.
    mutating func turn(_ events: Span<readiness>) -> EventLoop.Wish {
        updateTime()
        updateMailboxes()
        for index in events.indices {
            let token = events[index].token
            if token >= EventLoop.reservedTokens { continue }
            if token >= Self.listenerTokens {
                accept(from: Int(token - Self.listenerTokens))
            } else if let number = table.number(of: token) {
                ready(number, events[index].events)
            }
        }
        if let resume = resumeListeners, resume <= now { listenAgain() }
        // After a stall the packets that prove a client alive may still be on their way here: first all of them.
        fullBatches = events.count >= EventLoop.eventsPerTurn ? fullBatches + 1 : 0
        if fullBatches % 64 == 0, let tick = state.nextTick(), tick <= now {
            if state.shards > 1 { postMail(above: 0) }  // As for `end`.
            state.tick(now, into: &outbox)
            apply()
        }
        return finishTurn()
    }

    private mutating func updateTime() { now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000) }

    private mutating func updateMailboxes() {
        for shard in backlogs.indices where shard != state.shard { state.mailboxIsFull[shard] = backlogs[shard].isFull }
    }

    /// Writes what the turn has produced, and says what the loop shall wait for.
    private mutating func finishTurn() -> EventLoop.Wish {
        if state.hasWork {
            state.work(into: &outbox)
            apply()
        }
        flushAll()
        postMail(above: 0)
        var deadline = state.nextTick()
        if let resume = resumeListeners { deadline = min(deadline ?? resume, resume) }
        return EventLoop.Wish(
            isBusy: state.hasWork || !dirty.isEmpty, deadline: deadline.map { $0.milliseconds * 1_000_000 }
        )
    }

    private mutating func flushAll() {
        collectedBytes = 0
        // Flushing can let a full connection go on, which makes more to flush; that waits for the next turn.
        var numbers: [ConnectionNumber] = []
        swap(&numbers, &dirty)
        for number in numbers where table[number].isDirty {
            table[number].isDirty = false
            flush(number)
        }
        if dirty.isEmpty {  // Keeps the memory.
            numbers.removeAll(keepingCapacity: true)
            swap(&numbers, &dirty)
        }
        resumeDrained()
    }

    private mutating func resumeDrained() {
        while let number = drained.popLast() {
            guard table[number].stream != nil, table[number].isFull else { continue }
            table[number].isFull = false
            state.setFull(number, false, into: &outbox)
            apply()
            resume(number)
        }
    }

    // MARK: Accepting

    mutating func add(_ listener: Listener) {
        listeners.append(listener)
        watch(listeners.count - 1)
    }

    private mutating func watch(_ index: Int) {
        do {
            let token = Self.listenerTokens + UInt64(index)
            try loop.watch(listeners[index].socket.rawDescriptor, as: token, for: EPOLLIN.rawValue)
        } catch {
            pause(index, because: error)
        }
    }

    private mutating func accept(from index: Int) {
        guard !isStopping else { return }
        for _ in 0..<Self.acceptsPerTurn {
            switch listeners[index].socket.accept() {
            case .stream(let stream):
                open(stream, allowsAnonymous: listeners[index].allowsAnonymous)
            case .nobody:
                isShortNamed = false
                return
            case .gone: continue
            case .exhausted(let error):
                loop.unwatch(listeners[index].socket.rawDescriptor)
                return pause(index, because: error)
            }
        }
    }

    /// A listener that can't accept would wake the loop for ever: it rests until a connection closes, or a second.
    private mutating func pause(_ index: Int, because error: SystemError) {
        if !isShortNamed {
            isShortNamed = true
            log.warning("no new connections for now", metadata: ["reason": "\(error)"])
        }
        pausedListeners.append(index)
        resumeListeners = now + 1000
    }

    private mutating func listenAgain() {
        guard resumeListeners != nil else { return }
        resumeListeners = nil
        let indices = pausedListeners
        pausedListeners = []
        for index in indices { watch(index) }
    }

    @discardableResult
    private mutating func open(_ stream: Stream, allowsAnonymous: Bool, isPlaced: Bool = false) -> ConnectionNumber? {
        let number = table.add(stream, allowsAnonymous: allowsAnonymous)
        do {
            try loop.watch(stream.rawDescriptor, as: table.token(of: number), for: EPOLLIN.rawValue)
        } catch {
            log.warning("a connection can't be watched", metadata: ["peer": "\(stream.peer)", "reason": "\(error)"])
            table.remove(number)
            return nil
        }
        table[number].watched = EPOLLIN.rawValue
        state.open(number, isPlaced: isPlaced, allowsAnonymous: allowsAnonymous, now: now)
        return number
    }

    /// A connection that comes from another shard, with the bytes that were read there.
    mutating func adopt(_ connection: MovingConnection) {
        updateTime()
        guard !isStopping,
            let number = open(connection.stream, allowsAnonymous: connection.allowsAnonymous, isPlaced: true)
        else { return }
        table[number].input = connection.unread
        resume(number)
    }

    // MARK: Reading

    @inline(__always)
    private mutating func ready(_ number: ConnectionNumber, _ events: UInt32) {
        if events & EPOLLOUT.rawValue != 0 {
            table[number].isBlocked = false
            flush(number)
            resumeDrained()
            guard state.isOpen(number) else { return }
        }
        if events & (EPOLLIN.rawValue | EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
            if isRead(number) {
                read(number)
            } else if events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
                readLast(number)
            }
        }
    }

    /// A connection that is not read is shut both ways: nothing more can be sent, but what it said still counts, such as
    /// a DISCONNECT [MQTT-3.14.4-3].
    private mutating func readLast(_ number: ConnectionNumber) {
        table[number].isHeld = false
        table[number].output = OutputBuffer()
        resume(number)
        if state.isOpen(number), isRead(number) { read(number) }
    }

    private mutating func lose(_ number: ConnectionNumber, _ why: String) {
        end(number, .lost(why))
        apply()
    }

    /// A session that ends may begin on another shard at once: what its client has published goes before.
    private mutating func end(_ number: ConnectionNumber, _ reason: CloseReason) {
        if state.shards > 1 { postMail(above: 0) }
        state.end(number, reason, into: &outbox)
    }

    /// Whether the connection is read now, or waits for something of ours.
    @inline(__always)
    private func isRead(_ number: ConnectionNumber) -> Bool {
        !table[number].isHeld && table[number].output.count <= Limits.outputBytes + Limits.replyBytes
            && state.waitingAcknowledgements(number) < Limits.waitingAcknowledgements
    }

    @inline(__always)
    private mutating func read(_ number: ConnectionNumber) {
        guard let stream = table[number].stream else { return }
        var buffer: [UInt8] = []
        swap(&buffer, &scratch)
        defer { swap(&buffer, &scratch) }
        // The beginning of a packet moves in front of what comes, so that packets are whole in one place; a long one is
        // collected where it is.
        var kept = table[number].input.count
        if kept > 0, kept <= Self.movedBytes {
            for index in 0..<kept { buffer[index] = table[number].input[index] }
            table[number].input = []
        } else if kept > 0 {
            kept = 0
        }
        switch stream.read(into: &buffer, from: kept) {
        case .bytes(let count):
            state.countReceived(bytes: count)
            if table[number].input.isEmpty {
                let used = handle(buffer.span.extracting(0..<(kept + count)), from: number)
                guard let used, used < kept + count else { return }
                table[number].input.append(copying: buffer.span.extracting(used..<(kept + count)))
            } else {
                table[number].input.append(copying: buffer.span.extracting(0..<count))
                handleInput(number)
            }
        case .wouldBlock: if kept > 0 { table[number].input = Array(buffer[..<kept]) }
        case .end: lose(number, "closed by the peer")
        case .failed(let error): lose(number, "\(error)")
        }
    }

    /// Handles the packets that a connection's own buffer holds.
    private mutating func handleInput(_ number: ConnectionNumber) {
        var input: [UInt8] = []
        swap(&input, &table[number].input)
        guard let used = handle(input.span, from: number) else { return }
        if used == 0 {
            swap(&input, &table[number].input)
        } else if used < input.count {
            table[number].input = Array(input[used...])
        }
    }

    /// Handles the packets in `bytes`, in order. Returns how many bytes they had, or nil once the connection is gone.
    @inline(__always)
    private mutating func handle(_ bytes: Span<UInt8>, from number: ConnectionNumber) -> Int? {
        var offset = 0
        outbox.holdsPublisher = false  // What a will or the server itself has met is nobody's fault here.
        do throws(CloseReason) {
            while isRead(number), let header = try Self.header(bytes, at: offset) {
                let start = offset + header.length
                guard bytes.count - start >= header.remainingLength else {
                    try state.announce(header, from: number)
                    break
                }
                // DISCONNECT and CONNECT: as for `end`.
                if state.shards > 1, header.byte == 0xE0 || header.byte == 0x10 { postMail(above: 0) }
                let body = bytes.extracting(start..<(start + header.remainingLength))
                try state.receive(header, body, from: number, now: now, into: &outbox)
                guard state.isOpen(number) else {
                    apply()
                    if let moved {
                        depart(moved.number, to: moved.shard, unread: bytes.extracting(offset..<bytes.count))
                    }
                    return nil
                }
                offset = start + header.remainingLength
                // Together, for each round of effects has a price; but not without bound.
                if outbox.records.count > Self.effectsPerRound || outbox.messages.byteCount > Self.bytesPerRound {
                    apply()
                }
                if outbox.holdsPublisher { hold(number) }
            }
        } catch {
            end(number, error)
        }
        apply()
        guard state.isOpen(number) else { return nil }
        updateWatch(number)
        return offset
    }

    @inline(__always)
    private static func header(_ bytes: Span<UInt8>, at offset: Int) throws(CloseReason) -> FixedHeader? {
        do throws(MalformedPacket) {
            return try FixedHeader(bytes, at: offset)
        } catch {
            throw .malformed(error)
        }
    }

    private mutating func depart(_ number: ConnectionNumber, to shard: Int, unread: Span<UInt8>) {
        moved = nil
        guard let stream = table[number].stream else { return }
        loop.unwatch(stream.rawDescriptor)
        let connection = MovingConnection(
            stream: stream, unread: unread.copied(), allowsAnonymous: table[number].allowsAnonymous
        )
        table.remove(number)
        peers[shard].post { $0.adopt(connection) }
    }

    /// Reads a connection again that was not read: first what it had sent already.
    private mutating func resume(_ number: ConnectionNumber) {
        guard state.isOpen(number) else { return }
        if isRead(number), !table[number].input.isEmpty { handleInput(number) }
        if state.isOpen(number) { updateWatch(number) }
    }

    /// Watches for what can be done: reading unless the connection waits, writing while there is output.
    @inline(__always)
    private mutating func updateWatch(_ number: ConnectionNumber) {
        guard let stream = table[number].stream else { return }
        var wanted: UInt32 = isRead(number) ? EPOLLIN.rawValue : 0
        if !table[number].isDirty, !table[number].output.isEmpty { wanted |= EPOLLOUT.rawValue }
        guard wanted != table[number].watched else { return }
        if (wanted ^ table[number].watched) & EPOLLIN.rawValue != 0 {
            state.setUnread(number, wanted & EPOLLIN.rawValue == 0, now: now)
        }
        loop.change(stream.rawDescriptor, as: table.token(of: number), for: wanted)
        table[number].watched = wanted
    }

    // MARK: Effects

    /// Does what the broker has decided.
    @inline(__always)
    private mutating func apply() {
        // First the log, which names connections that may be closed below.
        let noted = outbox.events.count
        var unsent = 0
        for event in outbox.events { note(event) }
        for index in 0..<outbox.records.count {
            let record = outbox.records[index]
            let number = record.connection
            switch record.kind {
            case .publish: publish(record)
            case .acknowledge:
                if let type = ControlPacketType(rawValue: record.detail) {
                    table[number].output.append(pool: &pool) { Acknowledgement(type, record.packet).encode(into: &$0) }
                }
                markDirty(number)
            case .acknowledgeConnect:
                let code = ConnectReturnCode(rawValue: record.detail) ?? .serverUnavailable
                let acknowledgement = ConnectAcknowledgement(sessionPresent: record.packet == 1, returnCode: code)
                table[number].output.append(pool: &pool) { acknowledgement.encode(into: &$0) }
                markDirty(number)
            case .acknowledgeSubscribe:
                let acknowledgement = outbox.subscribeAcknowledgements[Int(record.index)]
                table[number].output.append(pool: &pool) { acknowledgement.encode(into: &$0) }
                markDirty(number)
            case .respondToPing:
                table[number].output.append(pool: &pool) { ControlPacket.pingResponse.encode(into: &$0) }
                markDirty(number)
            case .close:
                close(number, isGraceful: record.detail != 0)
                unsent += 1
            case .move:
                moved = (number, Int(record.index))
                unsent += 1
            }
        }
        state.countSent(packets: outbox.records.count - unsent)
        // Doing them can add to the events: a connection is full.
        for event in outbox.events.dropFirst(noted) { note(event) }
        outbox.clear()
        if state.shards > 1 { postMail(above: Self.mailBytes) }
    }

    @inline(__always)
    private mutating func publish(_ record: EffectRecord) {
        let number = record.connection
        let qos = QoS(rawValue: record.detail >> 1 & 0b11) ?? .atMostOnce
        let (isDuplicate, isRetained) = (record.detail & 0b1000 != 0, record.detail & 1 != 0)
        if let message = outbox.messages.longMessage(Int(record.index)) {
            var payloadStart = 0
            table[number].output.append(pool: &pool) { bytes in
                payloadStart = Publish.encodeHead(
                    of: message.bytes.span, qos: qos, packetIdentifier: record.packet, isDuplicate: isDuplicate,
                    isRetained: isRetained, into: &bytes
                )
            }
            table[number].output.append(shared: message.bytes, from: payloadStart)
        } else {
            outbox.messages.withBytes(of: Int(record.index)) { message in
                table[number].output.append(pool: &pool) { bytes in
                    Publish.encode(
                        message, qos: qos, packetIdentifier: record.packet, isDuplicate: isDuplicate,
                        isRetained: isRetained, into: &bytes
                    )
                }
            }
        }
        markDirty(number)
        if table[number].output.count > Self.flushBytes { flushEarly(number) }
        collectedBytes += outbox.messages.byteCount(of: Int(record.index))
        if collectedBytes > Self.turnBytes {
            collectedBytes = 0
            for number in dirty { write(number) }
        }
    }

    @inline(__always)
    private mutating func markDirty(_ number: ConnectionNumber) {
        guard !table[number].isDirty else { return }
        table[number].isDirty = true
        dirty.append(number)
    }

    /// Much has come together for one connection: what the kernel takes now need not be kept.
    private mutating func flushEarly(_ number: ConnectionNumber) {
        write(number)
        if table[number].output.count > Limits.outputBytes, !table[number].isFull {
            table[number].isFull = true
            state.setFull(number, true, into: &outbox)
        }
    }

    private mutating func flush(_ number: ConnectionNumber) {
        guard table[number].stream != nil else { return }
        table[number].isDirty = false
        guard write(number) else { return }
        if table[number].isFull, table[number].output.count < Limits.outputBytes / 2 { drained.append(number) }
        if table[number].input.isEmpty { updateWatch(number) } else { resume(number) }
    }

    /// Writes what the kernel takes, unless it has just said that it takes no more. False when the connection turned out
    /// to be gone.
    @discardableResult
    private mutating func write(_ number: ConnectionNumber) -> Bool {
        guard let stream = table[number].stream else { return false }
        guard !table[number].isBlocked else { return true }
        // An acknowledgement says that the message is on its way to all sessions [MQTT-4.5.0-1].
        if state.shards > 1 { postMail(above: 0) }
        defer { table[number].isBlocked = !table[number].output.isEmpty }
        switch table[number].output.flush(to: stream, pool: &pool) {
        case .bytes(let count):
            state.countSent(bytes: count)
            if count > 0, table[number].watched & EPOLLIN.rawValue == 0 { state.noteProgress(number, now: now) }
        case .wouldBlock: break
        case .failed:
            // The end comes to light when it is read, which the event loop now reports; until then nothing is kept.
            table[number].output = OutputBuffer()
            shutdown(stream.rawDescriptor, CInt(SHUT_RDWR))
            return false
        }
        return true
    }

    /// Closes a connection; `isGraceful` where its last packet must arrive.
    private mutating func close(_ number: ConnectionNumber, isGraceful: Bool) {
        guard let stream = table[number].stream else { return }
        if !table[number].output.isEmpty { write(number) }
        if isGraceful { stream.finish() }
        // The slot held the only reference, so the descriptor is closed here, and leaves the epoll with that (epoll(7)).
        table.remove(number)
        if resumeListeners != nil { resumeListeners = now }
    }

    private mutating func note(_ event: BrokerEvent) {
        switch event {
        case .connected(let number, let client, let cleanSession, let keepAlive, let sessionPresent):
            guard log.logLevel <= .debug else { return }
            log.debug(
                "connected",
                metadata: [
                    "client": "\(client)", "peer": "\(peer(number))", "cleanSession": "\(cleanSession)",
                    "keepAlive": "\(keepAlive)", "sessionPresent": "\(sessionPresent)",
                ]
            )
        case .closed(let number, let client, let reason):
            guard log.logLevel <= reason.level else { return }
            log.log(
                level: reason.level, "disconnected",
                metadata: [
                    "client": "\(client?.description ?? "")", "peer": "\(peer(number))", "reason": "\(reason)",
                ]
            )
        case .slowReader(let number, let client):
            log.warning(
                "slow reader, QoS 0 is dropped and the rest waits",
                metadata: ["client": "\(client)", "peer": "\(peer(number))"]
            )
        case .queueFull(let client):
            log.warning("queue full, messages are dropped", metadata: ["client": "\(client)"])
        }
    }

    private func peer(_ number: ConnectionNumber) -> String {
        table[number].stream.map { "\($0.peer)" } ?? ""
    }

    // MARK: Other shards

    /// Mail from another shard.
    mutating func receive(_ mail: borrowing Mail) {
        updateTime()
        updateMailboxes()
        state.deliver(mail, into: &outbox)
        apply()
        let backlog = backlogs[state.shard]
        let left = backlog.bytes.subtract(mail.byteCount, ordering: .sequentiallyConsistent).newValue
        guard left <= backlog.bound / 2, backlog.isAwaited.exchange(false, ordering: .sequentiallyConsistent)
        else { return }
        for shard in peers.indices where shard != state.shard { peers[shard].post { $0.releaseHeld() } }
    }

    /// Posts what has come together for other shards: one hop a batch.
    private mutating func postMail(above bytes: Int) {
        for shard in 0..<state.shards where shard != state.shard && !outbox.mail[shard].isEmpty {
            let weight = outbox.mail[shard].byteCount
            guard weight > bytes else { continue }
            backlogs[shard].bytes.add(weight, ordering: .relaxed)
            let mail = outbox.takeMail(for: shard)
            peers[shard].post { $0.receive(mail) }
            state.mailboxIsFull[shard] = backlogs[shard].isFull
        }
    }

    /// A publisher waits until the mailboxes have room.
    private mutating func hold(_ number: ConnectionNumber) {
        outbox.holdsPublisher = false
        guard awaitsMailbox() else { return }  // It has been emptied meanwhile.
        table[number].isHeld = true
        state.countHeldPublisher()
        held.append(table.token(of: number))
    }

    /// Whether a mailbox is full; then its shard will call `releaseHeld`.
    private func awaitsMailbox() -> Bool {
        var isFull = false
        for shard in backlogs.indices where shard != state.shard && backlogs[shard].isFull {
            backlogs[shard].isAwaited.store(true, ordering: .sequentiallyConsistent)
            if backlogs[shard].isFull { isFull = true }
        }
        return isFull
    }

    /// A mailbox has room again. While another has none, everybody goes on waiting, for that one.
    mutating func releaseHeld() {
        updateTime()
        updateMailboxes()
        guard !awaitsMailbox() else { return }
        var tokens: [UInt64] = []
        swap(&tokens, &held)
        for token in tokens {
            guard let number = table.number(of: token) else { continue }
            table[number].isHeld = false
            resume(number)
        }
    }

    // MARK: The server's own

    /// Publishes a message that no client sent.
    mutating func publish(_ message: ApplicationMessage, qos: QoS, isRetained: Bool) {
        updateTime()
        state.route(message, qos: qos, isRetained: isRetained, into: &outbox)
        apply()
    }

    /// Accepts nothing more and publishes the wills of all connections.
    mutating func publishWills() {
        updateTime()
        isStopping = true
        for index in listeners.indices where !pausedListeners.contains(index) {
            loop.unwatch(listeners[index].socket.rawDescriptor)
        }
        for listener in listeners { listener.socket.stop() }
        listeners = []
        pausedListeners = []
        resumeListeners = nil
        state.publishWills(into: &outbox)
        apply()
        _ = finishTurn()
    }

    /// Ends all connections, with what they have been sent until now.
    mutating func shutDown() {
        updateTime()
        state.shutDown(into: &outbox)
        apply()
        _ = finishTurn()
    }
}
