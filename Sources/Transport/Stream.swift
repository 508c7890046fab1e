import CLinux
import Glibc
import Synchronization

/// One peer's ordered bytes, both ways, never blocking. Plain TCP today; TLS goes between these calls and the
/// descriptor, which is why nobody else calls `recv` or `send`.
package final class Stream: Sendable {
    /// What an attempt to read gave.
    package enum ReadResult: Equatable {
        case bytes(Int)
        case wouldBlock
        /// The peer has closed its side.
        case end
        case failed(SystemError)
    }

    /// What an attempt to write gave.
    package enum WriteResult: Equatable {
        case bytes(Int)
        case wouldBlock
        case failed(SystemError)
    }

    private let descriptor: Descriptor
    private let seat: ConnectionCount.Seat
    // In place, where `Lock` would be one more object for each connection. One shard at a time uses it, so nobody waits.
    private let client: Mutex<SocketAddress>

    init(_ descriptor: consuming Descriptor, peer: SocketAddress, seat: consuming ConnectionCount.Seat) {
        self.descriptor = descriptor
        self.seat = seat
        client = Mutex(peer)
    }

    /// Who is at the other end: the address that connected, until a proxy has named the one it speaks for.
    package var peer: SocketAddress { client.withLock { $0 } }

    /// The peer is a proxy, and this is the address of its client.
    package func speaks(for address: SocketAddress) { client.withLock { $0 = address } }

    package var rawDescriptor: CInt { descriptor.rawValue }

    /// Reads what is there into `buffer` from `offset` on. The corresponding C function is `recv`.
    @inline(__always)
    package func read(into buffer: inout [UInt8], from offset: Int) -> ReadResult {
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            let free = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[offset...])
            return unsafe recv(descriptor.rawValue, free.baseAddress, free.count, 0)
        }
        if count > 0 { return .bytes(count) }
        if count == 0 { return .end }
        return errno == EAGAIN || errno == EINTR ? .wouldBlock : .failed(SystemError(errno, during: "recv"))
    }

    /// Writes as much of `bytes` as the kernel takes. The corresponding C function is `send`.
    @inline(__always)
    package func write(_ bytes: Span<UInt8>) -> WriteResult {
        let count = unsafe bytes.withUnsafeBytes { part in
            unsafe send(descriptor.rawValue, part.baseAddress, part.count, CInt(MSG_NOSIGNAL))
        }
        if count >= 0 { return .bytes(count) }
        return errno == EAGAIN || errno == EINTR ? .wouldBlock : .failed(SystemError(errno, during: "send"))
    }

    /// Says to the peer that nothing more comes, and throws away what it has sent: closing with bytes unread would
    /// reset the connection and could take our last packet with it. The corresponding C function is `shutdown`.
    package func finish() {
        shutdown(descriptor.rawValue, CInt(SHUT_WR))
        var unread = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<16 {
            guard case .bytes = read(into: &unread, from: 0) else { return }
        }
    }

    /// The corresponding C function is `setsockopt`; what fails here only costs speed.
    static func setOption(_ descriptor: CInt, _ level: CInt, _ name: CInt, to value: CInt = 1) {
        var value = value
        unsafe setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<CInt>.size))
    }
}
