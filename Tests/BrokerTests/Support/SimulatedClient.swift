import MQTT

@testable import Broker

/// A client as the specification wants it: answers what it gets, sends again what was not answered, and tells a QoS 2
/// message from its duplicate. What it has not read when its connection ends is lost.
final class SimulatedClient {
    struct Outgoing {
        let packet: ControlPacket
        let identifier: PacketIdentifier
        var isReleased = false
    }

    let name: String
    var cleanSession: Bool
    var connection: TestConnection?
    /// CONNACK has come.
    private(set) var isConnected = false
    var inbox: [ControlPacket] = []
    private(set) var answers: [ControlPacket] = []
    private var outgoing: [Outgoing] = []
    /// Its latest CONNECT asked for a clean session; and was answered.
    private var wasClean = false
    private(set) var isAnswered = true
    /// Payloads of QoS 2 messages from the broker that are not released.
    private var held: [PacketIdentifier: String] = [:]
    private var latestIdentifier: PacketIdentifier = 0
    private var latestPayload = 0
    /// Told of each message that is new to the client.
    var receive: (Delivery) -> Void = { _ in }
    /// Told when all that the client knew of its session is over.
    var forget: () -> Void = {}
    /// Told of each that is taken for the duplicate of another one.
    var mistake: (Delivery) -> Void = { _ in }

    init(name: String, cleanSession: Bool) {
        self.name = name
        self.cleanSession = cleanSession
    }

    var isOpen: Bool { connection.map { $0.place != .closed } ?? false }

    func connect(to broker: ShardHarness, on shard: Int, tag: Int) -> TestConnection {
        forgetConnection()
        if wasClean, isAnswered {  // What it knew of that session has ended with its connection.
            forgetSession()
        }
        (wasClean, isAnswered) = (cleanSession, false)
        let connection = broker.open(on: shard)
        connection.tag = tag
        self.connection = connection
        return connection
    }

    private func forgetSession() {
        held = [:]
        outgoing = []
        forget()
    }

    func forgetConnection() {
        connection = nil
        isConnected = false
        inbox = []
        answers = []
    }

    // MARK: Publishing

    func publish(_ topic: String, _ qos: QoS, isRetained: Bool) {
        latestPayload += 1
        let message = ApplicationMessage(topic: topic, payload: Array("\(name) \(latestPayload)".utf8))
        let identifier = qos == .atMostOnce ? 0 : unusedIdentifier()
        connection?.send(.publish(message, qos: qos, packetIdentifier: identifier, isRetained: isRetained))
        guard qos != .atMostOnce else { return }
        let again = ControlPacket.publish(
            message, qos: qos, packetIdentifier: identifier, isDuplicate: true, isRetained: isRetained)
        outgoing.append(Outgoing(packet: again, identifier: identifier))
    }

    func unusedIdentifier() -> PacketIdentifier {
        repeat {
            latestIdentifier = latestIdentifier % 40 + 1
        } while outgoing.contains {
            $0.identifier == latestIdentifier
        }
        return latestIdentifier
    }

    var mayPublish: Bool { outgoing.count < 30 }

    // MARK: Reading and answering

    func readNext() {
        guard !inbox.isEmpty else { return }
        switch inbox.removeFirst() {
        case .connectAcknowledgement(let acknowledgement):
            guard acknowledgement.returnCode == .accepted else { return }
            (isConnected, isAnswered) = (true, true)
            if !acknowledgement.sessionPresent {
                forgetSession()
            }
            for message in outgoing {  // [MQTT-4.4.0-1]
                connection?.send(
                    message.isReleased ? .acknowledgement(.publishRelease, message.identifier) : message.packet)
            }
        case .publish(let message, let qos, let identifier, let isDuplicate, let isRetained):
            let delivery = Delivery(
                topic: String(decoding: message.topic, as: UTF8.self),
                payload: String(decoding: message.payload, as: UTF8.self), qos: qos, packetIdentifier: identifier,
                isDuplicate: isDuplicate, isRetained: isRetained)
            if qos != .exactlyOnce {
                receive(delivery)
            } else if let other = held[identifier] {
                if other != delivery.payload { mistake(delivery) }
            } else {
                held[identifier] = delivery.payload
                receive(delivery)
            }
            if qos == .atLeastOnce { answers.append(.acknowledgement(.publishAcknowledgement, identifier)) }
            if qos == .exactlyOnce { answers.append(.acknowledgement(.publishReceived, identifier)) }
        case .acknowledgement(let acknowledgement):
            let identifier = acknowledgement.packetIdentifier
            switch acknowledgement.type {
            case .publishReceived:
                for index in outgoing.indices where outgoing[index].identifier == identifier {
                    outgoing[index].isReleased = true
                }
                answers.append(.acknowledgement(.publishRelease, identifier))
            case .publishRelease:
                held[identifier] = nil
                answers.append(.acknowledgement(.publishComplete, identifier))
            case .publishAcknowledgement, .publishComplete: outgoing.removeAll { $0.identifier == identifier }
            default: break
            }
        default: break
        }
    }

    func answer(_ index: Int) { connection?.send(answers.remove(at: index)) }
}
