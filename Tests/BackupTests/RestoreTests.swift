import Backup
import Foundation
import Glibc
import Seeded
import Store
import Testing

@Suite struct `Putting a backup back` {
    private let scratch: Scratch
    private let sample: Sample

    init() throws {
        scratch = try Scratch()
        sample = try Sample(in: scratch)
        try sample.backup()
    }

    private func reason(_ archive: String = "b.tar") -> String? {
        do {
            try scratch.putBack(archive)
            return nil
        } catch BackupError.archive(_, let reason) {
            return reason
        } catch {
            return "\(error)"
        }
    }

    @Test func `into an empty directory keeps that one`() throws {
        mkdir("\(scratch.path)/new", 0o750)
        var before = stat()
        stat("\(scratch.path)/new", &before)
        #expect(try scratch.putBack().setAside == nil)
        var after = stat()
        stat("\(scratch.path)/new", &after)
        #expect(before.st_ino == after.st_ino)
        #expect(
            scratch.names(in: "new") == ["broker.db", "certs", "empty", "firmware", "first-admin", "fleet.db", "lock"])
    }

    @Test func `into a directory with something in it is refused, or sets that aside`() throws {
        try scratch.write([5], to: "new/mine")
        #expect(
            throws: BackupError.refused("\(scratch.path)/new: it is not empty; --force sets aside what is there")
        ) { try scratch.putBack() }
        #expect(scratch.names(in: "new") == ["mine"])
        for number in 1...2 {
            let summary = try scratch.putBack(replaces: true)
            #expect(summary.setAside?.hasSuffix("/new.before-\(number)") == true)
        }
        #expect(scratch.bytes("new.before-1/mine") == [5])
        #expect(scratch.bytes("new.before-2/first-admin") == scratch.bytes("data/first-admin"))
        #expect(scratch.names == ["b.tar", "data", "new", "new.before-1", "new.before-2"])
    }

    @Test func `is refused while somebody has the directory`() throws {
        for name in ["new", "data"] {
            try DataDirectory.make("\(scratch.path)/\(name)")
            let directory = try DataDirectory("\(scratch.path)/\(name)")
            let expected = DataDirectoryError.inUse(directory.path, process: getpid())
            #expect(throws: expected) {
                try scratch.putBack(to: name, replaces: true)
            }
            directory.release()
        }
        #expect(scratch.names == ["b.tar", "data", "new"])
    }

    @Test func `follows a link to the directory, and not one to nowhere`() throws {
        mkdir("\(scratch.path)/elsewhere", 0o700)
        symlink("\(scratch.path)/elsewhere", "\(scratch.path)/new")
        try scratch.putBack()
        #expect(scratch.names(in: "elsewhere").contains("fleet.db"))
        symlink("\(scratch.path)/nowhere", "\(scratch.path)/dangling")
        #expect(throws: BackupError.refused("\(scratch.path)/dangling: a link that leads nowhere")) {
            try scratch.putBack(to: "dangling")
        }
    }

    @Test(arguments: [false, true]) func `that is broken off leaves everything as it was`(_ isThere: Bool) throws {
        if isThere { mkdir("\(scratch.path)/new", 0o700) }
        #expect(throws: BackupError.interrupted) {
            try scratch.putBack { progress in if progress.subject == "fleet.db" { throw BackupError.interrupted } }
        }
        #expect(scratch.names == (isThere ? ["b.tar", "data", "new"] : ["b.tar", "data"]))
        #expect(scratch.names(in: "new") == (isThere ? ["lock"] : []))
        try scratch.putBack()
    }

    @Test func `that was killed is swept away by the next`() throws {
        try scratch.write([1], to: "new.new/certs/x")
        try scratch.putBack()
        #expect(scratch.names == ["b.tar", "data", "new"] && scratch.bytes("new/certs/x") == nil)
        try scratch.write([1], to: "other/restore.new/fleet.db")
        try scratch.putBack(to: "other")
        #expect(scratch.names(in: "other") == scratch.names(in: "new"))
    }

    @Test func `that is cut off anywhere changes nothing`() throws {
        let whole = try #require(scratch.bytes("b.tar"))
        let places = [0, 1, 511, 512, 513] + Array(stride(from: 700, to: whole.count, by: whole.count / 60))
        for count in places + [whole.count - 1, whole.count - 512, whole.count - 1024] {
            try scratch.write(Array(whole.prefix(count)), to: "cut.tar")
            #expect(reason("cut.tar")?.contains("cut off") == true, "\(count): \(reason("cut.tar") ?? "restored")")
        }
        try scratch.write(whole + [0], to: "cut.tar")
        #expect(reason("cut.tar") == "there is something behind its end")
        #expect(scratch.names == ["b.tar", "cut.tar", "data"])
    }

    @Test func `with a changed bit changes nothing, or restores what was there`() throws {
        let whole = try #require(scratch.bytes("b.tar"))
        var generator = SeededGenerator(seed: 5)
        var refused = 0
        for round in 0..<150 {
            var changed = whole
            changed[generator.below(changed.count)] ^= 1 << UInt8(generator.below(8))
            try scratch.write(changed, to: "changed.tar")
            if reason("changed.tar") != nil {
                refused += 1
                #expect(scratch.names == ["b.tar", "changed.tar", "data"], "round \(round)")
                continue
            }
            // In what fills up a block.
            for name in Sample.files.keys {
                #expect(scratch.bytes("new/\(name)") == scratch.bytes("data/\(name)"), "round \(round)")
            }
            try FileManager.default.removeItem(atPath: "\(scratch.path)/new")
        }
        #expect(refused > 100)
    }

    @Test(arguments: [
        ("../x", "a name in it can't be a file's here"), ("/x", "a name in it can't be a file's here"),
        ("a/../../x", "a name in it can't be a file's here"), ("broker.db-wal", "has no place in a backup"),
        ("lock", "has no place in a backup"), ("certs/ca.pem/x", "is below a file"), ("certs/ca.pem", "is in it twice"),
        ("MANIFEST", "has no place in a backup"),
        ("certs/ca.pem/\u{301}x", "is below a file"),
    ])
    func `refuses names that lead elsewhere, or that nobody backs up`(_ name: String, _ expected: String) throws {
        var forged = Forged()
        forged.add("certs/ca.pem", [1])
        forged.add(name, [2])
        // A name with `//` would be another one.
        try scratch.write(name.hasPrefix("/") ? absolute(name) : forged.finished(), to: "forged.tar")
        #expect(reason("forged.tar")?.contains(expected) == true, "\(reason("forged.tar") ?? "restored")")
        #expect(scratch.names == ["b.tar", "data", "forged.tar"])
    }

    private func absolute(_ name: String) -> [UInt8] {
        var forged = Forged()
        forged.add("certs/ca.pem", [1])
        forged.put(name, [2])
        return forged.finished()
    }

    @Test(arguments: Array("1234567gx\u{0}".utf8)) func `refuses what is no plain file`(_ kind: UInt8) throws {
        var forged = Forged()
        forged.add("certs/ca.pem", [1])
        forged.add("x", [], kind: kind)
        try scratch.write(forged.finished(), to: "forged.tar")
        #expect(reason("forged.tar")?.contains("martlet-backup/x is not a plain file") == true)
    }

    @Test func `refuses a later format, naming who can read it`() throws {
        var forged = Forged()
        forged.add("x", [1])
        try scratch.write(forged.finished(format: 2), to: "forged.tar")
        #expect(reason("forged.tar") == "made by Martlet 9.9 in format 2, and this one reads formats up to 1")
    }

    @Test func `refuses what the manifest does not say`() throws {
        var forged = Forged()
        forged.add("x", [1], digest: String(repeating: "0", count: 64))
        try scratch.write(forged.finished(), to: "forged.tar")
        #expect(reason("forged.tar") == "x is not what it was when the backup was made")
        forged = Forged()
        forged.add("x", [1])
        forged.put("martlet-backup/y", [1])
        try scratch.write(forged.finished(), to: "forged.tar")
        #expect(reason("forged.tar") == "it does not have the files that its MANIFEST names")
        forged = Forged()
        forged.put("somebody/else's", [1])
        try scratch.write(forged.finished(), to: "forged.tar")
        #expect(reason("forged.tar") == "it is no backup of Martlet's: there is somebody/else's in it")
        #expect(reason("data/first-admin") == "it is cut off")
        #expect(scratch.names == ["b.tar", "data", "forged.tar"])
    }

    @Test func `refuses a database that is damaged, another's, or of a later Martlet, though its digest is right`()
        throws
    {
        func forge(_ change: (Writer) throws -> Void, garbage: Bool = false) throws -> String? {
            let place = "\(scratch.path)/forged.db"
            let writer = try Sample.database(place, 12)
            try change(writer)
            try writer.execute("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE")
            var bytes = try #require(scratch.bytes("forged.db"))
            if garbage { bytes.replaceSubrange(4096..<8192, with: [UInt8](repeating: 0x5A, count: 4096)) }
            var forged = Forged()
            forged.add("fleet.db", bytes)
            try scratch.write(forged.finished(), to: "forged.tar")
            _ = consume writer
            try FileManager.default.removeItem(atPath: place)
            return reason("forged.tar")
        }
        let name = "\(scratch.path)/forged.tar: fleet.db"
        let newer = try forge { try $0.execute("PRAGMA user_version = 4") }
        #expect(newer == "\(name): version 4 of its tables, and this Martlet knows 3")
        let foreign = try forge { try $0.execute("PRAGMA application_id = 3") }
        #expect(foreign == "\(name): it is not Martlet's fleet.db")
        #expect(try forge({ _ in }, garbage: true)?.hasPrefix("\(name): damaged") == true)
        #expect(scratch.names == ["b.tar", "data", "forged.tar"])
        #expect(try forge({ _ in }) == nil)
    }
}

