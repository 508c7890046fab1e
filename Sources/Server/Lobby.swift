import Broker
import CLinux
import Glibc
import Logging
import Transport

/// Where connections with TLS are accepted and shake hands: an event loop of its own, so that no number of handshakes
/// holds up the shards. Whoever is through and has begun to speak goes to a shard, which reads the CONNECT as from any
/// other connection, and was not woken before there was something to read.
actor Lobby: LoopActor {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    private var core: LobbyCore

    init(_ limits: Limits, _ rules: [ListenerRules], log: Logger) throws {
        loop = try EventLoop(label: "lobby")
        core = LobbyCore(limits, rules, loop: loop, log: log)
    }

    nonisolated func start(with shards: [Shard], _ front: HTTPFront?, stopped: @escaping @Sendable () -> Void) {
        post { $0.core.begin(with: shards, front) }
        loop.start({ events in self.assumeIsolated { $0.core.turn(events) } }, stopped: stopped)
    }

    func add(_ listener: Listener) { core.add(listener) }
    func adopt(_ limits: Limits, _ rules: [ListenerRules]) { core.adopt(limits, rules) }
    func counters() -> Counters { core.counters }

    /// Accepts nobody any more, and closes those who are not through.
    func shutDown() { core.shutDown() }
}

/// What the lobby owns: connections between their accept and the first byte behind their handshake.
struct LobbyCore: ~Copyable {
    /// Guests at once. Some 45 KB each in the midst of a ClientHello, and whoever comes beyond waits in the kernel.
    static let mostGuests = 4096
    /// A guest who has been here so long, in milliseconds, goes when all places are taken.
    static let patience: Int64 = 3000

    /// A wave of so many leaves holes in the memory, which go back to the system a second after the last of them.
    static let handshakesPerTrim: UInt64 = 256

    private struct Guest {
        var stream: Stream?
        var incarnation: UInt32 = 0
        var listener: Listener?
        /// Has shaken hands.
        var isThrough = false
        /// A proxy has to say first for whom it speaks; and what it has said so far.
        var awaitedHeader: AwaitedHeader?
        var header: [UInt8] = []
        var watched: UInt32 = 0
    }

