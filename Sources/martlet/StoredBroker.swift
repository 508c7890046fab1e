internal import Access
internal import Broker
internal import Durability
internal import Glibc
internal import Locks
internal import MQTT
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

/// The sessions and messages of a data directory on which no broker runs.
struct StoredBroker: BrokerKeeper {
    let directory: DataDirectory

    /// `retained`: what is written with the next commit.
    private func with<Result: Sendable>(
        retained: Lock<[RetainedMessage]> = Lock([]),
        _ body: (BrokerStore, BrokerStore.Contents) async throws -> Result
    ) async throws -> Result {
        let store = try BrokerStore(
            in: directory,
            takeRetained: {
                retained.withLock { retained in
                    defer { retained = [] }
                    return retained
                }
            }, clock: { .now },
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

    // MARK: - Nobody is connected to files

    func clients(skipping skipped: Int, atMost limit: Int) -> (clients: [ClientSummary], total: Int) { ([], 0) }

    func disconnect(_ client: String) -> Bool { false }

    // MARK: - Retained messages

    func retained(
        matching filter: String, skipping skipped: Int, atMost limit: Int
    ) async throws -> (messages: [RetainedSummary], total: Int)? {
        let filter = Array(filter.utf8)
        guard RetainedMessage.isFilter(filter) else { return nil }
        guard directory.has(BrokerStore.fileName) else { return ([], 0) }
        return try await with { _, contents in
            let messages = contents.retained.filter { $0.matches(filter) }
            return (messages.dropFirst(skipped).prefix(limit).map(RetainedSummary.init), messages.count)
        }
    }

    func removeRetained(_ topic: String) async throws -> Bool {
        guard directory.has(BrokerStore.fileName) else { return false }
        let unsaved = Lock<[RetainedMessage]>([])
        return try await with(retained: unsaved) { store, contents in
            let topic = Array(topic.utf8)
            guard contents.retained.contains(where: { $0.message.topic == topic }) else { return false }
            unsaved.withLock { $0 = [.cleared(topic)] }
            return await store.commit([])
        }
    }
}
