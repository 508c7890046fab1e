/// A broker with a mistake, made of one without: what the model must find.
package final class BrokenBroker: BrokerDriver {
    package enum Mistake: CaseIterable, Sendable {
        case losesThirdPuback
        case setsDuplicateAtOnce
        case forgetsDuplicate
        case forgetsRetain
        case swapsMessages
        case repeatsExactlyOnce
        case forgetsSessionPresent
        case losesWills
        case keepsCleared
        case ignoresUnsubscribe
        case ignoresKeepAlive
        case closesLate
        case grantsTooMuch
        case usesIdentifierTwice
    }

    package let mayLoseTheLast = false
    private let mistake: Mistake
    private let broker: any BrokerDriver
    private var count = 0

    package init(_ mistake: Mistake, of broker: any BrokerDriver) {
        self.mistake = mistake
        self.broker = broker
    }

    package func perform(_ actions: [Action]) throws -> [[Seen]] {
        try broker.perform(actions.map(changed)).map(changed)
    }

    package func advance(seconds: Int, expiring: [Int]) throws -> [[Seen]] {
        try broker.advance(seconds: seconds, expiring: expiring).map(changed)
    }

    /// Whether this is the one that goes wrong.
    private func isThird() -> Bool {
        count += 1
        return count == 3
    }

    private func changed(_ action: Action) -> Action {
        guard case .send(let packet, let client) = action else { return action }
        switch (mistake, packet) {
        case (.losesWills, .connect(var connect)):
            connect.will = nil
            return .send(.connect(connect), client)
        case (.ignoresKeepAlive, .connect(var connect)):
            connect.keepAlive = 0
            return .send(.connect(connect), client)
        case (.keepsCleared, .publish(var publish)) where publish.payload.isEmpty:
            publish.isRetained = false
            return .send(.publish(publish), client)
        case (.ignoresUnsubscribe, .unsubscribe(_, let identifier)):
            return .send(.unsubscribe(["nothing"], identifier: identifier), client)
        default: return action
        }
    }

    private func changed(_ seen: [Seen]) -> [Seen] {
        var changed: [Seen] = []
        for packet in seen {
            switch (mistake, packet) {
            case (.losesThirdPuback, .acknowledgement(.puback, _)) where isThird(): break
            case (.closesLate, .closed) where isThird(): changed += [.pingresp, packet]
            case (.repeatsExactlyOnce, .publish(let publish)) where publish.qos == 2 && isThird():
                changed += [packet, packet]
            case (.forgetsSessionPresent, .connack(true, let code)):
                changed.append(.connack(sessionPresent: false, code: code))
            case (.grantsTooMuch, .suback(let identifier, let codes)) where isThird():
                changed.append(.suback(identifier, codes.map { min($0 + 1, 2) }))
            case (_, .publish(var publish)):
                switch mistake {
                case .setsDuplicateAtOnce where publish.qos > 0 && !publish.isDuplicate:
                    publish.isDuplicate = isThird()
                case .forgetsDuplicate: publish.isDuplicate = false
                case .forgetsRetain: publish.isRetained = false
                case .usesIdentifierTwice where publish.identifier > 1: publish.identifier -= isThird() ? 1 : 0
                default: break
                }
                changed.append(.publish(publish))
            default: changed.append(packet)
            }
        }
        guard mistake == .swapsMessages else { return changed }
        for index in changed.indices.dropFirst() {
            guard case .publish(let second) = changed[index], case .publish(let first) = changed[index - 1],
                first.topic == second.topic, first.qos == second.qos, first.payload != second.payload
            else { continue }
            changed.swapAt(index, index - 1)
            break
        }
        return changed
    }
}
