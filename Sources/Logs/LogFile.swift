internal import Glibc
internal import Synchronization

/// Whose a log file shall be: the user that the process becomes, so that it can be opened again.
package struct LogFileOwner: Sendable {
    package let user: UInt32
    package let group: UInt32

    package init(user: UInt32, group: UInt32) {
        self.user = user
        self.group = group
    }
}

/// Lines into a descriptor, of a file or of somebody else. All but `openAgain` belongs to the writer's queue; the state
/// is atomic only for the compiler.
final class DescriptorOutput: LogOutput {
    private let descriptor: Atomic<CInt>
    /// The file that the descriptor is ours for, or nil.
    private let path: String?
    /// The last write stopped inside a line.
    private let isMidLine = Atomic<Bool>(false)

    init(_ descriptor: CInt) {
        self.descriptor = Atomic(descriptor)
        path = nil
    }

    init(appendingTo path: String, owner: LogFileOwner?) throws(LogFileError) {
        let opened = try Self.open(path)
        if let owner { Self.give(opened, path, to: owner) }
        descriptor = Atomic(opened)
        self.path = path
    }

    deinit { if path != nil { close(descriptor.load(ordering: .relaxed)) } }

    /// On any thread.
    func openAgain() throws(LogFileError) -> CInt? {
        guard let path else { return nil }
        return try Self.open(path)
    }

    func replace(with new: CInt) {
        close(descriptor.exchange(new, ordering: .relaxed))
        isMidLine.store(false, ordering: .relaxed)
    }

    /// Without waiting for a reader, where it is a pipe that has none. The corresponding C functions are `open` and
    /// `fcntl`.
    private static func open(_ path: String) throws(LogFileError) -> CInt {
        let flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY
        let descriptor = unsafe Glibc.open(path, flags | O_NONBLOCK, 0o600)
        guard descriptor >= 0 else { throw LogFileError(path: path, errno: errno) }
        _ = fcntl(descriptor, F_SETFL, flags)
        return descriptor
    }

    /// Only a plain file that has this one name and belongs to root: the directory may be the other user's, who could
    /// have put a link there. The corresponding C functions are `lstat`, `fstat` and `fchown`.
    private static func give(_ descriptor: CInt, _ path: String, to owner: LogFileOwner) {
        var (named, opened) = (stat(), stat())
        guard unsafe lstat(path, &named) == 0, unsafe fstat(descriptor, &opened) == 0,
            named.st_ino == opened.st_ino, named.st_dev == opened.st_dev,
            opened.st_mode & S_IFMT == S_IFREG, opened.st_nlink == 1, opened.st_uid == 0
        else { return }
        _ = fchown(descriptor, owner.user, owner.group)  // Where it fails, reopening will say so.
    }

    /// A line that a refused write broke is ended before the next.
    func write(_ lines: ArraySlice<LogWriter.Line>) -> Int {
        let prefix = isMidLine.load(ordering: .relaxed) ? 1 : 0
        var bytes: [UInt8] = []
        bytes.reserveCapacity(prefix + lines.reduce(0) { $0 + $1.byteCount })
        if prefix > 0 { bytes.append(UInt8(ascii: "\n")) }
        for line in lines {
            bytes += line.text.utf8
            bytes.append(UInt8(ascii: "\n"))
        }
        let written = writeWhole(bytes)
        if written > 0 { isMidLine.store(bytes[written - 1] != UInt8(ascii: "\n"), ordering: .relaxed) }
        guard written < bytes.count else { return 0 }
        var (lost, end) = (lines.count, prefix)
        for line in lines {
            end += line.byteCount
            guard end <= written else { break }
            lost -= 1
        }
        return lost
    }

    /// Returns how many bytes went; fewer where the descriptor refuses, a full disk for instance. The corresponding C
    /// function is `write`.
    private func writeWhole(_ bytes: [UInt8]) -> Int {
        let descriptor = descriptor.load(ordering: .relaxed)
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.span.extracting(written...).withUnsafeBufferPointer {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                written += count
            } else if errno == EAGAIN {  // Someone made our terminal non-blocking: this queue is there to wait.
                var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&request, 1, -1)
            } else if errno != EINTR {
                break
            }
        }
        return written
    }
}

/// A log file that cannot be opened.
package struct LogFileError: Error, CustomStringConvertible {
    package let path: String
    package let errno: CInt

    package var description: String { unsafe "log_dest file \(path): \(String(cString: strerror(errno)))" }
}
