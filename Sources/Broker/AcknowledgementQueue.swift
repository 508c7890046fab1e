import DequeModule
import MQTT

/// Names a commit of the store; later commits have greater tickets.
package typealias CommitTicket = UInt64

/// The acknowledgements of one connection, in the order of the packets that they answer [MQTT-4.6.0-2]. Each waits for
/// a commit or for nothing, and none overtakes another.
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
    }

    private var waiting = Deque<Waiting>()

    var count: Int { waiting.count }

    /// True when the acknowledgement may leave at once; otherwise it waits here.
    @inline(__always)
    mutating func mayLeave(_ answer: @autoclosure () -> Answer, after ticket: CommitTicket?) -> Bool {
        if ticket == nil, waiting.isEmpty { return true }
        waiting.append(Waiting(answer: answer(), ticket: ticket))
        return false
    }

    /// Takes out what answers to PINGREQ; returns how many there were.
    mutating func removePings() -> Int {
        let before = waiting.count
        waiting.removeAll { if case .ping = $0.answer { true } else { false } }
        return before - waiting.count
    }

    /// The next acknowledgement that needs no commit later than `ticket`.
    mutating func next(committed ticket: CommitTicket) -> Answer? {
        guard let first = waiting.first, first.ticket.map({ $0 <= ticket }) ?? true else { return nil }
        return waiting.removeFirst().answer
    }
}
