import MQTT

@testable import Broker

/// What has been changed of one persistent session, in order, and how much of it the broker has acknowledged: a disk may be
/// anywhere behind that, and nowhere else.
struct SessionJournal {
    enum Change {
        case begun
        /// SUBSCRIBE or UNSUBSCRIBE on that connection; nil gives a filter up.
        case subscribed(filters: [(filter: String, qos: QoS?)], PacketIdentifier, tag: Int)
        /// The first PUBLISH of a QoS 2 message.
        case received(PacketIdentifier)
        case released(PacketIdentifier)
        /// By a CONNECT with a clean session.
        case discarded
    }

    struct State: Equatable {
        var subscriptions: [String: QoS] = [:]
        var incoming: Set<PacketIdentifier> = []
    }

    /// What is on the disk at least; nil: no session.
    private(set) var acknowledged: State?
    private var changes: [Change] = [.begun]
    /// Changes before the first of `changes`.
    private var first = 0

    /// The place of the next change.
    var next: Int { first + changes.count }
    var isDiscarded: Bool { changes.contains { if case .discarded = $0 { true } else { false } } }

    mutating func append(_ change: Change) { changes.append(change) }

    /// The session has outlived the CONNECT that would have discarded it.
    mutating func forgetDiscarding() { changes.removeAll { if case .discarded = $0 { true } else { false } } }

    // MARK: Acknowledgements

    mutating func acknowledgeSubscription(_ identifier: PacketIdentifier, tag: Int) {
        acknowledge(
            through: changes.firstIndex {
                if case .subscribed(_, identifier, tag) = $0 { true } else { false }
            })
    }

    mutating func acknowledgeReceived(_ identifier: PacketIdentifier) {
        acknowledge(through: changes.lastIndex { if case .received(identifier) = $0 { true } else { false } })
    }

    mutating func acknowledgeReleased(_ identifier: PacketIdentifier) {
        acknowledge(through: changes.lastIndex { if case .released(identifier) = $0 { true } else { false } })
    }

    private mutating func acknowledge(through index: Int?) {
        guard let index else { return }
        for change in changes[...index] { Self.apply(change, to: &acknowledged) }
        changes.removeFirst(index + 1)
        first += index + 1
    }

    // MARK: A crash

    /// The broker has begun again, and this is what the disk has. Returns the place of the first change that is not in it;
    /// nil when that can't be.
    mutating func settle(on found: State?) -> Int? {
        var state = acknowledged
        var place = state == found ? first : nil
        for (index, change) in changes.enumerated() {
            Self.apply(change, to: &state)
            if state == found { place = first + index + 1 }
        }
        guard let place else { return nil }
        acknowledged = found
        (changes, first) = ([], place)
        return place
    }

    private static func apply(_ change: Change, to state: inout State?) {
        switch change {
        case .begun: state = State()
        case .subscribed(let filters, _, _): for (filter, qos) in filters { state?.subscriptions[filter] = qos }
        case .received(let identifier): state?.incoming.insert(identifier)
        case .released(let identifier): state?.incoming.remove(identifier)
        case .discarded: state = nil
        }
    }
}
