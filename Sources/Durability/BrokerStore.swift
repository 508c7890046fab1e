package import Broker
internal import Dispatch
internal import Locks
internal import MQTT
package import Store

/// `broker.db`: what outlives the process of what the broker knows: what is retained, and sessions with all that is theirs.
/// An actor on a queue of its own, for SQLite blocks.
package actor BrokerStore {
    package static let fileName = "broker.db"
    /// Until what could not be written, or read, is tried again.
    private static let patience = Duration.seconds(1)
    /// Between two transactions that delete what sessions have left that are no more.
    private static let deletingPause = Duration.milliseconds(50)
    /// Pages in the log at which they begin to be moved into the file, beside the commits that go on: 4 MB.
    private static let loggedFrames: CInt = 1000
    /// Where that falls behind a commit waits for it: 64 MB.
    private static let mostLoggedFrames: CInt = 16_000

    /// What became of the store, for whoever tells people.
    package enum Event: Sendable, Equatable {
        /// It could not be read as a whole, and lies under that name now; so much of it is kept.
        case wasDamaged(file: String, kept: Salvage)
        /// Its log was, in the midst of what was committed: what came after that is gone, so many pages. The log lies there.
        case logWasDamaged(file: String, pages: Int)
        /// From now on nothing that has to be on the disk is acknowledged, until `.writes`.
        case fails(String)
        case writes
    }

    /// What the disk had when the broker began.
    package struct Contents: Sendable {
        package var retained: [RetainedMessage] = []
        package var sessions: [RestoredSession] = []
        /// The first numbers that nothing on the disk has.
        package var nextSession: StoredSession = 1
        package var nextShared: SharedMessage = 1
    }

    /// What it has done since it was opened.
    package struct Figures: Sendable, Equatable {
        package var commits: UInt64 = 0
        package var bytesWritten: UInt64 = 0
        package var isFailing = false
    }

    private let executor = QueueExecutor("broker store")
    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    private var checkpointer: Checkpointer
    private var isCheckpointing = false
    private let path: String
    private let directory: DataDirectory
    private let takeRetained: @Sendable () -> [RetainedMessage]
    private let clock: @Sendable () -> Clock
    private let tell: @Sendable (Event) -> Void
    private var writer: Writer?
    /// Taken and not written yet.
    private var retained: [RetainedMessage] = []
    /// Sessions that are no more, and have rows still.
    private var ended: [StoredSession] = []
    private var isDeleting = false
    private var frames: CInt = 0
    /// In the log when it could not be begun anew, for somebody reads it.
    private var framesInUse: CInt = 0
    /// The log's name is on the disk. SQLite sees to that too, once, and goes on where it could not.
    private var isLogNamed = false
    private var figures = Figures()
    /// To be set aside before anything else.
    private var isDamaged = false
    private var isClosed = false

    /// Opens the store, or makes it. `takeRetained`: see `Directory.takeUnsavedRetained`; called from the store's queue, as
    /// are `tell` and `clock`. Throws `BrokerStoreError`, `DataDirectoryError`. Blocks.
    package init(
        in directory: DataDirectory, takeRetained: @escaping @Sendable () -> [RetainedMessage],
        clock: @escaping @Sendable () -> Clock, tell: @escaping @Sendable (Event) -> Void
    ) throws {
        let path = directory.path(of: Self.fileName)
        self.path = path
        self.directory = directory
        checkpointer = Checkpointer(path)
        self.takeRetained = takeRetained
        self.clock = clock
        self.tell = tell
        if let (file, pages) = try Schema.prepareLog(in: directory) { tell(.logWasDamaged(file: file, pages: pages)) }
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
        (frames, isLogNamed) = (0, false)
    }

    // MARK: The start

    /// What is on the disk. `listeners`: how many there are now. What is damaged is set aside, and what of it can be read goes
    /// into a new file. Once, before anything is committed.
    package func load(listeners: Int) throws -> Contents {
        if !isDamaged {
            do throws(BrokerStoreError) {
                return try contents(listeners)
            } catch {
                guard error.isDamage else { throw error }
            }
        }
        try salvage()
        return try contents(listeners)
    }

    private func contents(_ listeners: Int) throws(BrokerStoreError) -> Contents {
        guard let writer else { return Contents() }
        let (sessions, orphans) = try writer.storedSessions(listeners: listeners, clock())
        try writer.end(orphans)
        ended = try writer.endedSessions()
        deleteRows()
        let next = try writer.nextNumbers()
        return Contents(
            retained: try writer.retained(listeners: listeners), sessions: sessions, nextSession: next.session,
            nextShared: next.shared)
    }

    /// Sets the damaged file aside, once what of it can be read is in another.
    private func salvage() throws {
        isDamaged = true
        writer = nil
        var kept = Salvage()
        try Schema.makeDraft(in: directory) { draft throws(BrokerStoreError) in
            kept = try Salvage.copy(path, into: draft)
        }
        let aside = try Schema.replaceByDraft(in: directory)
        checkpointer = Checkpointer(path)  // The old one goes on with the old file.
        isDamaged = false
        tell(.wasDamaged(file: aside, kept: kept))
        try open()
    }

    // MARK: Writing

    /// Writes what all shards have changed, and what is retained until now; returns when it is on the disk. Where the disk
    /// fails, that is when it does not any more. False: the store is closed.
    package func commit(_ parts: [Changes]) async -> Bool {
        while !isClosed {
            if write(parts) { return true }
            try? await Task.sleep(for: Self.patience)
        }
        return false
    }

    /// The same for whoever does not wait: calls `done` on the store's queue, once it is on the disk.
    package nonisolated func commit(_ parts: [Changes], then done: @escaping @Sendable () -> Void) {
        executor.async { self.assumeIsolated { $0.commitNow(parts, then: done) } }
    }

    private func commitNow(_ parts: [Changes], then done: @escaping @Sendable () -> Void) {
        guard !isClosed else { return }
        if write(parts) { return done() }
        Task {
            try? await Task.sleep(for: Self.patience)
            if await commit(parts) { done() }
        }
    }

    /// One transaction with all that has changed. False when it is not on the disk.
    private func write(_ parts: [Changes]) -> Bool {
        // Before a second try what is new comes behind what is old.
        retained = retained.isEmpty ? takeRetained() : (retained + takeRetained()).latestOfEachTopic()
        let hasChanges = !retained.isEmpty || !parts.allSatisfy(\.isEmpty)
        do {
            if isDamaged { try salvage() }
            // After an error a second fsync of the same file proves nothing: the whole transaction is written again. By the
            // same connection, which knows what was not committed; one that finds it in the log would take it as it is.
            if writer == nil { try open() }
            if hasChanges, !isLogNamed {
                try directory.synchronize()
                isLogNamed = true
            }
            try writer?.write(parts, retained, clock())
        } catch {
            fail(error)
            return false
        }
        retained = []
        guard hasChanges else { return true }
        if figures.isFailing { tell(.writes) }
        figures.isFailing = false
        figures.commits += 1
        countFrames()
        checkpoint()
        let removed = parts.flatMap(\.removedSessions)
        if !removed.isEmpty {
            ended += removed
            deleteRows()
        }
        return true
    }

    private func fail(_ error: any Error) {
        noteDamage(error)
        if !figures.isFailing { tell(.fails("\(error)")) }
        figures.isFailing = true
    }

    /// Until it is set aside.
    private func noteDamage(_ error: any Error) {
        if let error = error as? BrokerStoreError, error.isDamage { isDamaged = true }
    }

    /// Deletes what sessions have left, a little at a time, beside the commits that go on.
    private func deleteRows() {
        guard !isDeleting, !ended.isEmpty else { return }
        isDeleting = true
        Task { await deleteAllRows() }
    }

    private func deleteAllRows() async {
        while !isClosed, let session = ended.first {
            do throws(BrokerStoreError) {
                if try writer?.deleteRows(of: session) ?? false { ended.removeFirst() }
                countFrames()
                checkpoint()
            } catch {
                noteDamage(error)
                try? await Task.sleep(for: Self.patience)
            }
            try? await Task.sleep(for: Self.deletingPause)
        }
        isDeleting = false
    }

    // MARK: Reading

    /// The next messages of a queue; see `QueueTable.read`. Where they can't be read now, it goes on trying. Nil: the store is
    /// closed.
    package func read(_ request: QueueRequest) async -> (rows: [QueuedMessage], isAll: Bool)? {
        while !isClosed {
            do {
                if isDamaged { try salvage() }
                if writer == nil { try open() }
                if let answer = try writer?.read(request) { return answer }
            } catch {
                noteDamage(error)
                try? await Task.sleep(for: Self.patience)
            }
        }
        return nil
    }

    // MARK: The log

    private func checkpoint() {
        let frames = writer?.loggedFrames ?? 0
        if frames < framesInUse { framesInUse = 0 }
        if frames >= Self.mostLoggedFrames, frames >= framesInUse + Self.loggedFrames {
            framesInUse = writer?.emptyLog() == true ? 0 : frames
        }
        guard frames >= Self.loggedFrames, !isCheckpointing else { return }
        isCheckpointing = true
        Task {
            figures.bytesWritten += await checkpointer.run()
            isCheckpointing = false
        }
    }

    /// Each has a page and a header; where there are fewer than before the log has begun anew.
    private func countFrames() {
        let now = writer?.loggedFrames ?? 0
        figures.bytesWritten += UInt64(now >= frames ? now - frames : now) * (Database.pageBytes + 24)
        frames = now
    }

    package func currentFigures() -> Figures { figures }

    /// Writes what is left and lets go of the file. Nothing is committed afterwards.
    package func close() throws {
        guard !isClosed else { return }
        isClosed = true
        retained += takeRetained()
        defer { writer = nil }
        if writer == nil { try open() }
        try writer?.write([], retained.latestOfEachTopic(), clock())
        _ = writer?.emptyLog()
    }
}

/// Moves pages from the log into the file by a connection of its own, so that commits go on.
private actor Checkpointer {
    private let executor = QueueExecutor("broker store checkpoints")
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    private let path: String
    private var database: Database?
    /// Frames of the log that were in the file the last time.
    private var moved: CInt = 0

    init(_ path: String) { self.path = path }

    /// Returns the bytes that it has written. What it can't do now it does the next time: the log has everything.
    func run() -> UInt64 {
        do throws(BrokerStoreError) {
            if database == nil {
                database = try Database(path)
                try database?.execute("PRAGMA synchronous = FULL")
                // It may close last, when another file has the name of the one that it has open.
                try database?.keepLogWhenClosed()
            }
            guard let now = try database?.checkpoint() else { return 0 }
            defer { moved = now }
            return UInt64(now >= moved ? now - moved : now) * Database.pageBytes
        } catch {
            database = nil
            return 0
        }
    }
}
