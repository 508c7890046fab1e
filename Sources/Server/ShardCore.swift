import Broker
import CLinux
import Durability
import Fleet
import Glibc
import Logging
import MQTT
import Synchronization
import Transport

/// Bytes posted to a shard and not handled yet: read by all who post to it, so that none posts without bound.
final class Backlog: Sendable {
    let bytes = Atomic<Int>(0)
    /// Bytes of the shard's changes that are not on their way to the disk.
    let uncommitted = Atomic<Int>(0)
    /// Somebody holds publishers until there is room.
    let isAwaited = Atomic<Bool>(false)
    let bound: Int

    init(bound: Int) { self.bound = bound }

    var isFull: Bool { bytes.load(ordering: .sequentiallyConsistent) > bound }
}

/// Everything a shard owns, as one value: descriptors, buffers, and the broker's state. Turns readiness into packets,
/// packets into effects, effects into bytes. Entered once per batch of events.
struct ShardCore: ~Copyable {
    static let scratchBytes = 256 << 10
    /// The beginning of a packet that is moved in front of its rest; a longer one is collected in the connection.
    static let movedBytes = 4 << 10
    /// Output is written at the end of a turn, or when this much has come together.
    static let flushBytes = 64 << 10
    /// Bytes for all connections together after which a turn writes what it has, lest a fan-out fill the memory.
    static let turnBytes = 8 << 20
    /// Connections whose certificates are looked at in one turn after a reload: a tenth of a millisecond each.
    static let reviewedAtOnce = 64
    /// Mail is posted at the end of a turn, or when this much has come together.
    static let mailBytes = 1 << 20
    /// Effects are done when this many have come together, or this many bytes of messages.
    static let effectsPerRound = 256
    static let bytesPerRound = 32 << 10

    var state: ShardState
    let loop: EventLoop
    let logs: Loggers
    var log: Logger { logs.network }
    let backlogs: [Backlog]
    let passwords: PasswordWorkers
    /// Nil: nothing outlives the process.
    var rounds: CommitRounds?
    /// When what has changed is committed where nobody waits for it; nil: there is nothing, or at once.
    var commitsAt: Instant?
    /// A round is asked for that has not begun.
    var hasAsked = false
    /// The round that begins when this shard is ready for it.
    var preparation: Preparation?
    /// Rounds for which nobody waits, since waiting was in vain lately.
    var unpreparedRounds = 0
    /// Who is told of devices; nil: nobody manages any.
    var feed: FleetFeed?
    var outbox: Outbox
    var table = ConnectionTable()
    var pool = BufferPool()
    var scratch = [UInt8](repeating: 0, count: ShardCore.scratchBytes)
    var dirty: [ConnectionNumber] = []
    /// Bytes of messages for them since something was written.
    var collectedBytes = 0
    /// Full connections whose output has drained.
    var drained: [ConnectionNumber] = []
    /// Connections that are not read until mailboxes have room, as tokens.
    var held: [UInt64] = []
    /// Connections with bytes that their descriptors won't announce, as tokens: read on in the next turn.
    var unannounced: [UInt64] = []
    var reception: Reception
    /// Of all listeners, by number, since the last reload; empty before.
    var contexts: [TLSContext?] = []
    var moved: (number: ConnectionNumber, shard: Int)?
    /// All shards, by number.
    var peers: [Shard] = []
    var now = Instant(milliseconds: 0)
    /// Turns one after the other whose batch of events had no room left.
    var fullBatches = 0
    /// What is published now are log lines, which must not make more of them.
    var isPublishingLog = false
    var isStopping = false
    /// Output for one connection at which it is full: `Limits.outputBytes`, less while memory is short.
    var fullBytes = Limits.outputBytes

    init(state: consuming ShardState, loop: EventLoop, backlogs: [Backlog], passwords: PasswordWorkers, logs: Loggers) {
        outbox = Outbox(shards: state.shards)
        self.state = state
        self.loop = loop
        self.backlogs = backlogs
        self.passwords = passwords
        self.logs = logs
        reception = Reception(loop: loop, log: logs.network)
        noteSubscriptions()
    }

    var counters: Counters { state.figures }

    // MARK: Turns

