internal import CLinux
internal import Glibc
package import Transport

/// An ordered, lossless stream of bytes to a broker (MQTT 7.1.1), seen from a client that waits for what it asks. TCP
/// at first; TLS and WebSocket lie over it, and tests put a lens over it that shows a broken broker.
///
/// Belongs to the case that opened it and is used on one thread.
package protocol ByteStream: AnyObject {
    /// Sends all of it, unless the peer has closed its side: what comes back tells then.
    func send(_ bytes: [UInt8])
    /// What has come, or nothing until then.
    func receive(until deadline: ContinuousClock.Instant) -> Received
    /// Says that nothing more comes from here.
    func finish()
    /// Ends the connection as a network does that fails.
    func reset()
}

package enum Received: Equatable {
    case bytes([UInt8])
    /// The broker has closed the connection, in order or by a reset.
    case closed
    case timedOut
    /// What the transport forbids a broker, told for a person. Nothing more comes then.
    case illegal(String)
}

/// Opens a stream to the broker under test.
package typealias Connector = @Sendable () throws -> any ByteStream

/// A TCP connection.
package final class TCPStream: ByteStream {
    private var descriptor: Descriptor?
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)
    private static let patience = Duration.seconds(10)

    /// The corresponding C functions are `socket` and `connect`. Throws `SystemError`.
    package init(_ address: SocketAddress) throws {
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = try Descriptor(adopting: socket(address.family, type, 0), from: "socket")
        let status = unsafe address.withPointer { unsafe connect(descriptor.rawValue, $0, address.length) }
        if status != 0 {
            guard errno == EINPROGRESS else { throw SystemError(errno, during: "connect") }
            guard Self.wait(descriptor.rawValue, for: POLLOUT, until: .now + Self.patience) else {
                throw SystemError(ETIMEDOUT, during: "connect")
            }
            var code: CInt = 0
            var length = socklen_t(MemoryLayout<CInt>.size)
            unsafe getsockopt(descriptor.rawValue, SOL_SOCKET, SO_ERROR, &code, &length)
            guard code == 0 else { throw SystemError(code, during: "connect") }
        }
        var isOn: CInt = 1
        unsafe setsockopt(
            descriptor.rawValue, CInt(IPPROTO_TCP), TCP_NODELAY, &isOn, socklen_t(MemoryLayout<CInt>.size))
        self.descriptor = consume descriptor
    }

    private var rawDescriptor: CInt { descriptor?.rawValue ?? -1 }

    package func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        let deadline = ContinuousClock.now + Self.patience
        while !rest.isEmpty, rawDescriptor >= 0 {
            let count = unsafe rest.withUnsafeBytes {
                unsafe Glibc.send(rawDescriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            if count >= 0 {
                rest.removeFirst(count)
            } else if errno == EAGAIN || errno == EINTR {
                guard Self.wait(rawDescriptor, for: POLLOUT, until: deadline) else { return }
            } else {
                return
            }
        }
    }

    package func receive(until deadline: ContinuousClock.Instant) -> Received {
        while rawDescriptor >= 0 {
            let count = unsafe buffer.withUnsafeMutableBytes {
                unsafe recv(rawDescriptor, $0.baseAddress, $0.count, 0)
            }
            if count > 0 { return .bytes(Array(buffer.prefix(count))) }
            guard count < 0, errno == EAGAIN || errno == EINTR else { return .closed }
            guard Self.wait(rawDescriptor, for: POLLIN, until: deadline) else { return .timedOut }
        }
        return .closed
    }

    package func finish() { shutdown(rawDescriptor, CInt(SHUT_WR)) }

    package func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(rawDescriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        descriptor = nil
    }

    /// The corresponding C function is `poll`.
    private static func wait(_ descriptor: CInt, for events: CInt, until deadline: ContinuousClock.Instant) -> Bool {
        while true {
            let rest = ContinuousClock.now.duration(to: deadline)
            var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            let count = unsafe poll(&entry, 1, CInt(max(0, (rest / .milliseconds(1)).rounded(.up))))
            if count > 0 { return true }
            if count == 0 || errno != EINTR { return false }
        }
    }
}
