import Access
import Seeded
import Testing

/// Mutated policies. Goal: parsing ends with a policy or an error with a line inside the file, never with a trap, and
/// what parses can be asked anything.
@Suite struct `Fuzzing policies` {
    private static let corpus =
        ShippedPolicy.allCases.map(\.text)
        + [
            "# Mosquitto's example\ntopic read $SYS/#\n\nuser roger\ntopic foo/bar\n\npattern write $SYS/broker/%c/state\n",
            "user a b\r\ntopic deny x y\r\ntopic readwrite +/+/#\r\npattern read %u/%c/x-%u%c/#\n",
            "\u{FEFF}topic read \u{E9}/\u{1F426}\n\tpattern %o/%%u\n", "topic\nuser\npattern\n",
        ].map { Array($0.utf8) }

    private static let pieces = [
        "%u", "%c", "%o", "%", "/", "+", "#", "$", " ", "\t", "\n", "\r", "\0", "user ", "topic ", "pattern ", "deny ",
        "read ", "\u{FEFF}",
    ].map { Array($0.utf8) }

    @Test(arguments: [1, 2] as [UInt64]) func `never traps`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var parsed = 0
        for iteration in 0..<3_000 {
            var text = generator.element(of: Self.corpus)
            for _ in 0...generator.below(3) { Self.mutate(&text, &generator) }
            do throws(AccessFileError) {
                let policy = try Policy.parse(
                    text, file: "f.acl", dialect: generator.happens(50) ? .mosquitto : .martlet)
                parsed += 1
                ask(policy, &generator)
            } catch {
                let lines = text.count { $0 == UInt8(ascii: "\n") } + 1
                #expect(
                    (1...lines).contains(error.line ?? 0) && !error.description.contains(where: \.isNewline),
                    "\(error), seed \(seed), iteration \(iteration)")
            }
        }
        #expect((300..<2_900).contains(parsed), "\(parsed) parsed")
    }

    private static func mutate(_ text: inout [UInt8], _ generator: inout SeededGenerator) {
        let place = generator.below(text.count + 1)
        switch generator.below(4) {
        case 0: text.insert(contentsOf: generator.element(of: pieces), at: place)
        case 1: text.insert(UInt8(generator.below(256)), at: place)
        case 2: text.removeSubrange(place..<min(text.count, place + generator.below(8)))
        default:
            let other = generator.element(of: corpus)
            text.insert(contentsOf: other.dropFirst(generator.below(other.count)).prefix(40), at: place)
        }
    }

    /// Compares what explains with what decides, on the way.
    private func ask(_ policy: Policy, _ generator: inout SeededGenerator) {
        let names = ["roger", "a b", "$SYS", "a/b", "+", "", "DEV"].map { Array($0.utf8) }
        let topics = ["$SYS/broker/DEV/state", "foo/bar", "DEV", "a b/DEV/x-a bDEV/z", "/", "devices/DEV/ota"]
        let userName = generator.happens(30) ? nil : generator.element(of: names)
        let client = generator.element(of: names)
        let rights = Rights(policy: policy, userName: userName, client: client, owned: ["DEV"])
        for topic in topics {
            for (direction, isAllowed) in [(.read, rights.reads(topic)), (.write, rights.writes(topic))]
                as [(Policy.Direction, Bool)]
            {
                let decision = policy.decision(
                    userName: userName, client: client, owned: ["DEV"], to: direction, Array(topic.utf8))
                #expect(decision.isAllowed == isAllowed && !decision.explanation.contains(where: \.isNewline))
            }
            if rights.coverage(of: topic) != .some {
                #expect(rights.reads(topic) == (rights.coverage(of: topic) == .all))
            }
        }
    }
}
