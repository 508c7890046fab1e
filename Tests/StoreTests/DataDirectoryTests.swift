import Foundation
import Glibc
import Store
import Testing

@Suite struct `A data directory` {
    let place = TemporaryDirectory()

    @Test func `and what is in it are its owner's only, whatever the umask`() throws {
        let old = umask(0)
        defer { umask(old) }
        let directory = try place.open()
        let store = try directory.store()
        try directory.write([1, 2], to: "secret")
        #expect(place.mode() == 0o700)
        #expect(place.names.count >= 3)
        for name in place.names { #expect(place.mode(name) == 0o600, "\(name)") }
        #expect(directory.warnings == [])
        try store.close()
    }

    @Test func `makes what is readable by others its owner's again`() throws {
        let directory = try place.open()
        try directory.store().close()
        chmod("\(place.path)/fleet.db", 0o644)
        try directory.store().close()
        #expect(place.mode("fleet.db") == 0o600)
    }

    @Test func `has one process`() throws {
        let first = try place.open()
        #expect(throws: DataDirectoryError.inUse(place.path, process: getpid())) { try place.open() }
        first.release()
        _ = try place.open()
    }

    @Test func `is refused where others may write`() throws {
        mkdir(place.path, 0o700)
        chmod(place.path, 0o770)
        #expect(throws: DataDirectoryError.refused(place.path, "other users may write to it; chmod 700 it")) {
            try place.open()
        }
    }

    @Test func `that others may look into is told of`() throws {
        mkdir(place.path, 0o700)
        chmod(place.path, 0o755)
        #expect(try place.open().warnings.count == 1)
    }

    @Test func `does not follow a link for its lock or its files`() throws {
        mkdir(place.path, 0o700)
        let outside = TemporaryDirectory()
        mkdir(outside.path, 0o700)
        try outside.write("keep", to: "victim")
        symlink("\(outside.path)/victim", "\(place.path)/lock")
        #expect(throws: DataDirectoryError.system("\(place.path)/lock", ELOOP)) { try place.open() }
        unlink("\(place.path)/lock")
        symlink("\(outside.path)/victim", "\(place.path)/fleet.db")
        let directory = try place.open()
        #expect(throws: (any Error).self) { try directory.store() }
        #expect(try String(contentsOfFile: "\(outside.path)/victim", encoding: .utf8) == "keep")
    }

    @Test(.enabled(if: geteuid() == 0)) func `of somebody else gets no file of root's`() throws {
        try DataDirectory.make(place.path, for: .init(user: 65534, group: 65534))
        let directory = try DataDirectory(place.path)
        let store = try directory.store()
        try directory.write([1], to: "secret")
        for name in place.names {
            var status = stat()
            #expect(lstat("\(place.path)/\(name)", &status) == 0)
            #expect(status.st_uid == 65534, "\(name)")
        }
        try store.close()
    }

    @Test func `replaces a file whole, and forgets one`() throws {
        let directory = try place.open()
        try directory.write(Array("old".utf8), to: "x")
        try directory.write(Array("new".utf8), to: "x")
        #expect(try directory.read("x", atMost: 10) == Array("new".utf8))
        #expect(!place.names.contains("x.new"))
        try directory.remove("x")
        try directory.remove("x")
        #expect(try directory.read("x", atMost: 10) == nil)
    }

    @Test func `can be reached by a short path, however long its own is`() throws {
        let long = TemporaryDirectory()
        mkdir(long.path, 0o700)
        let path = "\(long.path)/\(String(repeating: "d", count: 200))"
        try DataDirectory.make(path)
        let directory = try DataDirectory(path)
        try directory.write([7], to: "x")
        #expect(directory.shortPath(of: "x").utf8.count <= 107)
        #expect(FileManager.default.contents(atPath: directory.shortPath(of: "x")) == Data([7]))
    }
}
