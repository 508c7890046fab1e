internal import CLinux
internal import Cryptography
internal import Glibc
package import Store

/// What came back.
package struct RestoreSummary: Equatable, Sendable {
    /// Of the Martlet that made the backup.
    package var martlet: String
    /// RFC 3339, UTC.
    package var created: String
    package var files: Int
    package var bytes: Int
    /// Where what was in the directory is now.
    package var setAside: String?
}

/// Puts a backup in the place of a data directory: all of it, checked, or nothing. `replaces`: what is in the directory is
/// set aside, under the name of `RestoreSummary.setAside`. `owner`: whose a new directory and all in it shall be, where root
/// asks; one that is there keeps its owner. Throws `BackupError`, `DataDirectoryError.inUse` where a broker has the
/// directory, and what `report` throws. Blocks.
package func restore(
    _ archive: String, to path: String, replaces: Bool, for owner: DataDirectory.Owner?, databases: [KnownDatabase],
    report: BackupReport
) throws -> RestoreSummary {
    let file = try OpenFile(archive, O_RDONLY)
    let archiveStatus = try file.status()
    guard archiveStatus.isPlainFile else { throw BackupError.archive(archive, "it is not a plain file") }
    let index: ArchiveIndex
    do {
        index = try ArchiveIndex(length: Int(archiveStatus.st_size)) { try file.read(at: $0, count: $1) }
    } catch let problem as ArchiveIndex.Problem {
        throw BackupError.archive(archive, problem.reason)
    }
    let source = Source(archive: archive, file: file, index: index, databases: databases)
    let place = try Place(path)

    var summary = RestoreSummary(
        martlet: index.manifest.martlet, created: index.manifest.created, files: index.entries.count,
        bytes: index.entries.reduce(0) { $0 + $1.size })
    guard place.exists else {
        let draft = try RestoreDraft("\(place.path).new", owner: owner)
        try source.unpack(into: draft, report)
        try rename(draft.path, to: place.path, replaces: false)
        draft.isSettled = true
        try synchronize(directory: parent(of: place.path))
        return summary
    }
    let directory = try OpenFile(place.path, O_RDONLY | O_DIRECTORY)
    func hasNothing() throws(BackupError) -> Bool {
        try directory.names().allSatisfy { ["lock", "lost+found", Place.draftName].contains($0) }
    }
    let full = BackupError.refused("\(path): it is not empty; --force sets aside what is there")
    // The lock would be a new file in what may be anybody's directory.
    guard try replaces || hasNothing() || directory.status(of: "lock") != nil else { throw full }
    // Nobody else can have it from here on.
    let present: DataDirectory
    do throws(DataDirectoryError) {
        present = try DataDirectory(place.path, holdsSecrets: false)
    } catch {
        guard case .inUse(_, let process) = error else { throw error }
        throw DataDirectoryError.inUse(path, process: process)  // By the name that was asked for.
    }
    defer { present.release() }
    let isEmpty = try hasNothing()
    guard isEmpty || replaces else { throw full }
    let status = try directory.status()
    let presentOwner = DataDirectory.Owner(user: status.st_uid, group: status.st_gid)
    if isEmpty {
        let draft = try RestoreDraft("\(place.path)/\(Place.draftName)", owner: presentOwner)
        try source.unpack(into: draft, report)
        try draft.moveContents(to: directory, last: databases.map(\.name))
        return summary
    }
    let draft = try RestoreDraft("\(place.path).new", owner: presentOwner)
    try source.unpack(into: draft, report)
    summary.setAside = try draft.exchange(with: place.path)
    return summary
}

/// Where a data directory is or will be, without links in its name: what is beside it is on the same disk.
private struct Place {
    /// In the directory itself, where nothing else is.
    static let draftName = "restore.new"

    let path: String
    let exists: Bool

    init(_ path: String) throws(BackupError) {
        if let whole = resolved(path) {
            (self.path, exists) = (whole, true)
            return
        }
        guard errno == ENOENT else { throw .system(path, errno) }
        guard try status(of: path) == nil else { throw .refused("\(path): a link that leads nowhere") }
        var name = path[...]
        while name.count > 1, name.hasSuffix("/") { name.removeLast() }
        guard let above = resolved(parent(of: String(name))) else { throw .system(parent(of: path), errno) }
        let last = name.split(separator: "/").last.map(String.init) ?? ""
        guard !last.isEmpty, last != ".", last != ".." else { throw .refused("\(path): that is no directory's name") }
        (self.path, exists) = (above == "/" ? "/\(last)" : "\(above)/\(last)", false)
    }
}

/// What is unpacked, and how it is known to be right.
private struct Source {
    private static let chunkBytes = 1 << 18

    let archive: String
    let file: OpenFile
    let index: ArchiveIndex
    let databases: [KnownDatabase]

    /// All files, on the disk and found to be what the manifest says, and the databases whole and readable by this Martlet.
    func unpack(into draft: RestoreDraft, _ report: BackupReport) throws {
        let totalBytes = index.entries.reduce(0) { $0 + $1.size }
        var done = 0
        for entry in index.entries {
            try unpack(entry, into: draft) { bytes in
                try report(BackupProgress(subject: entry.name, bytes: done + bytes, totalBytes: totalBytes))
            }
            done += entry.size
        }
        for known in databases where index.entries.contains(where: { $0.name == known.name }) {
            let database = try DatabaseFile("\(draft.path)/\(known.name)", name: "\(archive): \(known.name)")
            try database.examine(as: known, anyVersion: false)
        }
        guard write_back_file_system(draft.directory.descriptor) == 0 else {
            throw BackupError.system(draft.path, errno)
        }
    }

