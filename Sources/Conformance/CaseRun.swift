/// One run of a case, with a value for each of its parameters, against one broker. Belongs to one thread.
final class CaseRun {
    private let script: Case
    private let values: Case.Values
    private let home: String
    let connect: Connector
    let options: Suite.Options
    private let deadline: ContinuousClock.Instant
    let transcript = Transcript()

    var clients: [String: Client] = [:]
    var variables: [String: Int] = [:]
    private var collected: [String: [Packet.Publication]] = [:]
    /// Lines `<?` and `<+` that the next line of the same connection ends.
    private var optional: [String: [(patterns: [Script.Pattern], isRepeated: Bool)]] = [:]
    /// Neighbouring `<*` lines.
    private var unordered: [(name: String, patterns: [Script.Pattern], line: Case.Line)] = []
    var line = Case.Line(number: 0, text: "")

    init(_ script: Case, _ values: Case.Values, home: String, options: Suite.Options, connect: @escaping Connector) {
        self.options = options
        self.script = script
        self.values = values
        self.home = home
        self.connect = connect
        deadline = .now + script.timeLimit * options.patience
    }

    /// Nil if the case passes.
    func run() -> Failure? {
        defer { tidyUp() }
        do throws(Failure) {
            try perform(script.items, values)
            try meetUnordered()
            return nil
        } catch {
            var failure = error
            failure.transcript = transcript.lines
            return failure
        }
    }

    private func perform(_ items: [Case.Item], _ values: Case.Values) throws(Failure) {
        for item in items {
            switch item {
            case .line(let line): try perform(line, values)
            case .block(_, let count, let counter, let items):
                for turn in 1...(Int(line: count, values) ?? 1) {
                    try perform(items, values + [(counter, String(turn))])
                }
            }
        }
    }

    private func perform(_ line: Case.Line, _ values: Case.Values) throws(Failure) {
        let text = line.text.substituting(values)
        // A line that is not of their group may use what they bind.
        if text.split(separator: " ").dropFirst().first != "<*" { try meetUnordered() }
        self.line = Case.Line(number: line.number, text: text)
        let step: Script.Step
        do throws(Script.Mistake) {
            step = try Script.step(self.line.text, Script.Scope(home: home, variables: variables))
        } catch {
            throw failure(.mistake, expected: "a line that can be read", came: error.reason)
        }
        try perform(step)
    }

    private func perform(_ step: Script.Step) throws(Failure) {
        switch step {
        case .send(let name, let bytes, .held): try client(name).hold(bytes)
        case .send(let name, let bytes, .frame(let firstByte)):
            guard try client(name).send(bytes, inFrame: firstByte) else {
                throw failure(.mistake, expected: "a WebSocket", came: "a run over another transport")
            }
        case .offer(let name, let subprotocols): try offer(subprotocols, on: name)
        case .send(let name, let bytes, let manner): try client(name).send(bytes, bytewise: manner == .bytewise)
        case .expect(let name, let patterns, .once): try expect(patterns, on: name)
        case .expect(let name, let patterns, .optional): optional[name, default: []].append((patterns, false))
        case .expect(let name, let patterns, .oneOrMore):
            try expect(patterns, on: name)
            optional[name, default: []].append((patterns, true))
        case .expect(let name, let patterns, .anyOrder): unordered.append((name, patterns, line))
        case .connect(let name, let bytes, let isPresent):
            try client(name).send(bytes)
            try expect([.connack(code: 0, isPresent: isPresent)], on: name)
        case .subscribe(let name, let subscriptions): try subscribe(name, subscriptions)
        case .unsubscribe(let name, let filters):
            let client = try client(name)
            let identifier = client.freshIdentifier()
            client.send(Frame(.unsubscribe, Wire.uint16(identifier) + filters.flatMap { Wire.string($0) }))
            try reply(.reply(.unsuback, .exactly(Int(identifier))), on: client)
        case .publish(let name, let publication): try publish(name, publication)
        case .receive(let name, let pattern): try receive(name, pattern)
        case .ping(let name):
            let client = try client(name)
            client.send(Frame(.pingreq))
            try reply(.pingresp, on: client)
        case .collect(let name): try collect(name)
        case .collected(let name, let count, let pattern): try check(name, count, pattern)
        case .disconnect(let name):
            let client = try client(name)
            client.send(Frame(.disconnect))
            try finish(client)
        case .close(let name): try finish(try client(name))
        case .reset(let name): try client(name).reset()
        case .restart(let restart):
            guard options.restarts[restart]?() == true else {
                throw failure(
                    .mistake, expected: "the command for it to end with status 0", came: "another status, or none")
            }
        case .wait(let duration): wait(duration)
        case .distinct(let names):
            let known = names.compactMap { variables[$0] }
            guard Set(known).count == names.count else {
                throw failure(.unexpected, expected: "different values", came: "\(known)")
            }
        }
    }

