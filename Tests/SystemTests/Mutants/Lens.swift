import Conformance
import Glibc
import Synchronization

/// A broker seen through glass that shows one of its behaviours broken. A mutation looks at every packet, in both
/// directions, of all connections that one case opens, and lets it through, changes, withholds or invents it.
///
/// A lens serves one run of a case, on the thread of that case.
final class Lens: Sendable {
    private let world: Mutex<World>

    init(_ mutation: Mutation, _ connect: @escaping Connector) { world = Mutex(World(mutation, connect)) }

    var connector: Connector {
        { [self] in
            let number = try world.withLock { world throws in try world.openAnother() }
            return LensStream(self, number)
        }
    }

    /// A connection as the case sees it. The real one belongs to the world behind the lens.
    private final class LensStream: ByteStream {
        private let lens: Lens
        private let number: Int

        init(_ lens: Lens, _ number: Int) {
            self.lens = lens
            self.number = number
        }

        deinit { lens.world.withLock { $0.drop(number) } }

        func send(_ bytes: [UInt8]) { lens.world.withLock { $0[number].send(bytes) } }

        func receive(until deadline: ContinuousClock.Instant) -> Conformance.Received {
            lens.world.withLock { $0[number].receive(until: deadline) }
        }

        func finish() { lens.world.withLock { $0[number].finish() } }

        func reset() { lens.world.withLock { $0[number].reset() } }
    }
}

/// What the connections of one case have in common.
final class World {
    let mutation: Mutation
    private let connect: Connector
    private var links: [Int: Link] = [:]
    private var nextNumber = 0
    /// The subscriptions of every Client Identifier, with their QoS.
    var subscriptions: [[UInt8]: [[UInt8]: UInt8]] = [:]
    // What a mutation has to remember, mostly by Client Identifier.
    var notes: [String: Int] = [:]
    var publications: [[UInt8]: Conformance.Packet.Publication] = [:]
    var waiting: [[UInt8]: [Conformance.Packet.Publication]] = [:]
    /// Filters that were unsubscribed.
    var gone: [[UInt8]: [[UInt8]]] = [:]
    /// Packet Identifiers whose PUBREL has come.
    var released: [[UInt8]: [UInt16]] = [:]
    /// Topics with retained messages, and whether the last one was empty.
    var cleared: [[UInt8]: Bool] = [:]
    /// For names that no other case has.
    let tag = UInt64.random(in: 0...UInt64.max)

    init(_ mutation: Mutation, _ connect: @escaping Connector) {
        self.mutation = mutation
        self.connect = connect
    }

    subscript(number: Int) -> Link {
        guard let link = links[number] else { preconditionFailure("connection \(number) is gone") }
        return link
    }

    /// Those that the client still uses, oldest first.
    var open: [Link] { links.values.filter { !$0.isClosed }.sorted { $0.number < $1.number } }

    func openAnother() throws -> Int {
        nextNumber += 1
        links[nextNumber] = Link(nextNumber, self, try connect())
        return nextNumber
    }

    func drop(_ number: Int) { links[number] = nil }

    /// True the first time that this is asked of it.
    func isFirst(_ note: String) -> Bool {
        notes[note, default: 0] += 1
        return notes[note] == 1
    }

    /// Publishes as a client of its own.
    func publish(_ publication: Conformance.Packet.Publication) {
        guard let stream = try? connect() else { return }
        var publication = publication
        publication.identifier = 1
        publication.isDuplicate = false
        let patience = ContinuousClock.now + .seconds(2)
        stream.send(Frame(.connect, Wire.Connect(clientIdentifier: []).body).bytes())
        _ = stream.receive(until: patience)
        stream.send(Wire.frame(of: publication).bytes())
        if publication.qos == 2 { stream.send(Frame(.pubrel, [0, 1]).bytes()) }
        stream.send(Frame(.pingreq).bytes())
        _ = stream.receive(until: patience)
        stream.send(Frame(.disconnect).bytes())
        while case .bytes = stream.receive(until: patience) {}
    }

    /// Discards the session of this name, as a CONNECT with CleanSession 1 does.
    func endSession(_ clientIdentifier: [UInt8]) {
        subscriptions[clientIdentifier] = nil
        guard let stream = try? connect() else { return }
        let patience = ContinuousClock.now + .seconds(2)
        stream.send(Frame(.connect, Wire.Connect(clientIdentifier: clientIdentifier).body).bytes())
        _ = stream.receive(until: patience)
        stream.send(Frame(.disconnect).bytes())
        while case .bytes = stream.receive(until: patience) {}
    }

