import Broker
import CLinux
import Glibc
import Logging
import Transport

/// Holds the process to `memory_limit`: asks again and again how much memory it has, and tells the shards what to give
/// up. What counts is what the system has given, for that is what a box runs out of; so what is unused goes back first.
actor MemoryWatch {
    private static let interval = Duration.milliseconds(100)
    /// Nearer to the limit, where load can bring megabytes in a moment.
    private static let shortInterval = Duration.milliseconds(10)
    /// Milliseconds after connections were ended, before others are: what that has brought has to show.
    private static let settlingInterval: Int64 = 50
    /// Milliseconds between two walks through the heap.
    private static let trimInterval: Int64 = 100
    private static let readersAtOnce = 16

    private let shards: [Shard]
    private let log: Logger
    private var gauge: MemoryGauge?
    private var watching: Task<Void, Never>?
    private var latestTrim: Int64 = 0
    private var latestEnding: Int64 = 0
    /// Since when each stage that is in force is, milliseconds.
    private var begun: [Shedding: Int64] = [:]

    init(shards: [Shard], log: Logger) {
        self.shards = shards
        self.log = log
    }

    /// From now on; nil: no limit, and nothing is asked any more.
    func setLimit(_ limit: Int?) {
        guard limit != gauge?.limit else { return }
        watching?.cancel()
        if let stage = gauge?.stage, stage > .none {
            for shard in shards { shard.post { $0.shed(.none) } }
            note(from: stage, to: .none, bytes: Self.usedBytes(), of: gauge?.limit ?? 0)
        }
        gauge = limit.map { MemoryGauge(limit: $0) }
        watching = limit.map { _ in Task { await run() } }
    }

    /// Until it is cancelled.
    private func run() async {
        while let pause = await look(), await Self.sleep(pause) {}
    }

    private static func sleep(_ duration: Duration) async -> Bool {
        do { try await Task.sleep(for: duration) } catch { return false }  // Only a cancellation throws.
        return true
    }

    /// Returns when to look next; nil once there is no limit.
    private func look() async -> Duration? {
        guard var gauge else { return nil }
        var bytes = Self.usedBytes()
        let earlier = gauge.stage
        // Before anything is given up, and to see what that has brought, what nobody uses goes back.
        if bytes >= gauge.begin(of: .connections) || earlier > .none, now - latestTrim >= Self.trimInterval {
            malloc_trim(0)
            latestTrim = now
            bytes = Self.usedBytes()
        }
        let stage = gauge.observe(bytes)
        self.gauge = gauge
        if stage != earlier {
            for shard in shards { shard.post { $0.shed(stage) } }
            note(from: earlier, to: stage, bytes: bytes, of: gauge.limit)
        }
        if stage > earlier {
            // What it brings is seen before more is given up: the shards have done it, and what they freed goes back at once.
            for shard in shards { _ = await shard.counters() }
            latestTrim = now - Self.trimInterval
        }
        if stage >= .readers {
            if now - latestEnding >= Self.settlingInterval {
                latestEnding = now
                await endSlowReaders(beyond: bytes - gauge.end(of: .readers))
            }
            return Self.shortInterval
        }
        return bytes >= gauge.limit / 100 * 60 ? Self.shortInterval : Self.interval
    }

    /// Ends the slowest readers of all shards, as many as hold so many bytes.
    private func endSlowReaders(beyond bytes: Int) async {
        var readers: [SlowReader] = []
        for shard in shards { readers += await shard.slowReaders(atMost: Self.readersAtOnce) }
        readers.sort { $0.bytes > $1.bytes }
        var left = bytes
        var chosen = Array(repeating: [UInt64](), count: shards.count)
        for reader in readers.prefix(Self.readersAtOnce) where left > 0 {
            chosen[reader.shard].append(reader.token)
            left -= reader.bytes
        }
        for (number, tokens) in chosen.enumerated() where !tokens.isEmpty {
            await shards[number].endSlowReaders(tokens)
        }
    }

    private func note(from earlier: Shedding, to stage: Shedding, bytes: Int, of limit: Int) {
        for next in Shedding.allCases where next > earlier && next <= stage {
            begun[next] = now
            log.warning(
                "memory_limit: \(next.beginning)", metadata: ["used": "\(bytes)", "limit": "\(limit)"])
        }
        for past in Shedding.allCases.reversed() where past > stage && past <= earlier {
            let seconds = Double(now - (begun[past] ?? now)) / 1000
            log.notice("memory_limit: \(past.end)", metadata: ["used": "\(bytes)", "seconds": "\(seconds)"])
        }
    }

    /// What the system tells nobody, malloc does: it knows of less.
    private static func usedBytes() -> Int {
        let resident = Int(resident_bytes())
        return resident > 0 ? resident : Int(malloc_used_bytes())
    }

    private var now: Int64 { monotonicNanoseconds() / 1_000_000 }
}

extension Shedding {
    fileprivate var beginning: String {
        switch self {
        case .none: "nothing is given up"
        case .connections: "new connections are refused"
        case .queues: "messages of QoS 0 do not wait for anybody"
        case .readers: "the slowest readers are disconnected"
        case .storage: "nothing new is queued for absent sessions, or retained"
        }
    }

    fileprivate var end: String {
        switch self {
        case .none: "nothing is given up"
        case .connections: "new connections are accepted again"
        case .queues: "messages of QoS 0 may wait again"
        case .readers: "slow readers are left alone again"
        case .storage: "messages are queued and retained again"
        }
    }
}
