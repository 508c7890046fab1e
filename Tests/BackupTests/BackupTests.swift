import Backup
import Foundation
import Glibc
import Store
import Synchronization
import Testing

@Suite struct `A backup of a data directory` {
    private let scratch: Scratch
    private let sample: Sample

    init() throws {
        scratch = try Scratch()
        sample = try Sample(in: scratch)
    }

    @Test func `comes back as it was, with its modes, and without what only the process needs`() throws {
        let summary = try sample.backup()
        #expect(Set(summary.files) == Set(Sample.files.keys).union(["broker.db", "fleet.db"]))
        #expect(summary.odd == [] && summary.bytes == scratch.bytes("b.tar")?.count)
        #expect(scratch.mode("b.tar") == 0o600)
        #expect(scratch.names == ["b.tar", "data"], "nothing else is left")

        let restored = try scratch.putBack()
        #expect(restored.files == summary.files.count && restored.martlet == "1.2.3" && restored.setAside == nil)
        for (name, mode) in Sample.files {
            #expect(scratch.bytes("new/\(name)") == scratch.bytes("data/\(name)"), "\(name)")
            #expect(scratch.mode("new/\(name)") == mode & 0o644, "\(name)")
        }
        for name in Sample.others where name != "lock" {
            #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/new/\(name)"), "\(name)")
        }
        for place in ["new", "new/certs", "new/certs/issued", "new/firmware"] { #expect(scratch.mode(place) == 0o700) }
        let broker = try Writer("\(scratch.path)/new/broker.db")
        #expect(try broker.number("SELECT count(*) FROM one") == 1)
        #expect(try broker.number("PRAGMA application_id") == 11)
        _ = try DataDirectory("\(scratch.path)/new")  // Nobody has it any more.
    }

    @Test func `has what was committed before it began, and of what came meanwhile a beginning`() throws {
        let stop = Atomic<Bool>(false)
        let committed = Atomic<Int>(0)
        let path = sample.path
        let group = DispatchGroup()
        group.enter()
        let thread = Thread {
            defer { group.leave() }
            do {
                let writer = try Writer("\(path)/broker.db")
                for number in 2... where !stop.load(ordering: .relaxed) {
                    // Torn in two, the tables would differ.
                    try writer.execute(
                        """
                        BEGIN; INSERT INTO one VALUES (\(number), zeroblob(3000));
                        INSERT INTO other VALUES (\(number), zeroblob(3000)); COMMIT
                        """)
                    committed.store(number, ordering: .relaxed)
                    if stop.load(ordering: .relaxed) { return }
                }
            } catch {
                Issue.record(error)
            }
        }
        thread.start()
        var last = 0
        for round in 0..<8 {
            while committed.load(ordering: .relaxed) < last + 20 { usleep(1000) }
            let before = committed.load(ordering: .relaxed)
            try sample.backup(to: "\(round).tar")
            try scratch.putBack("\(round).tar", to: "\(round)")
            let copy = try Writer("\(scratch.path)/\(round)/broker.db")
            let (one, other) = (try copy.number("SELECT max(n) FROM one"), try copy.number("SELECT max(n) FROM other"))
            #expect(one == other && one >= before, "round \(round): \(one), \(other), \(before) before")
            #expect(try copy.number("SELECT count(*) FROM other") == other - 1, "no gap")
            last = before
        }
        stop.store(true, ordering: .relaxed)
        group.wait()
    }

    @Test func `takes no file's place unless it is told to, and then only when it is whole`() throws {
        try scratch.write([1, 2, 3], to: "b.tar")
        #expect(throws: BackupError.refused("\(scratch.path)/b.tar: there is such a file; --force replaces it")) {
            try sample.backup()
        }
        #expect(throws: BackupError.interrupted) {
            try sample.backup(replaces: true) { progress in
                if progress.subject.hasPrefix("certs") { throw BackupError.interrupted }
            }
        }
        #expect(scratch.bytes("b.tar") == [1, 2, 3] && scratch.names == ["b.tar", "data"])
        try sample.backup(replaces: true)
        #expect(scratch.names == ["b.tar", "data"] && (scratch.bytes("b.tar")?.count ?? 0) > 10_000)
    }

    @Test func `that was killed is swept away by the next, and one that is under way is not`() throws {
        try scratch.write([1], to: "b.tar.new")
        try scratch.write([1], to: "b.tar.new-db")
        let other = open("\(scratch.path)/b.tar.new", O_RDWR)
        #expect(flock(other, LOCK_EX) == 0)
        #expect(throws: BackupError.refused("another process is writing \(scratch.path)/b.tar")) { try sample.backup() }
        #expect(scratch.names == ["b.tar.new", "b.tar.new-db", "data"])
        flock(other, LOCK_UN)
        close(other)
        try sample.backup()
        #expect(scratch.names == ["b.tar", "data"])
    }

    @Test func `tells how far it is, and never more than all`() throws {
        var seen: [BackupProgress] = []
        try sample.backup { seen.append($0) }
        #expect(seen.allSatisfy { $0.bytes <= $0.totalBytes && $0.bytes >= 0 })
        #expect(Set(seen.map(\.subject)).isSuperset(of: ["broker.db", "fleet.db", "certs/ca.pem"]))
    }

    @Test func `names what is no plain file, and does not follow it`() throws {
        #expect(symlink("/etc/passwd", "\(sample.path)/link") == 0 && mkfifo("\(sample.path)/pipe", 0o600) == 0)
        let latin: [CChar] = "\(sample.path)/".utf8.map { CChar(bitPattern: $0) } + [CChar(bitPattern: 0xE9), 0]
        close(open(latin, O_WRONLY | O_CREAT, 0o600))
        #expect(try sample.backup().odd.sorted() == ["link", "pipe", "\u{FFFD}"])
    }

    @Test(arguments: ["data/b.tar", "data/certs/b.tar", "alias/b.tar"])
    func `has no place in the directory that it is of`(_ name: String) throws {
        #expect(symlink(sample.path, "\(scratch.path)/alias") == 0)
        let expected = "\(scratch.path)/\(name): that is in the data directory itself; it has to be elsewhere"
        #expect(throws: BackupError.refused(expected)) { try sample.backup(to: name) }
    }

    @Test func `of a damaged database is refused`() throws {
        try sample.fleet.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        let file = open("\(sample.path)/fleet.db", O_RDWR)
        let garbage = [UInt8](repeating: 0x5A, count: 4096)
        #expect(pwrite(file, garbage, garbage.count, 4096) == garbage.count)
        do {
            try sample.backup()
            Issue.record("it was taken along")
        } catch BackupError.damaged(let path, _) {
            #expect(path == "\(sample.path)/fleet.db")
        }
        #expect(scratch.names == ["data"])
        close(file)  // Not before: it would take SQLite's locks along.
    }

    @Test func `of another program's database is refused`() throws {
        try sample.fleet.execute("PRAGMA application_id = 99")
        #expect(throws: BackupError.refused("\(sample.path)/fleet.db: it is not Martlet's fleet.db")) {
            try sample.backup()
        }
    }

    @Test func `without accounts and certificates is of broker.db alone, whatever else lies there`() throws {
        let place = "\(scratch.path)/mosquitto"
        try scratch.write([1], to: "mosquitto/mosquitto.db")
        let writer = try Sample.database("\(place)/broker.db", 11)
        let summary = try makeBackup(
            of: place, to: .file("\(scratch.path)/b.tar", replaces: false), martlet: "1", databases: known,
            report: { _ in })
        #expect(summary.files == ["broker.db"])
        _ = consume writer
    }

    @Test(arguments: ["/nonexistent", "DIR/empty"]) func `of nothing says so`(_ place: String) throws {
        try FileManager.default.createDirectory(atPath: "\(scratch.path)/empty", withIntermediateDirectories: false)
        let place = place.replacing("DIR", with: scratch.path)
        do {
            _ = try makeBackup(
                of: place, to: .file("\(scratch.path)/b.tar", replaces: false), martlet: "1", databases: known,
                report: { _ in })
            Issue.record("of what?")
        } catch BackupError.refused(let reason) {
            #expect(reason.hasPrefix(place) && reason.contains("there is no"))
        }
        #expect(scratch.names == ["data", "empty"])
    }

    @Test(.enabled(if: geteuid() == 0, "mounting needs root")) func `that a disk has no room for leaves nothing`()
        throws
    {
        let place = "\(scratch.path)/small"
        mkdir(place, 0o700)
        guard mount("martlet", place, "tmpfs", 0, "size=64k") == 0 else { return }
        defer { umount2(place, Int32(MNT_DETACH)) }
        for rows in [40, 1] {
            // The copy of the database does not fit; then it does, and the archive does not.
            try sample.broker.execute("DELETE FROM one")
            for _ in 0..<rows { try sample.broker.execute("INSERT INTO one VALUES (1, zeroblob(9000))") }
            if rows == 1 {
                try sample.broker.execute("VACUUM")
                try scratch.write([UInt8](repeating: 1, count: 100_000), to: "data/firmware/large.bin")
            }
            do {
                try sample.backup(to: "small/b.tar")
                Issue.record("it had room")
            } catch BackupError.system(_, ENOSPC) {}
            #expect(scratch.names(in: "small") == [])
        }
    }
}
