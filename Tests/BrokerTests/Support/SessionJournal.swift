import MQTT

@testable import Broker

/// What has been changed of one persistent session, in order and by rounds, and how much of it the broker has acknowledged: a
/// disk has whole rounds, and what is acknowledged in any case.
struct SessionJournal {
    enum Change {
        case begun
        /// Its client is there, with the will of that payload.
        case came(will: String?)
        /// Its client has gone, with its will.
        case left(Instant)
        /// The broker has begun without the client, and can't tell since when that is away.
        case missed(Instant)
        /// The broker has published the will that an earlier one had left.
        case willPublished
        /// SUBSCRIBE or UNSUBSCRIBE on that connection; nil gives a filter up.
        case subscribed(filters: [(filter: String, qos: QoS?)], PacketIdentifier, tag: Int)
        /// The first PUBLISH of a QoS 2 message.
        case received(PacketIdentifier)
        case released(PacketIdentifier)
        /// By a CONNECT with a clean session, or because its client was away for too long.
        case discarded
    }

    struct State: Equatable {
        var subscriptions: [String: QoS] = [:]
        var incoming: Set<PacketIdentifier> = []
        /// Nil: its client is connected.
        var absentSince: Instant?
        /// The payload of the will.
        var will: String?
    }

    /// What is on the disk at least; nil: no session.
    private(set) var acknowledged: State?
    private var changes: [(change: Change, round: CommitTicket)]
    /// The round that the end of the session is in.
    private(set) var discardedIn: CommitTicket?

    init(begunIn round: CommitTicket) { changes = [(.begun, round)] }

    var isDiscarded: Bool { discardedIn != nil }

    mutating func append(_ change: Change, in round: CommitTicket) {
        changes.append((change, round))
        if case .discarded = change { discardedIn = round }
    }

    // MARK: Acknowledgements

    mutating func acknowledgeSubscription(_ identifier: PacketIdentifier, tag: Int) {
        acknowledge(
            through: changes.firstIndex {
                if case .subscribed(_, identifier, tag) = $0.change { true } else { false }
            })
    }

    mutating func acknowledgeReceived(_ identifier: PacketIdentifier) {
        acknowledge(through: changes.lastIndex { if case .received(identifier) = $0.change { true } else { false } })
    }

    mutating func acknowledgeReleased(_ identifier: PacketIdentifier) {
        acknowledge(through: changes.lastIndex { if case .released(identifier) = $0.change { true } else { false } })
    }

    private mutating func acknowledge(through index: Int?) {
        guard let index else { return }
        for (change, _) in changes[...index] { Self.apply(change, to: &acknowledged) }
        changes.removeFirst(index + 1)
    }

    // MARK: A crash

    /// What the disk has when that round is the last that it has.
    func state(after written: CommitTicket) -> State? {
        var state = acknowledged
        for (change, round) in changes where round <= written { Self.apply(change, to: &state) }
        return state
    }

    /// The broker has begun again, with what the disk has.
    mutating func begin(from found: State) {
        (acknowledged, changes, discardedIn) = (found, [], nil)
    }

    private static func apply(_ change: Change, to state: inout State?) {
        switch change {
        case .begun: state = State()
        case .came(let will):
            state?.absentSince = nil
            state?.will = will
        case .left(let now):
            state?.absentSince = now
            state?.will = nil
        case .missed(let now): state?.absentSince = now
        case .willPublished: state?.will = nil
        case .subscribed(let filters, _, _): for (filter, qos) in filters { state?.subscriptions[filter] = qos }
        case .received(let identifier): state?.incoming.insert(identifier)
        case .released(let identifier): state?.incoming.remove(identifier)
        case .discarded: state = nil
        }
    }
}
