import CLinux
internal import Dispatch
import Glibc
import Locks
package import Logging
package import Management
package import Transport

/// `control.sock`: where the subcommands of the same machine reach a running broker. A line of JSON is a request, a line
/// is its answer, as often as wanted. Only the broker's own user and root are served. It works on queues of its own, which
/// may block; no shard ever waits for it.
package final class ControlSocket: Sendable {
    package static let fileName = "control.sock"

    package struct Limits: Sendable {
        /// Of one request, without its line feed.
        package var requestBytes = 1 << 16
        package var connections = 8
        /// Seconds for one request to come whole, or its answer to be taken.
        package var patience = 30.0

        package init() {}
    }

    private struct State: Sendable {
        var connections: [UInt64: ControlConnection] = [:]
        var lastNumber: UInt64 = 0
        var isStopped = false
    }

    private let path: String
    private let descriptor: Descriptor
    private let management: Management
    private let limits: Limits
    private let log: Logger
    private let queue = DispatchQueue(label: "control")
    private let state = Lock(State())

    /// Binds it, in place of one that an earlier broker left: whoever calls has the data directory's lock. At most 107
    /// bytes of path. The corresponding C functions are `socket`, `bind`, `chmod` and `listen`.
    package init(
        at path: String, for management: Management, limits: Limits = Limits(), log: Logger
    ) throws(SystemError) {
        self.path = path
        self.management = management
        self.limits = limits
        self.log = log
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        descriptor = try Descriptor(adopting: socket(AF_UNIX, type, 0), from: "socket")
        guard path.utf8.count <= SocketAddress.pathBytes else { throw SystemError(ENAMETOOLONG, during: "bind") }
        var status = stat()
        if unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unsafe unlink(path) }
        let address = SocketAddress(path: path)
        let socket = descriptor.rawValue
        guard unsafe address.withPointer({ unsafe bind(socket, $0, address.length) }) == 0 else {
            throw SystemError(errno, during: "bind \(path)")
        }
        guard unsafe chmod(path, 0o600) == 0, listen(socket, 16) == 0 else {
            throw SystemError(errno, during: "listen \(path)")
        }
    }

    /// Serves until `stop`.
    package func start() {
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor.rawValue, queue: queue)
        // The handler holds its source and this value, until the cancellation lets go of both.
        source.setEventHandler { [self] in
            if state.withLock({ $0.isStopped }) { return source.cancel() }
            accept()
        }
        source.setCancelHandler { withExtendedLifetime(self) {} }
        source.activate()
    }

    /// Nobody is served from now on; who waits for an answer gets none. Idempotent. The corresponding C functions are
    /// `unlink` and `shutdown`.
    package func stop() {
        let connections = state.withLock { state in
            defer { (state.isStopped, state.connections) = (true, [:]) }
            return state.isStopped ? nil : Array(state.connections.values)
        }
        guard let connections else { return }
        unsafe unlink(path)
        shutdown(descriptor.rawValue, CInt(SHUT_RDWR))  // Wakes the source, whose handler then cancels it.
        for connection in connections { connection.end() }
    }

    private func accept() {
        let result = accept_nonblocking(descriptor.rawValue, nil, nil)
        guard result >= 0 else {
            // Without descriptors the socket stays readable: others get time to close theirs.
            if errno == EMFILE || errno == ENFILE { poll(nil, 0, 100) }
            return
        }
        let accepted = Descriptor(adopting: result)
        let peer = peer_user(result)
        let connection = ControlConnection(accepted, patience: limits.patience)
        guard peer == 0 || peer == Int64(geteuid()) else {
            log.warning("another user at control.sock was turned away", metadata: ["user": "\(peer)"])
            return
        }
        let number = state.withLock { state -> UInt64? in
            guard !state.isStopped, state.connections.count < limits.connections else { return nil }
            state.lastNumber += 1
            state.connections[state.lastNumber] = connection
            return state.lastNumber
        }
        let requester = Requester.local(user: UInt32(peer))
        Task { [self] in
            guard let number else {
                await refuse(connection, .busy, "\(limits.connections) others are connected, which is all there may be")
                return
            }
            await serve(connection, requester)
            state.withLock { _ = $0.connections.removeValue(forKey: number) }
        }
    }

    private func serve(_ connection: ControlConnection, _ requester: Requester) async {
        while true {
            switch await connection.nextLine(atMost: limits.requestBytes) {
            case .line(let request):
                let answer = await management.respond(to: request, from: requester)
                guard await connection.send(answer) else { return }
            case .tooLong:
                return await refuse(connection, .invalidRequest, "a request has at most \(limits.requestBytes) bytes")
            case .over: return
            }
        }
    }

    private func refuse(
        _ connection: ControlConnection, _ code: ManagementProblem.Code, _ message: String
    ) async {
        _ = await connection.send(Management.refusal(ManagementProblem(code, message)))
    }
}
