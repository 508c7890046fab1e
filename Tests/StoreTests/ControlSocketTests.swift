import Foundation
import Glibc
import Logging
import Management
import Server
import Store
import Testing

@Suite(.serialized) struct `The control socket` {
    private let place = TemporaryDirectory()

    /// A socket with somebody behind it.
    private final class Service {
        let directory: DataDirectory
        let management: Management
        let socket: ControlSocket
        let path: String

        init(_ place: TemporaryDirectory, _ limits: ControlSocket.Limits = .init()) throws {
            directory = try place.open()
            management = try Management(directory.store(), in: directory)
            path = directory.shortPath(of: ControlSocket.fileName)
            socket = try ControlSocket(at: path, for: management, limits: limits, log: Logger(label: "test"))
            socket.start()
        }

    }

    /// The other end, which blocks; for long, since other suites may keep every thread busy with passwords.
    private final class Peer {
        let descriptor: Int32

        init?(_ path: String) {
            descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let length = socklen_t(MemoryLayout<sockaddr_un>.size)
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
            }
            var time = timeval(tv_sec: 300, tv_usec: 0)  // Other suites keep all threads busy for a time.
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            if result != 0 { return nil }
        }

        deinit { close(descriptor) }

        func send(_ text: String) { _ = Glibc.send(descriptor, text, text.utf8.count, Int32(MSG_NOSIGNAL)) }

        /// Nil at the end. Waits on a thread of its own: the other side needs those that tests run on.
        func line() async -> String? {
            let descriptor = descriptor
            return await withCheckedContinuation { continuation in
                DispatchQueue(label: "peer").async { continuation.resume(returning: Self.line(from: descriptor)) }
            }
        }

        private static func line(from descriptor: Int32) -> String? {
            var bytes: [UInt8] = []
            var byte: UInt8 = 0
            while read(descriptor, &byte, 1) == 1 {
                if byte == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
                bytes.append(byte)
            }
            return nil
        }
    }

    private let request = #"{"commands":[{"command":"listDevices","correlationData":"7"}]}"#

    @Test func `answers one line for each, on one connection`() async throws {
        var limits = ControlSocket.Limits()
        limits.patience = 300
        let service = try Service(place, limits)
        defer { service.socket.stop() }
        #expect(place.mode(ControlSocket.fileName) == 0o600)
        let peer = try #require(Peer(service.path))
        peer.send(request + "\n" + request + "\n")
        for _ in 0..<2 { #expect(await peer.line()?.contains(#""correlationData":"7""#) == true) }
        peer.send("not JSON\n")
        #expect(await peer.line()?.contains("invalid_request") == true)
        for character in request { peer.send(String(character)) }
        peer.send("\n")
        #expect(await peer.line()?.contains(#""total":0"#) == true)
    }

    @Test func `ends with who sends too long a line, after saying so`() async throws {
        var limits = ControlSocket.Limits()
        limits.requestBytes = 1000
        let service = try Service(place, limits)
        defer { service.socket.stop() }
        let peer = try #require(Peer(service.path))
        peer.send(String(repeating: "x", count: 1001))
        #expect(await peer.line()?.contains("at most 1000 bytes") == true)
        #expect(await peer.line() == nil)
    }

    @Test func `ends with who is too slow`() async throws {
        var limits = ControlSocket.Limits()
        limits.patience = 0.2
        let service = try Service(place, limits)
        defer { service.socket.stop() }
        let peer = try #require(Peer(service.path))
        peer.send("{")
        #expect(await peer.line() == nil)
    }

    @Test func `serves so many at once, and others when these have gone`() async throws {
        var limits = ControlSocket.Limits()
        limits.connections = 2
        let service = try Service(place, limits)
        defer { service.socket.stop() }
        var peers = try (0..<2).map { _ in try #require(Peer(service.path)) }
        for peer in peers {
            peer.send(request + "\n")
            #expect(await peer.line() != nil)
        }
        let third = try #require(Peer(service.path))
        #expect(await third.line()?.contains(#""code":"busy""#) == true)
        peers.removeAll()
        var answer: String?
        for _ in 0..<500 where answer?.contains("total") != true {
            let peer = try #require(Peer(service.path))
            peer.send(request + "\n")
            answer = await peer.line()
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(answer?.contains("total") == true)
    }

    @Test func `takes the place of one that a broker left behind, and leaves none`() async throws {
        let service = try Service(place)
        let path = "\(place.path)/\(ControlSocket.fileName)"
        service.socket.stop()
        #expect(!FileManager.default.fileExists(atPath: path))
        try await service.management.close()
        let left = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(left, $0, length) }
        }
        close(left)
        #expect(FileManager.default.fileExists(atPath: path))
        let again = try Service(place)
        defer { again.socket.stop() }
        #expect(Peer(again.path) != nil)
    }

    @Test func `works below a long path`() async throws {
        let outer = TemporaryDirectory()
        mkdir(outer.path, 0o700)
        let path = "\(outer.path)/\(String(repeating: "d", count: 150))"
        try DataDirectory.make(path)
        let directory = try DataDirectory(path)
        let management = try Management(directory.store(), in: directory)
        let short = directory.shortPath(of: ControlSocket.fileName)
        let socket = try ControlSocket(at: short, for: management, log: Logger(label: "test"))
        socket.start()
        defer { socket.stop() }
        let peer = try #require(Peer(short))
        peer.send(request + "\n")
        #expect(await peer.line()?.contains("total") == true)
    }
}