    /// Hands a message at QoS 0 to every client with a filter that `isMeant` accepts.
    func inject(
        _ topic: [UInt8], _ payload: [UInt8], isRetained: Bool = false, where isMeant: ([UInt8]) -> Bool
    ) {
        for link in open where (subscriptions[link.clientIdentifier] ?? [:]).keys.contains(where: isMeant) {
            link.deliver(topic, payload, isRetained: isRetained)
        }
    }
}

/// One connection of the case, and the real one behind it.
final class Link {
    let number: Int
    unowned let world: World
    private var stream: (any ByteStream)?
    /// Bytes that are no whole packet yet.
    private var fromClient: [UInt8] = []
    private var fromBroker: [UInt8] = []
    private var toBroker: [UInt8] = []
    private var toClient: [UInt8] = []
    /// The packet that is looked at, as it was spelled.
    private var current: (frame: Frame, bytes: [UInt8])?
    /// What the client sends can no longer be cut into packets, and passes through.
    private(set) var isRaw = false
    /// What has passed through so.
    private var passedOn: [UInt8] = []
    private var isFinished = false
    /// The client sees the end of the connection once it has read what is left.
    private(set) var isClosed = false
    /// Nobody is behind it any more, but the client gets its answers.
    private(set) var isHollow = false
    /// What the first packet said, if that was a CONNECT that can be read.
    private(set) var connect: Wire.Connect?
    private(set) var isFirstPacket = true
    private(set) var lastSent = ContinuousClock.now
    /// What a mutation has to remember.
    var notes: [String: Int] = [:]
    var held: [Frame] = []
    var pinged: ContinuousClock.Instant?
    /// Packet Identifiers of what the broker has sent, and of what the client has.
    var identifiers: [UInt16] = []
    var begun: [UInt16] = []
    /// Filters that were subscribed again, and the return codes that a SUBACK ought to have.
    var again: [[UInt8]] = []
    var wanted: [UInt16: [UInt8]] = [:]
    var retainedTopics: [[UInt8]] = []

    init(_ number: Int, _ world: World, _ stream: any ByteStream) {
        self.number = number
        self.world = world
        self.stream = stream
    }

    var clientIdentifier: [UInt8] { connect?.clientIdentifier ?? [] }

    var subscriptions: [[UInt8]: UInt8] { world.subscriptions[clientIdentifier] ?? [:] }

    /// True the first time that this is asked of it.
    func isFirst(_ note: String) -> Bool { count(note) == 1 }

    /// How often this has been asked of it.
    func count(_ note: String) -> Int {
        notes[note, default: 0] += 1
        return notes[note] ?? 0
    }

    /// Whether the packet that is looked at came with a Remaining Length of more bytes than it needs.
    func isSpelled(longer frame: Frame) -> Bool { (current?.bytes.count ?? 0) > frame.bytes().count }

    /// Whether the packet that is looked at came in one piece with one before it.
    private(set) var isBehindAnother = false
    /// How many packets the client has sent at once, the last time that it sent.
    private(set) var packetsInPiece = 0
    /// Whether it came in several pieces.
    private(set) var cameInParts = false

    // MARK: What a mutation does

    /// To the broker.
    func forward(_ frame: Frame) {
        if let current, current.frame == frame {
            toBroker += current.bytes
            return
        }
        toBroker += frame.bytes()
    }

    /// What is no packet, to the broker.
    func forward(raw bytes: [UInt8]) {
        isRaw = true
        toBroker += bytes
    }

    /// To the client.
    func deliver(_ frame: Frame) { toClient += frame.bytes() }

    func deliver(_ topic: [UInt8], _ payload: [UInt8], isRetained: Bool = false) {
        deliver(.publish(.new(topic, payload, isRetained: isRetained)))
    }

    /// Ends it on both sides; the broker sees a network that fails.
    func close() {
        isClosed = true
        flush()
        stream?.reset()
        stream = nil
    }

    /// To the broker, though the client has nothing to send here.
    func sendNow(_ frame: Frame) {
        forward(frame)
        flush()
    }

    /// Ends it in order, before the broker learns anything else.
    func sendDisconnect() {
        forward(Frame(.disconnect))
        flush()
        guard let stream else { return }
        let patience = ContinuousClock.now + .seconds(2)
        while case .bytes(let bytes) = stream.receive(until: patience) { toClient += bytes }
        self.stream = nil
        isClosed = true
    }

    /// Ends it towards the broker only: from now on there is somebody who answers, but not the broker.
    func hollowOut() {
        isHollow = true
        stream?.reset()
        stream = nil
        toBroker = []
        guard isRaw else { return }
        isRaw = false
        fromClient = passedOn
        readFromClient()
    }

