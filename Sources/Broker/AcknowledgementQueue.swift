import DequeModule
import MQTT

/// Names a commit of the store; later commits have greater tickets.
package typealias CommitTicket = UInt64

/// The acknowledgements of one connection, in the order of the packets that they answer [MQTT-4.6.0-2]. Each waits for
/// a commit, for that or the end of a handover, or for nothing; and none overtakes another.
struct AcknowledgementQueue: Sendable {
    enum Answer: Sendable {
        case acknowledgement(Acknowledgement)
        case subscription(SubscribeAcknowledgement)
        /// Needs no commit, but says to many that what they sent before is done.
        case ping
    }

    private struct Waiting: Sendable {
        let answer: Answer
        let ticket: CommitTicket?
        let handover: HandoverNumber
    }

    private var waiting = Deque<Waiting>()

    var count: Int { waiting.count }

    /// True when the acknowledgement may leave at once; otherwise it waits here.
    @inline(__always)
    mutating func mayLeave(
        _ answer: @autoclosure () -> Answer, after ticket: CommitTicket?, or handover: HandoverNumber = 0
    ) -> Bool {
        if ticket == nil, waiting.isEmpty { return true }
        waiting.append(Waiting(answer: answer(), ticket: ticket, handover: handover))
        return false
    }

    /// Takes out what answers to PINGREQ; returns how many there were.
    mutating func removePings() -> Int {
        let before = waiting.count
        waiting.removeAll { if case .ping = $0.answer { true } else { false } }
        return before - waiting.count
    }

    /// The next acknowledgement that needs nothing more than what is on the disk or handed over.
    mutating func next(committed: CommitTicket, _ handovers: borrowing Handovers) -> Answer? {
        guard let first = waiting.first else { return nil }
        if let ticket = first.ticket, ticket > committed {
            guard first.handover != 0, handovers.isOver(first.handover) else { return nil }
        }
        return waiting.removeFirst().answer
    }
}
