internal import Glibc

/// What of a data directory goes into a backup: all plain files, except what only serves the process that runs.
enum Contents {
    /// All of a backup stand below this name, so that `tar xf` makes one directory.
    static let folder = "martlet-backup"
    /// Directories in each other.
    private static let deepest = 12

    struct File: Sendable {
        let name: String
        let size: Int
    }

    /// What is there and can't come along.
    struct Found {
        var files: [File] = []
        var odd: [String] = []
    }

    /// Names of the process, drafts, copies from before a migration, and what was set aside: they help nobody on another
    /// box. A database's log, put back beside another state of it, would even be played into that.
    static func isLeftOut(_ name: String) -> Bool {
        let parts = parts(of: name)
        let (first, last) = (parts.first ?? "", parts.last ?? "")
        if last.hasSuffix(".new") || last == "lost+found" { return true }
        if parts.count == 2, first == "certs", last == "lock" { return true }
        if parts.count == 4, first == "firmware", last.hasPrefix(".draft-") { return true }
        guard parts.count == 1 else { return false }
        return last == "lock" || last.hasSuffix(".sock") || last.hasSuffix("-wal") || last.hasSuffix("-shm")
            || last.hasSuffix("-journal") || last.hasPrefix("fleet.db.") || last.hasPrefix("broker.db.")
    }

    /// By the bytes: a slash with an accent above it is a slash to the system.
    static func parts(of name: String) -> [String] {
        name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { String(Substring($0)) }
    }

    /// The files in a part of the directory, in the order of their names, without the databases.
    static func find(in directory: OpenFile, except names: Set<String>) throws(BackupError) -> Found {
        var found = Found()
        try find(in: directory, below: "", depth: 0, except: names, into: &found)
        return found
    }

    private static func find(
        in directory: OpenFile, below place: String, depth: Int, except names: Set<String>, into found: inout Found
    ) throws(BackupError) {
        guard depth <= deepest else { throw .refused("\(directory.path): too deep in each other for a backup") }
        for entry in try directory.names() {
            let name = place + entry
            guard !isLeftOut(name), !names.contains(name) else { continue }
            guard let status = try directory.status(of: entry) else {
                // Gone meanwhile, or not to be found by this name, for it is not UTF-8.
                if entry.unicodeScalars.contains("\u{FFFD}") { found.odd.append(printable(name)) }
                continue
            }
            if status.isDirectory {
                let next: OpenFile
                do throws(BackupError) {
                    next = try OpenFile(entry, in: directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
                } catch {
                    if case .system(_, ENOENT) = error { continue }
                    throw error
                }
                try find(in: next, below: "\(name)/", depth: depth + 1, except: names, into: &found)
            } else if status.isPlainFile, TarHeader.isSafe("\(folder)/\(name)") {
                guard found.files.count < Manifest.mostFiles - 16 else {
                    throw .refused("\(directory.path): more than \(Manifest.mostFiles) files")
                }
                found.files.append(File(name: name, size: Int(status.st_size)))
            } else {
                found.odd.append(printable(name))
            }
        }
    }
}
