import CLinux
import Glibc
import Synchronization

/// One peer's ordered bytes, both ways, never blocking; TLS, where there is some, lies between these calls and the
/// descriptor, which is why nobody else calls `recv` or `send`.
package final class Stream: Sendable {
    /// What an attempt to read gave.
    package enum ReadResult: Equatable {
        case bytes(Int)
        case wouldBlock
        /// The peer has closed its side.
        case end
        case failed(StreamError)
    }

    /// What an attempt to write gave.
    package enum WriteResult: Equatable {
        case bytes(Int)
        case wouldBlock
        case failed(StreamError)
    }

    /// How far a handshake has come.
    package enum HandshakeResult: Equatable {
        case done
        case wantsToRead
        case wantsToWrite
        case failed(StreamError)
    }

    private let descriptor: Descriptor
    private let seat: ConnectionCount.Seat
    // In place, where `Lock` would be one more object for each connection. One shard at a time uses it, so nobody waits.
    private let client: Mutex<SocketAddress>
    private let tls: TLSConnection?

    /// Nil: no memory for TLS.
    init?(
        _ descriptor: consuming Descriptor, peer: SocketAddress, seat: consuming ConnectionCount.Seat,
        tls context: TLSContext? = nil
    ) {
        if let context {
            guard let connection = TLSConnection(descriptor.rawValue, context) else { return nil }
            tls = connection
        } else {
            tls = nil
        }
        self.descriptor = descriptor
        self.seat = seat
        client = Mutex(peer)
    }

    /// Who is at the other end: the address that connected, until a proxy has named the one it speaks for.
    package var peer: SocketAddress { client.withLock { $0 } }

    /// The peer is a proxy, and this is the address of its client.
    package func speaks(for address: SocketAddress) { client.withLock { $0 = address } }

    /// What the peer has connected to. The corresponding C function is `getsockname`.
    package var localAddress: SocketAddress? {
        unsafe SocketAddress.filled { unsafe getsockname(descriptor.rawValue, $0, &$1) }.address
    }

    package var rawDescriptor: CInt { descriptor.rawValue }

    /// The peer has thrown the connection away, and with it what it had sent. The corresponding C function is `poll`.
    package var isReset: Bool {
        var entry = pollfd(fd: descriptor.rawValue, events: 0, revents: 0)
        return unsafe poll(&entry, 1, 0) > 0 && entry.revents & Int16(POLLERR) != 0
    }

    /// Reads what is there into `buffer` from `offset` on. The corresponding C function is `recv`.
    @inline(__always)
    package func read(into buffer: inout [UInt8], from offset: Int) -> ReadResult {
        unsafe buffer.withUnsafeMutableBytes { bytes in
            let free = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[offset...])
            if let tls { return unsafe tls.read(into: free) }
            return unsafe receive(into: free, CInt(0))
        }
    }

    /// The corresponding C function is `recv`.
    @inline(__always)
    private func receive(into bytes: UnsafeMutableRawBufferPointer, _ flags: CInt) -> ReadResult {
        let count = unsafe recv(descriptor.rawValue, bytes.baseAddress, bytes.count, flags)
        if count > 0 { return .bytes(count) }
        if count == 0 { return .end }
        return errno == EAGAIN || errno == EINTR ? .wouldBlock : .failed(.system(SystemError(errno, during: "recv")))
    }

    /// Writes as much of `bytes` as the kernel takes, over TLS at most one record. The corresponding C function is `send`.
    @inline(__always)
    package func write(_ bytes: Span<UInt8>) -> WriteResult {
        unsafe bytes.withUnsafeBytes { part in
            if let tls { return unsafe tls.write(part) }
            let count = unsafe send(descriptor.rawValue, part.baseAddress, part.count, CInt(MSG_NOSIGNAL))
            if count >= 0 { return .bytes(count) }
            return errno == EAGAIN || errno == EINTR
                ? .wouldBlock : .failed(.system(SystemError(errno, during: "send")))
        }
    }

    /// Lets the kernel copy a range of an open file, as much as the socket takes; where the file has ended before, nothing. Not
    /// over TLS, where somebody has to encrypt. The process has to ignore SIGPIPE, as OpenSSL wants it too. The corresponding
    /// C function is `sendfile`.
    package func write(fromFile file: CInt, _ range: Range<Int>) -> WriteResult {
        precondition(tls == nil, "a file would leave in plain text")
        var offset = off_t(range.lowerBound)
        let count = unsafe sendfile(descriptor.rawValue, file, &offset, range.count)
        if count >= 0 { return .bytes(count) }
        return errno == EAGAIN || errno == EINTR
            ? .wouldBlock : .failed(.system(SystemError(errno, during: "sendfile")))
    }

    /// Says to the peer that nothing more comes, and throws away what it has sent: closing with bytes unread would
    /// reset the connection and could take our last packet with it. The corresponding C function is `shutdown`.
    package func finish() {
        tls?.finish()
        shutdown(descriptor.rawValue, CInt(SHUT_WR))
        var unread = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<16 {
            let result = unsafe unread.withUnsafeMutableBytes { unsafe receive(into: $0, 0) }
            guard case .bytes = result else { return }
        }
    }

    /// The corresponding C function is `setsockopt`; what fails here only costs speed.
    static func setOption(_ descriptor: CInt, _ level: CInt, _ name: CInt, to value: CInt = 1) {
        var value = value
        unsafe setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<CInt>.size))
    }
}

