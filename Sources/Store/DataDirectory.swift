internal import Glibc
internal import Synchronization

/// A data directory that this process has to itself: a lock on a file in it, until the value goes away or is closed.
/// What it makes there is readable by the directory's owner only, whatever the umask says, and belongs to that owner also
/// when root makes it.
package final class DataDirectory: Sendable {
    /// Whose a new directory shall be. Ids of a user and a group.
    package struct Owner: Sendable {
        package let user: UInt32
        package let group: UInt32

        package init(user: UInt32, group: UInt32) {
            self.user = user
            self.group = group
        }
    }

    /// As it was given.
    package let path: String
    /// What the administrator should look at; a sentence each.
    package let warnings: [String]
    private let directory: CInt
    private let lock: Atomic<CInt>
    private let owner: Owner

    /// Makes the directory, mode 0700, if there is none. Only its last name is made. The corresponding C functions are
    /// `mkdir`, `fchmod` and `fchown`.
    package static func make(_ path: String, for owner: Owner? = nil) throws(DataDirectoryError) {
        guard unsafe mkdir(path, 0o700) == 0 else {
            if errno == EEXIST { return }
            throw .system(path, errno)
        }
        let made = unsafe open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard made >= 0 else { throw .system(path, errno) }
        defer { close(made) }
        guard fchmod(made, 0o700) == 0 else { throw .system(path, errno) }
        if let owner, fchown(made, owner.user, owner.group) != 0 { throw .system(path, errno) }
        // Its name is on the disk as well, before anything in it counts on that.
        let parent = unsafe openat(made, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if parent >= 0 {
            fsync(parent)
            close(parent)
        }
    }

    /// Whether there is something of this name.
    package static func exists(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0
    }

    /// Opens and locks a directory that exists. `holdsSecrets`: who may write there could make themselves an account, so
    /// nobody else may; otherwise it is only said. The corresponding C functions are `open`, `fstat` and `flock`.
    package init(_ path: String, holdsSecrets: Bool = true) throws(DataDirectoryError) {
        self.path = path
        directory = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        lock = Atomic(-1)
        guard directory >= 0 else {
            (warnings, owner) = ([], Owner(user: 0, group: 0))
            throw .system(path, errno)
        }
        var status = stat()
        let result = unsafe fstat(directory, &status)
        owner = Owner(user: status.st_uid, group: status.st_gid)
        let others = status.st_mode & (holdsSecrets ? 0o055 : 0o022)
        let what = holdsSecrets ? "looked into" : "written to"
        warnings = others == 0 ? [] : ["the data directory can be \(what) by other users; chmod 700 \(path) forbids it"]
        guard result == 0 else { throw .system(path, errno) }
        guard status.st_uid == geteuid() || geteuid() == 0 else {
            let (theirs, ours) = (userName(status.st_uid), userName(geteuid()))
            throw .refused(path, "it belongs to another user (\(theirs)) and not to \(ours)")
        }
        guard status.st_mode & 0o022 == 0 || !holdsSecrets else {
            throw .refused(path, "other users may write to it; chmod 700 it")
        }
        lock.store(try takeLock(), ordering: .relaxed)
    }

    deinit {
        release()
        if directory >= 0 { close(directory) }
    }

    /// Lets others have it; nothing may be written any more. Idempotent.
    package func release() {
        let lock = lock.exchange(-1, ordering: .acquiringAndReleasing)
        guard lock >= 0 else { return }
        // Said, for a child that is between its fork and its exec has the descriptor too.
        _ = flock(lock, LOCK_UN)
        close(lock)
    }

    /// The file stays: whoever removed it would take the lock from somebody who has just opened it.
    private func takeLock() throws(DataDirectoryError) -> CInt {
        let file = try openOwn(DataDirectory.lockName, O_RDWR | O_CREAT)
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            defer { close(file) }
            guard code == EWOULDBLOCK else { throw .system("\(path)/\(DataDirectory.lockName)", code) }
            var text = [UInt8](repeating: 0, count: 20)
            let count = unsafe pread(file, &text, text.count, 0)
            let process = String(decoding: text.prefix(max(count, 0)).prefix { $0 != 10 }, as: UTF8.self)
            throw .inUse(path, process: Int32(process))
        }
        let line = Array("\(getpid())\n".utf8)
        _ = ftruncate(file, 0)
        _ = unsafe line.withUnsafeBufferPointer { unsafe pwrite(file, $0.baseAddress, $0.count, 0) }
        return file
    }

    private static let lockName = "lock"
}

