import Glibc
import Testing

@testable import Server

@Suite struct `A load average` {
    @Test func `begins at nothing, whatever was counted before`() {
        var load = LoadAverages()
        let first = load.update(1_000_000, after: 0)
        #expect(first.map(\.window) == ["1min", "5min", "15min"])
        #expect(first.map(\.text) == ["0.00", "0.00", "0.00"])
        #expect(load.update(1_000_000, after: 10).isEmpty)
    }

    @Test func `goes towards the rate of a minute as Mosquitto's does`() {
        var load = LoadAverages()
        _ = load.update(0, after: 0)
        var averages = [0.0, 0.0, 0.0]
        var total: UInt64 = 0
        for step in 0..<200 {
            let new = UInt64(step % 7 * 13)
            total += new
            let moved = load.update(total, after: 10)
            for (index, seconds) in [60.0, 300, 900].enumerated() {
                let rate = Double(new) * 60 / 10
                averages[index] = rate + exp(-10 / seconds) * (averages[index] - rate)
                if let text = moved.first(where: { $0.window == LoadAverages.windows[index].name })?.text {
                    #expect(abs((Double(text) ?? -1) - averages[index]) <= 0.0051)
                }
            }
        }
    }

    @Test func `is published when it has moved by a hundredth`() {
        var load = LoadAverages()
        _ = load.update(0, after: 0)
        _ = load.update(10_000, after: 10)
        var last = 1e9
        var silent = 0
        for _ in 0..<400 {
            let moved = load.update(10_000, after: 10)
            guard let text = moved.first(where: { $0.window == "1min" })?.text, let value = Double(text) else {
                silent += 1
                continue
            }
            #expect(value < last)
            last = value
        }
        #expect(silent > 100 && last < 0.05)
    }
}
