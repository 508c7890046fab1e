internal import Access
internal import Broker
internal import Durability
internal import Glibc
internal import Management
internal import Store
internal import Transport

extension Clock {
    /// What both clocks say now.
    static var now: Clock {
        Clock(
            time: currentMilliseconds(), instant: Instant(milliseconds: monotonicNanoseconds() / 1_000_000))
    }
}

/// The sessions of a data directory on which no broker runs.
struct StoredSessions: SessionKeeper {
    let directory: DataDirectory

    private func with<Result: Sendable>(
        _ body: (BrokerStore, BrokerStore.Contents) async throws -> Result
    ) async throws -> Result {
        let store = try BrokerStore(
            in: directory, takeRetained: { [] }, clock: { .now },
            tell: { write("martlet: broker.db: \($0)", to: STDERR_FILENO) })
        // Of listeners nothing is known here, and nothing is asked.
        let result: Result
        do {
            result = try await body(store, try await store.load(listeners: .max))
        } catch {
            try? await store.close()
            throw error
        }
        try await store.close()
        return result
    }

    func sessions() async throws -> [SessionSummary] {
        guard directory.has(BrokerStore.fileName) else { return [] }
        return try await with { _, contents in
            let now = Clock.now
            return contents.sessions.map { session in
                SessionSummary(
                    client: session.client.description,
                    userName: session.participant?.principal.userName.map { String(decoding: $0, as: UTF8.self) },
                    isConnected: false, absentSince: now.time(of: session.absentSince ?? now.instant),
                    queued: session.queued)
            }
        }
    }

    func removeSession(of client: String) async throws -> Bool {
        guard directory.has(BrokerStore.fileName) else { return false }
        return try await with { store, contents in
            guard let session = contents.sessions.first(where: { $0.client.description == client }) else {
                return false
            }
            return await store.commit([Changes(removing: session.session)])
        }
    }
}
