import Access
package import Broker
import CLinux
package import Configuration
import Locks
package import Logging
import MQTT
import Synchronization
package import Transport

/// The version of this build.
package let martletVersion = "0.1.0"

/// A broker: its listeners, its shards, and the directory that they share.
package final class BrokerServer: Sendable {
    private let shards: [Shard]
    private let directory: Lock<Directory>
    private let listeners: [Listener]
    /// The configuration in force.
    private let configuration: Lock<Configuration>
    private let topics: SystemTopics
    private let memory: MemoryWatch
    private let logs: Loggers
    private var log: Logger { logs.process }
    private let stopRequests: AsyncStream<Void>
    private let stopRequest: AsyncStream<Void>.Continuation
    private let stopped: AsyncStream<Void>
    private let stoppedSignal: AsyncStream<Void>.Continuation

    /// Binds the listeners, so that whoever can't listen doesn't start. Throws what the system refuses.
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
        listeners = try Self.bind(configuration)
        directory = Lock(Directory(shards: count, seed: .random(in: 0...(.max))))
        let backlogs = (0..<count).map { _ in Backlog(bound: limits.mailboxBytes) }
        let now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000)
        let rules = configuration.listeners.map { ListenerRules($0, of: configuration) }
        let (access, passwords) = (AccessControl(configuration), PasswordWorkers())
        let throttle = Lock(SignInThrottle(attempts: configuration.management.loginAttempts))
        shards = try (0..<count).map { [directory] shard in
            let state = ShardState(
                shard: shard, of: count, limits: limits, rules: rules, access: access, directory: directory,
                throttle: throttle, now: now)
            return try Shard(state, backlogs: backlogs, passwords: passwords, logs: logs)
        }
        topics = SystemTopics(shards: shards, directory: directory)
        memory = MemoryWatch(shards: shards, log: logs.process)
    }

    /// Serves until `stop`, then ends all connections, publishes their wills, and returns. Calls `whenListening` once
    /// all listeners accept, and `whenStopping` when it begins to end.
    package func run(
        whenListening: @Sendable () async -> Void = {}, whenStopping: @Sendable () -> Void = {}
    ) async throws {
        for shard in shards {
            shard.start(with: shards) { [stoppedSignal] in stoppedSignal.yield() }
        }
        let configuration = configuration.withLock { $0 }
        await topics.begin(every: configuration.systemInterval)
        for listener in listeners {
            await shards[0].add(listener)
            log.info("listening", metadata: ["address": "\(listener.socket.address)"])
        }
        if configuration.listeners.contains(where: { configuration.access(at: $0).allowsAnonymous ?? false }) {
            log.warning("anonymous clients may connect and use every topic")
        }
        log.info("started", metadata: ["version": "\(martletVersion)", "shards": "\(shards.count)"])
        let housekeeping = Task { [topics] in await topics.run() }
        await memory.setLimit(self.configuration.withLock { $0 }.memoryLimit)  // A reload may have come first.
        await whenListening()
        for await _ in stopRequests { break }

        log.info("stopping")
        whenStopping()
        housekeeping.cancel()
        await memory.setLimit(nil)
        // All wills before the first end: those of one shard's connections may be for sessions on another.
        for shard in shards { await shard.publishWills() }
        for shard in shards { await shard.shutDown() }
        for shard in shards { shard.loop.stop() }
        var left = shards.count
        for await _ in stopped {
            left -= 1
            if left == 0 { break }
        }
        log.info("stopped")
    }

    /// Puts into force what can change without ending a connection. Returns the keys whose new values wait for a start.
    package func adopt(_ new: Configuration) async -> [String] {
        let running = configuration.withLock { $0 }
        let (effective, kept) = new.reloaded(over: running)
        configuration.withLock { $0 = effective }
        for listener in listeners { listener.socket.setNoDelay(effective.setsTCPNoDelay) }
        let rules = effective.listeners.map { ListenerRules($0, of: effective) }
        for shard in shards { await shard.adopt(Limits(effective), rules) }
        let access = AccessControl(effective)
        for shard in shards { await shard.adopt(access, changed: nil) }
        await topics.setInterval(effective.systemInterval)
        await memory.setLimit(effective.memoryLimit)
        return kept
    }

    /// Whoever the process becomes owns its unix sockets, so that it can remove them in the end. Ids of a user and a group.
    package func giveSockets(to user: UInt32, _ group: UInt32) {
        for listener in listeners { listener.socket.give(to: user, group) }
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

    /// What all shards together have counted.
    package func counters() async -> Counters {
        var total = Counters()
        for shard in shards { total = total + (await shard.counters()) }
        return total
    }

    /// Asks `run` to end. From any thread, any number of times, also before `run`.
    package func stop() { stopRequest.yield() }
}
