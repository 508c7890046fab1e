package import Broker
internal import Dispatch
internal import Locks
internal import MQTT
package import Store

/// `broker.db`: what outlives the process of what the broker knows, today its retained messages. Who has something to
/// write asks for a commit; one serves all that have asked while the last was on its way. An actor on a queue of its own, for
/// SQLite blocks.
package actor BrokerStore {
    package static let fileName = "broker.db"
    /// Until what could not be written is tried again.
    private static let patience = Duration.seconds(1)
    /// Pages in the log at which they begin to be moved into the file, beside the commits that go on: 4 MB.
    private static let loggedFrames: CInt = 1000
    /// Where that falls behind a commit waits for it: 64 MB.
    private static let mostLoggedFrames: CInt = 16_000

    /// What became of the store, for whoever tells people.
    package enum Event: Sendable, Equatable {
        /// It could not be read as a whole, and lies under that name now; so many retained messages are kept.
        case wasDamaged(file: String, kept: Int)
        /// From now on nothing that has to be on the disk is acknowledged, until `.writes`.
        case fails(String)
        case writes
    }

    private struct Waiting {
        var commits: [@Sendable () -> Void] = []
        /// Somebody is at work on them, or will be.
        var isAttended = false
    }

    private let executor = StoreExecutor()
    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    private let waiting = Lock(Waiting())
    private var checkpointer: Checkpointer
    private var isCheckpointing = false
    private let path: String
    private let directory: DataDirectory
    private let takeRetained: @Sendable () -> [RetainedMessage]
    private let tell: @Sendable (Event) -> Void
    private var writer: Writer?
    /// Taken and not written yet.
    private var retained: [RetainedMessage] = []
    private var isFailing = false
    /// To be set aside before anything else.
    private var isDamaged = false
    private var isClosed = false

    /// Opens the store, or makes it. `takeRetained`: see `Directory.takeUnsavedRetained`; called from the store's queue, as
    /// is `tell`. Throws `BrokerStoreError`, `DataDirectoryError`. Blocks.
    package init(
        in directory: DataDirectory, takeRetained: @escaping @Sendable () -> [RetainedMessage],
        tell: @escaping @Sendable (Event) -> Void
    ) throws {
        let path = directory.path(of: Self.fileName)
        self.path = path
        self.directory = directory
        checkpointer = Checkpointer(path)
        self.takeRetained = takeRetained
        self.tell = tell
        do {
            try Schema.prepare(in: directory)
            writer = try Writer(path)
            try writer?.examine()
        } catch let error as BrokerStoreError where error.isDamage {
            isDamaged = true
        }
    }

    private func open() throws {
        // Only where there is none: another descriptor of a file that is in use would, closed, take SQLite's locks along.
        if !directory.has(Self.fileName) { try Schema.prepare(in: directory) }
        writer = try Writer(path)
    }

    /// What is on the disk. `listeners`: how many there are now. What is damaged is set aside, and what of it can be read goes
    /// into a new file. Once, before anything is committed.
    package func load(listeners: Int) throws -> [RetainedMessage] {
        if !isDamaged {
            do throws(BrokerStoreError) {
                return try writer?.retained(listeners: listeners) ?? []
            } catch {
                guard error.isDamage else { throw error }
            }
        }
        try salvage(listeners: listeners)
        let kept = retained
        _ = write()  // Where that can't be yet, it is with the next commit.
        return kept
    }

    /// Sets the damaged file aside. What of it can be read is to be written, before what has changed since.
    private func salvage(listeners: Int) throws {
        isDamaged = true
        let kept = writer?.readableRetained(listeners: listeners) ?? []
        retained = (kept + retained).latestOfEachTopic()
        writer = nil
        let aside = try Schema.setAside(in: directory)
        checkpointer = Checkpointer(path)  // The old one goes on with the old file.
        isDamaged = false
        tell(.wasDamaged(file: aside, kept: kept.count))
    }

    /// Has everything that has changed until now written, and calls `then` when it is on the disk, from the store's queue.
    /// Where the disk fails, `then` waits until it does not. From any thread.
    package nonisolated func commit(_ then: @escaping @Sendable () -> Void) {
        let isFirst = waiting.withLock { waiting in
            waiting.commits.append(then)
            defer { waiting.isAttended = true }
            return !waiting.isAttended
        }
        if isFirst { Task { await self.serve() } }
    }

    private func serve() async {
        while true {
            let commits = waiting.withLock { waiting in
                var taken: [@Sendable () -> Void] = []
                swap(&taken, &waiting.commits)
                if taken.isEmpty { waiting.isAttended = false }
                return taken
            }
            guard !commits.isEmpty else { return }
            while !isClosed, !write() { try? await Task.sleep(for: Self.patience) }
            guard !isClosed else { return }
            for then in commits { then() }
        }
    }

    /// One transaction with all that has changed. False when it is not on the disk.
    private func write() -> Bool {
        // Before a second try what is new comes behind what is old.
        retained = retained.isEmpty ? takeRetained() : (retained + takeRetained()).latestOfEachTopic()
        do {
            if isDamaged { try salvage(listeners: .max) }
            // After an error a second fsync of the same file proves nothing: all of it is written again, by another
            // connection.
            if writer == nil { try open() }
            try writer?.write(retained)
            retained = []
            if isFailing { tell(.writes) }
            isFailing = false
        } catch {
            isDamaged = (error as? BrokerStoreError)?.isDamage ?? false
            if !isDamaged { writer = nil }
            if !isFailing { tell(.fails("\(error)")) }
            isFailing = true
            return false
        }
        checkpoint()
        return true
    }

    private func checkpoint() {
        let frames = writer?.loggedFrames ?? 0
        if frames >= Self.mostLoggedFrames { try? writer?.emptyLog() }
        guard frames >= Self.loggedFrames, !isCheckpointing else { return }
        isCheckpointing = true
        Task {
            await checkpointer.run()
            isCheckpointing = false
        }
    }

    /// Writes what is left and lets go of the file. Nothing is committed afterwards.
    package func close() throws {
        guard !isClosed else { return }
        isClosed = true
        retained += takeRetained()
        defer { writer = nil }
        if writer == nil { try open() }
        try writer?.write(retained.latestOfEachTopic())
        try writer?.emptyLog()
    }
}

/// Moves pages from the log into the file by a connection of its own, so that commits go on.
private actor Checkpointer {
    private let executor = StoreExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    private let path: String
    private var database: Database?

    init(_ path: String) { self.path = path }

    /// What it can't do now it does the next time: the log has everything.
    func run() {
        do throws(BrokerStoreError) {
            if database == nil {
                database = try Database(path)
                try database?.execute("PRAGMA synchronous = FULL")
                // It may close last, when another file has the name of the one that it has open.
                try database?.keepLogWhenClosed()
            }
            try database?.execute("PRAGMA wal_checkpoint(PASSIVE)")
        } catch {
            database = nil
        }
    }
}

/// The store's queue: it may block.
private final class StoreExecutor: SerialExecutor {
    private let queue = DispatchQueue(label: "broker store")

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { unsafe job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor { unsafe UnownedSerialExecutor(ordinary: self) }
}
