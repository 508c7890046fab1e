import Foundation
import Glibc

/// A blocking MQTT client over a plain socket that sends whatever bytes it is given and reads one control packet at a time.
final class RawClient {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var offset = 0

    init(port: UInt16, receiveBufferBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Unexpected(errno: errno, during: "socket") }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        if var bytes = receiveBufferBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
        }
        guard withLoopback(port, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            let code = errno
            throw Unexpected(errno: code, during: "connect")
        }
    }

    /// Over a socket that is connected and belongs to the client from now on.
    init(adopting descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    // MARK: Sending

    /// Waits while the broker does not read, up to the deadline.
    func send(_ bytes: [UInt8], within seconds: Double = 20) throws {
        let deadline = Deadline(after: seconds * patience)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress! + sent, $0.count - sent,
                    Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
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
            let start = sent % bytes.count
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress! + start, min($0.count - start, limit - sent),
                    Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
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

    // MARK: Receiving

    /// The next control packet; throws at the deadline and when the broker closes.
    func receive(within seconds: Double = 10) throws -> Received {
        let deadline = Deadline(after: seconds * patience)
        while true {
            if let packet = nextPacket() { return packet }
            guard try fill(until: deadline) else { throw Unexpected("the broker closed the connection") }
        }
    }

    /// Whether the broker closes the connection in time; what it sends before is ignored.
    func isClosed(within seconds: Double = 10) -> Bool {
        let deadline = Deadline(after: seconds * patience)
        do {
            while try fill(until: deadline) { buffer.removeAll(keepingCapacity: true) }
            return true
        } catch { return false }
    }

    /// Whether something can be read now.
    var hasInput: Bool { buffer.count > offset || wait(for: POLLIN, until: Deadline(after: 0)) }

    private func nextPacket() -> Received? {
        var position = offset + 1
        var remainingLength = 0
        var shift = 0
        while true {
            guard position < buffer.count else { return nil }
            let byte = buffer[position]
            position += 1
            remainingLength |= Int(byte & 0x7f) << shift
            shift += 7
            if byte & 0x80 == 0 { break }
        }
        guard buffer.count - position >= remainingLength else { return nil }
        let packet = Received(first: buffer[offset], body: Array(buffer[position..<position + remainingLength]))
        offset = position + remainingLength
        return packet
    }

    /// Reads what there is; false at the end of the stream, which a reset counts as.
    private func fill(until deadline: Deadline) throws -> Bool {
        buffer.removeFirst(offset)
        offset = 0
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

// MARK: Exchanges

extension RawClient {
    /// CONNECT, and a CONNACK that accepts; returns Session Present.
    @discardableResult
    func connect(
        _ identifier: String, cleanSession: Bool = true, keepAlive: UInt16 = 0,
        will: (topic: String, payload: String, qos: UInt8)? = nil
    ) throws -> Bool {
        try send(Packet.connect(identifier, cleanSession: cleanSession, keepAlive: keepAlive, will: will))
        let answer = try receive()
        guard answer.first == 0x20, answer.body.count == 2, answer.body[1] == 0 else {
            throw Unexpected("CONNACK expected, not \(answer)")
        }
        return answer.body[0] == 1
    }

    /// SUBSCRIBE, and the return codes of its SUBACK.
    @discardableResult
    func subscribe(_ filters: [(filter: String, qos: UInt8)], identifier: UInt16 = 1) throws -> [UInt8] {
        try subscribe(filters.map { (Array($0.filter.utf8), $0.qos) }, identifier: identifier)
    }

    @discardableResult
    func subscribe(_ filters: [(filter: [UInt8], qos: UInt8)], identifier: UInt16 = 1) throws -> [UInt8] {
        try send(Packet.subscribe(filters, identifier: identifier))
        let answer = try receive(within: 30)
        guard answer.first == 0x90, Array(answer.body.prefix(2)) == Packet.uint16(identifier) else {
            throw Unexpected("SUBACK \(identifier) expected, not \(answer)")
        }
        return Array(answer.body.dropFirst(2))
    }

    func publish(_ topic: String, _ payload: String, retain: Bool = false) throws {
        try send(Packet.publish(topic, payload, retain: retain))
    }

    /// An exchange that proves the connection lives and everything sent before has been handled.
    func ping() throws {
        try send(Packet.pingRequest)
        let answer = try receive(within: 30)
        guard answer == Received(first: 0xd0, body: []) else { throw Unexpected("PINGRESP expected, not \(answer)") }
    }
}
