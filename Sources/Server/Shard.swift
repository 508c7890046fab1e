import Access
import Broker
import CLinux
import Durability
import Fleet
import Glibc
import Logging
import MQTT
import Synchronization
import Transport

/// One event loop with the connections and sessions that live there. What it owns is in its core; here is only how it
/// is reached: by its loop, by mail from other shards, by `await` from the server.
actor Shard: LoopActor {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    private var core: ShardCore

    init(_ state: consuming ShardState, backlogs: [Backlog], passwords: PasswordWorkers, logs: Loggers) throws {
        loop = try EventLoop(label: "shard \(state.shard)")
        core = ShardCore(state: state, loop: loop, backlogs: backlogs, passwords: passwords, logs: logs)
    }

    /// Begins to turn. `peers` are all shards, by number.
    nonisolated func start(with peers: [Shard], stopped: @escaping @Sendable () -> Void) {
        post { $0.core.peers = peers }
        loop.start({ events in self.assumeIsolated { $0.core.turn(events) } }, stopped: stopped)
    }

    // MARK: For other shards

    func receive(_ mail: Mail, from sender: Int) { core.receive(mail, from: sender) }
    func noteClosed(_ round: CommitTicket, by shard: Int) { core.noteClosed(round, by: shard) }
    func adopt(_ connection: MovingConnection) { core.adopt(connection) }
    func releaseHeld() { core.releaseHeld() }

    // MARK: For the store

    func begin(
        _ rounds: CommitRounds, _ durability: DurabilityRules, _ contents: CommitRounds.Beginning
    ) { core.begin(rounds, durability, contents) }
    func prepare(_ round: CommitTicket) { core.prepare(round) }
    func closeRound(_ round: CommitTicket) { core.closeRound(round) }
    func commitEnded() { core.commitEnded() }
    func take(_ rows: [QueuedMessage], of request: QueueRequest, isAll: Bool) {
        core.take(rows, of: request, isAll: isAll)
    }

    // MARK: For whoever manages devices

    func begin(_ feed: FleetFeed) { core.begin(feed) }
    func deliver(
        _ command: ApplicationMessage, number: UInt64, for device: String, within milliseconds: Int64,
        to receivers: [Receiver], andOthers: Bool
    ) -> (sent: Int, awaited: Int) {
        core.deliver(
            command, number: number, for: device, within: milliseconds, to: receivers, andOthers: andOthers)
    }
    nonisolated func withdraw(_ numbers: Set<UInt64>) { post { $0.core.withdraw(numbers) } }
    func answer(_ message: ApplicationMessage, to person: String, _ receivers: [Receiver]) {
        core.answer(message, to: person, receivers)
    }
    func devicesHeard(since instant: Instant) -> [(device: String, link: Link)] { core.devicesHeard(since: instant) }

    // MARK: For the server

    func add(_ listener: Listener) {
        core.updateTime()
        core.reception.add(listener, now: core.now)
    }
    func adopt(_ limits: Limits, _ rules: [ListenerRules]) {
        core.state.adopt(limits, rules)
        core.noteSubscriptions()
    }
    func adopt(_ access: AccessControl, changed: Set<Identity>?) { core.adopt(access, changed: changed) }
    func finish(
        _ check: PasswordCheck, from source: SignInThrottle.Source, for token: UInt64, proven: Principal?
    ) {
        core.finish(check, from: source, for: token, proven: proven)
    }
    func abandon(_ check: PasswordCheck, from source: SignInThrottle.Source, for token: UInt64) {
        core.abandon(check, from: source, for: token)
    }
    func counters() -> Counters { core.counters }
    func sessions() -> [SessionFigures] { core.sessions }
    func removeSession(of client: ClientIdentifier) -> Bool { core.removeSession(of: client) }
    func clients(
        skipping skipped: Int, atMost limit: Int, ports: [UInt16]
    ) -> (clients: [ConnectedClient], total: Int) { core.clients(skipping: skipped, atMost: limit, ports: ports) }
    func disconnect(_ client: ClientIdentifier) -> Bool { core.disconnect(client) }
    func clearRetained(_ topic: [UInt8]) { core.clearRetained(topic) }
    func waitingOutput() -> (packets: Int, bytes: Int) { core.waitingOutput }
    func shed(_ stage: Shedding) { core.shed(stage) }
    func slowReaders(atMost count: Int) -> [SlowReader] { core.slowReaders(atMost: count) }
    func endSlowReaders(_ tokens: [UInt64]) { core.endSlowReaders(tokens) }

    /// Ends connections whose client certificate no longer counts, a few at a time.
    nonisolated func reviewCertificates(_ contexts: [TLSContext?]) {
        post { shard in
            shard.core.contexts = contexts
            shard.reviewCertificates(from: 0)
        }
    }

    private func reviewCertificates(from first: Int) {
        guard let next = core.reviewCertificates(from: first) else { return }
        post { $0.reviewCertificates(from: next) }
    }

    nonisolated func publish(_ messages: [ApplicationMessage], qos: QoS, isRetained: Bool) {
        post { shard in
            for message in messages { shard.core.publish(message, qos: qos, isRetained: isRetained) }
        }
    }

    /// Publishes log lines, and calls `done` when they are on their way.
    nonisolated func publishLog(_ messages: [ApplicationMessage], _ done: @escaping @Sendable () -> Void) {
        post { shard in
            shard.core.publishLog(messages)
            done()
        }
    }

    /// Accepts nothing more and publishes the wills of all connections; those for other shards leave as mail.
    func publishWills() { core.publishWills() }

    /// Ends all connections.
    func shutDown() { core.shutDown() }
}
