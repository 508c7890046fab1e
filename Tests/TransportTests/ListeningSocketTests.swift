import Foundation
import Glibc
import Synchronization
import Testing
import Transport

@Suite struct `A listening socket` {
    let count = ConnectionCount()
    let total = ConnectionCount()

    private func listen(_ host: String = "127.0.0.1") throws -> ListeningSocket {
        let address = try #require(try SocketAddress.resolve(host, port: 0).first)
        return try ListeningSocket(address, count: count, total: total)
    }

    // MARK: Counting

    @Test func `lets in as many as allowed, and another one once one has gone`() throws {
        let socket = try listen()
        let clients = try (0..<4).map { _ in try connect(to: socket.address) }
        var streams: [Transport.Stream] = []
        for _ in 0..<2 { streams.append(try #require(accepted(socket.accept(atMost: 2)))) }
        guard case .refused(isListenerFull: true) = socket.accept(atMost: 2) else {
            Issue.record("a third one is refused")
            return
        }
        #expect((count.open, total.open) == (2, 2))
        streams.removeFirst()
        #expect((count.open, total.open) == (1, 1))
        streams.append(try #require(accepted(socket.accept(atMost: 2))))
        streams = []
        #expect((count.open, total.open) == (0, 0))
        for client in clients { close(client) }
    }

    @Test func `shares the limit of the server with others`() throws {
        let first = try listen()
        let second = try ListeningSocket(
            SocketAddress(ipv4: 0x7F00_0001, port: 0), count: ConnectionCount(), total: total)
        let clients = try [first, second, second].map { try connect(to: $0.address) }
        var streams = [try #require(accepted(first.accept(ofAll: 2))), try #require(accepted(second.accept(ofAll: 2)))]
        guard case .refused(isListenerFull: false) = second.accept(ofAll: 2) else {
            Issue.record("a third one is refused")
            return
        }
        // Who was refused by one count is not counted by the other.
        #expect((second.count.open, total.open) == (1, 2))
        streams.removeAll()
        #expect((count.open, second.count.open, total.open) == (0, 0, 0))
        for client in clients { close(client) }
    }

    /// A limit that a reload has made smaller throws nobody out.
    @Test func `goes by the limit of the moment`() throws {
        let socket = try listen()
        let clients = try (0..<3).map { _ in try connect(to: socket.address) }
        let streams = try (0..<2).map { _ in try #require(accepted(socket.accept())) }
        guard case .refused = socket.accept(atMost: 1) else {
            Issue.record("more than one are there")
            return
        }
        #expect(count.open == 2)
        withExtendedLifetime(streams) {}
        for client in clients { close(client) }
    }

    @Test func `counts right whoever accepts and closes at the same time`() throws {
        let socket = try listen()
        let (clients, most, threads) = (400, 30, 4)
        let descriptors = try (0..<clients).map { _ in try connect(to: socket.address) }
        let exceeded = Atomic<Bool>(false)
        let (handled, refused) = (Count(), Count())
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            var streams: [Transport.Stream] = []
            while handled.value < clients {
                switch socket.accept(atMost: most) {
                case .stream(let stream):
                    streams.append(stream)
                    handled.increase()
                case .refused:
                    streams.removeAll()
                    refused.increase()
                    handled.increase()
                default: break
                }
                if socket.count.open > most || socket.count.open < 0 { exceeded.store(true, ordering: .relaxed) }
            }
        }
        let wasExceeded = exceeded.load(ordering: .relaxed)
        #expect(!wasExceeded)
        #expect((count.open, total.open) == (0, 0))
        #expect(refused.value > 0, "the test reaches the limit")
        for descriptor in descriptors { close(descriptor) }
    }

    // MARK: Peers that vanish

    @Test(arguments: ["127.0.0.1", "::1"]) func `finds peers that vanish, and sends at once`(_ host: String) throws {
        let socket = try listen(host)
        let client = try connect(to: socket.address)
        defer { close(client) }
        let stream = try #require(accepted(socket.accept()))
        #expect(option(stream, SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(option(stream, CInt(IPPROTO_TCP), TCP_KEEPIDLE) == 300)
        #expect(option(stream, CInt(IPPROTO_TCP), TCP_KEEPINTVL) == 30)
        #expect(option(stream, CInt(IPPROTO_TCP), TCP_USER_TIMEOUT) == 600_000)
        #expect(option(stream, CInt(IPPROTO_TCP), TCP_NODELAY) == 1)
        #expect(stream.peer.host == host)
    }

    // MARK: Interfaces

    @Test func `takes what comes in through its interface only`() throws {
        var options = ListeningSocket.Options()
        options.interface = "lo"
        let socket = try ListeningSocket(
            SocketAddress(ipv4: 0, port: 0), options, count: count, total: total)
        let local = SocketAddress(ipv4: 0x7F00_0001, port: socket.address.port)
        close(try connect(to: local))
        #expect(accepted(socket.accept()) != nil)

        options.interface = "none-such"
        #expect(throws: SystemError(ENODEV, during: "SO_BINDTODEVICE")) {
            _ = try ListeningSocket(SocketAddress(ipv4: 0, port: 0), options, count: count, total: total)
        }
    }

    @Test func `knows the addresses of an interface`() throws {
        for name in ["lo", "LO"] {
            let addresses = try #require(try SocketAddress.addresses(ofInterface: name, port: 1883))
            #expect(addresses.contains(SocketAddress(ipv4: 0x7F00_0001, port: 1883)))
            #expect(!addresses.contains(SocketAddress(ipv4: 0x7F00_0001, port: 1884)))
        }
        #expect(try SocketAddress.addresses(ofInterface: "none-such", port: 1883) == nil)
    }

    // MARK: Unix sockets

    @Test func `at a path accepts, describes its peers by it, and goes with the listener`() throws {
        let path = temporaryPath()
        let socket = try ListeningSocket(SocketAddress(path: path), count: count, total: total)
        let client = try connect(to: socket.address)
        defer { close(client) }
        let stream = try #require(accepted(socket.accept()))
        #expect("\(socket.address)" == path && "\(stream.peer)" == path && stream.peer.host == path)
        #expect(socket.address.port == 0 && socket.address.family == AF_UNIX)
        #expect(exists(path))
        socket.stop()
        #expect(!exists(path))
    }

    @Test func `at a path goes with its value too`() throws {
        let path = temporaryPath()
        do {
            let socket = try ListeningSocket(SocketAddress(path: path), count: count, total: total)
            #expect(exists(socket.address.host))
        }
        #expect(!exists(path))
    }

    @Test func `at a path takes the place of a dead one, not of a living one`() throws {
        let path = temporaryPath()
        defer { unlink(path) }
        // As a process leaves it that is killed.
        let dead = try descriptor(AF_UNIX)
        let address = SocketAddress(path: path)
        #expect(address.withPointer { bind(dead, $0, address.length) } == 0)
        close(dead)
        #expect(exists(path))

        let living = try ListeningSocket(address, count: count, total: total)
        #expect(throws: SystemError(EADDRINUSE, during: "bind")) {
            _ = try ListeningSocket(address, count: count, total: total)
        }
        #expect(exists(path), "the second leaves the path alone")
        let client = try connect(to: address)
        defer { close(client) }
        #expect(accepted(living.accept()) != nil)
    }

    @Test func `at a path leaves a file alone that is no socket, or not its own`() throws {
        let path = temporaryPath()
        defer { unlink(path) }
        try "precious".write(toFile: path, atomically: true, encoding: .utf8)
        #expect(throws: SystemError(EADDRINUSE, during: "bind")) {
            _ = try ListeningSocket(SocketAddress(path: path), count: count, total: total)
        }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
        unlink(path)

        let socket = try ListeningSocket(SocketAddress(path: path), count: count, total: total)
        unlink(path)
        try "precious".write(toFile: path, atomically: true, encoding: .utf8)
        socket.stop()
        #expect(exists(path))
    }

    @Test func `at the longest path accepts`() throws {
        let path = String((temporaryPath() + String(repeating: "x", count: 107)).prefix(107))
        let socket = try ListeningSocket(SocketAddress(path: path), count: count, total: total)
        defer { socket.stop() }
        let client = try connect(to: socket.address)
        defer { close(client) }
        #expect(accepted(socket.accept())?.peer.host == path)
    }
}

@Suite struct `An address` {
    @Test(arguments: [
        ("127.0.0.1", "127.0.0.1:1883"), ("::1", "[::1]:1883"), ("2001:db8::7", "[2001:db8::7]:1883"),
    ]) func `is written with its port`(_ host: String, _ text: String) throws {
        let address = try #require(try SocketAddress.resolve(host, port: 1883).first)
        #expect("\(address)" == text && address.host == host && address.port == 1883)
    }

