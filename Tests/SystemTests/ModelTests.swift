import Foundation
import ReferenceModel
import Testing

extension System {
    /// Random programs against the binary, whose shards really run at the same time.
    @Suite struct `The binary, beside the reference model` {
        /// MODEL_SOCKET_SEEDS: how many seeds.
        private static let seeds: ClosedRange<UInt64> =
            1...(ProcessInfo.processInfo.environment["MODEL_SOCKET_SEEDS"].flatMap { UInt64($0) }
            ?? (isSanitized ? 10 : 40))

        private static let abilities: ProgramGenerator.Abilities = {
            var abilities = ProgramGenerator.Abilities()
            abilities.shards = 2...3
            abilities.passesTime = false
            abilities.fillsOutputs = false
            abilities.asksForServerTopics = false
            abilities.makesSmallSteps = false
            return abilities
        }()

        @Test func `shows each client what it must see`() throws {
            for seed in Self.seeds {
                let program = ProgramGenerator.program(seed: seed, Self.abilities)
                var trial = Trial(program, on: try ModelSocketDriver(program))
                if let difference = try trial.run() {
                    let smaller = Shrinker.shrink(program) { self.difference($0) != nil }
                    Issue.record("seed \(seed): \(self.difference(smaller) ?? difference)\n\n\(smaller)")
                    break
                }
            }
        }

        @Test(arguments: KeptProgram.all)
        func `does what was done wrong once, or nearly, right`(_ kept: KeptProgram) throws {
            var program = try kept.program()
            program.shards = max(program.shards, 2)
            var trial = Trial(program, on: try ModelSocketDriver(program))
            if let difference = try trial.run() { Issue.record("\(difference)") }
        }

        /// Threads interleave as they like, so what happened once is looked for some times.
        private func difference(_ program: ClientProgram) -> Difference? {
            for _ in 1...5 {
                guard let driver = try? ModelSocketDriver(program) else { continue }
                var trial = Trial(program, on: driver)
                if let difference = try? trial.run() { return difference }
            }
            return nil
        }
    }
}
