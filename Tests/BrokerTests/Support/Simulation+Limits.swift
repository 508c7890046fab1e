import MQTT
import Seeded

@testable import Broker

/// What limits and short memory keep out of the queues. The broker may drop a message only where its queue can be full, or
/// where its session is away while memory is short; it is not known in which order mail of several shards comes.
extension Simulation {
    func reload() {
        limits.queuedMessages = generator.element(of: [3, 10, 100])
        limits.queuedBytes = generator.element(of: [0, 0, 100])
        limits.inFlightMessages = generator.element(of: [1, 3, 20])
        if settings.limits.sessionExpiry > 0 { limits.sessionExpiry = generator.element(of: [0, 1000, 10_000]) }
        longestQueue = max(longestQueue, limits.queuedMessages)
        widestWindow = max(widestWindow, limits.inFlightMessages)
        trace?("\(limits.queuedMessages) messages may wait, \(limits.inFlightMessages) be in flight")
        broker.adopt(limits)
        for client in clients { if let session = sessions[client.name] { noteUncertain(in: session) } }
    }

    func shed() {
        shedding = generator.element(of: [.none, .connections, .queues, .storage])
        trace?("of memory there is \(shedding)")
        broker.shed(shedding)
        guard shedding >= .storage, shards > 1 else { return }
        for client in clients { if let session = sessions[client.name] { noteUncertain(in: session) } }
    }

    private func isAway(_ session: Session) -> Bool { !connected.values.contains { $0 === session } }

    func isSurelyDropped(_ qos: QoS, for session: Session) -> Bool {
        shards == 1 && shedding >= .storage && qos > .atMostOnce && isAway(session)
    }

    /// A message is on its way into the queue.
    func noteQueued(in session: Session) {
        // Until it has been read nobody looks which messages of a stored queue are in flight: all of them count.
        let waiting = session.queue.filter { ($0.sent == nil || session.isUnread && $0.came == 0) && $0.over == nil }
        // What is retained waits for a commit there too, as much of it as the window has room for.
        let others = settings.retains ? widestWindow : 0
        let before = waiting.count - 1 + others
        let bytes = waiting.reduce(0) { $0 + $1.payload.utf8.count } + others * 20
        let isFull =
            limits.queuedMessages > 0 && before >= limits.queuedMessages
            || limits.queuedBytes > 0 && bytes > limits.queuedBytes
        if isFull || shards > 1 && shedding >= .storage { noteUncertain(in: session) }
    }

    /// What may be on its way to the session is perhaps dropped when it comes there.
    private func noteUncertain(in session: Session) {
        for queued in session.queue where queued.sent == nil && queued.came > broker.roundsWritten {
            queued.mayBeDropped = true
            session.mayMiss.insert(queued.payload)
        }
    }

    /// On one shard the rows of a round are what its queue held then.
    func checkLength(of queue: [SimulatedDisk.Row], _ name: String) {
        guard settings.shards == 1, !settings.changesShards, longestQueue > 0, limits.queuedMessages > 0 else { return }
        let waiting = queue.count { $0.packetIdentifier == 0 && !$0.isRetained }
        if waiting > longestQueue { fail("\(name): \(waiting) messages wait, not \(longestQueue)") }
    }

    /// What limits may do to retained messages: nothing that makes them longer.
    func isKept(_ message: Message) -> Bool {
        guard shedding >= .storage else { return true }
        return retained[message.topic]?.last.map { $0.payload.utf8.count >= message.payload.utf8.count } ?? false
    }
}