/// Mutated archives. Goal: whatever stands in the bytes, reading them ends with a problem in one line, or with entries that
/// lie inside, with names that lead nowhere else.
@Suite struct `Fuzzing backups` {
    private static let corpus: [[UInt8]] = {
        var (small, many) = (Forged(), Forged())
        small.add("fleet.db", [UInt8](repeating: 3, count: 700))
        for number in 0..<20 { many.add("certs/issued/\(number).pem", [UInt8](repeating: 9, count: number * 60)) }
        many.add(String(repeating: "d", count: 90) + "/" + String(repeating: "n", count: 99), [])
        return [small.finished(), many.finished(), Forged().finished(), [UInt8](repeating: 0, count: 1024), []]
    }()

    private static let pieces = ["../", "/", "\0", "ustar", "77777777777", "\u{1}", "# martlet-backup 2\n", "  ", "\n"]
        .map { Array($0.utf8) }

    @Test(arguments: [1, 2] as [UInt64]) func `never traps, and lets nothing through that leads elsewhere`(
        _ seed: UInt64
    ) {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for iteration in 0..<1_500 {
            var bytes = generator.element(of: Self.corpus)
            for _ in 0...generator.below(3) { Self.mutate(&bytes, &generator) }
            // So that what is behind the checksum is reached too.
            if generator.happens(80) { Self.sum(&bytes) }
            do {
                let index = try ArchiveIndex(length: bytes.count) { offset, count in
                    offset < bytes.count ? Array(bytes[offset..<min(bytes.count, offset + count)]) : []
                }
                accepted += 1
                for entry in index.entries {
                    let isInside = entry.offset >= 512 && entry.size >= 0 && entry.offset + entry.size <= bytes.count
                    #expect(isInside && TarHeader.isSafe(entry.name), "\(entry), seed \(seed), iteration \(iteration)")
                }
            } catch let problem as ArchiveIndex.Problem {
                let isOneLine = !problem.reason.contains(where: \.isNewline)
                #expect(isOneLine, "seed \(seed), iteration \(iteration)")
            } catch {
                Issue.record("\(error), seed \(seed), iteration \(iteration)")
            }
        }
        #expect((75..<1_450).contains(accepted), "\(accepted) accepted")
    }

