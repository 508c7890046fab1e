internal import JSON
internal import Store

/// Whoever has the sessions: a broker that runs, or its store.
package protocol SessionKeeper: Sendable {
    /// In no particular order.
    func sessions() async throws -> [SessionSummary]
    /// Ends a session, and the connection of its client. False: there is none. Returns when it is gone for good.
    func removeSession(of client: String) async throws -> Bool
}

/// A session, as people want to know it.
package struct SessionSummary: Sendable, Equatable {
    package let client: String
    /// The name that its owner signed in with.
    package let userName: String?
    package let isConnected: Bool
    /// Milliseconds since 1970; nil while it is connected.
    package let absentSince: Int64?
    /// Messages of QoS 1 and 2 that wait for its client, or are on their way to it.
    package let queued: Int

    package init(client: String, userName: String?, isConnected: Bool, absentSince: Int64?, queued: Int) {
        self.client = client
        self.userName = userName
        self.isConnected = isConnected
        self.absentSince = absentSince
        self.queued = queued
    }
}

extension Management {
    /// Those that have been away the longest first, then those who are connected, by name.
    func listSessions(_ request: ManagementCommand.PageRequest) async throws -> JSONValue? {
        let all = try await broker?.sessions() ?? []
        let sorted = all.sorted { ($0.absentSince ?? .max, $0.client) < ($1.absentSince ?? .max, $1.client) }
        let page = sorted.dropFirst((request.page - 1) * request.limit).prefix(request.limit).map { session in
            JSONValue.object([
                "clientId": .string(session.client), "userName": .optional(session.userName),
                "connected": .bool(session.isConnected), "absentSince": session.absentSince.map(timestamp) ?? .null,
                "queued": .integer(Int64(session.queued)),
            ])
        }
        return list("sessions", page, request, total: all.count)
    }

    func deleteSession(_ client: String, _ requester: Requester) async throws -> JSONValue? {
        guard try await broker?.removeSession(of: client) ?? false else {
            throw ManagementProblem(.notFound, "there is no session of \(client)")
        }
        try store.append(activity(.sessionDeleted, by: requester, ["clientId": .string(client)]))
        return nil
    }
}
