import Broker
import Logging
import Transport

/// What is worth a line.
extension ShardCore {
    mutating func note(_ event: BrokerEvent) {
        switch event {
        case .connected(let number, let client, let cleanSession, let keepAlive, let sessionPresent):
            guard log.logLevel <= .debug else { return }
            log.debug(
                "connected",
                metadata: [
                    "client": "\(client)", "peer": "\(peer(number))", "cleanSession": "\(cleanSession)",
                    "keepAlive": "\(keepAlive)", "sessionPresent": "\(sessionPresent)",
                ]
            )
        case .closed(let number, let client, let reason):
            guard log.logLevel <= reason.level else { return }
            log.log(
                level: reason.level, "disconnected",
                metadata: [
                    "client": "\(client?.description ?? "")", "peer": "\(peer(number))", "reason": "\(reason)",
                ]
            )
        case .slowReader(let number, let client):
            log.warning(
                "slow reader, QoS 0 is dropped and the rest waits",
                metadata: ["client": "\(client)", "peer": "\(peer(number))"]
            )
        case .queueFull(let client):
            log.warning("queue full, messages are dropped", metadata: ["client": "\(client)"])
        case .takeoverFight(let number, let incumbent, let client):
            log.warning(
                "clients fight over an identifier, newcomers wait from now on",
                metadata: ["client": "\(client)", "peer": "\(peer(number))", "incumbent": "\(peer(incumbent))"]
            )
        case .takeoverFightOver(let client, let takeovers):
            log.notice(
                "clients fight no longer over an identifier",
                metadata: ["client": "\(client)", "takeovers": "\(takeovers)"]
            )
        }
    }

    func peer(_ number: ConnectionNumber) -> String {
        table[number].stream.map { "\($0.peer)" } ?? ""
    }
}