    @Test func `is found of one version of IP only, each once`() throws {
        #expect(try SocketAddress.resolve(nil, port: 1, only: .ipv4).map(\.description) == ["0.0.0.0:1"])
        #expect(try SocketAddress.resolve(nil, port: 1, only: .ipv6).map(\.description) == ["[::]:1"])
        #expect(throws: ResolutionError.self) { try SocketAddress.resolve("127.0.0.1", port: 1, only: .ipv6) }
        let names = try SocketAddress.resolve("localhost", port: 1).map(\.description)
        #expect(Set(names).count == names.count)
    }

    @Test func `of a unix socket is its path, or says what it is`() {
        #expect("\(SocketAddress(path: "/run/martlet.sock"))" == "/run/martlet.sock")
        #expect("\(SocketAddress(path: ""))" == "unix")
    }
}

private final class Count: Sendable {
    private let number = Atomic<Int>(0)
    var value: Int { number.load(ordering: .relaxed) }
    func increase() { number.add(1, ordering: .relaxed) }
}

// MARK: - Plain sockets

private func accepted(_ result: ListeningSocket.Accepted) -> Transport.Stream? {
    guard case .stream(let stream) = result else { return nil }
    return stream
}

private func descriptor(_ family: CInt) throws -> CInt {
    let descriptor = socket(family, CInt(SOCK_STREAM.rawValue), 0)
    try #require(descriptor >= 0)
    return descriptor
}

/// Blocks until the connection waits to be accepted.
private func connect(to address: SocketAddress) throws -> CInt {
    let client = try descriptor(address.family)
    try #require(address.withPointer { Glibc.connect(client, $0, address.length) } == 0)
    return client
}

private func option(_ stream: Transport.Stream, _ level: CInt, _ name: CInt) -> CInt {
    var value: CInt = -1
    var length = socklen_t(MemoryLayout<CInt>.size)
    getsockopt(stream.rawDescriptor, level, name, &value, &length)
    return value
}

private func temporaryPath() -> String { "/tmp/martlet-\(getpid())-\(UUID().uuidString.prefix(8)).sock" }

private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
