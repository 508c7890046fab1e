/// What some clients do to a broker, as text that a person can read and keep:
///
///     shards 2
///     in-flight 1
///     c0 connect alice persistent by-hand will=a/b,gone,1,retain
///     c0 subscribe id=1 a/#:1
///     c1 connect bob clean
///     c1 publish a/b 7 qos=1 id=1
///     & c0 ping
///     c0 answer 0
///
/// A line that begins with `&` happens at the same time as the one above it. Clients answer by themselves what they get,
/// unless they connected `by-hand`: then `answer N` answers the Nth of what they have not answered.
package struct ClientProgram: Hashable, Sendable {
    package enum Step: Hashable, Sendable {
        case open(Int)
        case connect(Int, Sent.Connect, byHand: Bool)
        case send(Int, Sent)
        case answer(Int, Int)
        case lose(Int)
        case fill(Int, Bool)
        /// Seconds.
        case advance(Int)
        case stop
        case crash
    }

    package var shards = 1
    package var limits = ReferenceBroker.Limits()
    /// Of the order in which a simulated broker does what happens at once.
    package var seed: UInt64 = 1
    package var batches: [[Step]] = []

    package init() {}

    package static let clients = 5
}

// MARK: Printing

extension ClientProgram: CustomStringConvertible {
    package var description: String {
        var lines = ["shards \(shards)", "in-flight \(limits.inFlight)", "queued \(limits.queued)"]
        if limits.inFlightBytes > 0 { lines.append("in-flight-bytes \(limits.inFlightBytes)") }
        if limits.queuedBytes > 0 { lines.append("queued-bytes \(limits.queuedBytes)") }
        if limits.queuesAtMostOnce { lines.append("queue-qos-0 1") }
        if limits.step != ReferenceBroker.Limits().step { lines.append("step \(limits.step)") }
        lines.append("seed \(seed)")
        for batch in batches {
            for (index, step) in batch.enumerated() { lines.append((index == 0 ? "" : "& ") + "\(step)") }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

extension ClientProgram.Step: CustomStringConvertible {
    package var description: String {
        switch self {
        case .open(let client): return "c\(client) open"
        case .connect(let client, let connect, let byHand):
            var words = ["c\(client)", "connect", connect.client.isEmpty ? "\"\"" : connect.client]
            words.append(connect.isClean ? "clean" : "persistent")
            if byHand { words.append("by-hand") }
            if connect.keepAlive > 0 { words.append("keep-alive=\(connect.keepAlive)") }
            if let will = connect.will {
                words.append("will=\(will.topic),\(will.payload),\(will.qos)" + (will.isRetained ? ",retain" : ""))
            }
            return words.joined(separator: " ")
        case .send(let client, let packet): return "c\(client) \(Self.words(packet))"
        case .answer(let client, let index): return "c\(client) answer \(index)"
        case .lose(let client): return "c\(client) lose"
        case .fill(let client, let isFull): return "c\(client) " + (isFull ? "full" : "drained")
        case .advance(let seconds): return "advance \(seconds)"
        case .stop: return "stop"
        case .crash: return "crash"
        }
    }

    private static func words(_ packet: Sent) -> String {
        switch packet {
        case .publish(let publish): "\(publish)"
        case .acknowledge(let type, let identifier): "\(type) \(identifier)"
        case .subscribe(let subscriptions, let identifier):
            "subscribe id=\(identifier) " + subscriptions.map { "\($0.filter):\($0.maximumQoS)" }.joined(separator: " ")
        case .unsubscribe(let filters, let identifier): "unsubscribe id=\(identifier) " + filters.joined(separator: " ")
        case .ping: "ping"
        case .disconnect: "disconnect"
        case .violation(let violation): "violate \(violation.rawValue)"
        case .connect: preconditionFailure("a CONNECT is a step of its own")
        }
    }
}

// MARK: Parsing

extension ClientProgram {
    package struct Unreadable: Error, CustomStringConvertible {
        package let description: String
    }

    /// Empty lines and those that begin with `#` say nothing.
    package init(parsing text: String) throws {
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            var words = line.split(separator: " ").map(String.init)
            let unreadable = Unreadable(description: "not a line of a program: \(line)")
            if words.count == 2, let number = UInt64(words[1]) {
                switch words[0] {
                case "shards": shards = Int(number)
                case "in-flight": limits.inFlight = Int(number)
                case "queued": limits.queued = Int(number)
                case "in-flight-bytes": limits.inFlightBytes = Int(number)
                case "queued-bytes": limits.queuedBytes = Int(number)
                case "queue-qos-0": limits.queuesAtMostOnce = number == 1
                case "step": limits.step = Int(number)
                case "seed": seed = number
                case "advance": batches.append([.advance(Int(number))])
                default: throw unreadable
                }
                continue
            }
            let isJoined = words.first == "&"
            if isJoined { words.removeFirst() }
            guard let step = Step(parsing: words) else { throw unreadable }
            if isJoined, !batches.isEmpty { batches[batches.count - 1].append(step) } else { batches.append([step]) }
        }
    }
}

extension ClientProgram.Step {
    init?(parsing words: [String]) {
        if words == ["stop"] {
            self = .stop
            return
        }
        if words == ["crash"] {
            self = .crash
            return
        }
        guard words.count >= 2, words[0].first == "c", let client = Int(words[0].dropFirst()) else { return nil }
        var options: [String: String] = [:]
        var plain: [String] = []
        for word in words.dropFirst(2) {
            let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
            if parts.count == 2 { options[parts[0]] = parts[1] } else { plain.append(word == "\"\"" ? "" : word) }
        }
        let identifier = options["id"].flatMap(UInt16.init) ?? 0
        switch words[1] {
        case "open": self = .open(client)
        case "connect":
            guard let name = plain.first else { return nil }
            var connect = Sent.Connect(client: name, isClean: !plain.contains("persistent"))
            connect.keepAlive = options["keep-alive"].flatMap { Int($0) } ?? 0
            if let will = options["will"]?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
                guard will.count >= 3, let qos = Int(will[2]) else { return nil }
                connect.will = Publish(topic: will[0], payload: will[1], qos: qos, isRetained: will.count > 3)
            }
            self = .connect(client, connect, byHand: plain.contains("by-hand"))
        case "publish":
            guard plain.count >= 2 else { return nil }
            var publish = Publish(topic: plain[0], payload: plain[1], identifier: identifier)
            publish.qos = options["qos"].flatMap { Int($0) } ?? 0
            publish.isRetained = plain.dropFirst(2).contains("retain")
            publish.isDuplicate = plain.dropFirst(2).contains("dup")
            self = .send(client, .publish(publish))
        case "subscribe":
            let subscriptions = plain.compactMap { word -> Subscription? in
                guard let colon = word.lastIndex(of: ":"), let qos = Int(word[word.index(after: colon)...]) else {
                    return nil
                }
                return Subscription(filter: String(word[..<colon]), maximumQoS: qos)
            }
            guard subscriptions.count == plain.count else { return nil }
            self = .send(client, .subscribe(subscriptions, identifier: identifier))
        case "unsubscribe": self = .send(client, .unsubscribe(plain, identifier: identifier))
        case "ping": self = .send(client, .ping)
        case "disconnect": self = .send(client, .disconnect)
        case "violate":
            guard let violation = plain.first.flatMap(Violation.init) else { return nil }
            self = .send(client, .violation(violation))
        case "answer":
            guard let index = plain.first.flatMap({ Int($0) }) else { return nil }
            self = .answer(client, index)
        case "lose": self = .lose(client)
        case "full", "drained": self = .fill(client, words[1] == "full")
        default:
            let types: [(String, Acknowledgement)] = [
                ("puback", .puback), ("pubrec", .pubrec), ("pubrel", .pubrel), ("pubcomp", .pubcomp),
            ]
            guard let type = types.first(where: { $0.0 == words[1] })?.1,
                let identifier = plain.first.flatMap(UInt16.init)
            else { return nil }
            self = .send(client, .acknowledge(type, identifier))
        }
    }
}
