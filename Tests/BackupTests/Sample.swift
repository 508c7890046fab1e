import Backup
import Cryptography
import Foundation
import GRDBSQLite
import Glibc
import Testing

/// A directory that goes away with the test.
final class Scratch {
    let path = NSTemporaryDirectory() + "/martlet-backup-\(getpid())-\(UUID().uuidString.prefix(8))"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false) }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var names: [String] { names(in: "") }

    func names(in place: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: "\(path)/\(place)").sorted()) ?? []
    }

    func write(_ bytes: [UInt8], to name: String, mode: mode_t = 0o600) throws {
        let file = "\(path)/\(name)"
        let above = (file as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(atPath: above, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(filePath: file))
        #expect(chmod(file, mode) == 0)
    }

    func bytes(_ name: String) -> [UInt8]? { FileManager.default.contents(atPath: "\(path)/\(name)").map(Array.init) }

    func mode(_ name: String) -> mode_t {
        var status = stat()
        return lstat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o7777 : 0
    }
}

/// A connection of a program that goes on writing.
final class Writer {
    private var handle: OpaquePointer?

    init(_ path: String) throws {
        try #require(sqlite3_open(path, &handle) == SQLITE_OK)
        sqlite3_busy_timeout(handle, 10_000)
    }

    deinit { sqlite3_close_v2(handle) }

    func execute(_ text: String) throws {
        let code = sqlite3_exec(handle, text, nil, nil, nil)
        try #require(code == SQLITE_OK, "\(String(cString: sqlite3_errmsg(handle))): \(text)")
    }

    func number(_ text: String) throws -> Int {
        var statement: OpaquePointer?
        defer { sqlite3_finalize(statement) }
        try #require(sqlite3_prepare_v2(handle, text, -1, &statement, nil) == SQLITE_OK)
        try #require(sqlite3_step(statement) == SQLITE_ROW)
        return Int(sqlite3_column_int64(statement, 0))
    }
}

let known = [
    KnownDatabase(name: "broker.db", applicationID: 11, newestVersion: 2),
    KnownDatabase(name: "fleet.db", applicationID: 12, newestVersion: 3),
]

/// A data directory, not made by a broker but as one would.
struct Sample {
    let scratch: Scratch
    let path: String
    let broker: Writer
    let fleet: Writer

    static let files: [String: mode_t] = [
        "certs/ca.key": 0o600, "certs/ca.pem": 0o644, "certs/issued/AB.pem": 0o644, "first-admin": 0o600,
        "empty": 0o600,
        "firmware/esp32/releases/v1.2.0/firmware.bin": 0o640,
    ]
    /// What only the process that runs, or a draft, has a use for.
    static let others = [
        "lock", "control.sock", "certs/lock", "certs/ca.pem.1234.new", "fleet.db.before-2", "broker.db.damaged-1",
        "broker.db.damaged-1-wal", "fleet.db.copy", "fleet.db.new", "firmware/esp32/upload.new",
        "firmware/esp32/releases/.draft-0a/firmware.bin",
    ]

    init(in scratch: Scratch) throws {
        self.scratch = scratch
        path = "\(scratch.path)/data"
        for (name, mode) in Self.files {
            let bytes =
                name == "empty" ? [] : Array("\(name)'s text\n".utf8) + [UInt8](repeating: 7, count: name.count * 40)
            try scratch.write(bytes, to: "data/\(name)", mode: mode)
        }
        for name in Self.others { try scratch.write([1], to: "data/\(name)") }
        broker = try Self.database("\(path)/broker.db", 11)
        fleet = try Self.database("\(path)/fleet.db", 12)
    }

    /// In WAL mode, and open.
    static func database(_ path: String, _ application: Int, version: Int = 1) throws -> Writer {
        let writer = try Writer(path)
        try writer.execute(
            """
            PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA application_id = \(application);
            PRAGMA user_version = \(version); CREATE TABLE one (n INTEGER, filler BLOB);
            CREATE TABLE other (n INTEGER, filler BLOB); INSERT INTO one VALUES (1, zeroblob(9000));
            """)
        return writer
    }

    @discardableResult
    func backup(to name: String = "b.tar", replaces: Bool = false, report: BackupReport = { _ in }) throws
        -> BackupSummary
    {
        try makeBackup(
            of: path, to: .file("\(scratch.path)/\(name)", replaces: replaces), martlet: "1.2.3", databases: known,
            report: report)
    }
}

extension Scratch {
    @discardableResult
    func putBack(
        _ archive: String = "b.tar", to name: String = "new", replaces: Bool = false, report: BackupReport = { _ in }
    ) throws -> RestoreSummary {
        try restore(
            "\(path)/\(archive)", to: "\(path)/\(name)", replaces: replaces, for: nil, databases: known, report: report)
    }
}

/// Archives that nobody has made with `backup`.
struct Forged {
    var blocks: [UInt8] = []
    var files: [Manifest.File] = []

    mutating func add(_ name: String, _ bytes: [UInt8], kind: UInt8 = UInt8(ascii: "0"), digest: String? = nil) {
        put("martlet-backup/" + name, bytes, kind)
        files.append(.init(name: name, sha256: digest ?? Self.digest(of: bytes)))
    }

    mutating func put(_ name: String, _ bytes: [UInt8], _ kind: UInt8 = UInt8(ascii: "0")) {
        var header = TarHeader(name: name, size: bytes.count, mode: 0o600, modified: 0).bytes ?? []
        header[156] = kind
        blocks += Self.summed(header) + bytes + [UInt8](repeating: 0, count: TarHeader.padding(after: bytes.count))
    }

    func finished(format: Int = 1) -> [UInt8] {
        var whole = self
        let manifest = Manifest(format: format, martlet: "9.9", created: "2026-11-22T00:00:00Z", files: files)
        whole.put("martlet-backup/MANIFEST", Array(manifest.text.utf8))
        return whole.blocks + [UInt8](repeating: 0, count: 1024)
    }

    static func summed(_ block: [UInt8]) -> [UInt8] {
        var block = block
        let sum = block.indices.reduce(0) { $0 + ((148..<156).contains($1) ? 32 : Int(block[$1])) }
        let digits = Array(String(sum, radix: 8).utf8)
        block.replaceSubrange(148..<155, with: [UInt8](repeating: 48, count: 6 - digits.count) + digits + [0])
        return block
    }

    /// Of what stands in a file or a database too; by the tool that people would use.
    static func digest(of bytes: [UInt8]) -> String { sha256(bytes).map { String(format: "%02x", $0) }.joined() }
}
