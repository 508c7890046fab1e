internal import COpenSSL

/// MQTT's WebSocket (RFC 6455, MQTT 6) over another stream, as a client that holds a broker to both: what the broker may
/// not send comes out as `Received.illegal`. It shares nothing with the broker's own.
package final class WebSocketStream: ByteStream {
    private enum State: Equatable {
        case open
        /// The broker has answered the upgrade otherwise: nothing can be sent, and nothing comes.
        case refused
        /// The broker's Close has come, and has been answered. What is left is the end of the connection below.
        case closing
    }

    private let lower: any ByteStream
    private var state = State.open
    private var hasSentClose = false
    private var unread: [UInt8] = []
    /// A message of which the last frame has not come yet.
    private var isWithinMessage = false
    /// What was wrong, which then stays so.
    private var problem: String?
    /// How the broker answered the upgrade, for a person.
    package private(set) var answer = ""

    private static let patience = Duration.seconds(10)
    private static let answerBytes = 64 << 10
    /// The longest frame that is read whole.
    private static let frameBytes = 16 << 20

    /// The first byte of a frame's header: FIN and the opcode (RFC 6455, 5.2).
    private enum FirstByte {
        static let binary: UInt8 = 0x82
        static let close: UInt8 = 0x88
        static let pong: UInt8 = 0x8a
    }

    /// Opens the WebSocket. Waits 10 s for it at most.
    ///
    /// `host`: what the Host header says, with the port. `subprotocols`: what is offered; nil: nothing. Throws `Refusal`
    /// if the broker answers otherwise than a WebSocket wants it, or doesn't select `mqtt` [MQTT-6.0.0-4].
    package static func open(
        _ lower: any ByteStream, host: String, subprotocols: String? = "mqtt"
    ) throws(Refusal) -> WebSocketStream {
        let stream = WebSocketStream(lower)
        if let reason = stream.upgrade(host, subprotocols) { throw Refusal(reason: reason, answer: stream.answer) }
        return stream
    }

    /// The same, but a refusal is a stream that is closed already.
    package static func offering(_ subprotocols: String?, _ lower: any ByteStream, host: String) -> WebSocketStream {
        let stream = WebSocketStream(lower)
        if stream.upgrade(host, subprotocols) != nil {
            stream.state = .refused
            lower.reset()
        }
        return stream
    }

    /// Why there is no WebSocket.
    package struct Refusal: Error, CustomStringConvertible {
        let reason: String
        let answer: String
        package var description: String { "the WebSocket: \(reason)" + (answer.isEmpty ? "" : " (\(answer))") }
    }

    private init(_ lower: any ByteStream) { self.lower = lower }

    // MARK: The upgrade

    /// The opening handshake (RFC 6455, 4.1). Returns what is wrong with the broker's part.
    private func upgrade(_ host: String, _ subprotocols: String?) -> String? {
        let key = base64((0..<16).map { _ in UInt8.random(in: 0...255) })
        var lines = [
            "GET /mqtt HTTP/1.1", "Host: \(host)", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: \(key)", "Sec-WebSocket-Version: 13",
        ]
        if let subprotocols { lines.append("Sec-WebSocket-Protocol: \(subprotocols)") }
        lower.send(Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8))

        let end = Array("\r\n\r\n".utf8)
        let deadline = ContinuousClock.now + Self.patience
        var place = unread.firstRange(of: end)
        while place == nil {
            guard unread.count < Self.answerBytes else { return "an answer without an end" }
            switch lower.receive(until: deadline) {
            case .bytes(let bytes): unread += bytes
            case .closed: return "the broker has closed the connection instead of an answer"
            case .illegal(let reason): return reason
            case .timedOut: return "no answer"
            }
            place = unread.firstRange(of: end)
        }
        guard let place else { return "no answer" }
        let head = Head(String(decoding: unread[..<place.lowerBound], as: UTF8.self))
        unread.removeFirst(place.upperBound)
        answer = head.status
        return head.mistake(key: key, offered: (subprotocols ?? "").split(separator: ",").map(\.trimmed))
    }

    /// The broker's answer.
    private struct Head {
        let status: String
        let fields: [(name: String, value: String)]

        init(_ text: String) {
            let lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
            status = String(lines.first ?? "")
            fields = lines.dropFirst().map { line in
                let name = line.prefix { $0 != ":" }
                return (name.lowercased(), line.dropFirst(name.count + 1).trimmed)
            }
        }

        private func value(_ name: String) -> String? {
            let values = fields.filter { $0.name == name }.map(\.value)
            return values.isEmpty ? nil : values.joined(separator: ", ")
        }

        /// RFC 6455, 4.1, what the client has to check.
        func mistake(key: String, offered: [String]) -> String? {
            guard status.hasPrefix("HTTP/1.1 101") else { return "the upgrade was refused" }
            guard value("upgrade")?.lowercased() == "websocket" else { return "an answer without Upgrade: websocket" }
            let connection = (value("connection") ?? "").lowercased().split(separator: ",").map(\.trimmed)
            guard connection.contains("upgrade") else { return "an answer without Connection: Upgrade" }
            guard value("sec-websocket-accept") == WebSocketStream.accept(key) else {
                return "Sec-WebSocket-Accept is not what the key asks for"
            }
            guard value("sec-websocket-extensions") == nil else { return "an extension that was not offered" }
            let selected = value("sec-websocket-protocol")
            if let selected, !offered.contains(selected) { return "the subprotocol \(selected) was not offered" }
            if offered.contains("mqtt"), selected != "mqtt" { return "mqtt was not selected" }  // [MQTT-6.0.0-4]
            return nil
        }
    }

    /// What proves that the broker has read the key. The corresponding C function is `EVP_Digest`.
    static func accept(_ key: String) -> String {
        let text = Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)
        var digest = [UInt8](repeating: 0, count: 20)
        let status = unsafe EVP_Digest(text, text.count, &digest, nil, EVP_sha1(), nil)
        precondition(status == 1, "SHA-1 is always there")
        return base64(digest)
    }

    // MARK: Sending

    /// In one binary frame. [MQTT-6.0.0-1]
    package func send(_ bytes: [UInt8]) { send(bytes, inFrame: FirstByte.binary) }

    /// In a frame whose header begins with this byte: FIN, the reserved bits and the opcode, right or wrong.
    package func send(_ bytes: [UInt8], inFrame firstByte: UInt8) {
        guard state == .open, !hasSentClose else { return }
        hasSentClose = firstByte == FirstByte.close
        let mask = (0..<4).map { _ in UInt8.random(in: 0...255) }
        var frame = [firstByte]
        switch bytes.count {
        case ..<126: frame.append(0x80 | UInt8(bytes.count))
        case ..<65_536: frame += [0x80 | 126] + Wire.uint16(UInt16(bytes.count))
        default: frame += [0x80 | 127] + (0..<8).map { UInt8(truncatingIfNeeded: bytes.count >> (56 - 8 * $0)) }
        }
        frame += mask
        let start = frame.count
        frame += bytes
        for place in 0..<bytes.count { frame[start + place] ^= mask[place & 3] }
        lower.send(frame)
    }

    /// With a Close; the broker closes the connection below.
    package func finish() { send(Wire.uint16(1000), inFrame: FirstByte.close) }

    package func reset() { lower.reset() }

    // MARK: Receiving

    package func receive(until deadline: ContinuousClock.Instant) -> Received {
        while state != .refused {
            if let problem { return .illegal(problem) }
            switch takeFrame() {
            case .payload(let bytes) where !bytes.isEmpty: return .bytes(bytes)
            case .payload, .nothingToRead: continue
            case .illegal(let reason):
                problem = reason
                continue
            case .incomplete: break
            }
            switch lower.receive(until: deadline) {
            case .bytes(let bytes): if state == .open { unread += bytes }
            case let other: return other
            }
        }
        return .closed
    }

    private enum Taken {
        case payload([UInt8])
        case nothingToRead
        case incomplete
        case illegal(String)
    }

    /// The next frame, if all of it is there.
    private func takeFrame() -> Taken {
        guard state == .open, unread.count >= 2 else { return .incomplete }
        let (first, second) = (unread[0], unread[1])
        guard first & 0x70 == 0 else { return .illegal("a frame with reserved bits, 0x\(hexadecimal(first))") }
        guard second & 0x80 == 0 else { return .illegal("a frame with a mask, from a server") }
        var (length, offset) = (Int(second), 2)
        if length > 125 {
            offset += length == 126 ? 2 : 8
            guard unread.count >= offset else { return .incomplete }
            length = 0
            for byte in unread[2..<offset] {
                guard length <= Self.frameBytes else { break }
                length = length << 8 | Int(byte)
            }
            // The fewest bytes that do. (RFC 6455, 5.2)
            guard length > (offset == 4 ? 125 : 65_535) else { return .illegal("a length of too many bytes") }
        }
        guard length <= Self.frameBytes else { return .illegal("a frame of more than \(Self.frameBytes) bytes") }
        guard unread.count >= offset + length else { return .incomplete }
        let payload = Array(unread[offset..<offset + length])
        unread.removeFirst(offset + length)
        return first & 0x08 == 0 ? data(first, payload) : control(first, payload)
    }

    private func data(_ first: UInt8, _ payload: [UInt8]) -> Taken {
        let opcode = first & 0x0f
        guard opcode == (isWithinMessage ? 0 : 2) else {  // [MQTT-6.0.0-1]
            return .illegal("a data frame that is not binary, 0x\(hexadecimal(first))")
        }
        isWithinMessage = first & 0x80 == 0
        return .payload(payload)
    }

    private func control(_ first: UInt8, _ payload: [UInt8]) -> Taken {
        guard first & 0x80 != 0, payload.count <= 125 else { return .illegal("a control frame that is cut or long") }
        switch first & 0x0f {
        case 8:
            guard payload.count != 1 else { return .illegal("a Close with half a code") }
            if !hasSentClose { send(Array(payload.prefix(2)), inFrame: FirstByte.close) }
            state = .closing
            unread = []
        case 9: send(payload, inFrame: FirstByte.pong)
        case 10: break
        default: return .illegal("a control frame that nobody knows, 0x\(hexadecimal(first))")
        }
        return .nothingToRead
    }
}

/// The corresponding C function is `EVP_EncodeBlock`.
private func base64(_ bytes: [UInt8]) -> String {
    // And a zero behind them.
    var text = [UInt8](repeating: 0, count: (bytes.count + 2) / 3 * 4 + 1)
    let count = unsafe EVP_EncodeBlock(&text, bytes, CInt(bytes.count))
    return String(decoding: text.prefix(Int(count)), as: UTF8.self)
}
