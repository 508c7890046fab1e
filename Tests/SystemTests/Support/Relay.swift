import Foundation
import Glibc
import Synchronization

/// Sits between one client and the broker, says something first, and hands on what the client sends byte by byte.
final class Relay: Sendable {
    let port: UInt16
    private let handed = Mutex<Int>(0)

    /// Bytes handed to the broker so far.
    var count: Int { handed.withLock { $0 } }

    init(to broker: UInt16, first: [UInt8]) throws {
        port = try freePort()
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let outside = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard withLoopback(port, { bind(listener, $0, $1) }) == 0, listen(listener, 1) == 0,
            withLoopback(broker, { connect(outside, $0, $1) }) == 0
        else { throw Unexpected(errno: errno, during: "bind, connect") }
        var one: Int32 = 1
        setsockopt(outside, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        Thread { [self] in
            let inside = accept(listener, nil, nil)
            close(listener)
            drip(first, to: outside)
            let back = Thread {
                var bytes = [UInt8](repeating: 0, count: 4096)
                while case let count = recv(outside, &bytes, bytes.count, 0), count > 0 { write(inside, bytes, count) }
                shutdown(inside, Int32(SHUT_WR))
            }
            back.start()
            var bytes = [UInt8](repeating: 0, count: 4096)
            while case let count = recv(inside, &bytes, bytes.count, 0), count > 0 {
                drip(Array(bytes[..<count]), to: outside)
            }
            shutdown(outside, Int32(SHUT_RDWR))
        }.start()
    }

    private func drip(_ bytes: [UInt8], to descriptor: Int32) {
        for byte in bytes {
            var byte = byte
            send(descriptor, &byte, 1, Int32(MSG_NOSIGNAL))
            handed.withLock { $0 += 1 }
        }
    }
}
