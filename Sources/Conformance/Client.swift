/// One connection of a case: it sends bytes, reads packets, and tells a broker that is slow from one that stays silent.
final class Client {
    enum Arrival {
        case packet(Packet, Frame)
        case closed
        /// The broker answered every probe, but what was awaited did not come.
        case silence
        /// Nothing at all came until the case's time was up.
        case timedOut
        /// Bytes that are no packet.
        case garbage([UInt8])
        /// What the transport forbids.
        case illegal(String)
    }

    let name: String
    private let stream: any ByteStream
    /// Opens another stream to the broker.
    private let elsewhere: Connector
    private let transcript: Transcript
    private var unread: [UInt8] = []
    private var unreadOffset = 0
    /// Packets that an exchange has put aside, first come first.
    private var kept: [(Packet, Frame)] = []
    private var held: [UInt8] = []
    /// CONNACK 0 has come.
    private(set) var isAccepted = false
    private(set) var isOver = false
    /// If set, retained messages of QoS 0 whose topic doesn't hold it are somebody else's: a case that looks at `#` would
    /// meet them. Those of the broker's own topics, which begin with `$`, are shown.
    var home: [UInt8]?
    private(set) var lastSent = ContinuousClock.now
    private var latestIdentifier: UInt16 = 0x4000
    /// Answers to probes that the case must not see.
    private var owedPings = 0
    private var owedProbes = 0

    /// How long to wait for what is expected before each probe, and after the last.
    private let patience: [Duration]
    private let probePatience: Duration
    /// The longest packet that is read whole.
    private static let unreadBytes = 16 << 20
    /// Packets that an exchange puts aside for later lines, at most.
    static let keptPackets = 10_000
    private static let probeIdentifier: UInt16 = 0xfffd

    /// `patience` multiplies every wait for what may be slow, 1 for a broker on the same machine.
    init(
        _ name: String, _ stream: any ByteStream, _ transcript: Transcript, patience: Int = 1,
        elsewhere: @escaping Connector
    ) {
        self.name = name
        self.elsewhere = elsewhere
        self.patience = [250, 500, 750, 1000].map { .milliseconds($0 * patience) }
        probePatience = .seconds(2 * patience)
        self.stream = stream
        self.transcript = transcript
    }

    /// Fresh ones begin above those that a case writes.
    func freshIdentifier() -> UInt16 {
        latestIdentifier = latestIdentifier == 0x7fff ? 0x4001 : latestIdentifier + 1
        return latestIdentifier
    }

    // MARK: Sending

    func hold(_ bytes: [UInt8]) { held += bytes }

    func send(_ bytes: [UInt8], bytewise: Bool = false) {
        let all = held + bytes
        held = []
        transcript.note(name, sent: all)
        if bytewise {
            for byte in all { stream.send([byte]) }
        } else {
            stream.send(all)
        }
        lastSent = .now
    }

    func send(_ frame: Frame) { send(frame.bytes()) }

    /// In a frame of WebSocket that begins with this byte. Returns false over another transport, which has none.
    func send(_ bytes: [UInt8], inFrame firstByte: UInt8) -> Bool {
        guard let stream = stream as? WebSocketStream else { return false }
        let all = held + bytes
        held = []
        transcript.note(name, "> in a frame 0x\(hexadecimal(firstByte)): \(hexadecimal(all))")
        stream.send(all, inFrame: firstByte)
        lastSent = .now
        return true
    }

    func finish() { stream.finish() }

    func reset() {
        transcript.note(name, "resets")
        stream.reset()
        isOver = true
    }

    // MARK: Receiving

    /// How the broker is asked whether it is there at all, where what is expected doesn't come.
    enum Probe {
        case none
        case ping
        /// Where a PINGRESP is what is expected.
        case unsubscribe
        /// Where the connection should end and no CONNECT has been accepted on it.
        case connect
        /// On a connection of its own: where a CONNACK is expected, another CONNECT would be the end.
        case elsewhere
    }

    /// The next packet, among those kept first.
    func next(until deadline: ContinuousClock.Instant, _ probe: Probe) -> Arrival {
        if !kept.isEmpty {
            let (packet, frame) = kept.removeFirst()
            return .packet(packet, frame)
        }
        guard !isOver else { return .closed }
        var answersElsewhere = 0
        for round in patience.indices where probe != .none {
            let arrival = receive(until: min(deadline, .now + patience[round]))
            guard case .timedOut = arrival, ContinuousClock.now < deadline else { return arrival }
            let isLast = round == patience.count - 1
            switch probe {
            // All earlier probes have been answered, and there was time enough: it does not come.
            // Where they are read as the rest of a packet that is not whole, others are served at least.
            case .ping, .unsubscribe:
                if isLast, owedPings + owedProbes == 0 || isServedElsewhere(deadline) { return .silence }
            case .elsewhere: if isLast, answersElsewhere == round { return .silence }
            case .none, .connect: break
            }
            guard !isLast else { break }
            switch probe {
            case .none: break
            case .ping: ping()
            case .unsubscribe: unsubscribe()
            case .connect: if round == patience.count - 2 { connect() }  // Late, for it may be what ends a slow one.
            case .elsewhere: if isServedElsewhere(deadline) { answersElsewhere += 1 }
            }
        }
        return receive(until: deadline)
    }

