import MQTT
import Seeded

@testable import Broker

/// The wills of the clients, and when they have to be published.
extension Simulation {
    /// One that an earlier broker has left.
    struct PendingWill {
        let name: String
        let session: Session
        let payload: String
        let due: Instant
    }

    /// Different ones, so that no two pending wills are due at once.
    func keepAlive(of name: String) -> UInt16 {
        guard settings.hasWills, let number = clients.firstIndex(where: { $0.name == name }) else { return 0 }
        return [10, 12, 14, 16, 18, 0][number % 6]
    }

    func newWill(of name: String, tag: Int) -> WillMessage? {
        guard settings.hasWills, generator.happens(70) else { return nil }
        let payload = "\(name) will \(tag)"
        let will = WillMessage(
            generator.element(of: Self.topics), payload, generator.element(of: QoS.allCases),
            isRetained: settings.retains && generator.happens(20))
        wills[payload] = will
        willPayloads[tag] = payload
        return will
    }

    /// The client of a session was connected when the broker died: it has the time that it would have had anyway.
    func pend(_ payload: String, of session: Session, _ name: String, _ now: Instant) {
        let silence = Int64(keepAlive(of: name)) * 1500
        let due = now + (silence > 0 ? silence : 60_000)
        pendingWills.append(PendingWill(name: name, session: session, payload: payload, due: due))
        pendingWills.sort { $0.due < $1.due }
    }

    /// Those of who is missed, on a shard that looks at the clock.
    func publishWillsDue(on shard: Int, in round: CommitTicket) {
        let due = pendingWills.filter { $0.due <= broker.now && broker.home(of: $0.name) == shard }
        pendingWills.removeAll { will in due.contains { $0.payload == will.payload } }
        lateWills += due.count
        for will in due {
            trace?("the will of \(will.name) is due")
            will.session.journal.append(.willPublished, in: round)
            publishWill(will.payload, of: will.session, will.name, tag: 0, in: round)
        }
    }

    /// It goes out in one round with its end, so it comes once.
    func publishWill(_ payload: String, of session: Session, _ name: String, tag: Int, in round: CommitTicket) {
        guard let will = wills[payload] else { return fail("\(payload) is the will of nobody") }
        let message = Message(
            will.message, will.qos, by: session, on: tag, in: round, durability(of: will.message))
        owe(message, from: Publisher(name: "\(name) will", tag: session.tag))
        if will.isRetained { retain(message) }
        if settings.hasDisk, will.qos > .atMostOnce, message.durability > .memory { messages.append(message) }
    }
}
