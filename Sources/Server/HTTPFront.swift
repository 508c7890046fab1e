import Broker
import CLinux
import HTTP
import HTTPTypes
import Logging
import Transport

/// Where HTTP is spoken: an event loop of its own, so that no upload, download or burst of requests holds up a shard. Requests
/// are handled elsewhere; what becomes a WebSocket goes to a shard, by turns.
actor HTTPFront: LoopActor {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    private var core: HTTPCore

    init(_ limits: Limits, _ rules: [ListenerRules], _ sites: [HTTPSite], log: Logger) throws {
        loop = try EventLoop(label: "http")
        core = HTTPCore(limits, rules, sites, loop: loop, log: log)
    }

    nonisolated func start(with shards: [Shard], stopped: @escaping @Sendable () -> Void) {
        post { $0.core.begin($0, with: shards) }
        loop.start({ events in self.assumeIsolated { $0.core.turn(events) } }, stopped: stopped)
    }

    /// From now on requests are answered; before, with 503.
    nonisolated func setHandler(_ handler: @escaping RequestHandler) { post { $0.core.handler = handler } }
    func add(_ listener: Listener) { core.add(listener) }
    func adopt(_ limits: Limits, _ rules: [ListenerRules], _ sites: [HTTPSite]) { core.adopt(limits, rules, sites) }
    func figures() -> HTTPFigures { core.figures }

    /// With TLS, from the lobby.
    func adopt(_ connection: MovingConnection) { core.adopt(connection) }

    /// Accepts nobody any more, and closes who waits for nothing. Returns when the requests under way are answered, or
    /// `patience` is over.
    func finish(patience: Duration) async {
        core.beginEnd()
        let end = ContinuousClock.now + patience
        while core.isAnswering, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(20)) }
        core.closeAll()
    }

    // MARK: For those who answer

    func answer(_ response: HTTPResponse, _ body: [UInt8], for token: UInt64) {
        core.answer(response, body, for: token)
    }
    func answer(_ response: HTTPResponse, _ file: FileBody, for token: UInt64) {
        core.answer(response, file, for: token)
    }
    func beginAnswer(_ response: HTTPResponse, length: Int?, for token: UInt64) -> Bool {
        core.beginAnswer(response, length: length, for: token)
    }
    func append(_ bytes: [UInt8], for token: UInt64, _ continuation: CheckedContinuation<Void, any Error>) {
        core.append(bytes, for: token, continuation)
    }
    func endAnswer(for token: UInt64, isWhole: Bool) { core.endAnswer(for: token, isWhole: isWhole) }
    func bodyIsAsked(for token: UInt64) { core.bodyIsAsked(for: token) }
    func bodyHasRoom(for token: UInt64) { core.bodyHasRoom(for: token) }
}

/// The answer to one request, from whoever handles it to its connection.
struct HTTPAnswer: BodyWriter {
    let front: HTTPFront
    let token: UInt64

    func write(_ bytes: [UInt8]) async throws {
        guard !bytes.isEmpty else { return }
        try await withCheckedThrowingContinuation { continuation in
            front.post { $0.append(bytes, for: token, continuation) }
        }
    }

    func send(_ response: Response, withBody: Bool) async {
        switch response.body {
        case .bytes(let bytes):
            front.post { $0.answer(response.head, bytes, for: token) }
        case .file(let file):
            front.post { $0.answer(response.head, file, for: token) }
        case .stream(let length, let write):
            guard await front.beginAnswer(response.head, length: length, for: token) else { return }
            do {
                if withBody { try await write(self) }
                front.post { $0.endAnswer(for: token, isWhole: true) }
            } catch {
                front.post { $0.endAnswer(for: token, isWhole: false) }
            }
        }
    }
}
