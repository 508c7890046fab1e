import Foundation
import Glibc

/// A directory that goes away with the test. Everybody may use it, for a broker that root starts becomes another user.
final class TemporaryDirectory {
    let path = temporaryFile("d")

    init() throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        chmod(path, 0o777)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func text(_ name: String) -> String {
        String(decoding: FileManager.default.contents(atPath: "\(path)/\(name)") ?? Data(), as: UTF8.self)
    }

    func write(_ text: String, _ name: String) throws {
        try text.write(toFile: "\(path)/\(name)", atomically: true, encoding: .utf8)
    }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(path)/\(name)") }
}

/// What `certs/make-test-certificates` makes, for as long as a test lasts.
final class TestCertificates {
    private let directory: TemporaryDirectory

    var path: String { directory.path }

    init() throws {
        directory = try TemporaryDirectory()
        let program = try Program("\(packageRoot)/certs/make-test-certificates", [directory.path])
        let end = try program.waitForEnd(within: 60)
        guard end == .exited(0) else { throw Unexpected("no certificates: \(program.output)") }
    }
}

/// A broker whose configuration the test writes, and may write again.
final class ConfiguredMartlet {
    let directory: TemporaryDirectory
    let port: UInt16
    let program: Program

    init(
        _ lines: [String], in directory: TemporaryDirectory, arguments: [String] = [],
        environment: [String: String] = [:]
    ) throws {
        self.directory = directory
        port = try freePort()
        try Self.write(lines, port, directory)
        program = try Program(
            Martlet.binary, ["serve", "-c", "\(directory.path)/m.conf"] + arguments, environment: environment)
        let isListening = eventually(within: 20) { accepts(port) || program.endIfOver() != nil }
        guard isListening, program.endIfOver() == nil else {
            throw Unexpected("it does not listen; it said:\n\(program.output.suffix(2_000))")
        }
    }

    func configure(_ lines: [String]) throws { try Self.write(lines, port, directory) }

    private static func write(_ lines: [String], _ port: UInt16, _ directory: TemporaryDirectory) throws {
        let lines = othersReachFiles ? lines : stayingRoot(lines)
        let all = ["listener \(port) 127.0.0.1"] + lines.map { $0.replacing("DIR", with: directory.path) }
        try directory.write(all.joined(separator: "\n") + "\n", "m.conf")
    }

    func client(_ identifier: String) throws -> RawClient {
        let client = try RawClient(port: port)
        try client.connect(identifier)
        return client
    }
}

/// A unix socket that datagrams come to, as the system's log and a service manager have one.
final class DatagramReceiver {
    let path: String
    private let descriptor: Int32

    /// `@` in front makes it an abstract name.
    init(_ path: String) throws {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = path.hasPrefix("@") ? [0] + path.utf8.dropFirst() : Array(path.utf8)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = MemoryLayout<sa_family_t>.size + bytes.count
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(length))
            }
        }
        guard result == 0 else { throw Unexpected(errno: errno, during: "bind \(path)") }
        chmod(path, 0o777)
    }

    deinit {
        close(descriptor)
        if !path.hasPrefix("@") { unlink(path) }
    }

    func next(within seconds: Double = 10) throws -> String {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let count = poll(&entry, 1, Int32(seconds * patience * 1000))
        guard count == 1 else { throw Unexpected("no datagram came") }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let got = recv(descriptor, &bytes, bytes.count, 0)
        guard got >= 0 else { throw Unexpected(errno: errno, during: "recv") }
        return String(decoding: bytes.prefix(got), as: UTF8.self)
    }

    /// The next that begins so.
    func next(beginning prefix: String, within seconds: Double = 10) throws -> String {
        while true {
            let text = try next(within: seconds)
            if text.hasPrefix(prefix) { return text }
        }
    }
}
