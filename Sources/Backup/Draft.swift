internal import Glibc

/// A file that is not there before it is whole: beside its name while it is written, and gone if it never is. Who is killed
/// leaves a draft that the next one to write the same file takes away.
final class Draft {
    let target: String
    let path: String
    let file: OpenFile
    private var isSettled = false

    /// Throws where somebody else is writing the same file.
    init(of target: String) throws(BackupError) {
        self.target = target
        path = "\(target).new"
        while true {
            // Whose draft it is, says the lock; it goes with the process.
            if let leftover = try Self.leftover(path) {
                guard flock(leftover.descriptor, LOCK_EX | LOCK_NB) == 0 else {
                    throw .refused("another process is writing \(target)")
                }
                try removeFile(path)
                withExtendedLifetime(leftover) {}  // Its lock, until it is gone.
            }
            do throws(BackupError) {
                file = try OpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW)
            } catch {
                if error == .system(path, EEXIST) { continue }
                throw error
            }
            // Who came at the same moment may have taken it for a leftover before it was locked.
            guard flock(file.descriptor, LOCK_EX | LOCK_NB) == 0, let named = try status(of: path),
                named.st_ino == (try file.status()).st_ino
            else { throw .refused("another process is writing \(target)") }
            return
        }
    }

    private static func leftover(_ path: String) throws(BackupError) -> OpenFile? {
        guard let status = try status(of: path) else { return nil }
        guard status.isPlainFile else { throw .refused("\(path) is in the way, and no plain file") }
        do throws(BackupError) {
            return try OpenFile(path, O_RDWR | O_NOFOLLOW)
        } catch {
            if error == .system(path, ENOENT) { return nil }
            throw error
        }
    }

    deinit { if !isSettled { unsafe unlink(path) } }

    /// It is on the disk, and then has its name.
    func settle(replaces: Bool) throws(BackupError) {
        try file.synchronize()
        try rename(path, to: target, replaces: replaces)
        isSettled = true
        try synchronize(directory: parent(of: target))
    }
}