// MARK: - Files

extension DataDirectory {
    /// The path of something in it.
    package func path(of name: String) -> String { "\(path)/\(name)" }

    /// A way to something in it that is short however long the directory's own path is: for unix sockets, whose paths end at
    /// 107 bytes. Valid while this value lives. See proc(5).
    package func shortPath(of name: String) -> String {
        let whole = path(of: name)
        return whole.utf8.count <= 107 ? whole : "/proc/self/fd/\(directory)/\(name)"
    }

    /// Writes a file whole or not at all, mode 0600, and returns when it is on the disk. The corresponding C functions are
    /// `openat`, `write`, `fsync` and `renameat`.
    package func write(_ bytes: [UInt8], to name: String) throws(DataDirectoryError) {
        let draft = "\(name).new"
        _ = unsafe unlinkat(directory, draft, 0)
        let file = try openOwn(draft, O_WRONLY | O_CREAT | O_EXCL)
        defer { close(file) }
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.span.extracting(written...).withUnsafeBufferPointer {
                unsafe Glibc.write(file, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw abandon(draft) }
            written += count
        }
        guard fsync(file) == 0, unsafe renameat(directory, draft, directory, name) == 0 else { throw abandon(draft) }
        try synchronize()
    }

    private func abandon(_ draft: String) -> DataDirectoryError {
        let code = errno
        _ = unsafe unlinkat(directory, draft, 0)
        return .system(path(of: draft), code)
    }

