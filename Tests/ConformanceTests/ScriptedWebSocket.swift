import Testing

@testable import Conformance

/// A server of WebSocket in memory, behind which the polite broker sits; right, or wrong in one way.
final class ScriptedWebSocket: ByteStream {
    enum Fault: Sendable {
        case acceptsText
        /// Reads each frame as if it began with a packet.
        case assumesAlignment
        case answersInText
        case closesAtEmpty
        /// Answers every upgrade with 101, and with this line instead of the right subprotocol.
        case serves(String)
    }

    private let fault: Fault?
    /// In place of the right answer to the upgrade; `{101}` and `{accept}` stand for its right parts.
    private let answer: String?
    /// At most so many bytes are received at a time.
    private let pieceBytes: Int
    private let broker = ScriptedBroker(politeAnswer)
    private var unread: [UInt8] = []
    private var ready: [UInt8] = []
    private(set) var request: [String] = []
    /// What the client has sent, without masks.
    private(set) var frames: [(first: UInt8, payload: [UInt8])] = []
    var isClosed = false
    /// Then the test says when the connection ends.
    private var hasBegunClose = false

    init(_ fault: Fault? = nil, answer: String? = nil, pieceBytes: Int = .max) {
        self.fault = fault
        self.answer = answer
        self.pieceBytes = pieceBytes
    }

    private func field(_ name: String) -> String {
        request.first { $0.hasPrefix("\(name): ") }.map { String($0.dropFirst(name.count + 2)) } ?? ""
    }

    var key: String { field("Sec-WebSocket-Key") }

    // MARK: What it sends

    func push(_ first: UInt8, _ payload: [UInt8]) {
        if first == 0x88 { hasBegunClose = true }
        var frame = [first]
        switch payload.count {
        case ..<126: frame.append(UInt8(payload.count))
        case ..<65_536: frame += [126] + Wire.uint16(UInt16(payload.count))
        default: frame += [127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        push(frame + payload)
    }

    func push(_ bytes: [UInt8]) { ready += bytes }

    func receive(until deadline: ContinuousClock.Instant) -> Received {
        if !ready.isEmpty {
            let piece = Array(ready.prefix(pieceBytes))
            ready.removeFirst(piece.count)
            return .bytes(piece)
        }
        return isClosed ? .closed : .timedOut
    }

    // MARK: What it reads

    func send(_ bytes: [UInt8]) {
        unread += bytes
        if request.isEmpty { upgrade() } else { readFrames() }
    }

    private func upgrade() {
        guard let end = unread.firstRange(of: Array("\r\n\r\n".utf8)) else { return }
        request = String(decoding: unread[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n").map(String.init)
        unread.removeFirst(end.upperBound)
        let offered = field("Sec-WebSocket-Protocol").split(separator: ",").map(\.trimmed)
        let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade"
        var text = answer ?? "{101}\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt"
        if case .serves(let line) = fault {
            text = "{101}\r\nSec-WebSocket-Accept: {accept}" + (line.isEmpty ? "" : "\r\n\(line)")
        } else if answer == nil, !offered.contains("mqtt") {
            text = "HTTP/1.1 400 Bad Request"
            isClosed = true
        }
        for (name, value) in [
            ("{101}", switching), ("{accept}", WebSocketStream.accept(key)), ("{offered}", offered.first ?? ""),
        ] {
            text = text.split(separator: name, omittingEmptySubsequences: false).joined(separator: value)
        }
        push(Array((text + "\r\n\r\n").utf8))
    }

    private func readFrames() {
        while let (first, payload) = takeFrame(), !isClosed {
            frames.append((first, payload))
            switch first & 0x0f {
            case 0, 2: hand(payload)
            case 1: if case .acceptsText = fault { hand(payload) } else { isClosed = true }
            case 8: isClosed = !hasBegunClose
            case 9: push(0x8a, payload)
            case 10: break
            default: isClosed = true
            }
        }
    }

    private func hand(_ payload: [UInt8]) {
        if case .assumesAlignment = fault, case .incomplete = Frame.cut(payload) { return }
        if case .closesAtEmpty = fault, payload.isEmpty {
            isClosed = true
            return
        }
        // Frames in pieces are about frames, not about packets.
        guard pieceBytes == .max else { return }
        broker.send(payload)
        switch broker.receive(until: .now) {
        case .bytes(let bytes): if case .answersInText = fault { push(0x81, bytes) } else { push(0x82, bytes) }
        case .closed: isClosed = true
        default: break
        }
    }

    /// The client's frames have a mask. (RFC 6455, 5.3)
    private func takeFrame() -> (UInt8, [UInt8])? {
        guard unread.count >= 2 else { return nil }
        let first = unread[0]
        var (length, offset) = (Int(unread[1] & 0x7f), 2)
        #expect(unread[1] & 0x80 != 0, "a frame without a mask")
        if length > 125 {
            offset += length == 126 ? 2 : 8
            length = unread[2..<offset].reduce(0) { $0 << 8 | Int($1) }
        }
        guard unread.count >= offset + 4 + length else { return nil }
        let mask = Array(unread[offset..<offset + 4])
        let payload = unread[(offset + 4)..<(offset + 4 + length)].enumerated().map { $1 ^ mask[$0 & 3] }
        unread.removeFirst(offset + 4 + length)
        return (first, payload)
    }

    func finish() { isClosed = true }
    func reset() { isClosed = true }
}
