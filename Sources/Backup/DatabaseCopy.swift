internal import GRDBSQLite
internal import Glibc

/// A database that a data directory may have, and how it is told from others.
package struct KnownDatabase: Sendable {
    /// The name of its file.
    package let name: String
    /// `PRAGMA application_id`.
    package let applicationID: Int64
    /// The newest `PRAGMA user_version` that this Martlet can read.
    package let newestVersion: Int64

    package init(name: String, applicationID: Int64, newestVersion: Int64) {
        self.name = name
        self.applicationID = applicationID
        self.newestVersion = newestVersion
    }
}

/// A connection for one user at a time. The corresponding C type is `sqlite3`.
@safe private struct Connection: ~Copyable {
    let handle: OpaquePointer
    let path: String

    /// The corresponding C function is `sqlite3_open_v2`.
    init(_ place: String, _ flags: CInt, path: String) throws(BackupError) {
        var handle: OpaquePointer?
        let code = unsafe sqlite3_open_v2(place, &handle, flags | SQLITE_OPEN_NOMUTEX, nil)
        guard code == SQLITE_OK, let opened = unsafe handle else {
            let error = unsafe Self.error(code, handle, path)
            unsafe sqlite3_close_v2(handle)
            throw error
        }
        unsafe self.handle = opened
        self.path = path
        unsafe sqlite3_extended_result_codes(opened, 1)
        unsafe sqlite3_busy_timeout(opened, 5000)
    }

    deinit { unsafe sqlite3_close_v2(handle) }

    static func error(_ code: CInt, _ handle: OpaquePointer?, _ path: String) -> BackupError {
        var reason = unsafe String(cString: handle == nil ? sqlite3_errstr(code) : sqlite3_errmsg(handle))
        switch code & 0xFF {
        case SQLITE_CORRUPT, SQLITE_NOTADB: return .damaged(path, reason)
        case SQLITE_FULL: return .system(path, ENOSPC)
        case SQLITE_IOERR, SQLITE_CANTOPEN:
            let system = unsafe handle == nil ? 0 : sqlite3_system_errno(handle)
            if system != 0 { reason += unsafe ": \(String(cString: strerror(system)))" }
        default: break
        }
        return .database(path, reason)
    }

    var lastError: BackupError { unsafe Self.error(sqlite3_errcode(handle), handle, path) }

    /// The corresponding C function is `sqlite3_exec`.
    borrowing func execute(_ text: String) throws(BackupError) {
        guard unsafe sqlite3_exec(handle, text, nil, nil, nil) == SQLITE_OK else { throw lastError }
    }

    /// The first column of the first row, as text. The corresponding C functions are `sqlite3_prepare_v2`, `sqlite3_step`
    /// and `sqlite3_column_text`.
    borrowing func text(_ question: String) throws(BackupError) -> String {
        var statement: OpaquePointer?
        defer { unsafe sqlite3_finalize(statement) }
        guard unsafe sqlite3_prepare_v2(handle, question, -1, &statement, nil) == SQLITE_OK,
            unsafe sqlite3_step(statement) == SQLITE_ROW
        else { throw lastError }
        return unsafe sqlite3_column_text(statement, 0).map { unsafe String(cString: $0) } ?? ""
    }

    borrowing func number(_ question: String) throws(BackupError) -> Int64 { Int64(try text(question)) ?? 0 }
}

/// A database as it was at one moment, whoever goes on writing to it. While this lives the log of that database keeps
/// all that comes; so it should not live long.
final class Snapshot {
    /// Of one step.
    private static let stepPages: CInt = 256
    /// Bytes of the log past which no more pauses are made: half of what a broker lets come together.
    private static let mostLogged = 32 << 20
    /// Milliseconds; the longest pause.
    private static let longestPause = 50

    let bytes: Int
    private let database: Connection

