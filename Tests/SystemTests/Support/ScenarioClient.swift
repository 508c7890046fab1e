import Foundation
import Glibc

@testable import Conformance

/// One connection of a scenario: sends what the conformance language says and notes what comes.
final class ScenarioClient {
    enum Place: Equatable {
        case address(String, UInt16)
        case path(String)
    }

    let name: String
    private let descriptor: Int32
    private var unread: [UInt8] = []
    private var latestIdentifier: UInt16 = 0
    private(set) var isOver = false
    /// Whether nothing is acknowledged unless a step says so.
    var isHolding = false
    private var held: [Conformance.Packet.Publication] = []
    private(set) var observed: [String] = []

    init(_ name: String, to place: Place, from source: String?) throws {
        self.name = name
        let family: Int32
        switch place {
        case .address(let address, _): family = address.contains(":") ? AF_INET6 : AF_INET
        case .path: family = AF_UNIX
        }
        descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Unexpected(errno: errno, during: "socket") }
        if let source {
            guard withSocketAddress(.address(source, 0), { bind(descriptor, $0, $1) }) == 0 else {
                throw Unexpected(errno: errno, during: "bind")
            }
        }
        guard withSocketAddress(place, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            let code = errno
            close(descriptor)
            throw Unexpected(errno: code, during: "connect")
        }
    }

    deinit { close(descriptor) }

    // MARK: Sending

    func send(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
            }
            // What comes back tells that the broker has closed.
            guard count > 0 else { return }
            sent += count
        }
    }

    func freshIdentifier() -> UInt16 {
        latestIdentifier += 1
        return latestIdentifier
    }

    func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        isOver = true
    }

    // MARK: Receiving

    func takeObserved() -> [String] {
        defer { observed = [] }
        return observed
    }

    /// Reads, noting what comes, until this holds of a packet or the broker has closed. The packet itself is noted too,
    /// unless it is a PINGRESP.
    func read(within seconds: Double = 10, until isEnough: (Conformance.Packet) -> Bool) throws {
        let deadline = Deadline(after: seconds * patience)
        while !isOver {
            while case .frame(let frame, let count) = Frame.cut(unread) {
                unread.removeFirst(count)
                let packet = frame.packet
                note(packet)
                if isEnough(packet) { return }
            }
            guard try fill(until: deadline) else {
                isOver = true
                observed.append("closed")
                return
            }
        }
    }

    private func fill(until deadline: Deadline) throws -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, deadline.remainingMilliseconds) > 0 else {
            throw Unexpected("\(name) waits in vain; it has seen \(observed)")
        }
        return try withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { chunk in
            let count = recv(descriptor, chunk.baseAddress, chunk.count, 0)
            guard count >= 0 || errno == ECONNRESET else { throw Unexpected(errno: errno, during: "recv") }
            unread.append(contentsOf: chunk.prefix(max(count, 0)))
            return count > 0
        }
    }

    private func note(_ packet: Conformance.Packet) {
        switch packet {
        case .pingresp: return
        case .publish(let publication):
            observed.append(packet.description.replacing(#/ id \d+/#, with: ""))
            if isHolding { held.append(publication) } else { acknowledge(publication) }
            return
        case .reply(.pubrel, let identifier) where !isHolding:
            // Answered silently: what it belongs to was noted.
            return send(Frame(.pubcomp, Wire.uint16(identifier)).bytes())
        case .reply(let kind, _): observed.append(kind.name)
        case .suback(_, let codes): observed.append(Conformance.Packet.suback(identifier: 0, codes: codes).description)
        default: observed.append(packet.description)
        }
    }

    private func acknowledge(_ publication: Conformance.Packet.Publication) {
        let identifier = Wire.uint16(publication.identifier)
        if publication.qos == 1 { send(Frame(.puback, identifier).bytes()) }
        if publication.qos == 2 { send(Frame(.pubrec, identifier).bytes()) }
    }

    /// The oldest that were held back.
    func acknowledge(_ count: Int) throws {
        guard held.count >= count else { throw Unexpected("\(name) has only \(held.count) to acknowledge") }
        held.prefix(count).forEach(acknowledge)
        held.removeFirst(count)
    }

    /// Two round trips: after the first the broker has handled what this connection sent, after the second also what
    /// another thread of it had for this one. Again, while acknowledgements bring more.
    func settle() throws {
        var before: Int
        repeat {
            before = observed.count
            for _ in 1...2 where !isOver {
                send(Frame(.pingreq).bytes())
                try read { $0 == .pingresp }
            }
        } while observed.count > before && !isOver
    }
}

/// Calls `body` with the place as C knows it.
func withSocketAddress<R>(
    _ place: ScenarioClient.Place, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R {
    func call<A>(_ address: A, _ length: Int) -> R {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
        }
    }
    switch place {
    case .address(let text, let port) where text.contains(":"):
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        inet_pton(AF_INET6, text, &address.sin6_addr)
        return call(address, MemoryLayout<sockaddr_in6>.size)
    case .address(let text, let port):
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, text, &address.sin_addr)
        return call(address, MemoryLayout<sockaddr_in>.size)
    case .path(let path):
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8).prefix($0.count - 1)) }
        return call(address, MemoryLayout<sockaddr_un>.size)
    }
}
