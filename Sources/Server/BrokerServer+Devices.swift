import Access
import Broker
import CLinux
package import Fleet
import Locks
import MQTT
import Transport

/// What whoever manages devices asks of the broker.
extension BrokerServer {
    /// What devices do goes there from now on. Before `run`.
    package func tell(_ feed: FleetFeed) { for shard in shards { shard.post { $0.begin(feed) } } }

    /// Publishes what is for a device on `devices/{device}/{topic}`, and returns to how many of its connections it went, and
    /// how many of them will acknowledge it; to others it goes as any message, if they shall get it. `milliseconds`: after
    /// them it is not sent again. When the device acknowledges it the feed tells, by its `number`.
    package func send(
        _ payload: [UInt8], on topic: String, number: UInt64, to device: String, within milliseconds: Int64,
        andOthers: Bool
    ) async -> (sent: Int, awaited: Int) {
        let message = ApplicationMessage(topic: "devices/\(device)/\(topic)", payload: payload)
        let receivers = receivers(of: message)
        var (sent, awaited) = (0, 0)
        for (index, shard) in shards.enumerated() {
            let theirs = receivers.filter { Int($0.session.number) % shards.count == index }
            guard !theirs.isEmpty else { continue }
            let those = await shard.deliver(
                message, number: number, for: device, within: milliseconds, to: theirs, andOthers: andOthers)
            sent += those.sent
            awaited += those.awaited
        }
        return (sent, awaited)
    }

    /// What was sent by these numbers, and is not acknowledged, is not sent again.
    package func withdraw(_ numbers: Set<UInt64>) { for shard in shards { shard.withdraw(numbers) } }

    /// Answers a request of the feed, by all connections by which that administrator listens.
    package func answer(_ response: [UInt8], to person: String) async {
        let message = ApplicationMessage(topic: "$CONTROL/fleet/v1/response", payload: response)
        let receivers = receivers(of: message)
        for shard in shards where !receivers.isEmpty { await shard.answer(message, to: person, receivers) }
    }

    private func receivers(of message: ApplicationMessage) -> [Receiver] {
        var receivers: [Receiver] = []
        directory.withLock { $0.match(message.bytes.span.extracting(message.topicRange), into: &receivers) }
        return receivers
    }

    /// The connections of devices that have brought a packet since then, milliseconds of the clock that never jumps.
    package func devicesHeard(since milliseconds: Int64) async -> [(device: String, link: Link)] {
        var heard: [(device: String, link: Link)] = []
        for shard in shards { heard += await shard.devicesHeard(since: Instant(milliseconds: milliseconds)) }
        return heard
    }

    /// Publishes what is the server's own and retained; without a payload it is cleared.
    package func publishOwn(_ messages: [(topic: String, payload: [UInt8], isRetained: Bool)]) {
        for message in messages {
            let published = ApplicationMessage(topic: message.topic, payload: message.payload)
            shards[0].publish([published], qos: .atLeastOnce, isRetained: message.isRetained)
        }
    }

    /// By the clock that never jumps.
    package static var milliseconds: Int64 { monotonicNanoseconds() / 1_000_000 }
}