    private var shards: [Shard] = []
    private var front: HTTPFront?
    private(set) var counters = Counters()
    private let loop: EventLoop
    private let log: Logger
    private var limits: Limits
    private var rules: [ListenerRules]
    private var reception: Reception
    private var guests: [Guest] = []
    private var free: [Int] = []
    /// Tokens in the order of arrival, some of them of guests who are gone, from `firstArrival` on.
    private var arrivals: [(token: UInt64, time: Instant)] = []
    private var firstArrival = 0
    /// Those who are through, by shard: they leave at the end of the turn, for waking a shard costs more than a connection.
    private var departing: [[MovingConnection]] = []
    private var nextShard = 0
    private var trimmedHandshakes: UInt64 = 0
    private var trimsAt: Instant?
    private var isStopping = false
    private var now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000)

    init(_ limits: Limits, _ rules: [ListenerRules], loop: EventLoop, log: Logger) {
        self.limits = limits
        self.rules = rules
        self.loop = loop
        self.log = log
        reception = Reception(loop: loop, log: log)
    }

    mutating func begin(with shards: [Shard], _ front: HTTPFront?) {
        self.shards = shards
        self.front = front
        departing = shards.map { _ in [] }
    }

    mutating func add(_ listener: Listener) {
        updateTime()
        reception.add(listener, now: now)
    }

    mutating func adopt(_ limits: Limits, _ rules: [ListenerRules]) {
        self.limits = limits
        self.rules = rules
    }

    mutating func shutDown() {
        isStopping = true
        reception.stop()
        for index in guests.indices where guests[index].stream != nil { remove(index) }
    }

    // MARK: - Turns

    mutating func turn(_ events: Span<readiness>) -> EventLoop.Wish {
        updateTime()
        for index in events.indices {
            let token = events[index].token
            if token >= EventLoop.reservedTokens { continue }
            if token >= Reception.tokens {
                accept(from: Int(token - Reception.tokens))
            } else if let guest = guest(of: token) {
                step(guest)
            }
        }
        sendOff()
        endOverdue()
        if !isFull { reception.reopen(now: now) }
        reception.resumeIfDue(now: now)
        trimIfDue()
        let patience = isFull ? min(Self.patience, limits.connectTimeout) : limits.connectTimeout
        let due = arrivals.count > firstArrival ? arrivals[firstArrival].time + patience : nil
        let deadline = [due, reception.resumesAt, trimsAt].compactMap(\.self).min()
        return EventLoop.Wish(isBusy: false, deadline: deadline.map { $0.milliseconds * 1_000_000 })
    }

    /// The corresponding C function is `malloc_trim`.
    private mutating func trimIfDue() {
        guard counters.connections == 0, counters.handshakes - trimmedHandshakes >= Self.handshakesPerTrim else {
            trimsAt = nil
            return
        }
        guard let due = trimsAt else {
            trimsAt = now + 1000
            return
        }
        guard due <= now else { return }
        malloc_trim(0)
        trimmedHandshakes = counters.handshakes
        trimsAt = nil
    }

    private var isFull: Bool { counters.connections >= Self.mostGuests }

    private mutating func updateTime() { now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000) }

    /// Guests have `connect_timeout` until their CONNECT begins, from accept on. Who is through has as long again for the
    /// rest of it.
    private mutating func endOverdue() {
        while firstArrival < arrivals.count {
            let (token, time) = arrivals[firstArrival]
            if let guest = guest(of: token) {
                let isPushedOut = isFull && now - time >= Self.patience
                guard now - time >= limits.connectTimeout || isPushedOut else { break }
                fail(guest, guests[guest].isThrough ? "\(CloseReason.connectTimeout)" : "no TLS handshake in time")
            }
            firstArrival += 1
        }
        if firstArrival > 1024 || firstArrival == arrivals.count {
            arrivals.removeFirst(firstArrival)
            firstArrival = 0
        }
    }

    // MARK: - Guests

    private mutating func accept(from index: Int) {
        guard !isStopping else { return }
        let listener = reception[index]
        let most = rules[Int(listener.number)].connections
        for _ in 0..<reception.share {
            guard !isFull else { return reception.close() }
            switch reception.accept(from: index, atMost: most, ofAll: limits.connections, now: now) {
            case .stream(let stream): welcome(stream, from: listener)
            case .refused: counters.connectionsRefused += 1
            case .over: return
            }
        }
    }

    private mutating func welcome(_ stream: Stream, from listener: Listener) {
        let index = free.popLast() ?? guests.count
        if index == guests.count { guests.append(Guest()) }
        guests[index].stream = stream
        guests[index].listener = listener
        guests[index].awaitedHeader = listener.awaitedHeader
        guests[index].watched = EPOLLIN.rawValue
        counters.connections += 1
        do throws(SystemError) {
            try loop.watch(stream.rawDescriptor, as: token(of: index), for: EPOLLIN.rawValue)
        } catch {
            log.warning("a connection can't be watched", metadata: ["peer": "\(stream.peer)", "reason": "\(error)"])
            return remove(index, isWatched: false)
        }
        arrivals.append((token(of: index), now))
    }

    private mutating func step(_ index: Int) {
        guard let stream = guests[index].stream else { return }
        if let awaited = guests[index].awaitedHeader {
            guard readHeader(awaited, index, stream) else { return }
        }
        if !guests[index].isThrough {
            switch stream.handshake() {
            case .done: admit(index, stream)
            case .wantsToRead: return watch(index, stream, for: EPOLLIN.rawValue)
            case .wantsToWrite: return watch(index, stream, for: EPOLLOUT.rawValue)
            case .failed(let error): return fail(index, "\(error)")
            }
        }
        switch stream.awaitData() {
        case .bytes: depart(index, stream)
        case .wouldBlock: watch(index, stream, for: (stream.readNeedsWrite ? EPOLLOUT : EPOLLIN).rawValue)
        case .end: fail(index, "connection closed by client")
        case .failed(let error): fail(index, "\(error)")
        }
    }

    /// The header of a proxy lies before TLS, byte by byte if need be; nothing behind it may be taken. True once it is
    /// there.
    private mutating func readHeader(_ awaited: AwaitedHeader, _ index: Int, _ stream: Stream) -> Bool {
        var seen = [UInt8](repeating: 0, count: ProxyHeader.mostBytes(of: awaited.version))
        let count: Int
        switch stream.peek(into: &seen) {
        case .bytes(let some): count = some
        case .wouldBlock: return false
        case .end:
            fail(index, "connection closed by client")
            return false
        case .failed(let error):
            fail(index, "\(error)")
            return false
        }
        let kept = guests[index].header
        let all = kept + seen[..<count]
        do throws(CloseReason) {
            guard let header = try ShardCore.proxyHeader(all.span, awaited) else {
                stream.skip(count)  // All of it belongs to the header.
                guests[index].header = all
                return false
            }
            stream.skip(header.length - kept.count)
            if let client = header.client { stream.speaks(for: client) }
        } catch {
            fail(index, "\(error)")
            return false
        }
        guests[index].header = []
        guests[index].awaitedHeader = nil
        return true
    }

    private mutating func watch(_ index: Int, _ stream: Stream, for events: UInt32) {
        guard events != guests[index].watched else { return }
        guests[index].watched = events
        loop.change(stream.rawDescriptor, as: token(of: index), for: events)
    }

    private mutating func admit(_ index: Int, _ stream: Stream) {
        guests[index].isThrough = true
        counters.handshakes += 1
        if stream.isResumed { counters.handshakesResumed += 1 }
    }

    /// To a shard, by turns, where it is decided where the session lives; or to where HTTP is spoken.
    private mutating func depart(_ index: Int, _ stream: Stream) {
        guard let listener = guests[index].listener else { return }
        let connection = MovingConnection(
            stream: stream, unread: [], listener: listener.number, isPlaced: false, origin: listener)
        remove(index)
        if listener.speaksHTTP {
            front?.post { $0.adopt(connection) }
            return
        }
        departing[nextShard].append(connection)
        nextShard = (nextShard + 1) % shards.count
    }

    private mutating func sendOff() {
        for shard in shards.indices where !departing[shard].isEmpty {
            var connections: [MovingConnection] = []
            swap(&connections, &departing[shard])
            shards[shard].post { [connections] in
                for connection in connections { $0.adopt(connection) }
            }
        }
    }

    private mutating func fail(_ index: Int, _ reason: String) {
        guard let stream = guests[index].stream else { return }
        let isThrough = guests[index].isThrough
        if !isThrough { counters.handshakesFailed += 1 }
        counters.connectionsOpened += 1  // Those who depart count on their shard.
        note(stream.peer, reason, isMistake: !isThrough)
        stream.finish()  // An alert that says why may be on its way.
        // Nobody else holds the stream: its descriptor leaves the epoll by being closed.
        remove(index, isWatched: false)
    }

    /// In the words for a connection that ends before its CONNECT.
    private func note(_ peer: SocketAddress, _ reason: String, isMistake: Bool) {
        guard log.logLevel <= .notice else { return }
        var fields: Logger.Metadata = ["address": "\(peer.host)"]
        if peer.port != 0 { fields["port"] = .stringConvertible(peer.port) }
        fields["reason"] = "\(reason)"
        if isMistake { fields["mistake"] = .stringConvertible(true) }
        log.notice("client disconnected", metadata: fields)
    }

    private mutating func remove(_ index: Int, isWatched: Bool = true) {
        if isWatched, let stream = guests[index].stream { loop.unwatch(stream.rawDescriptor) }
        let incarnation = (guests[index].incarnation &+ 1) & 0x7FFF_FFFF
        guests[index] = Guest()
        guests[index].incarnation = incarnation
        free.append(index)
        counters.connections -= 1
        reception.hurry(now: now)
    }

    private func token(of index: Int) -> UInt64 { UInt64(guests[index].incarnation) << 32 | UInt64(index) }

    private func guest(of token: UInt64) -> Int? {
        let index = Int(UInt32(truncatingIfNeeded: token))
        guard index < guests.count, guests[index].incarnation == UInt32(token >> 32), guests[index].stream != nil
        else { return nil }
        return index
    }
}
