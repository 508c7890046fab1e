internal import Access
internal import Broker
internal import Durability
internal import Fleet
internal import MQTT
internal import Management
internal import Server
internal import Transport

/// The sessions, clients and messages of the broker in this process.
struct LiveBroker: BrokerKeeper, DeviceBroker {
    let server: BrokerServer

    func sessions() async -> [SessionSummary] {
        let now = Clock.now
        return await server.sessions().map { session in
            SessionSummary(
                client: session.client.description,
                userName: session.participant?.principal.userName.map { String(decoding: $0, as: UTF8.self) },
                isConnected: session.absentSince == nil, absentSince: session.absentSince.map(now.time),
                queued: session.queued)
        }
    }

    func removeSession(of client: String) async -> Bool { await server.removeSession(of: ClientIdentifier(client)) }

    func clients(skipping skipped: Int, atMost limit: Int) async -> (clients: [ClientSummary], total: Int) {
        let (clients, total) = await server.clients(skipping: skipped, atMost: limit)
        let now = Clock.now
        return (clients.map { ClientSummary($0, now) }, total)
    }

    func disconnect(_ client: String) async -> Bool { await server.disconnect(ClientIdentifier(client)) }

    func retained(
        matching filter: String, skipping skipped: Int, atMost limit: Int
    ) async -> (messages: [RetainedSummary], total: Int)? {
        let filter = Array(filter.utf8)
        guard RetainedMessage.isFilter(filter) else { return nil }
        let (messages, total) = await server.retained(matching: filter, skipping: skipped, atMost: limit)
        return (messages.map(RetainedSummary.init), total)
    }

    func send(
        _ payload: [UInt8], on topic: DeviceBox, number: UInt64, to device: String, within milliseconds: Int64,
        andOthers: Bool
    ) async -> (sent: Int, awaited: Int) {
        await server.send(
            payload, on: topic.rawValue, number: number, to: device, within: milliseconds, andOthers: andOthers)
    }

    func withdraw(_ numbers: Set<UInt64>) { server.withdraw(numbers) }

    func answer(_ response: [UInt8], to person: String) async { await server.answer(response, to: person) }

    func devicesHeard(since milliseconds: Int64) async -> [(device: String, link: Link)] {
        await server.devicesHeard(since: milliseconds)
    }

    func publishOwn(_ messages: [(topic: String, payload: [UInt8], isRetained: Bool)]) async {
        server.publishOwn(messages)
    }

    func removeRetained(_ topic: String) async -> Bool { await server.removeRetained(Array(topic.utf8)) }
}

extension ClientSummary {
    fileprivate init(_ connected: ConnectedClient, _ now: Clock) {
        let figures = connected.figures
        self.init(client: figures.client.description)
        userName = figures.participant?.principal.userName.map { String(decoding: $0, as: UTF8.self) }
        address = connected.address.flatMap { $0.bytes.isEmpty ? nil : $0.host }
        port = Int(connected.port)
        transport = connected.isWebSocket ? "websockets" : "mqtt"
        version = figures.version == .mqtt31 ? "3.1" : "3.1.1"
        isSecure = connected.isSecure
        cleanSession = figures.cleanSession
        keepAlive = figures.keepAlive
        connectedSince = now.time(of: figures.connectedSince)
        subscriptions = figures.subscriptions
        queued = figures.queued
    }
}

extension RetainedSummary {
    init(_ retained: RetainedMessage) {
        let message = retained.message
        self.init(
            topic: String(decoding: message.topic, as: UTF8.self), qos: Int(retained.qos.rawValue),
            size: message.payloadCount, beginning: Array(message.payload.prefix(Management.shownPayloadBytes)),
            userName: retained.publisher?.principal.userName.map { String(decoding: $0, as: UTF8.self) },
            client: retained.publisher?.client.description)
    }
}