    /// One batch of events, and whatever the mail before it left to do.
    mutating func turn(_ events: Span<readiness>) -> EventLoop.Wish {
        updateTime()
        updateMailboxes()
        for index in events.indices {
            let token = events[index].token
            if token >= EventLoop.reservedTokens { continue }
            if token >= Reception.tokens {
                accept(from: Int(token - Reception.tokens))
            } else if let number = table.number(of: token) {
                ready(number, events[index].events)
            }
        }
        if !unannounced.isEmpty { readUnannounced() }
        reception.resumeIfDue(now: now)
        // After a stall the packets that prove a client alive may still be on their way here: first all of them.
        fullBatches = events.count >= EventLoop.eventsPerTurn ? fullBatches + 1 : 0
        if fullBatches % 64 == 0, let tick = state.nextTick(), tick <= now {
            if state.shards > 1 { postMail(above: 0) }  // As for `end`.
            state.tick(now, into: &outbox)
            apply()
            resumeWoken()
        }
        return finishTurn()
    }

    mutating func updateTime() { now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000) }

    mutating func updateMailboxes() {
        var uncommitted = 0
        for shard in backlogs.indices where shard != state.shard {
            state.mailboxIsFull[shard] = backlogs[shard].isFull
            uncommitted += backlogs[shard].uncommitted.load(ordering: .relaxed)
        }
        if rounds != nil { state.setUncommittedBytesElsewhere(uncommitted) }
    }

    /// Writes what the turn has produced, and says what the loop shall wait for.
    mutating func finishTurn() -> EventLoop.Wish {
        if state.hasWork {
            state.work(now: now, into: &outbox)
            apply()
        }
        resumeWoken()
        flushAll()
        postMail(above: 0)
        askForCommit()
        var deadline = state.nextTick()
        if let commit = commitsAt { deadline = min(deadline ?? commit, commit) }
        if let preparation { deadline = min(deadline ?? preparation.end, preparation.end) }
        if let resume = reception.resumesAt { deadline = min(deadline ?? resume, resume) }
        return EventLoop.Wish(
            isBusy: state.hasWork || !dirty.isEmpty || !unannounced.isEmpty,
            deadline: deadline.map { $0.milliseconds * 1_000_000 }
        )
    }

    mutating func flushAll() {
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

    mutating func resumeDrained() {
        while let number = drained.popLast() {
            guard table[number].stream != nil, table[number].isFull else { continue }
            table[number].isFull = false
            state.setFull(number, false, into: &outbox)
            apply()
            resume(number)
        }
    }

    // MARK: Sessions

    var sessions: [SessionFigures] {
        state.sessionFigures.map { SessionFigures(client: $0, participant: $1, absentSince: $2, queued: $3) }
    }

    mutating func removeSession(of client: ClientIdentifier) -> Bool {
        updateTime()
        if state.shards > 1 { postMail(above: 0) }  // As for `end`.
        defer {
            apply()
            resumeWoken()
            askForCommit()
        }
        return state.removeSession(of: client, now: now, into: &outbox)
    }

    /// Those of `ShardState.clients`, and where from. `ports`: of the listeners, by number.
    func clients(
        skipping skipped: Int, atMost limit: Int, ports: [UInt16]
    ) -> (clients: [ConnectedClient], total: Int) {
        let (figures, total) = state.clients(skipping: skipped, atMost: limit)
        let clients = figures.map { figures in
            let slot = table[figures.number]
            return ConnectedClient(
                figures: figures, address: slot.stream?.peer, port: ports[Int(figures.listener)],
                isSecure: slot.stream?.isSecure ?? false, isWebSocket: slot.webSocket != nil)
        }
        return (clients, total)
    }

    mutating func disconnect(_ client: ClientIdentifier) -> Bool {
        updateTime()
        if state.shards > 1 { postMail(above: 0) }  // As for `end`.
        defer {
            apply()
            resumeWoken()
            askForCommit()
        }
        return state.disconnect(client, now: now, into: &outbox)
    }

    /// As a client would: it is gone from the disk too.
    mutating func clearRetained(_ topic: [UInt8]) {
        updateTime()
        let cleared = RetainedMessage.cleared(topic)
        state.route(cleared.message, qos: cleared.qos, isRetained: true, into: &outbox)
        apply()
        askForCommit()
    }

    // MARK: The server's own

    /// Publishes a message that no client sent.
    mutating func publish(_ message: ApplicationMessage, qos: QoS, isRetained: Bool) {
        updateTime()
        state.route(message, qos: qos, isRetained: isRetained, isServersOwn: true, into: &outbox)
        apply()
    }

    /// Accepts nothing more and publishes the wills of all connections.
    mutating func publishWills() {
        updateTime()
        isStopping = true
        reception.stop()
        state.publishWills(into: &outbox)
        apply()
        _ = finishTurn()
    }

    /// Ends all connections, with what they have been sent until now.
    mutating func shutDown() {
        updateTime()
        state.shutDown(now: now, into: &outbox)
        apply()
        _ = finishTurn()
    }
}
