internal import Cryptography
internal import Glibc

/// An open directory, and what is done in it. Nothing in it is followed that is a link. Throws `FirmwareTreeError.system`.
struct Folder: ~Copyable {
    let descriptor: CInt
    let path: String

    /// The corresponding C function is `openat`.
    init(_ name: String, in directory: CInt = AT_FDCWD, path: String) throws(FirmwareTreeError) {
        descriptor = unsafe openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        self.path = path
        guard descriptor >= 0 else { throw .system(path, errno) }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func path(of name: String) -> String { "\(path)/\(name)" }

    /// One that is in it; nil: there is none.
    func folder(_ name: String) throws(FirmwareTreeError) -> Folder? {
        do throws(FirmwareTreeError) {
            return try Folder(name, in: descriptor, path: path(of: name))
        } catch {
            // A file, or a link, is none either.
            guard case .system(_, let code) = error, [ENOENT, ENOTDIR, ELOOP].contains(code) else { throw error }
            return nil
        }
    }

    func hasFolder(_ name: String) throws(FirmwareTreeError) -> Bool {
        try folder(name) != nil
    }

    /// The same, made where there is none. The corresponding C function is `mkdirat`.
    func makeFolder(_ name: String) throws(FirmwareTreeError) -> Folder {
        if unsafe mkdirat(descriptor, name, 0o700) == 0 {
            try synchronize()
        } else if errno != EEXIST {
            throw .system(path(of: name), errno)
        }
        return try Folder(name, in: descriptor, path: path(of: name))
    }

    /// An open file; nil: there is none.
    func open(_ name: String, _ flags: CInt = O_RDONLY, mode: mode_t = 0o600) throws(FirmwareTreeError) -> OpenFile? {
        let file = unsafe openat(descriptor, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode)
        guard file >= 0 else {
            if errno == ENOENT, flags & O_CREAT == 0 { return nil }
            throw .system(path(of: name), errno)
        }
        return try OpenFile(adopting: file, path: path(of: name))
    }

    /// Nil: there is no such file. Throws `.tooLong` past `limit` bytes.
    func read(_ name: String, atMost limit: Int) throws(FirmwareTreeError) -> [UInt8]? {
        guard let file = try open(name) else { return nil }
        guard file.count <= limit else { throw .tooLong(file.path, limit: limit) }
        do throws(ReadFailure) {
            return try file.read(0..<file.count)
        } catch {
            throw .unreadable(file.path, error)
        }
    }

    /// Whole or not at all, and on the disk.
    func write(_ bytes: [UInt8], to name: String) throws(FirmwareTreeError) {
        let draft = ".\(name).new"
        _ = unsafe unlinkat(descriptor, draft, 0)
        guard let file = try open(draft, O_WRONLY | O_CREAT | O_EXCL) else { return }
        do throws(FirmwareTreeError) {
            try file.append(bytes.span)
            try file.synchronize()
            try rename(draft, to: name)
        } catch {
            _ = unsafe unlinkat(descriptor, draft, 0)
            throw error
        }
    }

    /// In the place of a file that has that name, or where nothing has it, on the disk. The corresponding C function is
    /// `renameat`.
    func rename(_ name: String, to other: String) throws(FirmwareTreeError) {
        guard unsafe renameat(descriptor, name, descriptor, other) == 0 else {
            throw .system(path(of: other), errno)
        }
        try synchronize()
    }

    /// Does nothing where there is no such file. The corresponding C function is `unlinkat`.
    func remove(_ name: String) throws(FirmwareTreeError) {
        guard unsafe unlinkat(descriptor, name, 0) == 0 || errno == ENOENT else {
            throw .system(path(of: name), errno)
        }
    }

    /// A folder with everything in it.
    func removeFolder(_ name: String) throws(FirmwareTreeError) {
        guard let folder = try folder(name) else { return }
        for name in try folder.names() {
            if try folder.hasFolder(name) { try folder.removeFolder(name) } else { try folder.remove(name) }
        }
        guard unsafe unlinkat(descriptor, name, AT_REMOVEDIR) == 0 else { throw .system(path(of: name), errno) }
        try synchronize()
    }

    /// Does nothing where there is no such folder, or something in it.
    func removeFolderIfEmpty(_ name: String) throws(FirmwareTreeError) {
        guard unsafe unlinkat(descriptor, name, AT_REMOVEDIR) != 0 else { return try synchronize() }
        guard [ENOENT, ENOTEMPTY, EEXIST, ENOTDIR].contains(errno) else { throw .system(path(of: name), errno) }
    }

    /// Names are on the disk. The corresponding C function is `fsync`.
    func synchronize() throws(FirmwareTreeError) {
        guard fsync(descriptor) == 0 else { throw .system(path, errno) }
    }

    /// In order, without `.` and `..`. The corresponding C functions are `fdopendir` and `readdir`.
    func names() throws(FirmwareTreeError) -> [String] {
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
}

/// An open plain file. From any thread, but that only one appends.
package final class OpenFile: ImageSource, Sendable {
    package let descriptor: CInt
    package let path: String
    /// Bytes, when it was opened.
    package let count: Int

    fileprivate init(adopting descriptor: CInt, path: String) throws(FirmwareTreeError) {
        self.descriptor = descriptor
        self.path = path
        var status = stat()
        let result = unsafe fstat(descriptor, &status)
        count = Int(status.st_size)
        guard result == 0 else { throw .system(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path) }
    }

    deinit { close(descriptor) }

    package func read(_ range: Range<Int>) throws(ReadFailure) -> [UInt8] { try readFile(descriptor, range) }

    /// The SHA-256 of all of it.
    package func digest() throws(ReadFailure) -> [UInt8] {
        var digest = RunningDigest()
        var offset = 0
        while offset < count {
            let end = min(count, offset + Limits.readBytes)
            let part = try read(offset..<end)
            digest.update(part.span)
            offset = end
        }
        return digest.finish()
    }

    /// The corresponding C function is `write`.
    func append(_ bytes: Span<UInt8>) throws(FirmwareTreeError) {
        var written = 0
        while written < bytes.count {
            let result = unsafe bytes.extracting(written...).withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if result < 0, errno == EINTR { continue }
            guard result > 0 else { throw .system(path, result == 0 ? ENOSPC : errno) }
            written += result
        }
    }

    /// The corresponding C function is `fsync`.
    func synchronize() throws(FirmwareTreeError) {
        guard fsync(descriptor) == 0 else { throw .system(path, errno) }
    }
}

/// Why something in the tree of firmware can't be read or written; one line.
package enum FirmwareTreeError: Error, Equatable, CustomStringConvertible {
    /// The system says no. An `errno`.
    case system(_ path: String, _ code: Int32)
    case tooLong(_ path: String, limit: Int)
    case notAFile(_ path: String)
    case unreadable(_ path: String, ReadFailure)
    /// A file that an administrator edits does not say what it should.
    case malformed(_ path: String, _ reason: String)
    /// Releases are written once.
    case exists(ReleaseName)
    case missing(ReleaseName)

    package var description: String {
        switch self {
        case .system(let path, let code): unsafe "\(path): \(String(cString: strerror(code)))"
        case .tooLong(let path, let limit): "\(path): longer than \(limit) bytes"
        case .notAFile(let path): "\(path): not a plain file"
        case .unreadable(let path, let failure): "\(path): \(failure)"
        case .malformed(let path, let reason): "\(path): \(reason)"
        case .exists(let release): "there is \(release) already"
        case .missing(let release): "there is no \(release)"
        }
    }

    /// Whether the disk is full.
    package var isDiskFull: Bool {
        if case .system(_, let code) = self { code == ENOSPC || code == EDQUOT } else { false }
    }
}
