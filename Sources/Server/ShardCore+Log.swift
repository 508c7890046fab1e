import Access
import Broker
import Fleet
import Logging
import MQTT
import Transport

/// What is worth a line.
extension ShardCore {
    mutating func note(_ event: BrokerEvent) {
        if let feed { tell(feed, event) }
        guard !isPublishingLog else { return }
        switch event {
        case .connected(let number, let client, let version, let userName, let cleanSession, let keepAlive, let present):
            guard log.logLevel <= .notice else { return }
            var fields = peerFields(number)
            fields["client"] = "\(client)"
            fields["protocol"] = "\(version == .mqtt31 ? "MQTT 3.1" : "MQTT 3.1.1")"
            fields["userName"] = userName.map { "\(String(decoding: $0, as: UTF8.self))" }
            fields["cleanSession"] = .stringConvertible(cleanSession)
            fields["keepAlive"] = .stringConvertible(keepAlive)
            fields["sessionPresent"] = .stringConvertible(present)
            log.notice("client connected", metadata: fields)
        case .closed(let number, let client, let reason):
            guard log.logLevel <= .notice else { return }
            var fields = peerFields(number)
            fields["client"] = client.map { "\($0)" }
            if reason != .disconnected { fields["reason"] = "\(reason)" }
            if case .refused(let code) = reason { fields["returnCode"] = .stringConvertible(code.rawValue) }
            if reason.isMistake { fields["mistake"] = .stringConvertible(true) }
            log.notice("client disconnected", metadata: fields)
        case .deviceMessage, .commandDelivered, .request: break
        case .subscribed(let client, let filter, let qos):
            let fields: Logger.Metadata = [
                "client": "\(client)", "qos": .stringConvertible(qos.rawValue),
                "filter": "\(String(decoding: filter, as: UTF8.self))",
            ]
            logs.subscribe.debug("subscribed", metadata: fields)
        case .unsubscribed(let client, let filter):
            let fields: Logger.Metadata = [
                "client": "\(client)", "filter": "\(String(decoding: filter, as: UTF8.self))",
            ]
            logs.unsubscribe.debug("unsubscribed", metadata: fields)
        case .slowReader(let number, let client):
            var fields = peerFields(number)
            fields["client"] = "\(client)"
            log.warning("slow reader, QoS 0 is dropped and the rest waits", metadata: fields)
        case .queueFull(let client):
            log.warning("queue full, messages are dropped", metadata: ["client": "\(client)"])
        case .takeoverFight(let number, let incumbent, let client):
            var fields = peerFields(number)
            fields["client"] = "\(client)"
            fields["incumbent"] = "\(table[incumbent].stream.map { "\($0.peer)" } ?? "")"
            log.warning("clients fight over an identifier, newcomers wait from now on", metadata: fields)
        case .signInsThrottled(let beginning, let name, let source):
            let who: Logger.Metadata =
                switch beginning {
                case .name: ["userName": "\(String(decoding: name, as: UTF8.self))"]
                case .address: ["address": "\(source)"]
                case .nameAtAddress:
                    ["userName": "\(String(decoding: name, as: UTF8.self))", "address": "\(source)"]
                }
            log.warning("too many failed sign-ins, further ones have to wait", metadata: who)
        case .takeoverFightOver(let client, let takeovers):
            log.notice(
                "clients fight no longer over an identifier",
                metadata: ["client": "\(client)", "takeovers": "\(takeovers)"]
            )
        }
    }

    /// Where the connection comes from; over a unix socket there is no port.
    func peerFields(_ number: ConnectionNumber) -> Logger.Metadata {
        guard let peer = table[number].stream?.peer else { return [:] }
        var fields: Logger.Metadata = ["address": "\(peer.host)"]
        if peer.port != 0 { fields["port"] = .stringConvertible(peer.port) }
        return fields
    }

    /// The broker spares itself the events that nobody would read.
    mutating func noteSubscriptions() { outbox.notesSubscriptions = logs.wantSubscriptions }

    /// Publishes log lines; what that leads to here is not told, or the log would feed on itself.
    mutating func publishLog(_ messages: [ApplicationMessage]) {
        isPublishingLog = true
        defer { isPublishingLog = false }
        for message in messages { publish(message, qos: .exactlyOnce, isRetained: false) }
    }
}