    /// `directory`: of the database, by any way that leads there. Nothing in it is changed but the index of the log, which
    /// all readers share. The corresponding C functions are `sqlite3_open_v2` and `sqlite3_exec`.
    init(of name: String, in directory: OpenFile) throws(BackupError) {
        // By the descriptor: whoever gives the directory another name meanwhile does not make us read two.
        let place = "/proc/self/fd/\(directory.descriptor)/\(name)"
        let path = "\(directory.path)/\(name)"
        let database = try Connection(place, SQLITE_OPEN_READONLY, path: path)
        try database.execute("BEGIN")
        // Only what is read takes the snapshot.
        _ = try database.number("SELECT count(*) FROM sqlite_schema")
        bytes = Int(try database.number("PRAGMA page_count") * database.number("PRAGMA page_size"))
        self.database = database
    }

    /// Into a new file, which is not on the disk then: it is only read once more. A step at a time, with pauses, so that the
    /// disk is there for others too. The corresponding C functions are `sqlite3_backup_init`, `sqlite3_backup_step` and
    /// `sqlite3_backup_finish`.
    func copy(to path: String, logIn directory: OpenFile, name: String, _ tell: (Int) throws -> Void) throws {
        let target = try Connection(path, SQLITE_OPEN_READWRITE, path: path)
        try target.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        guard let backup = unsafe sqlite3_backup_init(target.handle, "main", database.handle, "main") else {
            throw target.lastError
        }
        var isFinished = false
        defer { if !isFinished { unsafe sqlite3_backup_finish(backup) } }
        let clock = ContinuousClock()
        while true {
            let begin = clock.now
            let code = unsafe sqlite3_backup_step(backup, Self.stepPages)
            if code == SQLITE_DONE { break }
            guard code == SQLITE_OK || code & 0xFF == SQLITE_BUSY || code & 0xFF == SQLITE_LOCKED else {
                throw unsafe Connection.error(code, target.handle, path)
            }
            let (all, left) = unsafe (sqlite3_backup_pagecount(backup), sqlite3_backup_remaining(backup))
            if code != SQLITE_OK { usleep(10_000) }
            if all > 0 { try tell(bytes / Int(all) * Int(all - left)) }
            let logged = try directory.status(of: "\(name)-wal")?.st_size ?? 0
            if logged < Self.mostLogged {
                let took = (clock.now - begin) / Duration.milliseconds(1)
                usleep(UInt32(min(took, Double(Self.longestPause)) * 1000))
            }
        }
        isFinished = true
        let code = unsafe sqlite3_backup_finish(backup)
        guard code == SQLITE_OK else { throw unsafe Connection.error(code, target.handle, path) }
    }
}

/// A file that nobody else has open, and that is not to be changed, not even by a log of its own.
struct DatabaseFile: ~Copyable {
    private let database: Connection

    /// `name`: for errors. The corresponding C function is `sqlite3_open_v2`.
    init(_ path: String, name: String) throws(BackupError) {
        let place = path.utf8.map { byte -> String in
            let isPlain =
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) || "/-_.".utf8.contains(byte)
            return isPlain ? String(UnicodeScalar(byte)) : "%" + hexadecimal([byte])
        }
        database = try Connection(
            "file:\(place.joined())?immutable=1", SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, path: name)
    }

    /// Looks at every page. Throws where it is damaged, another program's, or, unless `anyVersion`, of a later Martlet.
    borrowing func examine(as known: KnownDatabase, anyVersion: Bool) throws(BackupError) {
        guard try database.number("PRAGMA application_id") == known.applicationID else {
            throw .refused("\(database.path): it is not Martlet's \(known.name)")
        }
        let version = try database.number("PRAGMA user_version")
        guard anyVersion || (1...known.newestVersion).contains(version) else {
            throw .refused(
                "\(database.path): version \(version) of its tables, and this Martlet knows \(known.newestVersion)")
        }
        let finding = try database.text("PRAGMA quick_check(1)")
        guard finding == "ok" else { throw .damaged(database.path, printable(finding)) }
    }
}
