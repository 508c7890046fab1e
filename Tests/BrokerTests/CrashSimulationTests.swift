import Foundation
import MQTT
import Testing

@testable import Broker

/// Seeded clients against a broker with a disk, which crashes now and then and begins again with what the disk has. A failure
/// names its seed: `Simulation(seed:settings:)` repeats it. `MARTLET_SIMULATIONS` is how many seeds each test takes;
/// `MARTLET_SIMULATION` prints the steps of one.
@Suite struct `Under random clients and crashes` {
    private static let count = ProcessInfo.processInfo.environment["MARTLET_SIMULATIONS"].flatMap { UInt64($0) }

    /// The only one that runs, and whose steps are printed.
    private static let traced = ProcessInfo.processInfo.environment["MARTLET_SIMULATION"].flatMap { UInt64($0) }

    private func run(
        _ shards: Int, _ first: UInt64, seeds count: UInt64 = 12, _ change: (inout Simulation.Settings, UInt64) -> Void
    ) {
        var (delivered, crashes, lateWills, expired, dropped) = (0, 0, 0, 0, 0)
        var settings = Simulation.Settings()
        let all = Array(1...(Self.count ?? count))
        let seeds = Self.traced.map { $0 > first && $0 < first + 100_000 ? [$0 - first] : [] } ?? all
        for seed in seeds {
            settings = Simulation.Settings(shards: shards)
            settings.hasDisk = true
            settings.limits.inFlightMessages = [1, 3, 20, 0][Int(seed % 4)]
            settings.limits.queuedMessages = 0
            settings.commits = [1, 3, 10, 40][Int(seed / 4 % 4)]
            change(&settings, seed)
            let simulation = Simulation(seed: first + seed, settings: settings)
            if Self.traced == first + seed { simulation.trace = { print("\(shards):", $0()) } }
            simulation.run()
            if let problem = simulation.problem {
                Issue.record("seed \(first + seed), \(shards) shards, crash \(simulation.crashes): \(problem)")
            }
            delivered += simulation.delivered
            crashes += simulation.crashes
            lateWills += simulation.lateWills
            expired += simulation.expired
            dropped += Int(simulation.broker.counters.publishesDropped)
        }
        guard Self.traced == nil else { return }
        #expect(delivered > 50 * seeds.count && crashes > seeds.count / 2, "the simulation is of little use")
        if settings.mayDrop {
            #expect(dropped > 10 * seeds.count, "\(dropped) messages dropped")
        } else if settings.limits.sessionExpiry > 0 {
            #expect(expired > seeds.count, "\(expired) sessions expire")
        } else if settings.hasWills {
            #expect(lateWills > seeds.count / 2, "\(lateWills) wills of clients that did not come back")
        }
    }

    @Test(arguments: [1, 2, 3])
    func `what was acknowledged is there, once and in order [MQTT-4.3.3-2] [MQTT-4.4.0-1] [MQTT-4.6.0-6]`(
        _ shards: Int
    ) {
        run(shards, 0, seeds: 25) { settings, seed in settings.changesShards = seed % 3 == 0 }
    }

    @Test(arguments: [1, 2, 3])
    func `nothing comes back of a session that was discarded [MQTT-3.1.2-6]`(_ shards: Int) {
        run(shards, 100_000, seeds: 25) { settings, _ in settings.changesKind = true }
    }

    @Test(arguments: [1, 2, 3])
    func `with relaxed durability what was committed is there, and nothing else`(_ shards: Int) {
        run(shards, 300_000) { settings, seed in
            settings.durability = DurabilityRules(.relaxed)
            settings.changesKind = seed % 2 == 0
            settings.changesShards = seed % 3 == 0
            settings.crashes = 8
        }
    }

    @Test(arguments: [1, 2, 3])
    func `each topic has the durability that durability_topic says`(_ shards: Int) {
        let rules = [("a/b", Durability.memory), ("a/#", .relaxed), ("b", .acknowledged), ("b/#", .memory)]
            .map { DurabilityRules.Rule(filter: Array($0.0.utf8), durability: $0.1) }
        run(shards, 400_000) { settings, seed in
            settings.durability = DurabilityRules([.acknowledged, .relaxed, .memory][Int(seed % 3)], rules: rules)
            settings.changesKind = seed % 2 == 0
            settings.crashes = 8
            if seed % 5 == 0 { (settings.burst, settings.returns) = (30, 3) }
        }
    }

    @Test(arguments: [1, 2, 3])
    func `wills come once, also those of who does not come back after a crash [MQTT-3.1.2-8]`(_ shards: Int) {
        run(shards, 500_000) { settings, seed in
            settings.hasWills = true
            settings.advances = 30
            settings.returns = seed % 4 < 2 ? 3 : 30
            settings.changesKind = seed % 2 == 0
            settings.changesShards = seed % 3 == 0
            if seed % 4 == 0 { settings.durability = DurabilityRules(.relaxed) }
        }
    }

    @Test(arguments: [1, 2, 3])
    func `a session that expires is gone with all that was its, once that is on the disk`(_ shards: Int) {
        run(shards, 600_000) { settings, seed in
            // So soon that what a client leaves and what it begins anew meet in one round.
            let isHasty = seed % 4 < 2
            settings.limits.sessionExpiry = isHasty ? 1 : seed % 8 < 4 ? 1000 : 10_000
            settings.longestAdvance = isHasty ? 1000 : 20_000
            settings.advances = isHasty ? 200 : 30
            settings.returns = isHasty ? 80 : 20
            settings.hasWills = !isHasty
            settings.changesKind = seed % 3 == 0
            settings.changesShards = seed % 5 == 0
            settings.crashes = 8
            if seed % 2 == 0 { settings.durability = DurabilityRules(.relaxed) }
        }
    }

    @Test(arguments: [1, 2, 3])
    func `queues are as long as limits and memory allow, and what is in them is there, whatever a reload changes`(
        _ shards: Int
    ) {
        run(shards, 700_000) { settings, seed in
            settings.limits.queuedMessages = seed % 4 == 0 ? 100 : [1, 5, 20][Int(seed % 3)]
            settings.limits.queuedBytes = seed % 4 == 0 ? 150 : 0
            settings.retains = seed % 3 == 0
            settings.limits.inFlightMessages = 1 + Int(seed % 3)
            settings.burst = 5
            settings.returns = 10
            settings.changesKind = seed % 5 == 0
            if seed % 4 == 1 || seed % 4 == 2 { settings.reloads = 10 }
            if seed % 3 == 0 { settings.sheds = 10 }
            guard seed % 4 < 2 else { return }
            settings.limits.sessionExpiry = 10_000
            settings.advances = 20
            settings.hasWills = true
        }
    }

    @Test(arguments: [1, 2, 3])
    func `queues that are longer than what is kept in memory hold`(_ shards: Int) {
        run(shards, 200_000, seeds: 25) { settings, _ in
            settings.burst = 30
            settings.returns = 3
            settings.crashes = 2
        }
    }
}
