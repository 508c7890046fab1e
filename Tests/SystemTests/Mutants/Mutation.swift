import Conformance

/// One behaviour of a broker that is broken, the statement that it violates, and the cases that must notice.
struct Mutation: Sendable {
    typealias OnPacket = @Sendable (Link, Frame) -> Void
    typealias OnEvent = @Sendable (Link) -> Void

    let name: String
    /// What the broken broker does.
    let sentence: String
    let violates: String
    let caughtBy: [String]

    /// A packet of the client, on its way to the broker.
    let fromClient: OnPacket
    /// A packet of the broker, on its way to the client.
    let fromBroker: OnPacket
    /// The broker has closed the connection.
    let closed: OnEvent
    /// The client has ended it, by closing its side or by a reset.
    let finished: OnEvent
    /// The client has sent what has no length, or waits after a part of a packet.
    let garbage: @Sendable (Link, [UInt8]) -> Void
    let part: OnEvent

    init(
        _ name: String, _ sentence: String, violates: String, caughtBy: [String] = [],
        up: @escaping OnPacket = { $0.forward($1) }, down: @escaping OnPacket = { $0.deliver($1) },
        closed: @escaping OnEvent = { $0.letClose() }, finished: @escaping OnEvent = { _ in },
        garbage: @escaping @Sendable (Link, [UInt8]) -> Void = { $0.forward(raw: $1) },
        part: @escaping OnEvent = { _ in }
    ) {
        self.name = name
        self.sentence = sentence
        self.violates = violates
        self.caughtBy = caughtBy
        self.fromClient = up
        self.fromBroker = down
        self.closed = closed
        self.finished = finished
        self.garbage = garbage
        self.part = part
    }

    /// The broker as it is.
    static let none = Mutation("none", "Nothing is wrong", violates: "")

    static let all =
        format + lengths + connecting + sessions + wills + acknowledging + retaining + delivering + subscribing + topics
}

/// Building blocks.
extension Mutation {
    /// Packets of this type are left out.
    static func drop(_ kinds: BrokerPacket.Kind...) -> OnPacket {
        { link, frame in
            guard let kind = frame.kind, kinds.contains(kind) else { return link.deliver(frame) }
        }
    }

    /// Packets of this type are changed.
    static func change(_ kind: BrokerPacket.Kind, _ edit: @escaping @Sendable (inout Frame) -> Void) -> OnPacket {
        { link, frame in
            var frame = frame
            if frame.kind == kind { edit(&frame) }
            link.deliver(frame)
        }
    }

    /// Packets of this type come twice.
    static func double(_ kind: BrokerPacket.Kind) -> OnPacket {
        { link, frame in
            link.deliver(frame)
            if frame.kind == kind { link.deliver(frame) }
        }
    }

    /// Two packets of this type that stand one behind the other change places.
    static func swap(
        _ kind: BrokerPacket.Kind, where isMeant: @escaping @Sendable (Frame) -> Bool = { _ in true }
    ) -> OnPacket {
        { link, frame in
            if frame.kind == kind, isMeant(frame), link.held.isEmpty {
                link.held.append(frame)
                return
            }
            link.deliver(frame)
            if !link.held.isEmpty { link.deliver(link.held.removeFirst()) }
        }
    }

    /// PUBLISH packets to clients are changed.
    static func publications(
        _ edit: @escaping @Sendable (Link, inout BrokerPacket.Publication) -> Void
    ) -> OnPacket {
        { link, frame in
            guard var publication = frame.publication else { return link.deliver(frame) }
            edit(link, &publication)
            link.deliver(.publish(publication))
        }
    }

    /// PUBLISH packets to clients that are so are left out, acknowledged as if they had come.
    static func lose(_ isMeant: @escaping @Sendable (Link, BrokerPacket.Publication) -> Bool) -> OnPacket {
        { link, frame in
            guard let publication = frame.publication, isMeant(link, publication) else { return link.deliver(frame) }
            switch publication.qos {
            case 1: link.forward(Frame(.puback, Wire.uint16(publication.identifier)))
            case 2: link.forward(Frame(.pubrec, Wire.uint16(publication.identifier)))
            default: break
            }
        }
    }

    /// PUBLISH packets of clients are changed.
    static func published(
        _ edit: @escaping @Sendable (Link, inout BrokerPacket.Publication) -> Void
    ) -> OnPacket {
        { link, frame in
            guard var publication = frame.publication else { return link.forward(frame) }
            edit(link, &publication)
            link.forward(.publish(publication))
        }
    }

    /// Packets of clients of these types are changed.
    static func sent(
        _ kinds: BrokerPacket.Kind..., edit: @escaping @Sendable (Link, inout Frame) -> Void
    ) -> OnPacket {
        { link, frame in
            var frame = frame
            if let kind = frame.kind, kinds.contains(kind) { edit(link, &frame) }
            link.forward(frame)
        }
    }

    /// CONNECT packets are changed, the first on each connection.
    static func connects(_ edit: @escaping @Sendable (Link, inout Wire.Connect) -> Void) -> OnPacket {
        { link, frame in
            guard link.isFirstPacket, frame.kind == .connect, var connect = link.connect else {
                return link.forward(frame)
            }
            edit(link, &connect)
            var changed = Frame.connect(connect)
            changed.firstByte = frame.firstByte
            link.forward(changed)
        }
    }

