package import Access
package import Broker
import CLinux
package import Configuration
package import Durability
import Glibc
package import HTTP
import Locks
package import Logging
import MQTT
import Management
import Synchronization
package import Transport

/// The version of this build.
package let martletVersion = "0.1.0"

/// A broker: its listeners, its shards, and the directory that they share.
package final class BrokerServer: Sendable {
    let shards: [Shard]
    let directory: Lock<Directory>
    /// Where connections with TLS begin; nil where no listener has any.
    private let lobby: Lobby?
    /// Where HTTP is spoken; nil where no listener does.
    let front: HTTPFront?
    /// Seconds since 1970.
    let startTime = Double(time(nil))
    private let listeners: [Listener]
    private let tickets = TicketKeys()
    /// How often the contexts of TLS were put into force. Only reloads wait for it, while one reads the files.
    private let contextsInForce = Lock(0)
    /// The configuration in force.
    let configuration: Lock<Configuration>
    /// Who may connect and do what. Held while the shards are told, so that they all learn of changes in one order.
    let access: Lock<AccessControl>
    let throttle: Lock<SignInThrottle>
    /// The same for accounts that strangers make: each counts.
    let registrations: Lock<SignInThrottle>
    let passwords: PasswordWorkers
    let requestSettings: Lock<APISettings>
    /// Nil: nothing outlives the process.
    let rounds = Lock<CommitRounds?>(nil)
    private let serving = Atomic(false)
    private let topics: SystemTopics
    private let memory: MemoryWatch
    private let logs: Loggers
    private var log: Logger { logs.process }
    private let stopRequests: AsyncStream<Void>
    private let stopRequest: AsyncStream<Void>.Continuation
    private let stopped: AsyncStream<Void>
    private let stoppedSignal: AsyncStream<Void>.Continuation

    /// Reads the files of TLS, and throws `ConfigurationError` where they can't be used. Binds the listeners, so that
    /// whoever can't listen doesn't start. Throws what the system refuses.
    package convenience init(configuration: Configuration, logger: Logger) throws {
        try self.init(configuration: configuration, limits: Limits(configuration), logs: Loggers(logger))
    }

    /// With limits that no key sets.
    package convenience init(configuration: Configuration, limits: Limits, logger: Logger) throws {
        try self.init(configuration: configuration, limits: limits, logs: Loggers(logger))
    }

    package convenience init(configuration: Configuration, logs: Loggers) throws {
        try self.init(configuration: configuration, limits: Limits(configuration), logs: logs)
    }

    private init(configuration: Configuration, limits: Limits, logs: Loggers) throws {
        raiseOpenFileLimit()
        let count = configuration.shards ?? Int(usable_cpus())
        tune_malloc(CInt(count + 1))
        self.logs = logs
        self.configuration = Lock(configuration)
        (stopRequests, stopRequest) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (stopped, stoppedSignal) = AsyncStream.makeStream()
        let files = try AccessFiles(configuration)
        warnings = files.warnings
        access = Lock(files.control)
        throttle = Lock(SignInThrottle(attempts: configuration.management.loginAttempts))
        registrations = Lock(SignInThrottle(attempts: configuration.management.loginAttempts))
        let contexts = try configuration.tlsContexts(tickets: tickets, keys: Self.keys(access))
        listeners = try Self.bind(configuration, contexts)
        directory = Lock(Directory(shards: count, seed: .random(in: 0...(.max))))
        let backlogs = (0..<count).map { _ in Backlog(bound: limits.mailboxBytes) }
        let now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000)
        let rules = configuration.listeners.map { ListenerRules($0, of: configuration) }
        let passwords = PasswordWorkers()
        self.passwords = passwords
        requestSettings = Lock(APISettings(configuration))
        shards = try (0..<count).map { [directory, throttle] shard in
            let state = ShardState(
                shard: shard, of: count, limits: limits, rules: rules, access: files.control, directory: directory,
                throttle: throttle, now: now)
            return try Shard(state, backlogs: backlogs, passwords: passwords, logs: logs)
        }
        let needsLobby = listeners.contains { $0.tls != nil }
        lobby = needsLobby ? try Lobby(limits, rules, log: logs.network) : nil
        let needsFront = listeners.contains(where: \.speaksHTTP)
        front = needsFront ? try HTTPFront(limits, rules, HTTPSite.all(configuration), log: logs.network) : nil
        topics = SystemTopics(shards: shards, lobby: lobby, directory: directory)
        memory = MemoryWatch(shards: shards, log: logs.process)
    }

    /// What has been retained since the last time, for the store. From any thread.
    package func takeUnsavedRetained() -> [RetainedMessage] { directory.withLock { $0.takeUnsavedRetained() } }

    /// From now on what has to outlive the process goes to `store`, which had `contents`. Before `run`, and after the accounts
    /// are there, for sessions of those that are no more end.
    package func begin(storing store: BrokerStore, with contents: BrokerStore.Contents) async {
        await topics.setStore(store)
        let durability = configuration.withLock { DurabilityRules($0) }
        let rounds = CommitRounds(shards: shards, store: store) { [directory] in
            directory.withLock { $0.hasUnsavedRetained }
        }
        self.rounds.withLock { $0 = rounds }
        var beginnings = shards.map { _ in
            CommitRounds.Beginning(nextSession: contents.nextSession, nextShared: contents.nextShared)
        }
        directory.withLock { directory in
            directory.begin(with: contents.retained, durability)
            for session in contents.sessions {
                let reference = directory.restore(session)
                beginnings[Int(reference.number) % shards.count].sessions.append((reference, session))
            }
        }
        for (shard, beginning) in zip(shards, beginnings) {
            shard.post { $0.begin(rounds, durability, beginning) }
        }
    }

    /// Serves until `stop`, then ends all connections, publishes their wills, and returns. Calls `whenListening` once
    /// all listeners accept, and `whenStopping` when it begins to end.
    package func run(
        whenListening: @Sendable () async -> Void = {}, whenStopping: @Sendable () -> Void = {}
    ) async throws {
        for shard in shards {
            shard.start(with: shards) { [stoppedSignal] in stoppedSignal.yield() }
        }
        lobby?.start(with: shards, front) { [stoppedSignal] in stoppedSignal.yield() }
        front?.start(with: shards) { [stoppedSignal] in stoppedSignal.yield() }
        let configuration = configuration.withLock { $0 }
        await topics.begin(every: configuration.systemInterval)
        for listener in listeners {
            if let lobby, listener.tls != nil {
                await lobby.add(listener)
            } else if let front, listener.speaksHTTP {
                await front.add(listener)
            } else {
                await shards[0].add(listener)
            }
            log.info("listening", metadata: ["address": "\(listener.socket.address)"])
        }
        tellOfAnonymous()
        log.info("started", metadata: ["version": "\(martletVersion)", "shards": "\(shards.count)"])
        let housekeeping = Task { [topics] in await topics.run() }
        await memory.setLimit(self.configuration.withLock { $0 }.memoryLimit)  // A reload may have come first.
        serving.store(true, ordering: .releasing)
        await whenListening()
        for await _ in stopRequests { break }

        serving.store(false, ordering: .releasing)
        log.info("stopping")
        whenStopping()
        housekeeping.cancel()
        await memory.setLimit(nil)
        await lobby?.shutDown()
        await front?.finish(patience: Self.answerPatience)
        // All wills before the first end: those of one shard's connections may be for sessions on another.
        for shard in shards { await shard.publishWills() }
        let rounds = rounds.withLock { $0 }
        // Who waits for an acknowledgement gets it before the end, and the end itself gets to the disk.
        await rounds?.finish()
        for shard in shards { await shard.shutDown() }
        await rounds?.finish()
        for shard in shards { shard.loop.stop() }
        lobby?.loop.stop()
        front?.loop.stop()
        var left = shards.count + (lobby == nil ? 0 : 1) + (front == nil ? 0 : 1)
        for await _ in stopped {
            left -= 1
            if left == 0 { break }
        }
        log.info("stopped")
    }

    /// Requests over HTTP are answered by it from now on. Before `run`.
    package func setHandler(_ handler: @escaping RequestHandler) { front?.setHandler(handler) }

    /// In which requests that are under way at the end are answered.
    private static let answerPatience = Duration.seconds(3)

    /// What should be known of the files that the configuration names.
    package let warnings: [ConfigurationWarning]

    private func tellOfAnonymous() {
        let listeners = access.withLock { $0.listeners.filter(\.allowsAnonymous) }
        guard !listeners.isEmpty else { return }
        let isOpen = listeners.contains { $0.policy == nil }
        log.warning(isOpen ? "anonymous clients may connect and use every topic" : "anonymous clients may connect")
    }

    /// The pre-shared keys in force. From any thread.
    private static func keys(_ access: Lock<AccessControl>) -> KeyLookup {
        { listener, identity in access.withLock { $0.listeners[listener].keys?[identity] } }
    }

    /// Other devices, people or services from now on; whoever may not be connected any more is disconnected at once. From
    /// any thread.
    package func adopt(_ accounts: Accounts) {
        access.withLock { access in
            let changed = accounts.changes(from: access.accounts)
            access.accounts = accounts
            tellShards(access, changed: changed)
        }
    }

    private func tellShards(_ access: AccessControl, changed: Set<Identity>?) {
        for shard in shards { shard.post { $0.adopt(access, changed: changed) } }
    }

    /// A configuration that has been read for a reload, with what its files hold.
    package struct Reloadable: Sendable {
        fileprivate let configuration: Configuration
        /// The keys whose new values wait for a start.
        package let kept: [String]
        fileprivate let files: AccessFiles
        fileprivate let contexts: [TLSContext?]
        /// How often they had been put into force before these were read.
        fileprivate let earlierContexts: Int

        package var warnings: [ConfigurationWarning] { files.warnings }
    }

    /// Reads what a configuration names, and changes nothing.
    package func prepare(_ new: Configuration) throws(ConfigurationError) -> Reloadable {
        let (effective, kept) = new.reloaded(over: configuration.withLock { $0 })
        let files = try AccessFiles(effective)
        let earlier = contextsInForce.withLock { $0 }
        let contexts = try effective.tlsContexts(tickets: tickets, keys: Self.keys(access))
        return Reloadable(
            configuration: effective, kept: kept, files: files, contexts: contexts, earlierContexts: earlier)
    }

    /// Whoever connects from now on meets these contexts, by listener; who is connected with a certificate that they do not
    /// let in is disconnected. A listener without TLS stays so.
    private func replaceTLS(_ contexts: [TLSContext?]) {
        for listener in listeners {
            if let context = contexts[Int(listener.number)] { listener.tls?.replace(with: context) }
        }
        for shard in shards { shard.reviewCertificates(contexts) }
    }

    /// The certificates and revocation lists on the disk count for those who connect from now on. Throws what is wrong
    /// with them; then those in force stay.
    package func reloadTLS() throws(ConfigurationError) {
        let result = contextsInForce.withLock { count in
            Result { () throws(ConfigurationError) in
                let configuration = configuration.withLock { $0 }
                replaceTLS(try configuration.tlsContexts(tickets: tickets, keys: Self.keys(access)))
                count += 1
            }
        }
        try result.get()
    }

    /// The server certificates of all listeners, each path once.
    package var certificateFiles: [String] {
        var files: [String] = []
        for listener in configuration.withLock({ $0 }).listeners {
            guard let file = listener.tls.certificateFile, !files.contains(file) else { continue }
            files.append(file)
        }
        return files
    }

    /// When the first of the certificates ends, seconds since 1970, for `$SYS`. Nil: there is none.
    package func setCertificateEnd(_ seconds: Int64?) async { await topics.setCertificateEnd(seconds) }

    /// Puts into force what can change without ending a connection.
    package func adopt(_ reloadable: Reloadable) async {
        let effective = reloadable.configuration
        configuration.withLock { $0 = effective }
        requestSettings.withLock { $0 = APISettings(effective) }
        for listener in listeners { listener.socket.setNoDelay(effective.setsTCPNoDelay) }
        contextsInForce.withLock { count in
            // What was read before others came into force may not know what has been revoked since.
            let isOld = count != reloadable.earlierContexts
            let newer = isOld ? try? effective.tlsContexts(tickets: tickets, keys: Self.keys(access)) : nil
            replaceTLS(newer ?? reloadable.contexts)
            count += 1
        }
        let rules = effective.listeners.map { ListenerRules($0, of: effective) }
        await lobby?.adopt(Limits(effective), rules)
        await front?.adopt(Limits(effective), rules, HTTPSite.all(effective))
        for shard in shards { await shard.adopt(Limits(effective), rules) }
        for counts in [throttle, registrations] { counts.withLock { $0.attempts = effective.management.loginAttempts } }
        access.withLock { access in
            let accounts = access.accounts
            access = reloadable.files.control
            access.accounts = accounts
            tellShards(access, changed: nil)
        }
        await topics.setInterval(effective.systemInterval)
        await memory.setLimit(effective.memoryLimit)
    }

    /// Whoever the process becomes owns its unix sockets, so that it can remove them in the end. Ids of a user and a group.
    package func giveSockets(to user: UInt32, _ group: UInt32) {
        for listener in listeners { listener.socket.give(to: user, group) }
    }

    /// Whether clients are accepted: all listeners are open, every shard answers, and it is not about to end.
    package func isServing() async -> Bool {
        guard serving.load(ordering: .acquiring) else { return false }
        await answer()
        return serving.load(ordering: .acquiring)
    }

    /// Returns when every shard has answered.
    package func answer() async { _ = await counters() }

    /// Publishes lines of the log: what lies behind `$SYS/broker/log/`, and the text. Calls `done` when they are on their
    /// way.
    package func publishLog(_ lines: [(level: String, text: String)], _ done: @escaping @Sendable () -> Void) {
        let messages = lines.map {
            ApplicationMessage(topic: "$SYS/broker/log/\($0.level)", payload: Array($0.text.utf8))
        }
        shards[0].publishLog(messages, done)
    }

    /// What there is, in figures, for one line.
    package func summary() async -> Logger.Metadata {
        let connections = await counters().connections
        return directory.withLock { directory in
            [
                "connections": .stringConvertible(connections),
                "sessions": .stringConvertible(directory.sessionCount),
                "connectedSessions": .stringConvertible(directory.connectedSessionCount),
                "subscriptions": .stringConvertible(directory.subscriptionCount),
                "sharedSubscriptions": .stringConvertible(directory.sharedSubscriptionCount),
                "retained": .stringConvertible(directory.retainedCount),
            ]
        }
    }

    /// Where it listens, with the ports that the system chose.
    package var addresses: [SocketAddress] { listeners.map(\.socket.address) }

    /// Of the configuration's listeners, by number.
    var ports: [UInt16] {
        var ports: [UInt16] = []
        for listener in listeners {
            while ports.count <= Int(listener.number) { ports.append(0) }
            ports[Int(listener.number)] = listener.socket.address.port
        }
        return ports
    }

    /// What all shards together have counted.
    package func counters() async -> Counters {
        var total = Counters()
        for shard in shards { total = total + (await shard.counters()) }
        if let lobby { total = total + (await lobby.counters()) }
        return total
    }

    /// Asks `run` to end. From any thread, any number of times, also before `run`.
    package func stop() { stopRequest.yield() }
}