    private func unpack(_ entry: ArchiveIndex.Entry, into draft: RestoreDraft, _ tell: (Int) throws -> Void) throws {
        let target = try draft.make(entry.name, mode: entry.mode)
        var digest = RunningDigest()
        var done = 0
        while done < entry.size {
            let count = min(entry.size - done, Self.chunkBytes)
            let bytes = try file.read(at: entry.offset + done, count: count)
            guard bytes.count == count else {
                throw BackupError.archive(archive, "it became shorter while it was read")
            }
            digest.update(bytes.span)
            try target.write(bytes.span)
            done += count
            try tell(done)
        }
        guard hexadecimal(digest.finish()) == entry.sha256 else {
            throw BackupError.archive(archive, "\(printable(entry.name)) is not what it was when the backup was made")
        }
    }
}

/// A data directory that is not there before it is whole; gone if it never is. Nobody else can have it meanwhile.
private final class RestoreDraft {
    let path: String
    let directory: OpenFile
    var isSettled = false
    private let lock: DataDirectory
    private let owner: DataDirectory.Owner?

    init(_ path: String, owner: DataDirectory.Owner?) throws {
        self.path = path
        self.owner = owner
        if let leftover = try status(of: path) {
            guard leftover.isDirectory else { throw BackupError.refused("\(path) is in the way, and no directory") }
            // Of one that was killed; who is still at it has the lock.
            let lock = try DataDirectory(path, holdsSecrets: false)
            defer { lock.release() }
            try removeTree(path)
        }
        guard unsafe mkdir(path, 0o700) == 0 else { throw BackupError.system(path, errno) }
        do {
            directory = try OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            try Self.give(directory, to: owner)
            lock = try DataDirectory(path)
        } catch {
            try? removeTree(path)
            throw error
        }
    }

    deinit {
        if !isSettled { try? removeTree(path) }
        lock.release()
    }

    /// A new file, and the directories that its name goes through. The corresponding C functions are `mkdirat`, `openat`,
    /// `fchown` and `fchmod`.
    func make(_ name: String, mode: mode_t) throws(BackupError) -> OpenFile {
        var parts = Contents.parts(of: name)
        let last = parts.removeLast()
        var place = directory
        for part in parts {
            if unsafe mkdirat(place.descriptor, part, 0o700) == 0 {
                place = try OpenFile(part, in: place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
                try Self.give(place, to: owner)
            } else {
                guard errno == EEXIST else { throw .system("\(place.path)/\(part)", errno) }
                place = try OpenFile(part, in: place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            }
        }
        let file = try OpenFile(last, in: place, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
        try Self.give(file, to: owner)
        // What others could read they may, as certificates; nothing becomes writable or a program.
        guard fchmod(file.descriptor, mode & 0o044 | 0o600) == 0 else { throw .system(file.path, errno) }
        return file
    }

    private static func give(_ file: OpenFile, to owner: DataDirectory.Owner?) throws(BackupError) {
        guard geteuid() == 0, let owner else { return }
        guard fchown(file.descriptor, owner.user, owner.group) == 0 else { throw .system(file.path, errno) }
    }

    /// Into a directory that has nothing yet. The databases come last: without them a broker would begin anew. The
    /// corresponding C function is `renameat`.
    func moveContents(to target: OpenFile, last: [String]) throws(BackupError) {
        let names = try directory.names().filter { $0 != "lock" }
        let order = names.filter { !last.contains($0) } + names.filter { last.contains($0) }
        var moved: [String] = []
        for name in order {
            guard unsafe renameat(directory.descriptor, name, target.descriptor, name) == 0 else {
                let code = errno
                for name in moved { unsafe renameat(target.descriptor, name, directory.descriptor, name) }
                throw .system("\(target.path)/\(name)", code)
            }
            moved.append(name)
        }
        try target.synchronize()
    }

    /// Takes the place of a directory, which gets the first name that is free. Returns that. The corresponding C functions
    /// are `renameat2` and `rename`.
    func exchange(with place: String) throws(BackupError) -> String {
        var number = 1
        while try status(of: "\(place).before-\(number)") != nil { number += 1 }
        let aside = "\(place).before-\(number)"
        // First the name that the old one will have: who is killed in between leaves nothing that looks like a draft.
        try rename(path, to: aside, replaces: false)
        if unsafe exchange_names(aside, place) == 0 {
            isSettled = true
        } else {
            let code = errno
            try rename(aside, to: path, replaces: false)
            guard code == EINVAL || code == ENOSYS else {
                guard code == EBUSY || code == EXDEV else { throw .system(place, code) }
                throw .refused("\(place): a file system is mounted there, so it can't be set aside; empty it first")
            }
            // Not every file system does it in one step.
            try rename(place, to: aside, replaces: false)
            do throws(BackupError) {
                try rename(path, to: place, replaces: false)
            } catch {
                try rename(aside, to: place, replaces: false)
                throw error
            }
            isSettled = true
        }
        try synchronize(directory: parent(of: place))
        return aside
    }
}

/// Links are removed, not followed. The corresponding C function is `unlinkat`.
private func removeTree(_ path: String) throws(BackupError) {
    let directory = try OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    try removeContents(of: directory)
    guard unsafe rmdir(path) == 0 else { throw .system(path, errno) }
}

private func removeContents(of directory: OpenFile) throws(BackupError) {
    for name in try directory.names() {
        if unsafe unlinkat(directory.descriptor, name, 0) == 0 || errno == ENOENT { continue }
        guard errno == EISDIR || errno == EPERM else { throw .system("\(directory.path)/\(name)", errno) }
        try removeContents(of: try OpenFile(name, in: directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
        guard unsafe unlinkat(directory.descriptor, name, AT_REMOVEDIR) == 0 else {
            throw .system("\(directory.path)/\(name)", errno)
        }
    }
}
