import Foundation
import ReferenceModel
import Testing

/// Random programs against the deciding core, on one to four shards. A failure prints the program, made small: with its
/// text in `Tests/Programs` it is run for ever.
@Suite struct `The deciding core, beside the reference model` {
    /// MODEL_SEEDS: how many seeds, or `FIRST...LAST`.
    private static let seeds: ClosedRange<UInt64> = {
        let ends = (ProcessInfo.processInfo.environment["MODEL_SEEDS"] ?? "").split(separator: ".").compactMap {
            UInt64($0)
        }
        return ends.count == 2 ? ends[0]...ends[1] : 1...(ends.first ?? 300)
    }()

    @Test func `shows each client what it must see, in every interleaving`() throws {
        var (differences, left, packets) = (0, 0, 0)
        for seed in Self.seeds {
            let program = ProgramGenerator.program(seed: seed)
            var trial = Trial(program, on: ModelDriver(program))
            let difference = try trial.run()
            packets += trial.packets
            if trial.wasLeft { left += 1 }
            guard let difference else { continue }
            differences += 1
            let smaller = Shrinker.shrink(program) { self.difference($0, turns: 8, on: { ModelDriver($0) }) != nil }
            let first = self.difference(smaller, turns: 8, on: { ModelDriver($0) }) ?? difference
            Issue.record("seed \(seed): \(first)\n\n\(smaller)")
            if differences == 5 { break }
        }
        #expect(left <= Self.seeds.count / 50, "too many programs say too little")
        guard ProcessInfo.processInfo.environment["MODEL_SEEDS"] != nil else { return }
        print("model: seeds \(Self.seeds), \(packets) packets seen, \(left) programs left, \(differences) differences")
    }

    @Test(arguments: KeptProgram.all)
    func `does what it did wrong once, or nearly, right`(_ kept: KeptProgram) throws {
        for shards in 1...4 {
            for seed in 0..<10 as Range<UInt64> {
                var program = try kept.program()
                program.shards = shards
                program.seed += seed
                var trial = Trial(program, on: ModelDriver(program))
                if let difference = try trial.run() {
                    Issue.record("\(kept) on \(shards) shards, seed \(program.seed): \(difference)")
                    return
                }
            }
        }
    }

    @Test(arguments: BrokenBroker.Mistake.allCases)
    func `finds a broker that makes a mistake`(_ mistake: BrokenBroker.Mistake) throws {
        let finder = (1...60 as ClosedRange<UInt64>).first { seed in
            let program = ProgramGenerator.program(seed: seed)
            return difference(program, turns: 1, on: { BrokenBroker(mistake, of: ModelDriver($0)) }) != nil
        }
        #expect(finder != nil)
    }

    @Test(arguments: [.forgetsDuplicate, .forgetsRetain, .forgetsSessionPresent] as [BrokenBroker.Mistake])
    func `says in a few lines what goes wrong`(_ mistake: BrokenBroker.Mistake) throws {
        let driver = { BrokenBroker(mistake, of: ModelDriver($0)) }
        let smaller = Shrinker.shrink(ProgramGenerator.program(seed: 1)) { difference($0, turns: 1, on: driver) != nil }
        #expect(smaller.batches.joined().count <= 6, "\(smaller)")
        #expect(difference(smaller, turns: 1, on: driver) != nil)
        #expect(difference(smaller, turns: 1, on: { ModelDriver($0) }) == nil)
        #expect(try ClientProgram(parsing: "\(smaller)") == smaller)
    }

    /// A difference that needs a certain interleaving may need another one when the program is shorter.
    private func difference(
        _ program: ClientProgram, turns: UInt64, on driver: (ClientProgram) -> any BrokerDriver
    ) -> Difference? {
        for turn in 0..<(program.shards > 1 ? turns : 1) {
            var program = program
            program.seed &+= turn &* 1_000_003
            var trial = Trial(program, on: driver(program))
            if let difference = try? trial.run() { return difference }
        }
        return nil
    }
}
