/// A blocking MQTT client over a plain socket that sends whatever bytes it is given and reads one control packet at a time.
final class RawClient {
    private let stream: SocketStream

    init(port: UInt16, receiveBufferBytes: Int32? = nil) throws {
        stream = try SocketStream(port: port, receiveBufferBytes: receiveBufferBytes)
    }

    /// Over a socket that is connected and belongs to the client from now on.
    init(adopting descriptor: Int32) { stream = SocketStream(adopting: descriptor) }

    /// Waits while the broker does not read, up to the deadline.
    func send(_ bytes: [UInt8], within seconds: Double = 20) throws { try stream.send(bytes, within: seconds) }

    /// Sends `bytes` again and again, until the broker has not read for a second or `limit` bytes are out. Returns how
    /// many went.
    func sendUntilBlocked(_ bytes: [UInt8], limit: Int) throws -> Int {
        try stream.sendUntilBlocked(bytes, limit: limit)
    }

    /// The next control packet; throws at the deadline and when the broker closes.
    func receive(within seconds: Double = 10) throws -> Received {
        let deadline = Deadline(after: seconds * patience)
        while true {
            if let packet = nextPacket() { return packet }
            guard try stream.fill(until: deadline) else { throw Unexpected("the broker closed the connection") }
        }
    }

    /// Whether the broker closes the connection in time; what it sends before is ignored.
    func isClosed(within seconds: Double = 10) -> Bool { stream.isClosed(within: seconds) }

    /// Ends the connection without a word, as a device does that loses its power.
    func cut() { stream.cut() }

    /// Whether something can be read now.
    var hasInput: Bool { stream.hasInput }

    private func nextPacket() -> Received? {
        let input = stream.input
        var position = input.startIndex + 1
        var remainingLength = 0
        var shift = 0
        while true {
            guard position < input.endIndex else { return nil }
            let byte = input[position]
            position += 1
            remainingLength |= Int(byte & 0x7f) << shift
            shift += 7
            if byte & 0x80 == 0 { break }
        }
        guard input.endIndex - position >= remainingLength else { return nil }
        let packet = Received(first: input[input.startIndex], body: Array(input[position..<position + remainingLength]))
        stream.take(position + remainingLength - input.startIndex)
        return packet
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
