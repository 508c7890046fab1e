import Access
import Broker
import Fleet
import MQTT
import Transport

/// What whoever manages devices is told, in the order in which it happens.
extension ShardCore {
    mutating func begin(_ feed: FleetFeed) {
        self.feed = feed
        state.tellsOfDevices = true
    }

    mutating func tell(_ feed: FleetFeed, _ event: BrokerEvent) {
        switch event {
        case .connected(let number, _, _, _, _, _, _):
            guard let device = state.device(of: number) else { return }
            table[number].device = device
            let stream = table[number].stream
            let address = stream?.peer.hostOfNetwork
            let host = stream?.localAddress?.hostOfNetwork
            feed.append(.connected(device, link(of: number), address: address, host: host))
        case .closed(let number, _, let reason):
            // What was online stays so until it is missed: the next process knows whether it comes back.
            guard let device = table[number].device, reason != .serverStops else { return }
            feed.append(.ended(device, link(of: number), OfflineReason(reason)))
        case .deviceMessage(let message):
            feed.append(.message(message.device, FleetEvent.Topic(message.kind), payload: message.payload))
        case .commandDelivered(let number, let device): feed.append(.delivered(device, command: number))
        case .request(let number, let person, let payload):
            let address = table[number].stream?.peer.host ?? ""
            feed.append(.request(person: person, address: address, payload: payload))
        default: break
        }
    }

    mutating func answer(_ message: ApplicationMessage, to person: String, _ receivers: [Receiver]) {
        updateTime()
        state.answer(message, to: person, receivers, into: &outbox)
        apply()
        askForCommit()
    }

    /// Returns to how many of the device's connections the command went, and how many of them will acknowledge it.
    mutating func deliver(
        _ command: ApplicationMessage, number: UInt64, for device: String, within milliseconds: Int64,
        to receivers: [Receiver], andOthers: Bool
    ) -> (sent: Int, awaited: Int) {
        updateTime()
        defer {
            apply()
            askForCommit()
        }
        return state.deliver(
            command, number: number, for: device, expires: now + milliseconds, to: receivers, andOthers: andOthers,
            into: &outbox)
    }

    mutating func withdraw(_ numbers: Set<UInt64>) { state.withdraw(numbers) }

    private func link(of number: ConnectionNumber) -> Link { Link(shard: state.shard, number: table.token(of: number)) }

    /// The connections of devices that have brought a packet since then.
    func devicesHeard(since instant: Instant) -> [(device: String, link: Link)] {
        var heard: [(device: String, link: Link)] = []
        for number in table.slots.indices {
            let number = ConnectionNumber(number)
            guard let device = table.slots[Int(number)].device, state.latestPacket(of: number) > instant else {
                continue
            }
            heard.append((device, link(of: number)))
        }
        return heard
    }
}

extension SocketAddress {
    /// Nil: it is a path.
    fileprivate var hostOfNetwork: String? { bytes.isEmpty ? nil : host }
}

extension FleetEvent.Topic {
    fileprivate init(_ kind: DeviceMessage.Kind) {
        switch kind {
        case .health: self = .health
        case .status: self = .status
        case .otaStatus: self = .otaStatus
        case .other: self = .other
        }
    }
}

extension OfflineReason {
    /// Nil: its client is there by another connection.
    fileprivate init?(_ reason: CloseReason) {
        switch reason {
        case .disconnected: self = .disconnected
        case .lost, .serverStops, .connectTimeout: self = .connectionLost
        case .malformed, .protocolViolation, .packetTooLarge: self = .protocolViolation
        case .keepAliveExpired: self = .keepAliveExpired
        case .takenOver: return nil
        case .memoryShortage, .sessionRemoved, .endedByAdministrator: self = .endedByServer
        case .refused, .notAuthorized: self = .notAuthorized
        }
    }
}
