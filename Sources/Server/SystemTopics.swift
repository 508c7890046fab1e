import Broker
import CLinux
import Glibc
import Locks
import MQTT
import Transport

/// What the broker tells about itself under `$SYS/broker/`, by Mosquitto's names: retained, and published again only
/// when it has changed. Also gives memory back that a peak has left.
actor SystemTopics {
    /// Mosquitto's `sys_interval`.
    private static let interval = Duration.seconds(10)
    /// Unused bytes that are worth a walk through the heap.
    private static let idleBytes = 16 << 20

    private let shards: [Shard]
    private let directory: Lock<Directory>
    private let started = monotonicNanoseconds()
    private var published: [String: String] = [:]
    private var mostConnected = 0
    private var keptBytes = 0

    init(shards: [Shard], directory: Lock<Directory>) {
        self.shards = shards
        self.directory = directory
    }

    /// Publishes at once and then in intervals, until it is cancelled.
    func run() async {
        repeat {
            await publish()
            trim()
        } while await pause()
    }

    private func pause() async -> Bool {
        do { try await Task.sleep(for: Self.interval) } catch { return false }  // Only a cancellation throws.
        return true
    }

    private func publish() async {
        var messages: [ApplicationMessage] = []
        for (name, value) in await values() where published[name] != value {
            published[name] = value
            messages.append(ApplicationMessage(topic: "$SYS/broker/" + name, payload: Array(value.utf8)))
        }
        shards[0].publish(messages, qos: .exactlyOnce, isRetained: true)
    }

    private func values() async -> [(name: String, value: String)] {
        var (total, each) = (Counters(), [Counters]())
        for shard in shards {
            let counters = await shard.counters()
            each.append(counters)
            total = total + counters
        }
        let (sessions, connected, subscriptions, shared, retained) = directory.withLock {
            (
                $0.sessionCount, $0.connectedSessionCount, $0.subscriptionCount, $0.sharedSubscriptionCount,
                $0.retainedCount
            )
        }
        mostConnected = max(mostConnected, connected)
        var values: [(String, String)] = [
            ("version", "martlet version \(martletVersion)"),
            ("uptime", "\((monotonicNanoseconds() - started) / 1_000_000_000) seconds"),
            ("clients/total", "\(sessions)"),
            ("clients/connected", "\(connected)"),
            ("clients/active", "\(connected)"),
            ("clients/disconnected", "\(sessions - connected)"),
            ("clients/inactive", "\(sessions - connected)"),
            ("clients/maximum", "\(mostConnected)"),
            ("messages/received", "\(total.packetsReceived)"),
            ("messages/sent", "\(total.packetsSent)"),
            ("publish/messages/received", "\(total.publishesReceived)"),
            ("publish/messages/sent", "\(total.publishesSent)"),
            ("publish/messages/dropped", "\(total.publishesDropped)"),
            ("publish/messages/denied", "\(total.publishesDenied)"),
            ("publish/bytes/received", "\(total.publishBytesReceived)"),
            ("publish/bytes/sent", "\(total.publishBytesSent)"),
            ("bytes/received", "\(total.bytesReceived)"),
            ("bytes/sent", "\(total.bytesSent)"),
            ("subscriptions/count", "\(subscriptions)"),
            ("shared_subscriptions/count", "\(shared)"),
            ("retained messages/count", "\(retained)"),
            ("connections/socket/count", "\(total.connections)"),
        ]
        for (number, counters) in each.enumerated() {
            values.append(("shards/\(number)/connections", "\(counters.connections)"))
            values.append(("shards/\(number)/publish/messages/sent", "\(counters.publishesSent)"))
            values.append(("shards/\(number)/publishers/held", "\(counters.publishersHeld)"))
        }
        return values
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
