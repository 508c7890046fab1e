internal import GRDBSQLite
internal import Glibc

/// A connection to an SQLite database, for whoever owns it: one user at a time. The corresponding C type is `sqlite3`.
@safe struct Database: ~Copyable {
    private let handle: OpaquePointer
    private let frames: UnsafeMutablePointer<CInt>
    let path: String

    /// Opens a database that exists. The corresponding C function is `sqlite3_open_v2`.
    init(_ path: String, isReadOnly: Bool = false) throws(BrokerStoreError) {
        var handle: OpaquePointer?
        let access = isReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE
        let flags = access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        let code = unsafe sqlite3_open_v2(path, &handle, flags, nil)
        guard code == SQLITE_OK, let opened = unsafe handle else {
            let error = unsafe BrokerStoreError(code, handle, path)
            unsafe sqlite3_close_v2(handle)
            throw error
        }
        self.path = path
        unsafe self.handle = opened
        unsafe frames = .allocate(capacity: 1)
        unsafe frames.initialize(to: 0)
        unsafe sqlite3_busy_timeout(opened, Self.patience)
        // In the place of SQLite's own hook, which would begin a checkpoint in the midst of a commit.
        unsafe sqlite3_wal_hook(
            opened,
            { frames, _, _, count in
                unsafe frames?.assumingMemoryBound(to: CInt.self).pointee = count
                return SQLITE_OK
            }, frames)
    }

    deinit {
        unsafe sqlite3_close_v2(handle)
        unsafe frames.deallocate()
    }

    /// Pages in the log when this connection last committed. The corresponding C function is `sqlite3_wal_hook`.
    var loggedFrames: CInt { unsafe frames.pointee }

    /// Runs statements that have no result that anybody wants. The corresponding C function is `sqlite3_exec`.
    borrowing func execute(_ text: String) throws(BrokerStoreError) {
        let code = unsafe sqlite3_exec(handle, text, nil, nil, nil)
        guard code == SQLITE_OK else { throw unsafe BrokerStoreError(code, handle, path) }
    }

    /// Moves all pages from the log into the file and begins the log anew, if nobody reads what is in it. False when somebody
    /// does, or something else is in its way: nobody waits for that.
    borrowing func emptyLog() -> Bool {
        unsafe sqlite3_busy_timeout(handle, 0)
        defer { unsafe sqlite3_busy_timeout(handle, Self.patience) }
        return unsafe sqlite3_wal_checkpoint_v2(handle, "main", SQLITE_CHECKPOINT_TRUNCATE, nil, nil) == SQLITE_OK
    }

    /// Milliseconds for another connection.
    private static let patience: CInt = 5000

    /// Moves pages from the log into the file, as many as can be moved without making anybody wait. Returns how many of those
    /// in the log are there now. The corresponding C function is `sqlite3_wal_checkpoint_v2`.
    borrowing func checkpoint() throws(BrokerStoreError) -> CInt {
        var (logged, moved): (CInt, CInt) = (0, 0)
        let code = unsafe sqlite3_wal_checkpoint_v2(handle, "main", SQLITE_CHECKPOINT_PASSIVE, &logged, &moved)
        guard code == SQLITE_OK else { throw unsafe BrokerStoreError(code, handle, path) }
        return moved
    }

    /// The log is not removed, by its name, when this connection is the last to close (`SQLITE_FCNTL_PERSIST_WAL`).
    borrowing func keepLogWhenClosed() throws(BrokerStoreError) {
        var isKept: CInt = 1
        let code = unsafe sqlite3_file_control(handle, "main", SQLITE_FCNTL_PERSIST_WAL, &isKept)
        guard code == SQLITE_OK else { throw unsafe BrokerStoreError(code, handle, path) }
    }

    /// The corresponding C function is `sqlite3_prepare_v3`.
    borrowing func prepare(_ text: String) throws(BrokerStoreError) -> Statement {
        var statement: OpaquePointer?
        let code = unsafe sqlite3_prepare_v3(handle, text, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
        guard code == SQLITE_OK, let statement = unsafe statement else {
            throw unsafe BrokerStoreError(code, handle, path)
        }
        return unsafe Statement(statement, handle, path)
    }

    /// The first column of the first row, which is a number.
    borrowing func number(_ text: String) throws(BrokerStoreError) -> Int64? {
        let statement = try prepare(text)
        return try statement.step() ? statement.number(0) : nil
    }

    /// Rows that the last statement has changed. The corresponding C function is `sqlite3_changes`.
    var changes: Int { unsafe Int(sqlite3_changes(handle)) }

    /// SQLite's default, which nothing here changes.
    static let pageBytes: UInt64 = 4096

    /// Whether a transaction is open.
    var isInTransaction: Bool { unsafe sqlite3_get_autocommit(handle) == 0 }
}

/// A prepared statement of a database that outlives it. The corresponding C type is `sqlite3_stmt`.
@safe struct Statement: ~Copyable {
    private let handle: OpaquePointer
    private let database: OpaquePointer
    private let path: String

