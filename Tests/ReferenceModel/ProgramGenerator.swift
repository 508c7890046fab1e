import Seeded

/// Makes programs from seeds: few identifiers, topics and filters, small windows, so that what is interesting is common.
package struct ProgramGenerator {
    /// What a driver can do.
    package struct Abilities: Sendable {
        package var shards = 1...4
        package var passesTime = true
        package var fillsOutputs = true
        /// A real broker publishes there what a model can't know.
        package var asksForServerTopics = true
        package var makesSmallSteps = true
        package var batches = 40

        package init() {}
    }

    private static let identifiers = ["s0", "s0", "s1", "s2", "s3"]
    private static let topics = ["a", "a/b", "a/b", "a/c", "b", "b/c", "$x/a", "$SYS/a", "/"]
    private static let filters = [
        "#", "a/#", "a/#", "+", "a/+", "+/b", "+/+", "a", "a/b", "a/b", "b", "b/#", "/#", "$x/#", "$x/+", "$SYS/#",
        "+/a",
    ]

    private let abilities: Abilities
    private var random: SeededGenerator
    private var latestPayload = 0
    /// A guess at who is connected, under which identifier.
    private var names: [String?] = Array(repeating: nil, count: ClientProgram.clients)

    package static func program(seed: UInt64, _ abilities: Abilities = Abilities()) -> ClientProgram {
        var generator = ProgramGenerator(seed: seed, abilities)
        return generator.program(seed)
    }

    private init(seed: UInt64, _ abilities: Abilities) {
        self.abilities = abilities
        random = SeededGenerator(seed: seed)
    }

    private mutating func program(_ seed: UInt64) -> ClientProgram {
        var program = ClientProgram()
        program.shards = abilities.shards.lowerBound + random.below(abilities.shards.count)
        program.limits.inFlight = random.element(of: [1, 2, 2, 3, 20])
        program.limits.queued = random.element(of: [0, 0, 0, 2, 5])
        program.limits.inFlightBytes = random.element(of: [0, 0, 0, 0, 1, 4])
        program.limits.queuedBytes = random.element(of: [0, 0, 0, 0, 0, 4])
        program.limits.queuesAtMostOnce = random.happens(20)
        if abilities.makesSmallSteps { program.limits.step = random.element(of: [256, 256, 1, 2]) }
        program.seed = seed
        for _ in 0..<abilities.batches {
            if random.happens(2) {
                program.batches.append([random.element(of: [.stop, .crash])])
                names = names.map { _ in nil }
            } else if abilities.passesTime, random.happens(4) {
                program.batches.append([.advance(random.element(of: [4, 4, 8, 12, 20]))])
            } else {
                let count = random.element(of: [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4])
                program.batches.append((0..<count).map { _ in step() })
            }
        }
        return program
    }

    private mutating func step() -> ClientProgram.Step {
        let client = random.below(ClientProgram.clients)
        guard names[client] != nil || random.happens(3) else {
            if abilities.passesTime, random.happens(4) { return .open(client) }
            return connect(client)
        }
        switch random.below(100) {
        case ..<2: return connect(client)  // A second CONNECT, if the guess is right.
        case ..<7:
            names[client] = nil
            return .lose(client)
        case ..<10:
            names[client] = nil
            return .send(client, .disconnect)
        case ..<12:
            names[client] = nil
            return .send(client, .violation(random.element(of: Violation.allCases)))
        case ..<30:
            let subscriptions = (0..<random.element(of: [1, 1, 2, 3])).map { _ in
                Subscription(filter: filter(), maximumQoS: random.below(3))
            }
            return .send(client, .subscribe(subscriptions, identifier: UInt16(1 + random.below(300))))
        case ..<34:
            let filters = (0..<random.element(of: [1, 1, 2])).map { _ in filter() }
            return .send(client, .unsubscribe(filters, identifier: UInt16(1 + random.below(300))))
        case ..<72: return .send(client, .publish(publish(mayBeDuplicate: true)))
        case ..<75: return .send(client, .ping)
        case ..<79:
            let type = random.element(of: [Acknowledgement.puback, .pubrec, .pubrel, .pubcomp])
            return .send(client, .acknowledge(type, UInt16(1 + random.below(4))))
        case ..<84 where abilities.fillsOutputs: return .fill(client, random.happens(40))
        default: return .answer(client, random.happens(70) ? 0 : random.below(5))
        }
    }

    private mutating func filter() -> String {
        let filter = random.element(of: Self.filters)
        return filter.hasPrefix("$SYS") && !abilities.asksForServerTopics ? "b/+" : filter
    }

    private mutating func connect(_ client: Int) -> ClientProgram.Step {
        var connect = Sent.Connect(client: random.happens(4) ? "" : random.element(of: Self.identifiers))
        connect.isClean = random.happens(connect.client.isEmpty ? 80 : 30)
        if abilities.passesTime, random.happens(25) { connect.keepAlive = random.element(of: [10, 10, 30]) }
        if random.happens(35) {
            connect.will = publish(mayBeDuplicate: false)
            connect.will?.identifier = 0
        }
        if names[client] != nil {
            names[client] = nil
        } else {
            names = names.map { $0 == connect.client && $0 != "" ? nil : $0 }
            names[client] = connect.client
        }
        return .connect(client, connect, byHand: random.happens(50))
    }

    private mutating func publish(mayBeDuplicate: Bool) -> Publish {
        latestPayload += 1
        var publish = Publish(topic: random.element(of: Self.topics), payload: "\(latestPayload)")
        publish.qos = random.below(3)
        publish.isRetained = random.happens(30)
        if random.happens(publish.isRetained ? 25 : 3) { publish.payload = "" }
        if publish.qos > 0 { publish.identifier = UInt16(1 + random.below(3)) }
        publish.isDuplicate = mayBeDuplicate && publish.qos > 0 && random.happens(20)
        return publish
    }
}