    // MARK: Connections

    /// The connection of that name, which is opened if there is none or the last one is over.
    private func client(_ name: String) throws(Failure) -> Client {
        if let client = clients[name], !client.isOver { return client }
        return try open(name, connect)
    }

    private func open(_ name: String, _ connector: () throws -> any ByteStream) throws(Failure) -> Client {
        do {
            let client = Client(name, try connector(), transcript, patience: options.patience, elsewhere: connect)
            if script.isAlone { client.home = Array(home.utf8) }
            clients[name] = client
            optional[name] = nil
            return client
        } catch {
            throw failure(.unreachable, expected: "a connection to the broker", came: "\(error)")
        }
    }

    /// A new connection, whose upgrade offers these subprotocols; a refusal is a connection that is closed.
    private func offer(_ subprotocols: String?, on name: String) throws(Failure) {
        guard let webSocket = options.webSocket else {
            throw failure(.mistake, expected: "a WebSocket", came: "a run over another transport")
        }
        transcript.note(name, "> an upgrade that offers \(subprotocols ?? "no subprotocol")")
        _ = try open(name) {
            let stream = try webSocket(subprotocols)
            self.transcript.note(name, "< \(stream.answer)")
            return stream
        }
    }

    /// For a line that only looks: what came before the end still counts.
    private func existingClient(_ name: String) throws(Failure) -> Client {
        if let client = clients[name] { return client }
        return try client(name)
    }

    /// Our side is closed; the broker closes its own, whatever it sends before.
    private func finish(_ client: Client) throws(Failure) {
        client.finish()
        while true {
            let arrival = client.receive(until: deadline)
            switch arrival {
            case .closed: return
            case .packet: continue
            case .garbage, .illegal: throw failure(arrival, expected: [.closed(within: nil)])
            case .silence, .timedOut:
                throw failure(.timeLimit, expected: "the broker closes its side as well", came: "it stays open")
            }
        }
    }

    private func wait(_ duration: Duration) {
        let end = min(ContinuousClock.now + duration, deadline)
        // Reading nothing, so that what comes meanwhile is there for the lines below.
        Pause.until(end)
    }

    // MARK: Expecting

    /// The next packet of the connection is one of these, behind those that may come before it.
    private func expect(_ patterns: [Script.Pattern], on name: String) throws(Failure) {
        let client = try existingClient(name)
        if patterns.count == 1, case .nothing = patterns[0] { return try expectNothing(on: client) }
        if patterns.count == 1, case .closed(.some(let range)) = patterns[0] {
            return try expectClosed(within: range, on: client)
        }
        while true {
            let arrival = client.next(until: deadline, probe(client, patterns))
            if patterns.contains(where: { matches(arrival, $0) }) {
                optional[name] = nil
                return
            }
            if takesOptional(arrival, on: name) { continue }
            throw failure(arrival, expected: patterns)
        }
    }