    fileprivate init(_ handle: OpaquePointer, _ database: OpaquePointer, _ path: String) {
        unsafe self.handle = handle
        unsafe self.database = database
        self.path = path
    }

    deinit { unsafe sqlite3_finalize(handle) }

    /// A parameter, from 1 on. The corresponding C function is `sqlite3_bind_int64`.
    borrowing func bind(_ value: Int64, at index: CInt) { unsafe sqlite3_bind_int64(handle, index, value) }

    /// Nil: NULL. The bytes are copied. The corresponding C function is `sqlite3_bind_blob64`.
    borrowing func bind(_ bytes: Span<UInt8>?, at index: CInt) {
        guard let bytes else {
            unsafe sqlite3_bind_null(handle, index)
            return
        }
        unsafe bytes.withUnsafeBytes { part in
            guard let start = part.baseAddress else {
                unsafe sqlite3_bind_zeroblob(handle, index, 0)
                return
            }
            let copies = unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self)  // SQLITE_TRANSIENT
            unsafe sqlite3_bind_blob64(handle, index, start, UInt64(part.count), copies)
        }
    }

    /// Goes on to the next row; false when there is none. The corresponding C function is `sqlite3_step`.
    borrowing func step() throws(BrokerStoreError) -> Bool {
        switch unsafe sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let code: throw unsafe BrokerStoreError(code, database, path)
        }
    }

    /// Runs it once, from the beginning; it can be bound anew then. The corresponding C function is `sqlite3_reset`.
    borrowing func run() throws(BrokerStoreError) {
        defer { unsafe sqlite3_reset(handle) }
        _ = try step()
    }

    /// Rows that the last statement of the database has changed. The corresponding C function is `sqlite3_changes`.
    var changes: Int { unsafe Int(sqlite3_changes(database)) }

    /// Takes a parameter from a column of another statement's row, whatever it is. The corresponding C function is
    /// `sqlite3_bind_value`.
    borrowing func bind(_ column: CInt, of other: borrowing Statement, at index: CInt) {
        unsafe sqlite3_bind_value(handle, index, sqlite3_column_value(other.handle, column))
    }

    /// The corresponding C function is `sqlite3_column_count`.
    var columnCount: Int { unsafe Int(sqlite3_column_count(handle)) }

    /// It can be run anew. The corresponding C function is `sqlite3_reset`.
    borrowing func reset() { unsafe sqlite3_reset(handle) }

    borrowing func isNull(_ column: CInt) -> Bool { unsafe sqlite3_column_type(handle, column) == SQLITE_NULL }

    /// A column of the row, from 0 on. The corresponding C function is `sqlite3_column_int64`.
    borrowing func number(_ column: CInt) -> Int64 { unsafe sqlite3_column_int64(handle, column) }

    /// Nil: NULL. The corresponding C functions are `sqlite3_column_blob` and `sqlite3_column_bytes`.
    borrowing func bytes(_ column: CInt) -> [UInt8]? {
        guard unsafe sqlite3_column_type(handle, column) != SQLITE_NULL else { return nil }
        guard let start = unsafe sqlite3_column_blob(handle, column) else { return [] }
        return unsafe Array(UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column))))
    }
}

/// Why the store can't be read or written: SQLite's words, with the system's reason where there is one.
package struct BrokerStoreError: Error, Equatable, CustomStringConvertible {
    /// An extended result code (sqlite.org/rescode.html).
    package let code: CInt
    package let description: String

    init(_ code: CInt, _ path: String, _ reason: String) {
        self.code = code
        description = "\(path): \(reason)"
    }

    fileprivate init(_ code: CInt, _ database: OpaquePointer?, _ path: String) {
        var reason = unsafe String(cString: sqlite3_errmsg(database))
        let system = unsafe sqlite3_system_errno(database)
        if code & 0xFF == SQLITE_IOERR || code & 0xFF == SQLITE_CANTOPEN {
            reason += system != 0 ? ": \(unsafe String(cString: strerror(system)))" : " (\(code))"
        }
        self.init(code, path, reason)
    }

    static func damaged(_ path: String, _ reason: String) -> BrokerStoreError {
        BrokerStoreError(SQLITE_NOTADB, path, reason)
    }

    /// Whether it was the row that was wrong, not the database (`SQLITE_CONSTRAINT`, `SQLITE_MISMATCH`).
    var isAgainstRules: Bool { code & 0xFF == SQLITE_CONSTRAINT || code & 0xFF == SQLITE_MISMATCH }

    /// Whether the file is no database, or a broken one.
    package var isDamage: Bool { code & 0xFF == SQLITE_CORRUPT || code & 0xFF == SQLITE_NOTADB }
}