// MARK: - TLS

extension Stream {
    package var isSecure: Bool { tls != nil }

    /// Goes on with the handshake, where there is one to make.
    package func handshake() -> HandshakeResult { tls?.handshake() ?? .done }

    /// Whether something has come behind the handshake, over TLS; it stays to be read.
    package func awaitData() -> ReadResult { tls?.peek() ?? .wouldBlock }

    /// Bytes have come that the descriptor will not announce: read on without waiting for it.
    @inline(__always)
    package var hasPending: Bool { tls?.hasPending ?? false }

    /// Reading goes on only when the descriptor can be written to: TLS has something of its own to say.
    @inline(__always)
    package var readNeedsWrite: Bool { tls?.isBlockedOnWrite ?? false }

    /// Whether another context would let the client in with the certificate that it has shown, or without one.
    package func isAccepted(by context: TLSContext) -> Bool { tls?.isAccepted(by: context) ?? true }

    /// What the client has proved with a certificate; nil where it has shown none. Read anew each time.
    package var clientCertificate: TLSPeer? { tls?.peer }

    /// The identity whose pre-shared key the client has used.
    package var keyIdentity: [UInt8]? { tls?.keyIdentity }

    /// "TLSv1.3", and the cipher's name in OpenSSL's words; nil without TLS.
    package var tlsVersion: String? { tls?.version }
    package var cipher: String? { tls?.cipher }

    /// The session began earlier, and a ticket brought it back.
    package var isResumed: Bool { tls?.isResumed ?? false }

    /// The name that the client wanted to reach (SNI).
    package var serverName: String? { tls?.serverName }

    /// What has come, left where it is: what stands before TLS. The corresponding C function is `recv` with MSG_PEEK.
    package func peek(into bytes: inout [UInt8]) -> ReadResult {
        unsafe bytes.withUnsafeMutableBytes { unsafe receive(into: $0, CInt(MSG_PEEK)) }
    }

    /// Takes so many bytes away that `peek` has shown.
    package func skip(_ count: Int) {
        var bytes = [UInt8](repeating: 0, count: count)
        unsafe bytes.withUnsafeMutableBytes { _ = unsafe receive(into: $0, 0) }
    }
}

/// Why a stream can't go on.
package enum StreamError: Error, Equatable, CustomStringConvertible {
    case system(SystemError)
    case tls(String)

    package var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .tls(let reason): "TLS: \(reason)"
        }
    }
}
