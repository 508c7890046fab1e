import Foundation
import Glibc
import Synchronization
import Testing

/// All suites that start the binary: one after the other, since they measure time, memory and descriptors.
@Suite(.serialized) enum System {}

/// Whether another user than root can reach files at all: not where the root directory itself is closed, as in some
/// chroots.
let othersReachFiles: Bool = {
    var status = stat()
    return stat("/", &status) == 0 && status.st_mode & S_IXOTH != 0
}()

/// What a test needs that is not about `user`: a broker that stays who it is.
func stayingRoot(_ lines: [String]) -> [String] {
    geteuid() != 0 || lines.contains { $0.hasPrefix("user ") } ? lines : lines + ["user root"]
}

/// A running broker on a free port of the loopback, with a configuration file of its own.
final class Martlet {
    let port: UInt16
    let program: Program
    private let configurationFile: String

    /// Starts it with these lines after the listener's and waits until it accepts connections. `openFiles` lowers its limit.
    init(_ lines: [String] = [], openFiles: Int? = nil) throws {
        port = try freePort()
        configurationFile = temporaryFile("conf")
        let text =
            (["listener \(port) 127.0.0.1", "allow_anonymous true", "log_dest stderr"] + stayingRoot(lines))
            .joined(separator: "\n") + "\n"
        try text.write(toFile: configurationFile, atomically: true, encoding: .utf8)
        program =
            if let openFiles {
                try Program(
                    "/bin/sh",
                    ["-c", "ulimit -n \(openFiles); exec \"$@\"", "sh", Self.binary, "serve", "-c", configurationFile])
            } else {
                try Program(Self.binary, ["serve", "-c", configurationFile])
            }
        let others = lines.filter { $0.hasPrefix("listener ") }.compactMap { UInt16($0.split(separator: " ")[1]) }
        let isListening = eventually(within: 20) {
            accepts(port) && others.allSatisfy { $0 == 0 || isListened(to: $0) } || program.endIfOver() != nil
        }
        guard isListening, program.endIfOver() == nil else {
            throw Unexpected("\(Self.binary) does not listen; it said:\n\(program.output.suffix(2_000))")
        }
    }

    deinit { unlink(configurationFile) }

    /// Asks it to stop as a service manager would and expects that it does, cleanly.
    func stop() throws {
        program.signal(SIGTERM)
        let end = try program.waitForEnd(within: 10)
        #expect(end == .exited(0), "after SIGTERM; it said:\n\(program.output.suffix(2_000))")
    }

    func client(_ identifier: String = "", cleanSession: Bool = true) throws -> RawClient {
        let client = try RawClient(port: port)
        try client.connect(identifier, cleanSession: cleanSession)
        return client
    }

    var residentMegabytes: Double {
        let status = (try? String(contentsOfFile: "/proc/\(program.pid)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return (line?.split(separator: " ").compactMap { Double($0) }.first ?? .infinity) / 1024
    }

    /// CPU seconds spent so far, from the 14th and 15th field of /proc/PID/stat.
    var processorSeconds: Double {
        let stat = (try? String(contentsOfFile: "/proc/\(program.pid)/stat", encoding: .utf8)) ?? ""
        let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
        guard fields.count > 13 else { return .infinity }
        return ((Double(fields[12]) ?? 0) + (Double(fields[13]) ?? 0)) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// MARTLET_BINARY, or what was built last, release before debug.
    static let binary: String = {
        if let given = ProcessInfo.processInfo.environment["MARTLET_BINARY"] { return given }
        let built = ["release", "debug"].map { "\(packageRoot)/.build/\($0)/martlet" }
        return built.first { FileManager.default.isExecutableFile(atPath: $0) } ?? built[0]
    }()

    /// The same without a sanitizer.
    static let plainBinary = ProcessInfo.processInfo.environment["MARTLET_TEST_PLAIN_BINARY"] ?? binary

    /// Large numbers are for an optimised binary.
    static var isFast: Bool { !isSanitized && !binary.contains("/debug/") }
}

/// A port below the ephemeral range, so that no connection made meanwhile takes it.
func freePort() throws -> UInt16 {
    for _ in 0..<200 {
        let port = PortNumbers.next()
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Unexpected(errno: errno, during: "socket") }
        defer { close(descriptor) }
        if withLoopback(port, { bind(descriptor, $0, $1) }) == 0 { return port }
    }
    throw Unexpected("no free port")
}

/// No number twice until all were given: somebody else may have one and not listen there yet.
private enum PortNumbers {
    private static let all: ClosedRange<UInt16> = 20_000...31_999
    private static let latest = Mutex(UInt16.random(in: all))

    static func next() -> UInt16 {
        latest.withLock { latest in
            latest = latest == all.upperBound ? all.lowerBound : latest + 1
            return latest
        }
    }
}

/// Whether somebody listens there.
func accepts(_ port: UInt16) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return withLoopback(port) { Glibc.connect(descriptor, $0, $1) } == 0
}

/// The same, without a connection. See proc_pid_net(5): the state 0A is LISTEN.
func isListened(to port: UInt16) -> Bool {
    let digits = String(port, radix: 16, uppercase: true)
    let place = ":" + String(repeating: "0", count: 4 - digits.count) + digits
    return ["tcp", "tcp6"].contains { table in
        let lines = (try? String(contentsOfFile: "/proc/self/net/\(table)", encoding: .utf8)) ?? ""
        return lines.split(separator: "\n").dropFirst().contains { line in
            let fields = line.split(separator: " ")
            return fields.count > 3 && fields[1].hasSuffix(place) && fields[3] == "0A"
        }
    }
}

func withLoopback<R>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}
