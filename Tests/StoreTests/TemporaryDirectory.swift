import Foundation
import Glibc
import Management
import Store

/// A place for a data directory, removed with what is in it when the test lets go.
final class TemporaryDirectory {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "/martlet-store-\(getpid())-\(UUID().uuidString.prefix(8))"
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func open() throws -> DataDirectory {
        try DataDirectory.make(path)
        return try DataDirectory(path)
    }

    func mode(_ name: String = "") -> mode_t {
        var status = stat()
        return lstat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }

    func write(_ text: String, to name: String) throws {
        try text.write(toFile: "\(path)/\(name)", atomically: false, encoding: .utf8)
    }
}

extension DataDirectory {
    func store(_ migrations: [Migration] = Migration.all) throws -> FleetStore {
        try FleetStore(in: self, version: "9.9", now: 1_000, migrations: migrations)
    }
}
