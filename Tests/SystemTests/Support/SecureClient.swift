import Conformance
import Foundation
import Glibc
import Transport

/// A client over TLS that sends whatever bytes it is given, and can keep the end of its handshake to itself until there is
/// more to go with it.
final class SecureClient {
    private let lower: HoldingStream
    private let stream: any ByteStream
    private var unread: [UInt8] = []

    /// `holding`: what follows the ClientHello stays here until `release` (TLS 1.3 only, where the broker has nothing more
    /// to say then). `certificate`: of the authority's.
    init(port: UInt16, _ authority: Authority, certificate: String? = nil, holding: Bool = false) throws {
        let client = try TLSClient(
            host: "127.0.0.1", authorities: authority.file("ca.crt"),
            certificate: certificate.map { authority.file("\($0).crt") },
            key: certificate.map { authority.file("\($0).key") })
        lower = HoldingStream(try TCPStream(SocketAddress(ipv4: 0x7f00_0001, port: port)), isHolding: holding)
        stream = try client.secure(lower)
    }

    func send(_ bytes: [UInt8]) { stream.send(bytes) }

    /// All that was held leaves as one piece.
    func release() { lower.release() }

    /// close_notify, and the end of what TCP carries.
    func finish() { stream.finish() }

    /// The end of what TCP carries, without a word of TLS.
    func cut() { lower.finish() }

    /// So many bytes, or fewer if the broker closes or is silent before.
    func receive(_ count: Int, within seconds: Double = 20) -> [UInt8] {
        let deadline = ContinuousClock.now + .seconds(seconds * patience)
        while unread.count < count, case .bytes(let bytes) = stream.receive(until: deadline) { unread += bytes }
        let received = Array(unread.prefix(count))
        unread.removeFirst(received.count)
        return received
    }

    /// Whether the broker closes in time; what it sends before is ignored.
    func isClosed(within seconds: Double = 10) -> Bool {
        let deadline = ContinuousClock.now + .seconds(seconds * patience)
        while true {
            switch stream.receive(until: deadline) {
            case .bytes: continue
            case .closed: return true
            case .timedOut, .illegal: return false
            }
        }
    }
}

/// Hands on the first piece, the ClientHello, and keeps what comes then.
private final class HoldingStream: ByteStream {
    private let lower: TCPStream
    private var isHolding: Bool
    private var sent = 0
    private var held: [UInt8] = []

    init(_ lower: TCPStream, isHolding: Bool) {
        self.lower = lower
        self.isHolding = isHolding
    }

    func release() {
        isHolding = false
        lower.send(held)
        held = []
    }

    func send(_ bytes: [UInt8]) {
        if isHolding, sent > 0 { held += bytes } else { lower.send(bytes) }
        sent += 1
    }

    func receive(until deadline: ContinuousClock.Instant) -> Conformance.Received { lower.receive(until: deadline) }
    func finish() { lower.finish() }
    func reset() { lower.reset() }
}
