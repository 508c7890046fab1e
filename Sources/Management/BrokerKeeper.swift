internal import Cryptography
internal import JSON
internal import Store

/// Whoever has the clients and the messages: a broker that runs, or, without clients, its store.
package protocol BrokerKeeper: SessionKeeper {
    /// Those who are connected, in an order that stays while they are: `limit` at most behind the first `skipped`, and
    /// how many there are in all.
    func clients(skipping skipped: Int, atMost limit: Int) async throws -> (clients: [ClientSummary], total: Int)
    /// Ends the connection of a client, whose session goes on if it may. False: it is not connected.
    func disconnect(_ client: String) async throws -> Bool
    /// What is retained, in an order that stays. Nil: this is no topic filter.
    func retained(
        matching filter: String, skipping skipped: Int, atMost limit: Int
    ) async throws -> (messages: [RetainedSummary], total: Int)?
    /// False: nothing is retained there. Returns when it is gone for good.
    func removeRetained(_ topic: String) async throws -> Bool
}

/// Somebody who is connected, as people want to know it.
package struct ClientSummary: Sendable, Equatable {
    package var client: String
    package var userName: String?
    /// Nil: by a unix socket.
    package var address: String?
    /// That they connected to; 0: a unix socket.
    package var port = 0
    /// `mqtt` or `websockets`, as the configuration says it.
    package var transport = "mqtt"
    /// `3.1` or `3.1.1`.
    package var version = "3.1.1"
    package var isSecure = false
    package var cleanSession = true
    /// Seconds; 0: none.
    package var keepAlive = 0
    /// Milliseconds since 1970.
    package var connectedSince: Int64 = 0
    package var subscriptions = 0
    /// Messages of QoS 1 and 2 that wait for it, or are on their way to it.
    package var queued = 0

    package init(client: String) { self.client = client }
}

/// A retained message, as people want to know it.
package struct RetainedSummary: Sendable, Equatable {
    package let topic: String
    package let qos: Int
    /// Bytes of the payload.
    package let size: Int
    /// The first of them.
    package let beginning: [UInt8]
    /// Who published it; nil: the server itself.
    package let userName: String?
    package let client: String?

    package init(topic: String, qos: Int, size: Int, beginning: [UInt8], userName: String?, client: String?) {
        self.topic = topic
        self.qos = qos
        self.size = size
        self.beginning = beginning
        self.userName = userName
        self.client = client
    }
}

extension Management {
    /// Of a retained payload, in the list: to see what it is. An administrator may read all of it over MQTT.
    package static let shownPayloadBytes = 256

    func listClients(_ request: ManagementCommand.PageRequest) async throws -> JSONValue? {
        let skipped = (request.page - 1) * request.limit
        let part = try await broker?.clients(skipping: skipped, atMost: request.limit) ?? (clients: [], total: 0)
        return list("clients", part.clients.map(json), request, total: part.total)
    }

    private func json(_ client: ClientSummary) -> JSONValue {
        var members: [String: JSONValue] = [:]
        members["clientId"] = .string(client.client)
        members["userName"] = .optional(client.userName)
        members["address"] = .optional(client.address)
        members["port"] = .integer(Int64(client.port))
        members["protocol"] = .string(client.transport)
        members["version"] = .string(client.version)
        members["secure"] = .bool(client.isSecure)
        members["cleanSession"] = .bool(client.cleanSession)
        members["keepAlive"] = .integer(Int64(client.keepAlive))
        members["connectedSince"] = timestamp(client.connectedSince)
        members["subscriptions"] = .integer(Int64(client.subscriptions))
        members["queued"] = .integer(Int64(client.queued))
        return .object(members)
    }

    func disconnectClient(_ client: String, _ requester: Requester) async throws -> JSONValue? {
        guard try await broker?.disconnect(client) ?? false else {
            throw ManagementProblem(.notFound, "\(client.prefix(256)) is not connected")
        }
        try store.append(activity(.clientDisconnected, by: requester, ["clientId": .string(client)]))
        return nil
    }

    func listRetained(_ filter: String, _ request: ManagementCommand.PageRequest) async throws -> JSONValue? {
        let part = try await broker?.retained(
            matching: filter, skipping: (request.page - 1) * request.limit, atMost: request.limit)
        guard let part else { throw ManagementProblem(.invalidRequest, "'topic' is a topic filter, such as devices/#") }
        return list("retained", part.messages.map(json), request, total: part.total)
    }

    private func json(_ message: RetainedSummary) -> JSONValue {
        var members: [String: JSONValue] = [:]
        members["topic"] = .string(message.topic)
        members["qos"] = .integer(Int64(message.qos))
        members["size"] = .integer(Int64(message.size))
        members["payload"] = .string(Base64.standard.encode(message.beginning))
        members["userName"] = .optional(message.userName)
        members["clientId"] = .optional(message.client)
        return .object(members)
    }

    func deleteRetained(_ topic: String, _ requester: Requester) async throws -> JSONValue? {
        // It would be back with its next change, and clients rely on it until then.
        guard topic != "$SYS", !topic.hasPrefix("$SYS/") else {
            throw ManagementProblem(.forbidden, "what is under $SYS is the server's own")
        }
        guard try await broker?.removeRetained(topic) ?? false else {
            throw ManagementProblem(.notFound, "nothing is retained for this topic")
        }
        try store.append(activity(.retainedDeleted, by: requester, ["topic": .string(topic)]))
        return nil
    }
}
