internal import ArgumentParser
internal import Backup
internal import Configuration
internal import Durability
internal import Glibc
internal import Server
internal import Store

/// `martlet backup FILE [-c FILE] [--data DIR]`
struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Write all that another box needs to one file; the broker may run.",
        discussion: """
            The file is a tar archive with the databases, the keys and the certificates of the data directory. It holds \
            secrets: nobody but you can read it, and so it should stay. "martlet restore" puts it back. The FILE - is \
            standard output.
            """)

    @Argument(help: "The file to write, or -.")
    var file: String

    @Option(
        name: [.short, .customLong("config-file")],
        help: "The configuration of the broker, which says where its data is.")
    var configFile: String?

    @OptionGroup var data: DataOption

    @Flag(name: .long, help: "Replace the file, where there is one.")
    var force = false

    @Flag(name: .shortAndLong, help: "Show no progress on the terminal.")
    var quiet = false

    func run() async throws {
        let target: BackupTarget = file == "-" ? .standardOutput : .file(file, replaces: force)
        guard file != "-" || isatty(STDOUT_FILENO) == 0 else {
            throw Failure(.usage, "a backup is not for a terminal to show; send it to a file or a program")
        }
        let path = try StoredData.directory(configFile, data)
        let work = BackupWork(isShown: !quiet)
        let summary = try work.perform {
            try makeBackup(
                of: path, to: target, martlet: martletVersion, databases: StoredData.databases, report: work.report)
        }
        for name in summary.odd { write("martlet: left out, for it is no plain file: \(name)", to: STDERR_FILENO) }
        let megabytes = BackupWork.megabytes(summary.bytes)
        work.tell("\(file): \(summary.files.count) files, \(megabytes) MB")
    }
}

/// `martlet restore FILE [-c FILE] [--data DIR]`
struct RestoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Put back what \"martlet backup\" has written.",
        discussion: """
            Everything in the file is checked before anything is put in its place. The broker must not run. A data \
            directory that is not empty is left alone, or, with --force, set aside under a new name.
            """)

    @Argument(help: "The backup.")
    var file: String

    @Option(
        name: [.short, .customLong("config-file")],
        help: "The configuration of the broker, which says where its data shall be, and whose.")
    var configFile: String?

    @OptionGroup var data: DataOption

    @Flag(name: .long, help: "Set aside what is in the data directory.")
    var force = false

    @Flag(name: .shortAndLong, help: "Show no progress on the terminal.")
    var quiet = false

    func run() async throws {
        let path = try StoredData.directory(configFile, data)
        let owner = try StoredData.owner(configFile)
        let work = BackupWork(isShown: !quiet)
        let summary = try work.perform {
            try restore(
                file, to: path, replaces: force, for: owner, databases: StoredData.databases, report: work.report)
        }
        if let aside = summary.setAside { write("what was in \(path) is in \(aside) now", to: STDOUT_FILENO) }
        let megabytes = BackupWork.megabytes(summary.bytes)
        work.tell("\(path): \(summary.files) files, \(megabytes) MB, as they were at \(summary.created)")
    }
}

/// Where a broker keeps what outlives it, for commands that look at the files.
private enum StoredData {
    static let databases = [
        // What a broker may hold of a device or a person comes first: it checks that they still exist.
        KnownDatabase(
            name: BrokerStore.fileName, applicationID: 0x6D72_7462, newestVersion: BrokerStore.newestVersion),
        KnownDatabase(
            name: FleetStore.fileName, applicationID: 0x6D72_746C,
            newestVersion: Int64(Migration.all.last?.version ?? 0)),
    ]

    /// What the flag says, then the environment, then the file, as with `serve`.
    static func directory(_ file: String?, _ data: DataOption) throws(Failure) -> String {
        if let given = data.given { return given }
        guard let file else { return data.path }
        guard let path = try configuration(file).storageDirectory else {
            throw Failure(
                .failed, "\(file): neither 'data_dir' nor 'persistence true', so there is nothing on the disk")
        }
        return path
    }

    /// Nil: whoever asks.
    static func owner(_ file: String?) throws(Failure) -> DataDirectory.Owner? {
        guard let file, let user = try ProcessUser.find(try configuration(file).user).user else { return nil }
        return DataDirectory.Owner(user: user.user, group: user.group)
    }

    private static func configuration(_ file: String) throws(Failure) -> Configuration {
        do throws(ConfigurationError) {
            return try readConfiguration(file).applying(environment: environment())
        } catch {
            throw Failure(.badConfiguration, error)
        }
    }
}

/// Somebody waits for it, and may not want to: SIGINT and SIGTERM end it, and nothing of it stays.
private final class BackupWork {
    /// Between two lines of progress.
    private static let pace = Duration.milliseconds(200)

    private let isShown: Bool
    private let interruption = Interruption()
    private let clock = ContinuousClock()
    private var shown: ContinuousClock.Instant?

    init(isShown: Bool) {
        self.isShown = isShown && isatty(STDERR_FILENO) == 1
        let interruption = interruption
        Signals(requests: []).whenAskedToStop { interruption.note() }
    }

    static func megabytes(_ bytes: Int) -> String {
        let tenths = (bytes + 52_428) / 104_858
        return tenths < 100 ? "\(tenths / 10).\(tenths % 10)" : "\(tenths / 10)"
    }

    func perform<Result>(_ body: () throws -> Result) throws(Failure) -> Result {
        do {
            defer { clear() }
            return try body()
        } catch BackupError.interrupted {
            throw Failure(.interrupted, BackupError.interrupted)
        } catch DataDirectoryError.inUse(let path, let process) {
            let who = process.map { "process \($0)" } ?? "another process"
            throw Failure(.failed, "\(who) has the data directory \(path); stop the broker first")
        } catch {
            throw Failure(.failed, "\(error)")
        }
    }

    func report(_ progress: BackupProgress) throws {
        guard !interruption.isNoted else { throw BackupError.interrupted }
        guard isShown, shown.map({ clock.now - $0 >= Self.pace }) ?? true else { return }
        shown = clock.now
        let percent = progress.totalBytes > 0 ? min(100, progress.bytes * 100 / progress.totalBytes) : 100
        let (done, all) = (Self.megabytes(progress.bytes), Self.megabytes(progress.totalBytes))
        put("\r\u{1B}[K\(percent) %, \(done) of \(all) MB: \(progress.subject)")
    }

    func tell(_ line: String) { if isShown { write(line, to: STDERR_FILENO) } }

    private func clear() {
        if shown != nil { put("\r\u{1B}[K") }
    }

    private func put(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBufferPointer { unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
