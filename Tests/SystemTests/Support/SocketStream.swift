import Foundation
import Glibc

/// Bytes both ways over a socket, for the clients of the tests; whatever waits gives up at its deadline.
final class SocketStream {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var taken = 0

    /// To the loopback.
    init(port: UInt16, receiveBufferBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Unexpected(errno: errno, during: "socket") }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        if var bytes = receiveBufferBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
        }
        guard withLoopback(port, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            throw Unexpected(errno: errno, during: "connect")
        }
    }

    /// Over a socket that is connected and belongs to the stream from now on.
    init(adopting descriptor: Int32) { self.descriptor = descriptor }

    /// Ends the connection in both directions.
    func cut() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    deinit { close(descriptor) }

    // MARK: Sending

    /// Waits while the broker does not read, up to the deadline.
    func send(_ bytes: [UInt8], within seconds: Double = 20) throws {
        let deadline = Deadline(after: seconds * patience)
        var sent = 0
        while sent < bytes.count {
            let count = send(bytes, from: sent, atMost: bytes.count)
            if count > 0 {
                sent += count
            } else if errno == EAGAIN {
                guard wait(for: POLLOUT, until: deadline) else { throw Unexpected("the broker does not read") }
            } else if errno != EINTR {
                throw Unexpected(errno: errno, during: "send")
            }
        }
    }

    /// Sends `bytes` again and again, until the broker has not read for a second or `limit` bytes are out. Returns how
    /// many went.
    func sendUntilBlocked(_ bytes: [UInt8], limit: Int) throws -> Int {
        var sent = 0
        while sent < limit {
            let count = send(bytes, from: sent % bytes.count, atMost: limit - sent)
            if count > 0 {
                sent += count
            } else if errno == EAGAIN {
                guard wait(for: POLLOUT, until: Deadline(after: patience)) else { return sent }
            } else if errno != EINTR {
                throw Unexpected(errno: errno, during: "send")
            }
        }
        return sent
    }

    private func send(_ bytes: [UInt8], from start: Int, atMost most: Int) -> Int {
        bytes.withUnsafeBytes {
            Glibc.send(
                descriptor, $0.baseAddress! + start, min($0.count - start, most), Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        }
    }

    /// Says that nothing more comes.
    func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// The end without a word.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    // MARK: Receiving

    /// What has come and is not taken.
    var input: ArraySlice<UInt8> { buffer[taken...] }

    /// Whether something can be read now.
    var hasInput: Bool { buffer.count > taken || wait(for: POLLIN, until: Deadline(after: 0)) }

    func take(_ count: Int) { taken += count }

    func receive(_ count: Int, within seconds: Double = 10) throws -> [UInt8] {
        let deadline = Deadline(after: seconds * patience)
        while buffer.count - taken < count {
            guard try fill(until: deadline) else { throw Unexpected("the broker closed the connection") }
        }
        defer { taken += count }
        return Array(buffer[taken..<(taken + count)])
    }

    /// Whether the broker closes the connection in time, having said so many bytes if that is asked.
    func isClosed(within seconds: Double = 10, andSays count: Int? = nil) -> Bool {
        let deadline = Deadline(after: seconds * patience)
        do {
            while try fill(until: deadline) {
                if count == nil { taken = buffer.count }
            }
            return count.map { buffer.count - taken == $0 } ?? true
        } catch { return false }
    }

    /// Reads what there is; false at the end of the stream, which a reset counts as.
    func fill(until deadline: Deadline) throws -> Bool {
        if taken == buffer.count || taken > 1 << 16 {
            buffer.removeFirst(taken)
            taken = 0
        }
        guard wait(for: POLLIN, until: deadline) else { throw Unexpected("nothing came in time") }
        return try withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { chunk in
            let count = recv(descriptor, chunk.baseAddress, chunk.count, 0)
            guard count >= 0 || errno == ECONNRESET else { throw Unexpected(errno: errno, during: "recv") }
            buffer.append(contentsOf: chunk.prefix(max(count, 0)))
            return count > 0
        }
    }

    private func wait(for event: Int32, until deadline: Deadline) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(event), revents: 0)
        while true {
            let count = poll(&entry, 1, deadline.remainingMilliseconds)
            if count >= 0 { return count > 0 }
        }
    }
}
