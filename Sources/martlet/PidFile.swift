internal import Glibc

/// The file that tells others our process identifier (`pid_file`).
struct PidFile {
    private let path: String
    /// Stays open: the directory may belong to root, and the file can be emptied where it can't be removed.
    private let descriptor: CInt

    /// Writes it whole or not at all, in place of one that an earlier process left. The corresponding C functions are
    /// `open`, `write` and `rename`.
    init(_ path: String) throws(Failure) {
        self.path = path
        let draft = "\(path).\(getpid())"
        unsafe unlink(draft)
        descriptor = unsafe open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Self.refusal(path) }
        let line = Array("\(getpid())\n".utf8)
        let count = unsafe line.withUnsafeBufferPointer { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard count == line.count, fchmod(descriptor, 0o644) == 0, unsafe rename(draft, path) == 0 else {
            let refusal = Self.refusal(path)
            unsafe unlink(draft)
            close(descriptor)
            throw refusal
        }
    }

    /// Unless it has become another's. Where the directory forbids it the file stays, but names nobody.
    func remove() {
        var (named, ours) = (stat(), stat())
        guard unsafe lstat(path, &named) == 0, unsafe fstat(descriptor, &ours) == 0,
            named.st_ino == ours.st_ino, named.st_dev == ours.st_dev
        else { return }
        if unsafe unlink(path) != 0 { _ = ftruncate(descriptor, 0) }
    }

    private static func refusal(_ path: String) -> Failure {
        unsafe Failure(.failed, "pid_file \(path): \(String(cString: strerror(errno)))")
    }
}
