internal import Glibc

/// Why a backup can't be made or put back; one line. Nothing was changed, and what had been begun is gone.
package enum BackupError: Error, Equatable, CustomStringConvertible {
    /// The system says no. An `errno`.
    case system(_ path: String, _ code: Int32)
    /// SQLite's words.
    case database(_ path: String, _ reason: String)
    /// A database that is no longer whole, or not ours.
    case damaged(_ path: String, _ reason: String)
    /// A backup, and what is wrong with it.
    case archive(_ path: String, _ reason: String)
    case refused(_ reason: String)
    /// Somebody does not want to wait.
    case interrupted

    package var description: String {
        switch self {
        case .system(let path, let code): unsafe "\(path): \(String(cString: strerror(code)))"
        case .database(let path, let reason), .archive(let path, let reason): "\(path): \(reason)"
        case .damaged(let path, let reason): "\(path): damaged (\(reason))"
        case .refused(let reason): reason
        case .interrupted: "interrupted; nothing was changed"
        }
    }
}

/// How far it is, for whoever waits.
package struct BackupProgress: Equatable, Sendable {
    /// What is done at the moment, such as `fleet.db`.
    package var subject: String
    package var bytes: Int
    package var totalBytes: Int
}

/// Called every now and then; what it throws ends the work, and nothing is left of it.
package typealias BackupReport = (BackupProgress) throws -> Void
