import MQTT

@testable import Broker

extension ShardHarness {
    /// All that has changed gets to the disk.
    func commitAll() { while !commits.isEmpty { finishCommit() } }

    /// The broker crashes, and another begins with what the disk has. `isWritten`: with the commit that was under way.
    func restarted(
        shards: Int = 2, limits: Limits = .withoutDamping,
        _ durability: DurabilityRules = DurabilityRules(.acknowledged), isWritten: Bool = false
    ) -> ShardHarness {
        let disk = crash(isWritten: isWritten)
        let next = ShardHarness(shards: shards, limits: limits, now: now)
        next.keepOnDisk(durability, from: disk)
        return next
    }

    /// A persistent session's client that answers what it gets at once.
    func reconnect(_ client: String) -> TestConnection {
        let connection = open()
        connection.acknowledgesAtOnce = true
        connection.sendConnect(client, cleanSession: false)
        return connection
    }

    /// Payloads in a client's queue on the disk.
    func queue(of client: String) -> [String]? {
        disk.queue(of: client)?.map { String(decoding: $0.message?.payload ?? [], as: UTF8.self) }
    }
}
