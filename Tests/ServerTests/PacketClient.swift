import Glibc
import MQTT

/// A blocking client that speaks whole packets: one thread of a test each.
final class PacketClient {
    struct Failure: Error { let reason: String }

    private let descriptor: Int32
    private var input: [UInt8] = []
    private var offset = 0

    /// Connects to a port of the loopback; reads and writes give up after half a minute.
    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
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
    }

    deinit { close(descriptor) }

    func send(_ packets: [ControlPacket]) throws {
        var bytes: [UInt8] = []
        for packet in packets { packet.encode(into: &bytes) }
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure(reason: "send: errno \(errno)") }
            sent += count
        }
    }

    func receive() throws -> ControlPacket {
        while true {
            if let packet = try ControlPacket.next(in: input, at: &offset) { return packet }
            input.removeFirst(offset)
            offset = 0
            let count = withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { buffer in
                let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
                input.append(contentsOf: buffer.prefix(max(count, 0)))
                return count
            }
            guard count > 0 else { throw Failure(reason: count == 0 ? "closed" : "recv: errno \(errno)") }
        }
    }

    func connect(_ client: String) throws {
        try send([.connect(Connect(keepAlive: 0, clientIdentifier: Array(client.utf8)))])
        let answer = try receive()
        guard case .connectAcknowledgement(let acknowledgement) = answer, acknowledgement.returnCode == .accepted else {
            throw Failure(reason: "CONNACK expected, not \(answer)")
        }
    }

    func subscribe(_ filter: String, _ qos: QoS) throws {
        let subscription = Subscription(filter: Array(filter.utf8), maximumQoS: qos)
        try send([.subscribe([subscription], packetIdentifier: 1)])
        guard case .subscribeAcknowledgement = try receive() else { throw Failure(reason: "SUBACK expected") }
    }
}
