import MQTT
import Testing

@testable import Broker

/// Seeded clients against one to three shards. A failure names its seed: `Simulation(seed:settings:)` repeats it.
@Suite struct `Under random clients and random interleavings` {
    private func run(_ seed: UInt64, _ settings: Simulation.Settings) {
        let simulation = Simulation(seed: seed, settings: settings)
        simulation.run()
        if let problem = simulation.problem {
            Issue.record("seed \(seed), \(settings.shards) shards: \(problem)")
        } else {
            #expect(simulation.delivered > 50, "seed \(seed): the simulation is of little use")
        }
    }

    private func settings(_ shards: Int, _ seed: UInt64) -> Simulation.Settings {
        var settings = Simulation.Settings(shards: shards)
        settings.limits.inFlightMessages = [1, 3, 20, 0][Int(seed % 4)]
        settings.limits.queuedMessages = 0
        return settings
    }

    @Test(arguments: [1, 2, 3], 1...25 as ClosedRange<UInt64>)
    func `order, identifiers and QoS hold [MQTT-4.6.0-6] [MQTT-2.3.1-4] [MQTT-4.3.3-2] [MQTT-4.5.0-1]`(
        _ shards: Int, _ seed: UInt64
    ) {
        run(seed, settings(shards, seed))
    }

    @Test(arguments: [1, 2, 3], 101...115 as ClosedRange<UInt64>)
    func `they hold when clients change between clean and persistent sessions [MQTT-3.1.2-6]`(
        _ shards: Int, _ seed: UInt64
    ) {
        var settings = settings(shards, seed)
        settings.changesKind = true
        run(seed, settings)
    }

    @Test(arguments: [1, 2, 3], 201...210 as ClosedRange<UInt64>)
    func `they hold within few bytes in flight`(_ shards: Int, _ seed: UInt64) {
        var settings = settings(shards, seed)
        settings.limits.inFlightBytes = 60
        run(seed, settings)
    }
}
