internal import Certificates
internal import Glibc

/// Where a backup goes.
package enum BackupTarget: Sendable {
    /// It gets the name when it is whole. `replaces`: also where something has it.
    case file(_ path: String, replaces: Bool)
    case standardOutput
}

/// What a backup has come to.
package struct BackupSummary: Equatable, Sendable {
    package var files: [String]
    /// Bytes of the whole.
    package var bytes: Int
    /// In the directory, and neither a plain file nor something to leave out: links, pipes.
    package var odd: [String]
}

/// One file with all that a box needs to come back as another one. The broker may run, and goes on: each database comes
/// as it is at one moment, the certificates come as they are between two changes. Where the directory has neither
/// accounts nor certificates it belongs to `persistence` alone, and only `broker.db` is taken, whatever else lies there.
/// Nothing is left where it throws (`BackupError`, `CertificateError`, what `report` throws). Blocks.
package func makeBackup(
    of path: String, to target: BackupTarget, martlet: String, databases: [KnownDatabase], report: BackupReport
) throws -> BackupSummary {
    let directory: OpenFile
    do throws(BackupError) {
        directory = try OpenFile(path, O_RDONLY | O_DIRECTORY)
    } catch {
        guard case .system(path, ENOENT) = error else { throw error }
        throw BackupError.refused("\(path): there is no data directory here; --data names another")
    }
    let hasAccounts = try directory.status(of: "fleet.db") != nil || directory.status(of: "certs") != nil
    // Also of a backup to standard output, for the databases have to lie somewhere once more.
    let draft: Draft
    var replaces = false
    switch target {
    case .file(let name, let mayReplace):
        replaces = mayReplace
        if let status = try status(of: name) {
            guard status.isPlainFile else { throw BackupError.refused("\(name): there is something that is no file") }
            guard mayReplace else { throw BackupError.refused("\(name): there is such a file; --force replaces it") }
        }
        // The next backup would have this one in it, and so on.
        if hasAccounts, let place = resolved(parent(of: name)), let whole = resolved(path),
            place == whole || place.hasPrefix("\(whole)/")
        {
            throw BackupError.refused("\(name): that is in the data directory itself; it has to be elsewhere")
        }
        draft = try Draft(of: name)
    case .standardOutput:
        draft = try Draft(of: "\(path)/backup")
    }
    let output: OpenFile
    if case .standardOutput = target {
        let copy = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw BackupError.system("standard output", errno) }
        output = OpenFile(adopting: copy, path: "standard output")
    } else {
        output = draft.file
    }
    let summary = try withoutLeftovers(draft) {
        try write(
            directory, hasAccounts: hasAccounts, to: output, scratch: "\(draft.path)-db", martlet: martlet,
            databases: databases, report: report)
    }
    if case .file = target { try draft.settle(replaces: replaces) }
    return summary
}

/// The copy of a database that an earlier one left, or that this one leaves where it fails, is removed.
private func withoutLeftovers<Result>(_ draft: Draft, _ body: () throws -> Result) throws -> Result {
    try removeFile("\(draft.path)-db")
    do {
        return try body()
    } catch {
        try? removeFile("\(draft.path)-db")  // The first failure is the one to tell.
        throw error
    }
}

private func write(
    _ directory: OpenFile, hasAccounts: Bool, to output: OpenFile, scratch: String, martlet: String,
    databases: [KnownDatabase], report: BackupReport
) throws -> BackupSummary {
    var present: [KnownDatabase] = []
    var totalBytes = 0
    for known in databases where known.name == "broker.db" || hasAccounts {
        guard let status = try directory.status(of: known.name) else { continue }
        present.append(known)
        totalBytes += 2 * Int(status.st_size)  // Once to copy it, once to take it along.
    }
    guard !present.isEmpty || hasAccounts else {
        throw BackupError.refused("\(directory.path): there is nothing of Martlet's here")
    }

    var archive = ArchiveWriter(to: output)
    var done = 0
    for known in present {
        let path = "\(directory.path)/\(known.name)"
        close(try OpenFile(scratch, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW))
        try copy(known, of: directory, to: scratch) { bytes in
            try report(
                BackupProgress(subject: known.name, bytes: done + bytes, totalBytes: max(totalBytes, done + bytes)))
        }
        // What is damaged is said now, not on the day when somebody needs it.
        try DatabaseFile(scratch, name: path).examine(as: known, anyVersion: true)
        let file = try OpenFile(scratch, O_RDONLY | O_NOFOLLOW)
        let size = Int(try file.status().st_size)
        done += size
        try archive.add(known.name, from: file) { bytes in
            try report(
                BackupProgress(subject: known.name, bytes: done + bytes, totalBytes: max(totalBytes, done + size)))
        }
        done += size
        try removeFile(scratch)
    }

    var odd: [String] = []
    if hasAccounts {
        let names = Set(databases.map(\.name))
        // Certificates after accounts: at its start a broker notes those that its accounts do not know yet.
        odd += try add(to: &archive, in: directory, except: names.union(["certs"]), from: done, report)
        let certificates = CertificateDirectory(dataDirectory: directory.path)
        odd += try certificates.whileUnchanged {
            let others = Set(try directory.names()).subtracting(["certs"])
            return try add(to: &archive, in: directory, except: others, from: archive.bytes, report)
        }
    }
    let now = UnixTime.now
    try archive.finish(martlet: martlet, created: "\(now)", modified: Int(now.seconds))
    return BackupSummary(files: archive.files.map(\.name), bytes: archive.bytes, odd: odd)
}

private func copy(
    _ known: KnownDatabase, of directory: OpenFile, to path: String, _ tell: (Int) throws -> Void
) throws {
    let snapshot = try Snapshot(of: known.name, in: directory)
    try snapshot.copy(to: path, logIn: directory, name: known.name, tell)
}

/// Returns what could not come along.
private func add(
    to archive: inout ArchiveWriter, in directory: OpenFile, except names: Set<String>, from done: Int,
    _ report: BackupReport
) throws -> [String] {
    let found = try Contents.find(in: directory, except: names)
    let totalBytes = done + found.files.reduce(0) { $0 + $1.size }
    var done = done
    for found in found.files {
        let file: OpenFile
        do throws(BackupError) {
            file = try OpenFile(found.name, in: directory, O_RDONLY | O_NOFOLLOW)
        } catch {
            if case .system(_, ENOENT) = error { continue }  // It has gone meanwhile.
            throw error
        }
        try archive.add(found.name, from: file) { bytes in
            try report(BackupProgress(subject: found.name, bytes: done + bytes, totalBytes: totalBytes))
        }
        done += found.size
    }
    return found.odd
}

/// Only that there be such a file.
private func close(_ file: consuming OpenFile) { _ = consume file }
