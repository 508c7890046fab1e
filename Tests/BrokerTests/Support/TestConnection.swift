import MQTT

@testable import Broker

/// A PUBLISH that a client got, in the words of a test.
struct Delivery: Equatable, CustomStringConvertible {
    var topic: String
    var payload: String
    var qos = QoS.atMostOnce
    var packetIdentifier: PacketIdentifier = 0
    var isDuplicate = false
    var isRetained = false

    var description: String {
        let flags = (isDuplicate ? " DUP" : "") + (isRetained ? " RETAIN" : "")
        return "\(topic)=\(payload) QoS \(qos.rawValue) #\(packetIdentifier)\(flags)"
    }
}

/// One client's end of a connection to a `ShardHarness`: sends real packets and keeps those that came.
final class TestConnection {
    enum Where: Equatable {
        case on(shard: Int, ConnectionNumber)
        /// Posted from one shard to another: what is sent now is handled there.
        case moving
        case closed
    }

    /// Kept alive by its connections, so that a test need not hold it.
    let harness: ShardHarness
    var place: Where
    /// What came, until somebody takes it.
    var packets: [ControlPacket] = []
    var closeReason: CloseReason?
    /// Under which its CONNECT was accepted.
    var client: ClientIdentifier?
    /// Bytes that were sent and not handled yet.
    var unread: [[UInt8]] = []
    /// Whether each PUBLISH and PUBREL that comes is answered at once.
    var acknowledgesAtOnce = false
    /// Which it came through.
    let listener: ListenerNumber
    /// What it shows beside its CONNECT.
    var proof: ConnectionProof?
    /// For a test that has many.
    var tag = 0
    private var latestIdentifier: PacketIdentifier = 0

    init(_ harness: ShardHarness, on shard: Int, _ number: ConnectionNumber, listener: ListenerNumber) {
        self.harness = harness
        self.listener = listener
        place = .on(shard: shard, number)
    }

    var isClosed: Bool { place == .closed }
    var shard: Int? { if case .on(let shard, _) = place { shard } else { nil } }
    var number: ConnectionNumber? { if case .on(_, let number) = place { number } else { nil } }

    // MARK: Sending

    func send(_ packet: ControlPacket) {
        var bytes: [UInt8] = []
        packet.encode(into: &bytes)
        send(bytes)
    }

    func send(_ bytes: [UInt8]) { harness.send(bytes, from: self) }

    func sendConnect(
        _ client: String, cleanSession: Bool = true, keepAlive: UInt16 = 0, will: WillMessage? = nil,
        version: ProtocolVersion = .mqtt311, userName: String? = nil, password: String? = nil
    ) {
        send(
            .connect(
                Connect(
                    version: version, cleanSession: cleanSession, keepAlive: keepAlive,
                    clientIdentifier: Array(client.utf8), will: will, userName: userName.map { Array($0.utf8) },
                    password: password.map { Array($0.utf8) })))
    }

    /// An identifier that the client has not used yet.
    func nextIdentifier() -> PacketIdentifier {
        latestIdentifier += 1
        return latestIdentifier
    }

    func publish(
        _ topic: String, _ payload: String, _ qos: QoS = .atMostOnce, identifier: PacketIdentifier? = nil,
        isDuplicate: Bool = false, isRetained: Bool = false
    ) {
        let identifier = qos == .atMostOnce ? 0 : identifier ?? nextIdentifier()
        send(
            .publish(
                ApplicationMessage(topic: topic, payload: Array(payload.utf8)), qos: qos, packetIdentifier: identifier,
                isDuplicate: isDuplicate, isRetained: isRetained))
    }

    func subscribe(_ filters: (String, QoS)..., identifier: PacketIdentifier? = nil) {
        send(
            .subscribe(
                filters.map { Subscription(filter: Array($0.0.utf8), maximumQoS: $0.1) },
                packetIdentifier: identifier ?? nextIdentifier()))
    }

    func unsubscribe(_ filters: String..., identifier: PacketIdentifier? = nil) {
        send(.unsubscribe(filters.map { Array($0.utf8) }, packetIdentifier: identifier ?? nextIdentifier()))
    }

    func acknowledge(_ type: ControlPacketType, _ identifier: PacketIdentifier) {
        send(.acknowledgement(Acknowledgement(type, identifier)))
    }

    func acknowledge(_ identifiers: PacketIdentifier...) {
        for identifier in identifiers { acknowledge(.publishAcknowledgement, identifier) }
    }

    func disconnect() { send(.disconnect) }

    /// The network fails.
    func drop() { harness.end(self, .lost("dropped")) }

    // MARK: What came

    /// Everything since the last time.
    func take() -> [ControlPacket] {
        defer { packets = [] }
        return packets
    }

    /// The PUBLISH packets since the last time; other packets are forgotten.
    func takeDeliveries() -> [Delivery] { Self.deliveries(in: take()) }

    /// Their payloads.
    func takePayloads() -> [String] { takeDeliveries().map(\.payload) }

    /// The acknowledgements since the last time; other packets are forgotten.
    func takeAcknowledgements() -> [Acknowledgement] {
        take().compactMap { if case .acknowledgement(let acknowledgement) = $0 { acknowledgement } else { nil } }
    }

    static func deliveries(in packets: [ControlPacket]) -> [Delivery] {
        packets.compactMap { packet in
            guard case .publish(let message, let qos, let identifier, let isDuplicate, let isRetained) = packet else {
                return nil
            }
            return Delivery(
                topic: String(decoding: message.topic, as: UTF8.self),
                payload: String(decoding: message.payload, as: UTF8.self), qos: qos, packetIdentifier: identifier,
                isDuplicate: isDuplicate, isRetained: isRetained)
        }
    }
}

extension ControlPacket {
    static func accepted(sessionPresent: Bool) -> ControlPacket {
        .connectAcknowledgement(ConnectAcknowledgement(sessionPresent: sessionPresent, returnCode: .accepted))
    }

    static func refused(_ code: ConnectReturnCode) -> ControlPacket {
        .connectAcknowledgement(ConnectAcknowledgement(sessionPresent: false, returnCode: code))
    }

    static func granted(_ qos: QoS..., identifier: PacketIdentifier) -> ControlPacket {
        .subscribeAcknowledgement(
            SubscribeAcknowledgement(packetIdentifier: identifier, returnCodes: qos.map { .granted($0) }))
    }

    static func acknowledgement(_ type: ControlPacketType, _ identifier: PacketIdentifier) -> ControlPacket {
        .acknowledgement(Acknowledgement(type, identifier))
    }
}

extension WillMessage {
    init(_ topic: String, _ payload: String, _ qos: QoS = .atMostOnce, isRetained: Bool = false) {
        self.init(
            message: ApplicationMessage(topic: topic, payload: Array(payload.utf8)), qos: qos, isRetained: isRetained)
    }
}