    /// Answers as a broker would that finds nothing wrong with this packet.
    func pretend(_ frame: Frame) {
        let identifier = Array(frame.body.prefix(2))
        switch frame.kind {
        case .connect: deliver(Frame(.connack, [0, 0]))
        case .publish:
            let qos = frame.firstByte >> 1 & 3
            guard qos > 0, frame.body.count >= 2 else { return }
            let place = 2 + Int(frame.body[0]) << 8 + Int(frame.body[1])
            let own = frame.body.count >= place + 2 ? Array(frame.body[place..<place + 2]) : [0, 1]
            deliver(Frame(qos == 1 ? .puback : .pubrec, own))
        case .pubrec: deliver(Frame(.pubrel, identifier))
        case .pubrel: deliver(Frame(.pubcomp, identifier))
        case .subscribe: deliver(Frame(.suback, identifier + (frame.subscriptions?.map { min($0.qos, 2) } ?? [0])))
        case .unsubscribe: deliver(Frame(.unsuback, identifier))
        case .pingreq: deliver(Frame(.pingresp))
        case .disconnect: close()
        default: break
        }
    }

    // MARK: The client's side

    func send(_ bytes: [UInt8]) {
        guard !isClosed else { return }
        if isRaw {
            toBroker += bytes
            passedOn += bytes
        } else {
            cameInParts = !fromClient.isEmpty
            isBehindAnother = false
            packetsInPiece = 0
            fromClient += bytes
            readFromClient()
        }
        lastSent = .now
        flush()
    }

    private func readFromClient() {
        var rest = fromClient[...]
        defer { fromClient = isClosed ? [] : Array(rest) }
        while !isClosed {
            switch Frame.cut(rest) {
            case .frame(let frame, let byteCount):
                current = (frame, Array(rest.prefix(byteCount)))
                rest = rest.dropFirst(byteCount)
                look(at: frame)
                current = nil
                isBehindAnother = true
                packetsInPiece += 1
                cameInParts = false
            case .incomplete: return
            case .endlessLength:
                let bytes = Array(rest)
                rest = []
                if isHollow { return }
                world.mutation.garbage(self, bytes)
                return
            }
        }
    }

    private func look(at frame: Frame) {
        if frame.kind == .connect, isFirstPacket, let fields = Wire.Connect(frame.body) {
            connect = fields
            if fields.cleanSession { world.subscriptions[fields.clientIdentifier] = nil }
        }
        if isHollow { pretend(frame) } else { world.mutation.fromClient(self, frame) }
        isFirstPacket = false
        if frame.kind == .subscribe, let subscriptions = frame.subscriptions {
            for (filter, qos) in subscriptions { world.subscriptions[clientIdentifier, default: [:]][filter] = qos }
        } else if frame.kind == .unsubscribe, let filters = frame.filters {
            for filter in filters { world.subscriptions[clientIdentifier]?[filter] = nil }
        }
    }

    /// The client waits or ends: what it has sent of a packet goes out as it is.
    private func passOnPart() {
        guard !fromClient.isEmpty, !isRaw else { return }
        toBroker += fromClient
        passedOn = fromClient
        fromClient = []
        isRaw = true
        world.mutation.part(self)
        flush()
    }

    private func flush() {
        guard !toBroker.isEmpty else { return }
        let bytes = toBroker
        toBroker = []
        stream?.send(bytes)
    }

    func receive(until deadline: ContinuousClock.Instant) -> Conformance.Received {
        passOnPart()
        while true {
            if !toClient.isEmpty {
                let bytes = toClient
                toClient = []
                return .bytes(bytes)
            }
            if isClosed { return .closed }
            guard let stream else {
                if isFinished { return .closed }
                pause(until: deadline)
                return .timedOut
            }
            switch stream.receive(until: deadline) {
            case .bytes(let bytes):
                fromBroker += bytes
                readFromBroker()
                flush()
            case .closed:
                self.stream = nil
                if isFinished { isClosed = true } else { world.mutation.closed(self) }
            case .timedOut: return .timedOut
            case .illegal(let reason): return .illegal(reason)
            }
        }
    }

    private func readFromBroker() {
        var rest = fromBroker[...]
        while case .frame(let frame, let byteCount) = Frame.cut(rest) {
            rest = rest.dropFirst(byteCount)
            world.mutation.fromBroker(self, frame)
        }
        fromBroker = Array(rest)
    }

    func finish() {
        passOnPart()
        isFinished = true
        world.mutation.finished(self)
        flush()
        stream?.finish()
    }

    func reset() {
        passOnPart()
        isClosed = true
        world.mutation.finished(self)
        stream?.reset()
        stream = nil
    }

    /// The broker's end of the connection becomes visible.
    func letClose() { isClosed = true }

    private func pause(until end: ContinuousClock.Instant) {
        while ContinuousClock.now < end {
            _ = poll(nil, 0, CInt((ContinuousClock.now.duration(to: end) / .milliseconds(1)).rounded(.up)))
        }
    }
}
