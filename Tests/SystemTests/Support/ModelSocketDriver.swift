import Conformance
import Foundation
import Glibc
import ReferenceModel

/// The binary as something to which programs can be done, over sockets. What happens at once is written without waiting
/// in between; then every client asks for a PINGRESP until nothing can be under way any more.
final class ModelSocketDriver: BrokerDriver {
    let mayLoseTheLast = true

    private let lines: [String]
    private let shards: Int
    private var broker: Martlet
    private var clients: [ModelSocket?]
    /// One session on each shard, for whom nothing ever comes: their PINGRESP says that the shard has ended a turn.
    private var watchers: [ModelSocket] = []

    init(_ program: ClientProgram) throws {
        shards = program.shards
        lines = [
            "shards \(program.shards)", "max_inflight_messages \(program.limits.inFlight)",
            "max_inflight_bytes \(program.limits.inFlightBytes)", "max_queued_messages \(program.limits.queued)",
            "max_queued_bytes \(program.limits.queuedBytes)",
            "queue_qos0_messages \(program.limits.queuesAtMostOnce)",
        ]
        clients = Array(repeating: nil, count: ClientProgram.clients)
        broker = try Martlet(lines)
        try startWatching()
    }

    private func startWatching() throws {
        // Sessions go where the fewest are, so one after the other goes to each shard.
        watchers = try (0..<shards).map { number in
            let watcher = try ModelSocket(port: broker.port)
            try watcher.send(Sent.connect(Sent.Connect(client: "watcher-\(number)")).bytes)
            try watcher.ping()
            return watcher
        }
    }

    func perform(_ actions: [Action]) throws -> [[Seen]] {
        if actions == [.crash] { return try restart(by: SIGKILL) }
        if actions == [.stop] { return try restart(by: SIGTERM) }
        for case .open(let client) in actions { clients[client] = try ModelSocket(port: broker.port) }
        for action in actions {
            switch action {
            case .send(.connect(var connect), let client):
                connect.keepAlive = min(connect.keepAlive, Self.keepAlive)
                try clients[client]?.send(Sent.connect(connect).bytes)
            case .send(let packet, let client): try clients[client]?.send(packet.bytes)
            case .lose(let client): clients[client]?.endOutput()
            case .open, .fill, .expire, .stop, .crash: break
            }
        }
        try settle()
        return seen()
    }

    /// A client that has gone is over when the broker has closed, too. The first PINGRESP of a connection says that its
    /// shard has handled what it sent, and posted what that means for other shards; the second one that the mail
    /// which was posted to its own shard before has come.
    private func settle() throws {
        for client in clients { try client?.waitForEnd(ifGone: true) }
        for _ in 1...2 {
            for watcher in watchers { try watcher.sendPing() }
            for client in clients { try client?.sendPing() }
            for watcher in watchers { try watcher.waitForPong() }
            for client in clients { try client?.waitForPong() }
        }
    }

    private func seen() -> [[Seen]] {
        clients.indices.map { client in
            guard let socket = clients[client] else { return [] }
            if socket.isOver { clients[client] = nil }
            return socket.takeSeen() + (socket.isOver ? [.closed] : [])
        }
    }

    /// Every keep-alive is this many seconds here, since time is real.
    private static let keepAlive = 2 * Int(patience)

    /// Waits until the silent ones are thrown out, while the others go on talking.
    func advance(seconds: Int, expiring: [Int]) throws -> [[Seen]] {
        let deadline = Deadline(after: 20 * patience)
        while !expiring.allSatisfy({ clients[$0]?.isOver ?? true }) {
            guard !deadline.hasPassed else { throw Unexpected("a client outlives its keep-alive") }
            for client in clients.indices where !expiring.contains(client) { try clients[client]?.ping() }
            for client in expiring { try clients[client]?.read(for: 100) }
        }
        try settle()
        return seen()
    }

    private func restart(by signal: Int32) throws -> [[Seen]] {
        broker.program.signal(signal)
        for client in clients { try client?.waitForEnd(ifGone: false) }
        let end = try broker.program.waitForEnd()
        guard end == (signal == SIGTERM ? .exited(0) : .killed(by: signal)) else {
            throw Unexpected("it ends with \(end)")
        }
        let seen = seen()
        broker = try Martlet(lines)
        try startWatching()
        return signal == SIGTERM ? seen : seen.map { $0.isEmpty ? [] : [.closed] }
    }
}

/// One client's socket.
private final class ModelSocket {
    private let descriptor: Int32
    private var bytes: [UInt8] = []
    private var seen: [Seen] = []
    private var hasSent = false
    private var hasGone = false
    private(set) var isOver = false
    /// PINGRESPs that have not come, and whether the last of them is for us.
    private var awaitedPongs = 0
    private var awaitsOwnPong = false

    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Unexpected(errno: errno, during: "socket") }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        guard withLoopback(port, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            throw Unexpected(errno: errno, during: "connect")
        }
    }

    deinit { close(descriptor) }

    /// What the broker does not take, because it has closed, is lost.
    func send(_ packet: [UInt8]) throws {
        hasSent = true
        if packet == Sent.ping.bytes { awaitedPongs += 1 }
        let count = packet.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard count == packet.count || errno == EPIPE || errno == ECONNRESET else {
            throw Unexpected(errno: errno, during: "send")
        }
    }

    func endOutput() {
        hasGone = true
        shutdown(descriptor, Int32(SHUT_WR))
    }

    func takeSeen() -> [Seen] {
        defer { seen = [] }
        return seen
    }

    func sendPing() throws {
        guard hasSent, !hasGone, !isOver else { return }
        awaitsOwnPong = true
        try send(Sent.ping.bytes)
    }

    /// Until all PINGRESPs have come, or the end; our own is not told.
    func waitForPong() throws {
        guard awaitsOwnPong else { return }
        let deadline = Deadline(after: 20 * patience)
        while awaitedPongs > 0, !isOver {
            guard !deadline.hasPassed else { throw Unexpected("no PINGRESP; seen: \(seen)") }
            try read(for: deadline.remainingMilliseconds)
        }
        awaitsOwnPong = false
        if awaitedPongs == 0, let last = seen.lastIndex(of: .pingresp) { seen.remove(at: last) }
    }

    func ping() throws {
        try sendPing()
        try waitForPong()
    }

    func waitForEnd(ifGone: Bool) throws {
        guard hasGone || !ifGone else { return }
        let deadline = Deadline(after: 20 * patience)
        while !isOver {
            guard !deadline.hasPassed else { throw Unexpected("the broker does not close; seen: \(seen)") }
            try read(for: deadline.remainingMilliseconds)
        }
    }

    /// What comes within some milliseconds.
    func read(for milliseconds: Int32) throws {
        guard !isOver else { return }
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, milliseconds) > 0 else { return }
        var chunk = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &chunk, chunk.count, 0)
        guard count >= 0 || errno == ECONNRESET else { throw Unexpected(errno: errno, during: "recv") }
        if count <= 0 { isOver = true }
        bytes += chunk.prefix(max(count, 0))
        while case .frame(let frame, let byteCount) = Frame.cut(bytes) {
            let packet = Seen(frame)
            if packet == .pingresp { awaitedPongs -= 1 }
            seen.append(packet)
            bytes.removeFirst(byteCount)
        }
    }
}
