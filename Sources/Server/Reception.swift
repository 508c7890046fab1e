import Broker
import CLinux
import Logging
import Transport

/// The listening sockets of one event loop, and how they rest when the system has nothing left to accept with.
struct Reception: ~Copyable {
    /// Connections accepted in one turn, so that a storm of them doesn't hold up those who are connected. All sockets
    /// share them, so that a storm on one doesn't hold up the others; each has a few at least.
    static let acceptsPerTurn = 32
    static let fewestAccepts = 4
    /// From here on a token of the event loop is a listener's.
    static let tokens: UInt64 = 0xFFFF_FFFE_0000_0000

    /// What came of looking whether somebody is waiting.
    enum Next {
        case stream(Stream)
        /// Somebody was turned away: as many as allowed are open.
        case refused
        /// Nobody is waiting, or nothing can be accepted.
        case over
    }

    private let loop: EventLoop
    private let log: Logger
    private var listeners: [Listener] = []
    private var paused: [Int] = []
    /// The log has said that there are no descriptors left.
    private var isShortNamed = false
    /// All rest, for there is no room for those who come.
    private var isClosed = false
    /// When those that rest are watched again.
    private(set) var resumesAt: Instant?

    init(loop: EventLoop, log: Logger) {
        self.loop = loop
        self.log = log
    }

    subscript(index: Int) -> Listener { listeners[index] }

    /// How many one socket may accept in a turn.
    var share: Int { max(Self.acceptsPerTurn / max(listeners.count, 1), Self.fewestAccepts) }

    mutating func add(_ listener: Listener, now: Instant) {
        listeners.append(listener)
        watch(listeners.count - 1, now: now)
    }

    /// Takes the next who waits; at most as many connections at once as said (0: no limit).
    mutating func accept(from index: Int, atMost most: Int, ofAll mostOfAll: Int, now: Instant) -> Next {
        let listener = listeners[index]
        while true {
            switch listener.socket.accept(atMost: most, ofAll: mostOfAll, tls: listener.tls?.context) {
            case .stream(let stream): return .stream(stream)
            case .refused(let isListenerFull):
                log.warning(
                    "connection refused, as many as allowed are open",
                    metadata: [
                        "listener": "\(listener.socket.address)",
                        "limit": "\(isListenerFull ? "max_connections" : "global_max_connections")",
                    ]
                )
                return .refused
            case .nobody:
                isShortNamed = false
                return .over
            case .gone: continue
            case .exhausted(let error):
                loop.unwatch(listener.socket.rawDescriptor)
                pause(index, because: error, now: now)
                return .over
            }
        }
    }

    /// Those that rest are watched again now, for something has been given back.
    mutating func hurry(now: Instant) {
        if resumesAt != nil { resumesAt = now }
    }

    mutating func resumeIfDue(now: Instant) {
        guard let due = resumesAt, due <= now else { return }
        resumesAt = nil
        let indices = paused
        paused = []
        for index in indices { watch(index, now: now) }
    }

    /// Accepts nobody for now: whoever comes waits in the kernel, until `reopen`.
    mutating func close() {
        guard !isClosed else { return }
        isClosed = true
        for index in listeners.indices where !paused.contains(index) {
            loop.unwatch(listeners[index].socket.rawDescriptor)
        }
        paused = Array(listeners.indices)
        resumesAt = nil
    }

    mutating func reopen(now: Instant) {
        guard isClosed else { return }
        isClosed = false
        resumesAt = now
    }

    /// Refuses whoever comes from now on.
    mutating func stop() {
        close()
        for listener in listeners { listener.socket.stop() }
        listeners = []
        paused = []
    }

    private mutating func watch(_ index: Int, now: Instant) {
        do {
            let token = Self.tokens + UInt64(index)
            try loop.watch(listeners[index].socket.rawDescriptor, as: token, for: EPOLLIN.rawValue)
        } catch {
            pause(index, because: error, now: now)
        }
    }

    /// A listener that can't accept would wake the loop for ever: it rests until a connection closes, or a second.
    private mutating func pause(_ index: Int, because error: SystemError, now: Instant) {
        if !isShortNamed {
            isShortNamed = true
            log.warning("no new connections for now", metadata: ["reason": "\(error)"])
        }
        paused.append(index)
        resumesAt = now + 1000
    }
}
