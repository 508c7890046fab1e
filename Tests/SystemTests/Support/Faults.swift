import Foundation
import Glibc

/// A disk that does what a test says: Tests/Support/faults/faults.c, loaded into a broker. It sees every call that changes a
/// file below the data directory, counts it, and writes down what would be lost if the power went.
final class Faults {
    enum Kind: Int64 {
        /// The call does nothing and gives this error.
        case fail = 1
        /// Only some of a write is done, and so it says.
        case shorten
        /// Only some of a write is done, and the process ends. Other calls are not begun.
        case tear
        case dieBefore
        case dieAfter
        /// An fsync says that it has done it.
        case pretend
    }

    /// What kind of call, by `enum kind` of faults.c.
    enum Call: Int64 {
        case write = 1
        case truncate, sync, create, rename, remove, makeDirectory
    }

    private enum Field: Int {
        case loaded, calls, fired, fault, first, count, kinds, code, bytes, syncMilliseconds, clockSeconds
    }

    /// Outside of the data directory.
    let directory: String
    let data: String
    private let control: Int32

    /// `data` need not be there yet; the directory that it is in has to be.
    init(for data: String) throws {
        guard let parent = realpath((data as NSString).deletingLastPathComponent, nil) else {
            throw Unexpected(errno: errno, during: "realpath")
        }
        defer { free(parent) }
        self.data = "\(String(cString: parent))/\((data as NSString).lastPathComponent)"
        directory = self.data + ".faults"
        try FileManager.default.createDirectory(atPath: "\(directory)/graves", withIntermediateDirectories: true)
        control = open("\(directory)/control", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard control >= 0, ftruncate(control, 4096) == 0 else { throw Unexpected(errno: errno, during: "control") }
        _ = try Self.library.get()
    }

    deinit { close(control) }

    var environment: [String: String] {
        ["LD_PRELOAD": (try? Self.library.get()) ?? "", "FAULTS": directory, "FAULTS_DIRECTORY": data]
    }

    /// Calls that changed something, and how many of them the fault met.
    var calls: Int { Int(value(.calls)) }
    var fired: Int { Int(value(.fired)) }

    /// From now on, in place of the one before. `first` is a number of `calls`.
    func begin(
        _ kind: Kind, first: Int = 1, count: Int = .max, only kinds: [Call] = [], errno code: Int32 = EIO,
        bytes: Int = .max
    ) {
        end()
        set(.first, Int64(first))
        set(.count, Int64(count))
        set(.kinds, kinds.reduce(0) { $0 | 1 << $1.rawValue })
        set(.code, Int64(code))
        set(.bytes, Int64(bytes))
        set(.fault, kind.rawValue)
    }

    func end() { set(.fault, 0) }

    func delaySyncs(milliseconds: Int) { set(.syncMilliseconds, Int64(milliseconds)) }
    func moveClock(seconds: Int) { set(.clockSeconds, Int64(seconds)) }

    /// What calls there were, a line each; for a person.
    var story: [String] { (try? Journal(self).records.map(\.description)) ?? [] }

    private func value(_ field: Field) -> Int64 {
        var value: Int64 = 0
        pread(control, &value, 8, off_t(field.rawValue * 8))
        return value
    }

    private func set(_ field: Field, _ value: Int64) {
        var value = value
        pwrite(control, &value, 8, off_t(field.rawValue * 8))
    }

    /// Compiled once.
    private static let library = Result<String, any Error> {
        let path = "\(packageRoot)/.build/faults-\(getpid()).so"
        let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", path]
        let compiler = try Program("cc", arguments + ["\(packageRoot)/Tests/Support/faults/faults.c"])
        guard try compiler.waitForEnd() == .exited(0) else { throw Unexpected("cc: \(compiler.output)") }
        // Under one name, that another run of the suite may be using.
        let shared = "\(packageRoot)/.build/faults.so"
        guard rename(path, shared) == 0 else { throw Unexpected(errno: errno, during: "rename") }
        return shared
    }
}
