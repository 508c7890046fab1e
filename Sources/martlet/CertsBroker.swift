internal import FoundationEssentials
internal import Glibc

extension Martlet {
    /// Asks a broker that runs on this data directory to take its certificates and what was revoked into force, and waits
    /// for its answer. Without one there is nothing to do: it reads them when it starts.
    static func tellBroker(dataDirectory: String) throws(Failure) {
        let socket: CInt
        do throws(ControlSocketFailure) {
            guard let connected = try connect(dataDirectory) else { return }
            socket = connected
        } catch {
            throw Failure(.failed, "\(unheard): \(error.reason)")
        }
        defer { close(socket) }
        let answer = try ask(socket, #"{"commands":[{"command":"reloadCertificates"}]}"#)
        struct Answer: Decodable {
            struct Response: Decodable {
                let command: String
                let error: String?
            }
            let responses: [Response]
        }
        guard let responses = try? JSONDecoder().decode(Answer.self, from: Data(answer)).responses,
            let response = responses.first(where: { $0.command == "reloadCertificates" })
        else { throw Failure(.failed, "\(unheard): its answer makes no sense") }
        if let error = response.error { throw Failure(.failed, "\(unheard): \(error)") }
    }

    private static let unheard = "the files are written, but the broker has not taken them into force"

    private struct ControlSocketFailure: Error { let reason: String }

    /// Nil: nobody listens there. By way of the directory's descriptor, for a socket's path has 107 bytes at most. The
    /// corresponding C functions are `socket` and `connect`.
    private static func connect(_ dataDirectory: String) throws(ControlSocketFailure) -> CInt? {
        func failure(_ code: CInt) -> ControlSocketFailure {
            ControlSocketFailure(reason: unsafe String(cString: strerror(code)))
        }
        let directory = unsafe open(dataDirectory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return nil }
        defer { close(directory) }
        let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw failure(errno) }
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            _ = unsafe setsockopt(
                descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = Array("/proc/self/fd/\(directory)/control.sock".utf8)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path) }
        let result = unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result != 0 else { return descriptor }
        let code = errno
        close(descriptor)
        // A socket that nobody listens on is what a broker leaves that was killed.
        guard code != ENOENT, code != ECONNREFUSED else { return nil }
        throw failure(code)
    }

    /// One line there, one line back. The corresponding C functions are `send` and `recv`.
    private static func ask(_ socket: CInt, _ question: String) throws(Failure) -> [UInt8] {
        var rest = Array("\(question)\n".utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBufferPointer {
                unsafe send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure(.failed, "\(unheard): \(unsafe String(cString: strerror(errno)))") }
            rest = rest.dropFirst(count)
        }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while !answer.contains(UInt8(ascii: "\n")) {
            let count = unsafe recv(socket, &chunk, chunk.count, 0)
            guard count > 0, answer.count < 1 << 16 else {
                throw Failure(.failed, "\(unheard): it did not answer")
            }
            answer += chunk[..<count]
        }
        return Array(answer.prefix { $0 != UInt8(ascii: "\n") })
    }
}