    private static func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        let place = generator.below(bytes.count + 1)
        switch generator.below(7) {
        case 0: bytes.insert(contentsOf: generator.element(of: pieces), at: place)
        case 1, 2:
            // In a header, where it counts.
            guard bytes.count >= 512 else { return }
            let block = generator.below(bytes.count / 512) * 512
            bytes[block + generator.below(360)] = UInt8(generator.below(256))
        case 3:
            guard bytes.count >= 512 else { return }
            let block = generator.below(bytes.count / 512) * 512
            let piece = generator.element(of: pieces)
            let start = block + generator.below(360)
            bytes.replaceSubrange(
                start..<min(bytes.count, start + piece.count), with: piece.prefix(bytes.count - start))
        case 4: bytes.removeSubrange((place / 512 * 512)..<min(bytes.count, place / 512 * 512 + 512))
        case 5: bytes.removeLast(min(bytes.count, generator.below(1500)))
        default:
            guard place < bytes.count else { return }
            bytes[place] ^= 1 << UInt8(generator.below(8))
        }
    }

    /// The checksums of what looks like headers.
    private static func sum(_ bytes: inout [UInt8]) {
        for block in stride(from: 0, to: bytes.count - 511, by: 512)
        where bytes[block..<block + 512].dropFirst(257).starts(with: "ustar".utf8) {
            bytes.replaceSubrange(block..<block + 512, with: Forged.summed(Array(bytes[block..<block + 512])))
        }
    }
}
