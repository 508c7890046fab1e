internal import Cryptography
internal import Glibc

/// Nil: there is none. Throws where it can't be read, or holds more than `limit` bytes.
func contents(of path: String, limit: Int) throws(CertificateError) -> [UInt8]? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
        let code = errno
        guard code == ENOENT else { throw .file(path, errno: code) }
        return nil
    }
    defer { close(descriptor) }
    _ = fcntl(descriptor, F_SETFL, 0)  // Only opening a pipe that nobody writes to must not wait.
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = unsafe read(descriptor, &chunk, chunk.count)
        guard count >= 0 || errno == EINTR else { throw .file(path, errno: errno) }
        guard count != 0 else { return bytes }
        bytes += chunk[..<max(0, count)]
        guard bytes.count <= limit else { throw .damaged(file: path, "more than \(limit) bytes") }
    }
}

/// Puts a file in place whole, or leaves what was there; on disk when it returns. Where root does it, it belongs to whom
/// its directory belongs to. The corresponding C functions are `open`, `fchown`, `fsync` and `rename`.
func replace(_ path: String, with bytes: [UInt8], mode: mode_t) throws(CertificateError) {
    let temporary = "\(path).\(SerialNumber.random().description.prefix(12)).new"
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw .file(path, errno: errno) }
    do throws(CertificateError) {
        defer { close(descriptor) }
        try giveToOwner(of: directory(of: path), descriptor, path)
        guard fchmod(descriptor, mode) == 0 else { throw .file(path, errno: errno) }
        try write(bytes, to: descriptor, path)
        guard fsync(descriptor) == 0 else { throw .file(path, errno: errno) }
        guard unsafe rename(temporary, path) == 0 else { throw .file(path, errno: errno) }
    } catch {
        _ = unsafe unlink(temporary)
        throw error
    }
    try synchronize(directory: directory(of: path))
}

func write(_ bytes: [UInt8], to descriptor: CInt, _ path: String) throws(CertificateError) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = unsafe rest.withUnsafeBufferPointer { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 || errno == EINTR else { throw .file(path, errno: errno) }
        rest = rest.dropFirst(max(0, count))
    }
}

/// So that a new name survives a power cut.
func synchronize(directory: String) throws(CertificateError) {
    let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .file(directory, errno: errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .file(directory, errno: errno) }
}

/// Root at a shell works on the files of a broker that is another user. The corresponding C function is `fchown`.
func giveToOwner(of directory: String, _ descriptor: CInt, _ path: String) throws(CertificateError) {
    guard geteuid() == 0 else { return }
    var status = stat()
    guard unsafe stat(directory, &status) == 0 else { throw .file(directory, errno: errno) }
    guard fchown(descriptor, status.st_uid, status.st_gid) == 0 else { throw .file(path, errno: errno) }
}

func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

/// Makes a directory that is its owner's alone, and those above it; true where there was none.
@discardableResult
func makeDirectory(_ path: String) throws(CertificateError) -> Bool {
    guard unsafe mkdir(path, 0o700) != 0 else {
        guard geteuid() == 0 else { return true }
        let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .file(path, errno: errno) }
        defer { close(descriptor) }
        try giveToOwner(of: directory(of: path), descriptor, path)
        return true
    }
    switch errno {
    case EEXIST:
        guard isDirectory(path) else { throw .file(path, errno: ENOTDIR) }
        return false
    case ENOENT where directory(of: path) != path:
        try makeDirectory(directory(of: path))
        return try makeDirectory(path)
    default: throw .file(path, errno: errno)
    }
}

func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}

/// Takes from others what only the owner may do; true where they had it. What is a link, or somebody else's, is left
/// alone: whoever put it there knows why. The corresponding C functions are `lstat` and `chmod`.
func tighten(_ path: String, to mode: mode_t) throws(CertificateError) -> Bool {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else {
        guard errno == ENOENT else { throw .file(path, errno: errno) }
        return false
    }
    guard status.st_mode & S_IFMT != S_IFLNK, geteuid() == 0 || status.st_uid == geteuid(),
        status.st_mode & 0o777 & ~mode != 0
    else { return false }
    guard unsafe chmod(path, mode) == 0 else { throw .file(path, errno: errno) }
    return true
}

/// One writer at a time, of all processes and threads; given back when it goes away. The corresponding C function is
/// `flock`.
struct FileLock: ~Copyable {
    private let descriptor: CInt

    /// Waits until nobody else has it, up to ten seconds: who holds it writes a few files.
    init(_ path: String) throws(CertificateError) {
        descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .file(path, errno: errno) }
        do throws(CertificateError) {
            try giveToOwner(of: directory(of: path), descriptor, path)
            var attempts = 0
            while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
                guard errno == EWOULDBLOCK || errno == EINTR else { throw .file(path, errno: errno) }
                attempts += 1
                guard attempts < 500 else { throw .busy(path) }
                usleep(20_000)
            }
        } catch {
            close(descriptor)
            throw error
        }
    }

    deinit {
        // Said, for a child that is between its fork and its exec has the descriptor too.
        _ = flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}