    /// Filters and topics are changed, whoever names them.
    static func texts(_ edit: @escaping @Sendable ([UInt8]) -> [UInt8]) -> OnPacket {
        { link, frame in
            switch frame.kind {
            case .publish:
                guard var publication = frame.publication else { return link.forward(frame) }
                publication.topic = edit(publication.topic)
                link.forward(.publish(publication))
            case .subscribe:
                guard let all = frame.subscriptions, frame.hasRightFlags else { return link.forward(frame) }
                link.forward(.subscribe(frame.identifier, all.map { (edit($0.filter), $0.qos) }))
            case .unsubscribe:
                guard let all = frame.filters, frame.hasRightFlags else { return link.forward(frame) }
                link.forward(.unsubscribe(frame.identifier, all.map(edit)))
            case .connect:
                guard link.isFirstPacket, var connect = link.connect else { return link.forward(frame) }
                connect.clientIdentifier = edit(connect.clientIdentifier)
                if let will = connect.will { connect.will = (edit(will.topic), will.message) }
                link.forward(.connect(connect))
            default: link.forward(frame)
            }
        }
    }

    /// Where a packet of a client is so, it is answered as if nothing were wrong, and has no effect.
    static func tolerate(_ isWrong: @escaping @Sendable (Link, Frame) -> Bool) -> OnPacket {
        { link, frame in
            guard isWrong(link, frame) else { return link.forward(frame) }
            if frame.kind == .connect { link.hollowOut() }
            link.pretend(frame)
        }
    }

    /// Where a packet of a client is so, its connection ends.
    static func close(where isMeant: @escaping @Sendable (Link, Frame) -> Bool) -> OnPacket {
        { if isMeant($0, $1) { $0.close() } else { $0.forward($1) } }
    }

    /// Messages reach every client with such a filter too, at QoS 0.
    static func spread(_ isMeant: @escaping @Sendable (_ filter: [UInt8], _ topic: [UInt8]) -> Bool) -> OnPacket {
        { link, frame in
            if let publication = frame.publication {
                link.world.inject(publication.topic, publication.payload) { isMeant($0, publication.topic) }
            }
            link.forward(frame)
        }
    }

    /// What is delivered brings so many copies with it.
    static func copy(_ count: @escaping @Sendable (Link, BrokerPacket.Publication) -> Int) -> OnPacket {
        { link, frame in
            link.deliver(frame)
            guard var publication = frame.publication else { return }
            for _ in 0..<count(link, publication) {
                if publication.qos > 0 { publication.identifier += 1000 }
                link.deliver(.publish(publication))
            }
        }
    }

    /// Messages wait for sessions without connection that have such filters, until `deliverWaiting`.
    static func wait(
        _ isMeant: @escaping @Sendable (BrokerPacket.Publication, _ filters: [[UInt8]: UInt8]) -> Bool
    ) -> OnPacket {
        { link, frame in
            if let publication = frame.publication {
                for (identifier, filters) in link.world.subscriptions
                where link.world.isAway(identifier) && isMeant(publication, filters) {
                    link.world.waiting[identifier, default: []].append(publication)
                }
            }
            link.forward(frame)
        }
    }

    /// A session that is resumed gets what waits for it.
    static let deliverWaiting: OnPacket = { link, frame in
        link.deliver(frame)
        guard frame.resumesSession else { return }
        for publication in link.world.waiting.removeValue(forKey: link.clientIdentifier) ?? [] {
            link.deliver(publication.topic, publication.payload)
        }
    }

    /// The Packet Identifier of what a mutation itself asks of the broker. No case uses it.
    static let ownIdentifier: UInt16 = 0xfff0

    /// What answers the mutation itself is kept from the client; the rest is delivered, and seen by `then`.
    static func hideOwnAnswers(then: @escaping OnPacket = { _, _ in }) -> OnPacket {
        { link, frame in
            if frame.kind == .suback || frame.kind == .unsuback, frame.identifier == ownIdentifier { return }
            link.deliver(frame)
            then(link, frame)
        }
    }
}

extension Link {
    /// Asked by the mutation, not by the client: `hideOwnAnswers` goes with it.
    func subscribe(_ subscriptions: [(filter: [UInt8], qos: UInt8)]) {
        if !subscriptions.isEmpty { sendNow(.subscribe(Mutation.ownIdentifier, subscriptions)) }
    }

    func unsubscribe(_ filters: [[UInt8]]) {
        if !filters.isEmpty { sendNow(.unsubscribe(Mutation.ownIdentifier, filters)) }
    }
}

extension World {
    func isAway(_ clientIdentifier: [UInt8]) -> Bool { !open.contains { $0.clientIdentifier == clientIdentifier } }
}

extension Frame {
    /// A CONNACK that accepts, with Session Present.
    var resumesSession: Bool { kind == .connack && body == [1, 0] }
}

typealias BrokerPacket = Conformance.Packet