    /// Nil: there is no such file. Bytes past `limit` are left out. The corresponding C function is `read`.
    package func read(_ name: String, atMost limit: Int) throws(DataDirectoryError) -> [UInt8]? {
        let file = unsafe openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw .system(path(of: name), errno)
        }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = unsafe Glibc.read(file, &bytes, limit)
        guard count >= 0 else { throw .system(path(of: name), errno) }
        return Array(bytes.prefix(count))
    }

    /// Does nothing where there is no such file. The corresponding C function is `unlinkat`.
    package func remove(_ name: String) throws(DataDirectoryError) {
        guard unsafe unlinkat(directory, name, 0) == 0 else {
            if errno == ENOENT { return }
            throw .system(path(of: name), errno)
        }
        try synchronize()
    }

    /// The names in it that begin so, in order. The corresponding C function is `readdir`.
    func names(beginning prefix: String) -> [String] {
        guard let list = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(list) }
        var names: [String] = []
        while let entry = unsafe readdir(list) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name.hasPrefix(prefix) { names.append(name) }
        }
        return names.sorted()
    }

    /// Whether there is something of this name, be it a link to nowhere. The corresponding C function is `fstatat`.
    package func has(_ name: String) -> Bool {
        var status = stat()
        return unsafe fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT
    }

    /// Gives a new, empty file its place, or sees to it that nobody else reads one that is there. Another program may then
    /// open it by its path.
    package func prepare(_ name: String, isNew: Bool) throws(DataDirectoryError) {
        close(try openOwn(name, isNew ? O_RDWR | O_CREAT | O_EXCL : O_RDWR))
    }

    /// What another program wrote is on the disk, and under this name. The corresponding C functions are `fsync` and
    /// `renameat`.
    package func settle(_ draft: String, as name: String) throws(DataDirectoryError) {
        let file = try openOwn(draft, O_RDWR)
        defer { close(file) }
        guard fsync(file) == 0, unsafe renameat(directory, draft, directory, name) == 0 else { throw abandon(draft) }
        try synchronize()
    }

    /// Gives a file another name, on the disk. What it holds is as durable as it was. The corresponding C function is
    /// `renameat`.
    package func rename(_ name: String, to other: String) throws(DataDirectoryError) {
        guard unsafe renameat(directory, name, directory, other) == 0 else { throw .system(path(of: name), errno) }
        try synchronize()
    }

    /// What a file seems to hold is on the disk afterwards: where an fsync has failed before, it may be in memory only, and no
    /// later fsync would write it. Returns what it holds; nil: there is no such file. The corresponding C functions are `pread`,
    /// `pwrite` and `fsync`.
    package func writeAgain(_ name: String) throws(DataDirectoryError) -> [UInt8]? {
        guard has(name) else { return nil }
        var bytes: [UInt8] = []
        let file = try openOwn(name, O_RDWR)
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var offset: off_t = 0
        while true {
            let count = unsafe pread(file, &buffer, buffer.count, offset)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                if count < 0 { throw .system(path(of: name), errno) }
                break
            }
            bytes += buffer[..<count]
            var written = 0
            while written < count {  // What stopped a short one, the next says.
                let more = unsafe buffer.span.extracting(written..<count).withUnsafeBytes {
                    unsafe pwrite(file, $0.baseAddress, $0.count, offset)
                }
                if more < 0, errno == EINTR { continue }
                guard more >= 0 else { throw .system(path(of: name), errno) }
                written += more
                offset += off_t(more)
            }
        }
        guard fsync(file) == 0 else { throw .system(path(of: name), errno) }
        return bytes
    }

    /// The names of all files are on the disk. The corresponding C function is `fsync`.
    package func synchronize() throws(DataDirectoryError) {
        guard fsync(directory) == 0 else { throw .system(path, errno) }
    }

    /// A plain file of the directory's owner, with this one name, mode 0600. Root does not follow what somebody else may have
    /// put there. The corresponding C functions are `openat`, `fstat`, `fchmod` and `fchown`.
    private func openOwn(_ name: String, _ flags: CInt) throws(DataDirectoryError) -> CInt {
        let file = unsafe openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0o600)
        guard file >= 0 else { throw .system(path(of: name), errno) }
        do throws(DataDirectoryError) {
            var status = stat()
            guard unsafe fstat(file, &status) == 0 else { throw .system(path(of: name), errno) }
            guard status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1 else {
                throw .refused(path(of: name), "it is not a plain file with one name")
            }
            guard status.st_uid == owner.user || status.st_uid == geteuid() else {
                throw .refused(path(of: name), "it belongs to another user (\(userName(status.st_uid)))")
            }
            if status.st_mode & 0o7777 != 0o600, fchmod(file, 0o600) != 0 { throw .system(path(of: name), errno) }
            if status.st_uid != owner.user, fchown(file, owner.user, owner.group) != 0 {
                throw .system(path(of: name), errno)
            }
            return file
        } catch {
            close(file)
            throw error
        }
    }
}

/// Why a data directory, or a file in it, can't be used; one line.
package enum DataDirectoryError: Error, Equatable, CustomStringConvertible {
    /// Another process has it.
    case inUse(_ path: String, process: Int32?)
    /// The system says no. An `errno`.
    case system(_ path: String, _ code: Int32)
    case refused(_ path: String, _ reason: String)

    package var description: String {
        switch self {
        case .inUse(let path, let process):
            "the data directory \(path) is in use" + (process.map { " by process \($0)" } ?? "")
        case .system(let path, let code): unsafe "\(path): \(String(cString: strerror(code)))"
        case .refused(let path, let reason): "\(path): \(reason)"
        }
    }
}

/// The name of a user of this machine, or the number. The corresponding C function is `getpwuid_r`.
package func userName(_ user: UInt32) -> String {
    var entry = unsafe passwd()
    var found: UnsafeMutablePointer<passwd>?
    var buffer = [CChar](repeating: 0, count: 4096)
    guard unsafe getpwuid_r(user, &entry, &buffer, buffer.count, &found) == 0, unsafe found != nil,
        let name = unsafe entry.pw_name
    else { return "\(user)" }
    return unsafe String(cString: name)
}
