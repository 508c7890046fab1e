/// One connection of the fuzzer and its witness. Belongs to one thread.
final class FuzzConnection {
    let stream: any ByteStream
    private(set) var witness = FuzzWitness()
    private var unread: [UInt8] = []
    private(set) var isAnswering = false
    /// We have said that nothing more comes from here.
    private var hasFinished = false
    private(set) var isClosed = false

    init(_ stream: any ByteStream) { self.stream = stream }

    /// Somebody else has used the same Client Identifier.
    func mayBeGone() { witness.mayBeGone() }

    /// Returns whether something must come back.
    func send(_ bytes: [UInt8]) -> Bool {
        let awaitsAnswer = witness.sent(bytes)
        stream.send(bytes)
        return awaitsAnswer
    }

    func finish() {
        guard !hasFinished, !isClosed, !witness.mustBeClosed else { return }
        hasFinished = true
        stream.finish()
    }

    func reset() {
        stream.reset()
        isClosed = true
    }

    /// Answers from now on, also what has come already and was left unanswered.
    func answer() { isAnswering = true }

    /// Reads what there is, waiting for the first of it. Returns what is wrong with it.
    func read(until deadline: ContinuousClock.Instant) -> String? {
        guard !isClosed else { return nil }
        switch stream.receive(until: deadline) {
        case .timedOut: return nil
        case .illegal(let reason): return reason
        case .closed:
            isClosed = true
            return witness.closed(unread, endedByUs: hasFinished)
        case .bytes(let bytes):
            unread += bytes
            return readPackets()
        }
    }

    /// Reads until the broker has closed the connection.
    func readToEnd(until deadline: ContinuousClock.Instant) -> String? {
        while !isClosed {
            if let problem = read(until: deadline) { return problem }
            // A refusal may have come, after which it is the broker's turn.
            if !isClosed, ContinuousClock.now >= deadline { return witness.staysOpen }
        }
        return nil
    }

    private func readPackets() -> String? {
        var rest = unread[...]
        defer { unread = Array(rest) }
        var answers: [UInt8] = []
        while true {
            switch Frame.cut(rest) {
            case .incomplete:
                if !answers.isEmpty, !hasFinished { _ = send(answers) }
                return nil
            case .endlessLength:
                rest = []
                if let problem = witness.cameEndless() { return problem }
            case .frame(let frame, let byteCount):
                rest = rest.dropFirst(byteCount)
                if let problem = witness.came(frame) { return problem }
                if isAnswering, let answer = frame.packet.answer { answers += answer.bytes() }
            }
        }
    }
}

extension Packet {
    /// What a good client answers.
    package var answer: Frame? {
        switch self {
        case .publish(let publication) where publication.qos > 0:
            Frame(publication.qos == 1 ? .puback : .pubrec, Wire.uint16(publication.identifier))
        case .reply(.pubrec, let identifier): Frame(.pubrel, Wire.uint16(identifier))
        case .reply(.pubrel, let identifier): Frame(.pubcomp, Wire.uint16(identifier))
        default: nil
        }
    }
}

/// Two well-behaved clients that stay while the fuzzer does what it does: as long as they get from the broker what they
/// should, and in time, it lives.
final class FuzzCanary {
    private let publisher: any ByteStream
    private let subscriber: any ByteStream
    private let topic: [UInt8]
    private let patience: Duration
    private var latest: UInt16 = 0
    private var unread: [[UInt8]] = [[], []]

    private struct Silence: Error {
        let problem: String
    }

    /// Throws what `connect` throws, or a sentence about what came.
    init(_ connect: Connector, patience: Duration) throws {
        // Not for the seed to decide: no mutation shall ever meet it.
        let name = "fuzz-canary-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        topic = Array(name.utf8)
        self.patience = patience
        publisher = try connect()
        subscriber = try connect()
        for (place, stream) in [publisher, subscriber].enumerated() {
            var packet = Wire.Connect(clientIdentifier: topic + [UInt8(ascii: "0") + UInt8(place)])
            packet.keepAlive = 0
            stream.send(Frame(.connect, packet.body).bytes())
            try expect(.connack(flags: 0, code: 0), at: place)
        }
        subscriber.send(Frame(.subscribe, Wire.uint16(1) + Wire.string(topic) + [1]).bytes())
        try expect(.suback(identifier: 1, codes: [1]), at: 1)
    }

    /// A ping each, and a message of QoS 1 from one to the other. Returns what is wrong.
    func check() -> String? {
        latest = latest % 60_000 + 1
        let publication = Packet.Publication(
            topic: topic, payload: Wire.uint16(latest), qos: 1, identifier: latest)
        publisher.send(Wire.frame(of: publication).bytes() + Frame(.pingreq).bytes())
        do throws(Silence) {
            try expect(.reply(.puback, identifier: latest), at: 0)
            try expect(.pingresp, at: 0)
            let came = try next(at: 1)
            guard case .publish(let message) = came, message.topic == topic, message.payload == publication.payload,
                message.qos == 1, !message.isDuplicate, !message.isRetained
            else { throw Silence(problem: "the canary awaits its message \(latest), not \(came)") }
            subscriber.send(
                Frame(.puback, Wire.uint16(message.identifier)).bytes() + Frame(.pingreq).bytes())
            try expect(.pingresp, at: 1)
            return nil
        } catch {
            return error.problem
        }
    }

    func leave() {
        for stream in [publisher, subscriber] { stream.send(Frame(.disconnect).bytes()) }
    }

    private func expect(_ packet: Packet, at place: Int) throws(Silence) {
        let came = try next(at: place)
        guard came == packet else { throw Silence(problem: "the canary awaits \(packet), not \(came)") }
    }

    private func next(at place: Int) throws(Silence) -> Packet {
        let stream = place == 0 ? publisher : subscriber
        let deadline = ContinuousClock.now + patience
        while true {
            switch Frame.cut(unread[place]) {
            case .frame(let frame, let byteCount):
                unread[place].removeFirst(byteCount)
                return frame.packet
            case .endlessLength: throw Silence(problem: "the canary gets a Remaining Length of five bytes")
            case .incomplete: break
            }
            switch stream.receive(until: deadline) {
            case .bytes(let bytes): unread[place] += bytes
            case .closed: throw Silence(problem: "the canary's connection is closed")
            case .illegal(let reason): throw Silence(problem: "to the canary came \(reason)")
            case .timedOut: throw Silence(problem: "the canary gets no answer within \(patience)")
            }
        }
    }
}

extension FuzzCanary {
    /// Why there is none: the connection was refused, or the canary itself died at once.
    static func make(_ connect: Connector, patience: Duration) -> (canary: FuzzCanary?, problem: String) {
        do {
            return (try FuzzCanary(connect, patience: patience), "")
        } catch let silence as Silence {
            return (nil, silence.problem)
        } catch {
            return (nil, "no connection to the broker: \(error)")
        }
    }
}
