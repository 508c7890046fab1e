internal import ArgumentParser
internal import Configuration
internal import Glibc
internal import JSON
internal import Management
internal import Server
internal import Store
internal import Transport

/// `--data DIR`
struct DataOption: ParsableArguments {
    @Option(name: .customLong("data"), help: "The data directory (MARTLET_DATA_DIR, or else ./martlet-data).")
    var given: String?

    var path: String { given ?? environment()["MARTLET_DATA_DIR"] ?? Configuration.defaultDataDirectory }
}

/// Where the subcommands that manage something find who does it: the broker that runs on the data directory, or, without
/// one, the same code on the files.
final class ManagementClient {
    private enum Way {
        case broker(Connection)
        case files(Management)
    }

    private final class Connection {
        var descriptor: Descriptor

        init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
    }

    /// How long a broker that is starting or stopping, or another command, is waited for; and an answer. Seconds.
    private static let (patience, answerPatience): (CInt, Int) = (5, 60)
    /// Of an answer.
    private static let answerBytes = 64 << 20

    private let path: String
    private let way: Way

    /// `makesDirectory`: where there is none.
    init(_ path: String, makesDirectory: Bool = false) throws(Failure) {
        self.path = path
        do {
            if makesDirectory { try DataDirectory.make(path) }
            way = try Self.find(path)
        } catch DataDirectoryError.system(path, ENOENT) {
            throw Failure(.failed, "\(path): there is no data directory here; --data names another")
        } catch DataDirectoryError.inUse(_, let process) {
            let who = process.map { "process \($0)" } ?? "another process"
            throw Failure(
                .failed, "\(who) has the data directory \(path), and does not answer at its \(ControlSocket.fileName)")
        } catch let error as FleetStoreError {
            if case .newer = error { throw Failure(.badConfiguration, error) }
            throw Failure(.failed, error)
        } catch {
            throw Failure(.failed, "\(path): \(error)")
        }
    }

    private static func find(_ path: String) throws -> Way {
        var waited: CInt = 0
        while true {
            if let broker = try connect(path) { return .broker(Connection(broker)) }
            let directory: DataDirectory
            do throws(DataDirectoryError) {
                directory = try DataDirectory(path)
            } catch {
                guard case .inUse = error, waited < patience * 20 else { throw error }
                waited += 1
                poll(nil, 0, 50)
                continue
            }
            for warning in directory.warnings { write("martlet: \(warning)", to: STDERR_FILENO) }
            let store = try FleetStore(in: directory, version: martletVersion, now: currentMilliseconds())
            return .files(
                try Management(store, in: directory, broker: StoredBroker(directory: directory)))
        }
    }

    /// Nil where nobody listens. The corresponding C functions are `socket` and `connect`.
    private static func connect(_ path: String) throws(DataDirectoryError) -> Descriptor? {
        // A long path is gone around, as the broker does.
        let directory = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw .system(path, errno) }
        defer { Glibc.close(directory) }
        let address = SocketAddress(path: "/proc/self/fd/\(directory)/\(ControlSocket.fileName)")
        let socket = Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw .system(path, errno) }
        let connection = Descriptor(adopting: socket)
        guard unsafe address.withPointer({ unsafe Glibc.connect(socket, $0, address.length) }) == 0 else {
            if errno == ENOENT || errno == ECONNREFUSED { return nil }
            throw .system("\(path)/\(ControlSocket.fileName)", errno)
        }
        var time = timeval(tv_sec: answerPatience, tv_usec: 0)
        unsafe setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        return connection
    }

    // MARK: - Requests

    /// The answer's `data`.
    @discardableResult
    func perform(_ command: String, _ members: [String: JSONValue] = [:]) async throws(Failure) -> JSONValue {
        let request = members.merging(["command": .string(command)]) { $1 }
        let bytes = Array(JSONValue.object(["commands": .array([.object(request)])]).text.utf8)
        let answer: [UInt8]
        switch way {
        case .broker(let broker): answer = try ask(broker, bytes)
        case .files(let management):
            answer = await management.respond(to: bytes, from: .local(user: getuid()))
        }
        guard let response = Self.response(in: answer) else {
            throw Failure(.failed, "the broker's answer can't be understood")
        }
        if let error = response["error"] {
            throw Failure(.failed, error["message"]?.string ?? error.string ?? "refused without a reason")
        }
        return response["data"] ?? .null
    }

    /// All elements of a list that is answered in pages.
    func list(
        _ command: String, _ name: String, _ members: [String: JSONValue] = [:]
    ) async throws(Failure) -> [JSONValue] {
        var elements: [JSONValue] = []
        for page in 1... {
            let data = try await perform(
                command,
                members.merging([
                    "page": .integer(Int64(page)), "limit": .integer(Int64(ManagementCommand.PageRequest.most)),
                ]) { $1 })
            elements += data[name]?.array ?? []
            if data["count"]?.integer != Int64(ManagementCommand.PageRequest.most) { break }
        }
        return elements
    }

    /// What was done on files is written back and let go of.
    func close() async throws(Failure) {
        guard case .files(let management) = way else { return }
        do { try await management.close() } catch { throw Failure(.failed, "\(path): \(error)") }
    }

    private static func response(in answer: [UInt8]) -> JSONValue? {
        JSONValue(parsing: answer)?["responses"]?.array?.first
    }

    /// Where as many others ask at once as may, it waits for its turn. Such an answer ends the connection.
    private func ask(_ broker: Connection, _ request: [UInt8]) throws(Failure) -> [UInt8] {
        for _ in 0..<(Self.answerPatience * 20) {
            let answer = try ask(broker.descriptor.rawValue, request)
            guard Self.response(in: answer)?["error"]?["code"]?.string == ManagementProblem.Code.busy.rawValue else {
                return answer
            }
            poll(nil, 0, 50)
            do throws(DataDirectoryError) {
                guard let next = try Self.connect(path) else { return answer }
                broker.descriptor = next
            } catch {
                throw Failure(.failed, "\(path): \(error)")
            }
        }
        throw Failure(.failed, "the broker on \(path) has too many others to answer")
    }

    /// The corresponding C functions are `send` and `read`.
    private func ask(_ socket: CInt, _ request: [UInt8]) throws(Failure) -> [UInt8] {
        let line = request + [UInt8(ascii: "\n")]
        var sent = 0
        while sent < line.count {
            let count = unsafe line.span.extracting(sent...).withUnsafeBufferPointer {
                unsafe send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }  // It may have said why.
            sent += count
        }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while answer.last != UInt8(ascii: "\n"), answer.count <= Self.answerBytes {
            let count = unsafe read(socket, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Failure(.failed, "the broker on \(path) does not answer") }
            answer += chunk.prefix(count)
        }
        return answer.dropLast()
    }
}

/// Opens the way, does something, and lets go of it, also where it fails.
func managing(
    _ path: String, makesDirectory: Bool = false, _ body: (ManagementClient) async throws -> Void
) async throws {
    let client = try ManagementClient(path, makesDirectory: makesDirectory)
    do {
        try await body(client)
    } catch {
        try? await client.close()  // The first failure is the one to tell.
        throw error
    }
    try await client.close()
}