    /// Without any patience of its own. A broker that never stops talking gets no more time than one that is silent.
    func receive(until deadline: ContinuousClock.Instant) -> Arrival {
        while ContinuousClock.now < deadline {
            switch Frame.cut(unread[unreadOffset...]) {
            case .frame(let frame, let byteCount):
                unreadOffset += byteCount
                if unreadOffset == unread.count || unreadOffset > Self.unreadBytes / 16 {
                    unread.removeFirst(unreadOffset)
                    unreadOffset = 0
                }
                let packet = frame.packet
                guard !isAnswerToProbe(packet), !isForeign(packet) else { continue }
                transcript.note(name, received: packet, frame)
                if case .connack(_, 0) = packet { isAccepted = true }
                return .packet(packet, frame)
            case .endlessLength: return .garbage(Array(unread[unreadOffset...]))
            case .incomplete:
                guard unread.count - unreadOffset < Self.unreadBytes else {
                    return .garbage(Array(unread[unreadOffset...]))
                }
            }
            switch stream.receive(until: deadline) {
            case .bytes(let bytes): unread += bytes
            case .timedOut: return .timedOut
            case .illegal(let reason):
                transcript.note(name, "< \(reason)")
                return .illegal(reason)
            case .closed:
                transcript.note(name, unreadOffset == unread.count ? "closed" : "closed within a packet")
                isOver = true
                return .closed
            }
        }
        return .timedOut
    }

    /// Before what is kept already.
    func keep(_ packets: [(Packet, Frame)]) { kept = packets + kept }

    // MARK: Probes

    private func ping() {
        owedPings += 1
        transcript.note(name, "is silent: a PINGREQ as probe")
        stream.send(Frame(.pingreq).bytes())
    }

    private func unsubscribe() {
        owedProbes += 1
        transcript.note(name, "is silent: an UNSUBSCRIBE as probe")
        let filter = Wire.string(Array("probe".utf8))
        stream.send(Frame(.unsubscribe, Wire.uint16(Self.probeIdentifier) + filter).bytes())
    }

    private func connect() {
        transcript.note(name, "is silent: a CONNECT as probe")
        stream.send(Frame(.connect, Wire.Connect(clientIdentifier: []).body).bytes())
    }

    private func isServedElsewhere(_ deadline: ContinuousClock.Instant) -> Bool {
        transcript.note(name, "is silent: another connection as probe")
        guard let stream = try? elsewhere() else { return false }
        let other = Client("\(name)'", stream, transcript, elsewhere: elsewhere)
        defer { other.reset() }
        other.send(Frame(.connect, Wire.Connect(clientIdentifier: []).body))
        guard case .packet(.connack(_, 0), _) = other.receive(until: deadline) else { return false }
        return other.answersPing(within: probePatience)
    }

    private func isForeign(_ packet: Packet) -> Bool {
        guard let home, case .publish(let publication) = packet else { return false }
        return publication.isRetained && publication.qos == 0 && publication.topic.first != UInt8(ascii: "$")
            && publication.topic.firstRange(of: home) == nil
    }

    private func isAnswerToProbe(_ packet: Packet) -> Bool {
        switch packet {
        case .pingresp where owedPings > 0:
            owedPings -= 1
            return true
        case .reply(.unsuback, Self.probeIdentifier) where owedProbes > 0:
            owedProbes -= 1
            return true
        default: return false
        }
    }

    /// Whether the broker is there: on this connection, or on another if no CONNECT has been accepted on this one.
    func isServed(_ deadline: ContinuousClock.Instant) -> Bool {
        (isAccepted && answersPing(within: probePatience)) || isServedElsewhere(deadline)
    }

    private func answersPing(within patience: Duration) -> Bool {
        owedPings += 1
        stream.send(Frame(.pingreq).bytes())
        let deadline = ContinuousClock.now + patience
        while owedPings > 0 {
            guard case .packet = receive(until: deadline) else { return owedPings == 0 }
        }
        return true
    }
}
