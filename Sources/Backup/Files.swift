internal import CLinux
internal import Glibc

/// A descriptor that closes itself. The corresponding C functions are `openat` and `close`.
final class OpenFile {
    let descriptor: CInt
    /// For errors.
    let path: String

    /// `directory`: where a relative `name` is; nil: the process's own.
    init(_ name: String, in directory: OpenFile? = nil, _ flags: CInt, mode: mode_t = 0o600) throws(BackupError) {
        path = directory.map { "\($0.path)/\(name)" } ?? name
        let start = directory?.descriptor ?? AT_FDCWD
        descriptor = unsafe openat(start, name, flags | O_CLOEXEC | O_NONBLOCK, mode)
        guard descriptor >= 0 else { throw .system(path, errno) }
    }

    /// Standard output.
    init(adopting descriptor: CInt, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// The corresponding C function is `fstat`.
    func status() throws(BackupError) -> stat {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw .system(path, errno) }
        return status
    }

    /// Fewer than `buffer` has only at the end. The corresponding C function is `read`.
    func read(into buffer: inout [UInt8], atMost count: Int) throws(BackupError) -> Int {
        var filled = 0
        while filled < count {
            let result = unsafe buffer.withUnsafeMutableBytes {
                unsafe Glibc.read(descriptor, $0.baseAddress.map { unsafe $0 + filled }, count - filled)
            }
            if result < 0, errno == EINTR { continue }
            guard result >= 0 else { throw .system(path, errno) }
            if result == 0 { break }
            filled += result
        }
        return filled
    }

    /// Fewer only at the end. The corresponding C function is `pread`.
    func read(at offset: Int, count: Int) throws(BackupError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let result = unsafe bytes.withUnsafeMutableBytes {
                unsafe pread(descriptor, $0.baseAddress.map { unsafe $0 + filled }, count - filled, offset + filled)
            }
            if result < 0, errno == EINTR { continue }
            guard result >= 0 else { throw .system(path, errno) }
            if result == 0 { break }
            filled += result
        }
        return Array(bytes.prefix(filled))
    }

    /// All of it. Standard output may be a pipe that is full. The corresponding C functions are `write` and `poll`.
    func write(_ bytes: Span<UInt8>) throws(BackupError) {
        var written = 0
        while written < bytes.count {
            let result = unsafe bytes.extracting(written...).withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if result < 0, errno == EINTR { continue }
            if result < 0, errno == EAGAIN {
                var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&entry, 1, -1)
                continue
            }
            guard result > 0 else { throw .system(path, errno) }
            written += result
        }
    }

    /// The corresponding C function is `fsync`.
    func synchronize() throws(BackupError) {
        guard fsync(descriptor) == 0 else { throw .system(path, errno) }
    }

    /// The names in a directory, in order, without `.` and `..`. The corresponding C functions are `fdopendir` and `readdir`.
    func names() throws(BackupError) -> [String] {
        let copy = unsafe openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0 else { throw .system(path, errno) }
        guard let list = unsafe fdopendir(copy) else {
            let code = errno
            close(copy)
            throw .system(path, code)
        }
        defer { unsafe closedir(list) }
        var names: [String] = []
        while let entry = unsafe readdir(list) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Nil: there is nothing of this name. A link is not followed. The corresponding C function is `fstatat`.
    func status(of name: String) throws(BackupError) -> stat? {
        var status = stat()
        guard unsafe fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            if errno == ENOENT { return nil }
            throw .system("\(path)/\(name)", errno)
        }
        return status
    }
}

/// What a name stands for; a link is not followed. Nil: nothing. The corresponding C function is `lstat`.
func status(of path: String) throws(BackupError) -> stat? {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else {
        if errno == ENOENT { return nil }
        throw .system(path, errno)
    }
    return status
}

extension stat {
    var isPlainFile: Bool { st_mode & S_IFMT == S_IFREG }
    var isDirectory: Bool { st_mode & S_IFMT == S_IFDIR }
    var isLink: Bool { st_mode & S_IFMT == S_IFLNK }
}

/// The directory that a file is in.
func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

/// Without links and dots; nil: it does not lead anywhere. The corresponding C function is `realpath`.
func resolved(_ path: String) -> String? {
    guard let found = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(found) }
    return unsafe String(cString: found)
}

/// Does nothing where there is none. The corresponding C function is `unlink`.
func removeFile(_ path: String) throws(BackupError) {
    guard unsafe unlink(path) == 0 || errno == ENOENT else { throw .system(path, errno) }
}

/// A new name, where nothing has it yet unless `replaces`. The corresponding C functions are `renameat2` and `rename`.
func rename(_ path: String, to name: String, replaces: Bool) throws(BackupError) {
    if !replaces {
        if unsafe rename_without_replacing(path, name) == 0 { return }
        // Not every file system can say it in one step.
        guard errno == EINVAL || errno == ENOSYS else { throw .system(name, errno) }
        guard try status(of: name) == nil else { throw .system(name, EEXIST) }
    }
    guard unsafe Glibc.rename(path, name) == 0 else { throw .system(name, errno) }
}

/// Names in it are on the disk. Not every file system lets a directory be written back.
func synchronize(directory: String) throws(BackupError) {
    let file = try OpenFile(directory, O_RDONLY | O_DIRECTORY)
    guard fsync(file.descriptor) == 0 || errno == EINVAL else { throw .system(directory, errno) }
}
