import COpenSSL
import Foundation
import Glibc

/// A blocking client that speaks HTTP/1.1, over TLS if it is told to: one thread of a test each.
final class HTTPClient {
    struct Failure: Error { let reason: String }

    struct Answer {
        let status: Int
        /// By their lower-case names.
        let fields: [String: String]
        let body: [UInt8]
    }

    private let descriptor: Int32
    private var tls: OpaquePointer?
    private var input: [UInt8] = []

    /// Connects to a port of the loopback; reads and writes give up after half a minute. `receiveBytes`: what the kernel keeps
    /// of what was sent and is not read; without it, as much as it likes.
    init(port: UInt16, isSecure: Bool = false, receiveBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        if var receiveBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw Failure(reason: "connect: errno \(errno)") }
        guard isSecure else { return }
        let context = SSL_CTX_new(TLS_client_method())
        defer { SSL_CTX_free(context) }
        tls = SSL_new(context)
        SSL_set_fd(tls, descriptor)
        guard SSL_connect(tls) == 1 else { throw Failure(reason: "no TLS") }
    }

    deinit {
        SSL_free(tls)
        close(descriptor)
    }

    func send(_ text: String) throws {
        let bytes = Array(text.utf8)
        let count =
            tls == nil
            ? Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            : Int(SSL_write(tls, bytes, Int32(bytes.count)))
        guard count == bytes.count else { throw Failure(reason: "send: errno \(errno)") }
    }

    func ask(_ path: String, _ fields: String = "", method: String = "GET") throws {
        try send("\(method) \(path) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
    }

    /// Nothing: the end.
    func receive(atMost most: Int = 65_536) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: most)
        let count = tls == nil ? recv(descriptor, &bytes, most, 0) : Int(SSL_read(tls, &bytes, Int32(most)))
        if count < 0, errno == EAGAIN { throw Failure(reason: "nothing comes") }
        return Array(bytes.prefix(max(count, 0)))
    }

    /// All until the end of the connection.
    func receiveAll() throws -> [UInt8] {
        while case let bytes = try receive(), !bytes.isEmpty { input += bytes }
        defer { input = [] }
        return input
    }

    /// `slowly`: in small pieces, with pauses in which the server has to wait.
    func answer(isToHead: Bool = false, slowly: Bool = false) throws -> Answer {
        while true {
            if let end = input.firstRange(of: Array("\r\n\r\n".utf8)) {
                let head = String(decoding: input[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
                input.removeFirst(end.upperBound)
                var fields: [String: String] = [:]
                for line in head.dropFirst() {
                    let pair = line.components(separatedBy: ": ")
                    fields[pair[0].lowercased()] = pair[1]
                }
                let length = isToHead ? 0 : Int(fields["content-length"] ?? "0") ?? 0
                var pieces = 0
                while input.count < length {
                    let bytes = try receive(atMost: slowly ? 10_000 : 65_536)
                    guard !bytes.isEmpty else { throw Failure(reason: "cut off behind \(input.count) bytes") }
                    input += bytes
                    pieces += 1
                    if slowly, pieces % 20 == 0 { usleep(1000) }
                }
                defer { input.removeFirst(length) }
                return Answer(
                    status: Int(head[0].split(separator: " ")[1]) ?? 0, fields: fields, body: Array(input[..<length]))
            }
            let bytes = try receive()
            guard !bytes.isEmpty else { throw Failure(reason: "cut off before an answer: \(input.count) bytes") }
            input += bytes
        }
    }
}
