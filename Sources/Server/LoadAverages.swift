import Glibc

/// Mosquitto's moving averages of how much of something happens in a minute, over 1, 5 and 15 minutes.
struct LoadAverages {
    static let windows: [(name: String, seconds: Double)] = [("1min", 60), ("5min", 300), ("15min", 900)]
    /// Less than this is no news.
    private static let change = 0.01

    private var latest: UInt64 = 0
    private var averages = [Double](repeating: 0, count: Self.windows.count)
    private var shown: [Double?] = Array(repeating: nil, count: Self.windows.count)

    /// Takes in a total that only grows, `seconds` after the last time. Returns the averages that have moved.
    mutating func update(_ total: UInt64, after seconds: Double) -> [(window: String, text: String)] {
        if seconds > 0 {
            let perMinute = Double(total - latest) * 60 / seconds
            for (index, window) in Self.windows.enumerated() {
                averages[index] = perMinute + exp(-seconds / window.seconds) * (averages[index] - perMinute)
            }
        }
        latest = total
        var moved: [(String, String)] = []
        for (index, window) in Self.windows.enumerated() {
            let isNews = shown[index].map { abs($0 - averages[index]) >= Self.change } ?? true
            guard isNews else { continue }
            shown[index] = averages[index]
            moved.append((window.name, Self.twoDecimals(averages[index])))
        }
        return moved
    }

    /// As "%.2f" writes it.
    private static func twoDecimals(_ value: Double) -> String {
        let hundredths = UInt64((value * 100).rounded())
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }
}
