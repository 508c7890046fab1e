import Broker
import CLinux
import Durability
import Glibc
import Locks
import MQTT
import Transport

/// What the broker tells about itself under `$SYS/broker/`, by Mosquitto's names: retained, and published again only
/// when it has changed. docs/sys.md says what each topic means. Also gives memory back that a peak has left.
actor SystemTopics {
    /// Between two looks at what can be given back, where `sys_interval` does not say it.
    private static let upkeepInterval = Duration.seconds(10)
    /// Unused bytes that are worth a walk through the heap.
    private static let idleBytes = 16 << 20
    /// What is averaged: a topic under `load/`, and the total that it comes from.
    private static let loads: [(name: String, total: @Sendable (Counters) -> UInt64)] = [
        ("messages/received", { $0.packetsReceived }), ("messages/sent", { $0.packetsSent }),
        ("publish/dropped", { $0.publishesDropped }), ("publish/received", { $0.publishesReceived }),
        ("publish/sent", { $0.publishesSent }), ("bytes/received", { $0.bytesReceived }),
        ("bytes/sent", { $0.bytesSent }), ("sockets", { $0.connectionsOpened }),
        ("connections", { $0.connectsReceived }),
    ]

    private let shards: [Shard]
    private let lobby: Lobby?
    private let directory: Lock<Directory>
    private let started = monotonicNanoseconds()
    private var published: [String: String] = [:]
    private var averages = Array(repeating: LoadAverages(), count: SystemTopics.loads.count)
    private var latest: Int64?
    private var mostConnected = 0
    private var mostUsed = 0
    private var keptBytes = 0
    /// `sys_interval`; nil publishes nothing.
    private var interval: Duration? = .seconds(10)
    private var waiting: Task<Void, Never>?
    /// Nil: nothing outlives the process.
    private var store: BrokerStore?
    private var written = HourlyBytes()
    /// When the first certificate ends, seconds since 1970.
    private var certificateEnd: Int64?

    init(shards: [Shard], lobby: Lobby?, directory: Lock<Directory>) {
        self.shards = shards
        self.lobby = lobby
        self.directory = directory
    }

    /// Publishes for the first time, before anybody can ask.
    func begin(every interval: Duration?) async {
        self.interval = interval
        if interval != nil { await publish() }
    }

    /// Publishes in intervals, until it is cancelled.
    func run() async {
        while await pause() {
            if interval != nil { await publish() }
            trim()
        }
    }

    func setStore(_ store: BrokerStore) { self.store = store }

    func setCertificateEnd(_ seconds: Int64?) { certificateEnd = seconds }

    /// From now on; what is there stays.
    func setInterval(_ interval: Duration?) {
        guard interval != self.interval else { return }
        self.interval = interval
        waiting?.cancel()
    }

    private func pause() async -> Bool {
        let wait = Task { [interval] in
            do { try await Task.sleep(for: interval ?? Self.upkeepInterval) } catch {}  // Only a cancellation throws.
        }
        waiting = wait
        await withTaskCancellationHandler {
            await wait.value
        } onCancel: {
            wait.cancel()
        }
        return !Task.isCancelled
    }

    private func publish() async {
        var each: [Counters] = []
        var output = (packets: 0, bytes: 0)
        for shard in shards {
            each.append(await shard.counters())
            let waiting = await shard.waitingOutput()
            output = (output.packets + waiting.packets, output.bytes + waiting.bytes)
        }
        var total = each.reduce(Counters(), +)
        if let lobby { total = total + (await lobby.counters()) }
        var messages: [ApplicationMessage] = []
        var values = figures(total, each, output)
        if let store { values += disk(await store.currentFigures(), total) }
        for (name, value) in values where published[name] != value {
            published[name] = value
            messages.append(ApplicationMessage(topic: "$SYS/broker/" + name, payload: Array(value.utf8)))
        }
        for (name, value) in loads(total) {
            messages.append(ApplicationMessage(topic: "$SYS/broker/load/" + name, payload: Array(value.utf8)))
        }
        shards[0].publish(messages, qos: .exactlyOnce, isRetained: true)
    }

    private func figures(
        _ total: Counters, _ each: [Counters], _ output: (packets: Int, bytes: Int)
    ) -> [(name: String, value: String)] {
        let shared = directory.withLock { SharedFigures($0) }
        mostConnected = max(mostConnected, shared.connected)
        let used = Int(malloc_used_bytes())
        mostUsed = max(mostUsed, used)
        let stored = (count: total.heldMessages + shared.retained, bytes: total.heldBytes + shared.retainedBytes)
        var values: [(String, String)] = [
            ("version", "martlet version \(martletVersion)"),
            ("uptime", "\((monotonicNanoseconds() - started) / 1_000_000_000) seconds"),
            ("clients/total", "\(shared.sessions)"),
            ("clients/connected", "\(shared.connected)"),
            ("clients/active", "\(shared.connected)"),
            ("clients/disconnected", "\(shared.sessions - shared.connected)"),
            ("clients/inactive", "\(shared.sessions - shared.connected)"),
            ("clients/maximum", "\(mostConnected)"),
            ("clients/expired", "\(total.clientsExpired)"),
            ("messages/received", "\(total.packetsReceived)"),
            ("messages/sent", "\(total.packetsSent)"),
            // Each message once for every shard that holds it for sessions, and once when it is retained.
            ("messages/stored", "\(stored.count)"),
            ("store/messages/count", "\(stored.count)"),
            ("store/messages/bytes", "\(stored.bytes)"),
            ("publish/messages/received", "\(total.publishesReceived)"),
            ("publish/messages/sent", "\(total.publishesSent)"),
            ("publish/messages/dropped", "\(total.publishesDropped)"),
            ("publish/messages/denied", "\(total.publishesDenied)"),
            ("publish/messages/withheld", "\(total.publishesWithheld)"),
            ("access/signins/refused", "\(total.signInsRefused)"),
            ("access/subscriptions/denied", "\(total.subscriptionsDenied)"),
            ("publish/bytes/received", "\(total.publishBytesReceived)"),
            ("publish/bytes/sent", "\(total.publishBytesSent)"),
            ("bytes/received", "\(total.bytesReceived)"),
            ("bytes/sent", "\(total.bytesSent)"),
            ("subscriptions/count", "\(shared.subscriptions)"),
            ("shared_subscriptions/count", "\(shared.sharedSubscriptions)"),
            ("retained messages/count", "\(shared.retained)"),
            ("heap/current", "\(used)"),
            ("heap/maximum", "\(mostUsed)"),
            ("packet/out/count", "\(output.packets)"),
            ("packet/out/bytes", "\(output.bytes)"),
            ("connections/socket/count", "\(total.connections)"),
            ("tls/handshakes", "\(total.handshakes)"),
            ("tls/handshakes/resumed", "\(total.handshakesResumed)"),
            ("tls/handshakes/failed", "\(total.handshakesFailed)"),
        ]
        if let certificateEnd {
            values.append(("tls/certificates/days", "\((certificateEnd - Int64(time(nil))) / 86_400)"))
        }
        values += Self.limits(total)
        for (number, counters) in each.enumerated() {
            values.append(("shards/\(number)/connections", "\(counters.connections)"))
            values.append(("shards/\(number)/publish/messages/sent", "\(counters.publishesSent)"))
            values.append(("shards/\(number)/publishers/held", "\(counters.publishersHeld)"))
        }
        return values
    }

    private func disk(_ figures: BrokerStore.Figures, _ total: Counters) -> [(String, String)] {
        [
            ("disk/commits", "\(figures.commits)"),
            ("disk/bytes/written", "\(figures.bytesWritten)"),
            ("disk/bytes/written/hour", "\(written.update(figures.bytesWritten, at: monotonicNanoseconds()))"),
            ("disk/failing", figures.isFailing ? "1" : "0"),
            ("disk/messages/queued", "\(total.spilledMessages)"),
        ]
    }

    /// What has come of each limit that was reached.
    private static func limits(_ total: Counters) -> [(String, String)] {
        [
            ("limits/connections/refused", "\(total.connectionsRefused)"),
            ("limits/clients/refused", "\(total.sessionsRefused)"),
            ("limits/keepalive/refused", "\(total.keepAlivesRefused)"),
            ("limits/publishers/held", "\(total.publishersHeld)"),
            ("limits/publishers/throttled", "\(total.publishersThrottled)"),
            ("limits/takeovers/fights", "\(total.takeoverFights)"),
            ("limits/takeovers/delayed", "\(total.takeoversDelayed)"),
            ("limits/takeovers/refused", "\(total.takeoversRefused)"),
            ("limits/memory/connections/refused", "\(total.memoryConnectionsRefused)"),
            ("limits/memory/messages/dropped", "\(total.memoryMessagesDropped)"),
            ("limits/memory/connections/closed", "\(total.memoryConnectionsClosed)"),
            ("limits/memory/messages/unstored", "\(total.memoryMessagesNotStored)"),
        ]
    }

    private func loads(_ total: Counters) -> [(String, String)] {
        let now = monotonicNanoseconds()
        let seconds = latest.map { Double(now - $0) / 1_000_000_000 } ?? 0
        latest = now
        return Self.loads.indices.flatMap { index in
            let (name, count) = Self.loads[index]
            return averages[index].update(count(total), after: seconds).map { ("\(name)/\($0.window)", $0.text) }
        }
    }

    /// Gives unused memory back once more of it has come together; nothing else would.
    private func trim() {
        let idle = Int(malloc_idle_bytes())
        keptBytes = min(keptBytes, idle)
        guard idle > keptBytes + Self.idleBytes else { return }
        malloc_trim(0)
        keptBytes = Int(malloc_idle_bytes())  // Counts what was given back too, as long as it is nobody's.
    }
}

/// What all shards share, in figures.
private struct SharedFigures {
    let sessions: Int
    let connected: Int
    let subscriptions: Int
    let sharedSubscriptions: Int
    let retained: Int
    let retainedBytes: Int

    init(_ directory: borrowing Directory) {
        sessions = directory.sessionCount
        connected = directory.connectedSessionCount
        subscriptions = directory.subscriptionCount
        sharedSubscriptions = directory.sharedSubscriptionCount
        retained = directory.retainedCount
        retainedBytes = directory.retainedBytes
    }
}