    private func probe(_ client: Client, _ expected: [Script.Pattern]) -> Client.Probe {
        guard client.isAccepted else { return expected.contains(where: \.isConnack) ? .elsewhere : .connect }
        return expected.contains(where: \.isPing) ? .unsubscribe : .ping
    }

    /// Whether a line `<?` or `<+` allows it here. Earlier lines are over then, a `<+` goes on.
    private func takesOptional(_ arrival: Client.Arrival, on name: String) -> Bool {
        guard case .packet = arrival, let lines = optional[name] else { return false }
        for (index, entry) in lines.enumerated() where entry.patterns.contains(where: { matches(arrival, $0) }) {
            optional[name] = Array(lines[(entry.isRepeated ? index : index + 1)...])
            return true
        }
        return false
    }

    /// Two exchanges of different kinds, so that also a PINGRESP too many is seen.
    private func expectNothing(on client: Client) throws(Failure) {
        client.send(Frame(.pingreq))
        try expectNothing(but: .pingresp, on: client)
        let identifier = client.freshIdentifier()
        client.send(Frame(.unsubscribe, Wire.uint16(identifier) + Wire.string(Array("\(home)/nothing".utf8))))
        try expectNothing(but: .reply(.unsuback, .exactly(Int(identifier))), on: client)
        optional[client.name] = nil
    }

    private func expectNothing(but pattern: Script.Pattern, on client: Client) throws(Failure) {
        while true {
            let arrival = client.next(until: deadline, probe(client, [pattern]))
            if matches(arrival, pattern) { return }
            if !takesOptional(arrival, on: client.name) { throw failure(arrival, expected: [.nothing]) }
        }
    }

    private func expectClosed(within range: ClosedRange<Duration>, on client: Client) throws(Failure) {
        let latest = client.lastSent + range.upperBound
        let arrival = client.next(until: min(latest, deadline), .none)
        let elapsed = client.lastSent.duration(to: .now)
        switch arrival {
        case .closed where elapsed >= range.lowerBound: return
        case .closed:
            throw failure(.unexpected, expected: "closed after \(range.lowerBound)", came: "closed after \(elapsed)")
        case .timedOut where client.isServed(deadline):
            throw failure(
                .silence, expected: "closed after \(range.upperBound) at the latest",
                came: "still open then, while the broker serves")
        default: throw failure(arrival, expected: [.closed(within: range)])
        }
    }

    private func meetUnordered() throws(Failure) {
        while let first = unordered.first {
            let client = try existingClient(first.name)
            line = first.line
            let own = unordered.filter { $0.name == first.name }.flatMap(\.patterns)
            let arrival = client.next(until: deadline, probe(client, own))
            let place = unordered.firstIndex { entry in
                entry.name == first.name && entry.patterns.contains { matches(arrival, $0) }
            }
            if let place {
                unordered.remove(at: place)
            } else if !takesOptional(arrival, on: first.name) {
                throw failure(arrival, expected: own)
            }
        }
    }

    /// The answer to what an exchange has sent. A PUBLISH or PUBREL that comes before it is kept for the lines below.
    private func reply(_ pattern: Script.Pattern, on client: Client) throws(Failure) {
        var kept: [(Packet, Frame)] = []
        defer { client.keep(kept) }
        while true {
            let arrival = client.next(until: deadline, probe(client, [pattern]))
            if matches(arrival, pattern) { return }
            guard case .packet(let packet, let frame) = arrival, packet.isUnasked, kept.count < Client.keptPackets
            else {
                throw failure(arrival, expected: [pattern])
            }
            kept.append((packet, frame))
        }
    }

    // MARK: Exchanges

    private func subscribe(_ name: String, _ subscriptions: [(filter: [UInt8], qos: UInt8)]) throws(Failure) {
        let client = try client(name)
        let identifier = client.freshIdentifier()
        client.send(Frame(.subscribe, Wire.uint16(identifier) + Wire.body(of: subscriptions)))
        let codes = subscriptions.map { Int($0.qos)...Int($0.qos) }
        try reply(.suback(.exactly(Int(identifier)), codes), on: client)
    }

    private func publish(_ name: String, _ wanted: Packet.Publication) throws(Failure) {
        let client = try client(name)
        var publication = wanted
        if publication.qos > 0, publication.identifier == 0 { publication.identifier = client.freshIdentifier() }
        let identifier = Script.NumberPattern.exactly(Int(publication.identifier))
        client.send(Wire.frame(of: publication))
        switch publication.qos {
        case 0:
            client.send(Frame(.pingreq))
            try reply(.pingresp, on: client)
        case 1: try reply(.reply(.puback, identifier), on: client)
        default:
            try reply(.reply(.pubrec, identifier), on: client)
            client.send(Frame(.pubrel, Wire.uint16(publication.identifier)))
            try reply(.reply(.pubcomp, identifier), on: client)
        }
    }

    private func receive(_ name: String, _ pattern: Script.PublicationPattern) throws(Failure) {
        var pattern = pattern
        if case .any = pattern.identifier { pattern.identifier = .variable(" received") }
        variables[" received"] = nil
        try expect([.publish(pattern)], on: name)
        let client = try existingClient(name)
        guard let qos = latestQoS, qos > 0, let identifier = latestIdentifier else { return }
        if qos == 1 { return client.send(Frame(.puback, Wire.uint16(identifier))) }
        client.send(Frame(.pubrec, Wire.uint16(identifier)))
        try reply(.reply(.pubrel, .exactly(Int(identifier))), on: client)
        client.send(Frame(.pubcomp, Wire.uint16(identifier)))
    }

    /// Of the PUBLISH that matched last.
    var latestQoS: UInt8?
    var latestIdentifier: UInt16?

    private func collect(_ name: String) throws(Failure) {
        let client = try existingClient(name)
        for _ in 0..<2 {
            client.send(Frame(.pingreq))
            var isAnswered = false
            while !isAnswered {
                let arrival = client.next(until: deadline, .unsubscribe)
                switch arrival {
                case .packet(.pingresp, _): isAnswered = true
                case .packet(.publish(let publication), _):
                    collected[name, default: []].append(publication)
                    let identifier = Wire.uint16(publication.identifier)
                    if publication.qos == 1 { client.send(Frame(.puback, identifier)) }
                    if publication.qos == 2 { client.send(Frame(.pubrec, identifier)) }
                case .packet(.reply(.pubrel, let identifier), _):
                    client.send(Frame(.pubcomp, Wire.uint16(identifier)))
                default: throw failure(arrival, expected: [.pingresp])
                }
            }
        }
    }

    private func check(
        _ name: String, _ count: ClosedRange<Int>, _ pattern: Script.PublicationPattern
    ) throws(Failure) {
        let all = collected[name] ?? []
        let matching = all.filter { matches($0, pattern) }
        guard count.contains(matching.count) else {
            let others = all.suffix(10).map { Packet.publish($0).description }.joined(separator: "; ")
            throw failure(
                .unexpected, expected: "\(count.text) packets", came: "\(matching.count) of \(all.count): \(others)")
        }
        collected[name] = all.filter { !matches($0, pattern) }
    }
}

extension Packet {
    /// What a broker may send at any time.
    fileprivate var isUnasked: Bool {
        switch self {
        case .publish, .reply(.pubrel, _): true
        default: false
        }
    }
}

extension Script.Pattern {
    fileprivate var isConnack: Bool {
        switch self {
        case .connack: true
        case .bytes(let bytes): bytes.first == Packet.Kind.connack.rawValue << 4
        default: false
        }
    }

    fileprivate var isPing: Bool {
        switch self {
        case .pingresp, .nothing: true
        case .bytes(let bytes): bytes.first == Packet.Kind.pingresp.rawValue << 4
        default: false
        }
    }
}
