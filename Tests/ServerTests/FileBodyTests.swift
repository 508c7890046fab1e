import Configuration
import Foundation
import Glibc
import HTTP
import HTTPTypes
import Logging
import Server
import Synchronization
import Testing
import Transport

/// A server whose requests are answered with files, plain and over TLS.
@Suite final class `A file that is sent` {
    private let files: Files
    private let server: BrokerServer
    private let ports: [UInt16]

    init() async throws {
        signal(SIGPIPE, SIG_IGN)
        files = try Files()
        var configuration = Configuration.defaults(port: 0)
        configuration.shards = 1
        configuration.listeners[0].application = .http
        configuration.listeners[0].address = "127.0.0.1"
        configuration.listeners.append(configuration.listeners[0])
        configuration.listeners[1].tls.certificateFile = try files.certificate()
        configuration.listeners[1].tls.keyFile = files.path("key.pem")
        server = try BrokerServer(
            configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        ports = server.addresses.map(\.port)
        server.setHandler { [files] request in await files.answer(request) }
        // Clients have patience only with a server that runs: beside long tests this task may have to wait for a thread.
        let (listening, isListening) = AsyncStream<Void>.makeStream()
        Task { [server] in try await server.run(whenListening: { isListening.finish() }) }
        for await _ in listening {}
    }

    deinit { server.stop() }

    private func on<Result: Sendable>(
        _ isSecure: Bool, receiveBytes: Int32? = nil, _ body: @escaping @Sendable (HTTPClient) throws -> Result
    ) async throws -> Result {
        try await Self.on(ports[isSecure ? 1 : 0], isSecure, receiveBytes: receiveBytes, body)
    }

    private static func on<Result: Sendable>(
        _ port: UInt16, _ isSecure: Bool, receiveBytes: Int32? = nil,
        _ body: @escaping @Sendable (HTTPClient) throws -> Result
    ) async throws -> Result {
        try await withBlockingThreads {
            Swift.Result { try body(HTTPClient(port: port, isSecure: isSecure, receiveBytes: receiveBytes)) }
        }.get()
    }

    @Test(arguments: [false, true], [0, 1, 16_384, 3_000_000])
    func `comes whole, and the connection goes on`(_ isSecure: Bool, _ size: Int) async throws {
        let content = try files.make(size)
        try await on(isSecure) { client in
            for _ in 0..<2 {
                try client.ask("/\(size)")
                let answer = try client.answer()
                #expect(answer.status == 200 && answer.body == content)
                #expect(answer.fields["content-length"] == "\(size)" && answer.fields["transfer-encoding"] == nil)
                #expect(answer.fields["accept-ranges"] == "bytes" && answer.fields["content-encoding"] == nil)
            }
        }
        await files.closed(2)
    }

    @Test func `comes from where the kernel can not send it by itself`() async throws {
        let content = try files.makeUnsendable()
        try #require(!content.isEmpty)
        try await on(false) { client in
            for _ in 0..<2 {
                try client.ask("/unsendable")
                let answer = try client.answer()
                #expect(answer.status == 200 && answer.body == content)
            }
        }
    }

    @Test(arguments: [false, true])
    func `comes in parts, as esp_https_ota asks for it`(_ isSecure: Bool) async throws {
        let content = try files.make(100_000)
        try await on(isSecure) { client in
            for (range, part) in [
                ("0-", 0..<100_000), ("0-65535", 0..<65_536), ("65536-100000", 65_536..<100_000),
                ("99999-", 99_999..<100_000),
                ("-5", 99_995..<100_000),
            ] {
                try client.ask("/100000", "Range: bytes=\(range)\r\n")
                let answer = try client.answer()
                #expect(answer.status == 206 && answer.body == Array(content[part]), "\(range)")
                #expect(answer.fields["content-range"] == "bytes \(part.lowerBound)-\(part.upperBound - 1)/100000")
            }
            try client.ask("/100000", "Range: bytes=100000-\r\n")
            let unsatisfiable = try client.answer()
            #expect(unsatisfiable.status == 416 && unsatisfiable.fields["content-range"] == "bytes */100000")
            try client.ask("/100000", "Range: bytes=1-\r\nIf-Range: \"other\"\r\n")
            #expect(try client.answer().body == content)
            try client.ask("/100000", "If-None-Match: \"t\"\r\n")
            #expect(try client.answer().status == 304)
            try client.ask("/100000", "Range: bytes=5-\r\n", method: "HEAD")
            let head = try client.answer(isToHead: true)
            #expect(head.status == 200 && head.fields["content-length"] == "100000")
            // Nothing came behind the head.
            try client.ask("/100000", "Range: bytes=7-8\r\n")
            #expect(try client.answer().body == Array(content[7...8]))
        }
        await files.closed(9)
    }

    @Test(arguments: [false, true])
    func `comes whole to a slow reader, while others are answered`(_ isSecure: Bool) async throws {
        let content = try files.make(3_000_000)
        let small = try files.make(10)
        let port = ports[isSecure ? 1 : 0]
        async let slow: Void = Self.on(port, isSecure, receiveBytes: 4096) { client in
            try client.ask("/3000000")
            #expect(try client.answer(slowly: true).body == content)
            try client.ask("/10")
            #expect(try client.answer().body == small)
        }
        try await on(isSecure) { client in
            for _ in 0..<50 {
                try client.ask("/10")
                #expect(try client.answer().body == small)
            }
        }
        try await slow
        await files.closed(52)
    }

    @Test(arguments: [false, true])
    func `is followed by the answers to what was asked behind it`(_ isSecure: Bool) async throws {
        let (content, small) = (try files.make(2_000_000), try files.make(10))
        try await on(isSecure, receiveBytes: 4096) { client in
            let head = "HTTP/1.1\r\nHost: a\r\n"
            try client.send(
                "GET /2000000 \(head)\r\nHEAD /2000000 \(head)\r\nGET /10 \(head)\r\nGET /2000000 \(head)Connection: close\r\n\r\n"
            )
            #expect(try client.answer().body == content)
            #expect(try client.answer(isToHead: true).fields["content-length"] == "2000000")
            #expect(try client.answer().body == small)
            #expect(try client.answer().body == content)
            #expect(try client.receive().isEmpty)
        }
        await files.closed(4)
    }

    @Test(arguments: [false, true])
    func `that gets shorter meanwhile ends the connection`(_ isSecure: Bool) async throws {
        let path = try files.makeEmpty(50_000_000)
        try await on(isSecure, receiveBytes: 4096) { client in
            try client.ask("/50000000")
            #expect(try client.receive(atMost: 1000).count > 0)
            truncate(path, 1_000_000)
            #expect(try client.receiveAll().count < 50_000_000)
        }
        await files.closed(1)
    }

    @Test(arguments: [false, true])
    func `is closed when the client goes away`(_ isSecure: Bool) async throws {
        _ = try files.makeEmpty(50_000_000)
        for _ in 0..<10 {
            try await on(isSecure, receiveBytes: 4096) { client in
                try client.ask("/50000000")
                #expect(try client.receive(atMost: 1000).count > 0)
            }
        }
        await files.closed(10)
        #expect(files.open == 0)
    }

    @Test func `is closed when nobody may have it`() async throws {
        _ = try files.make(1000)
        try await on(false) { client in
            try client.ask("/1000", method: "HEAD")
            _ = try client.answer(isToHead: true)
        }
        await files.closed(1)
    }
}

// MARK: -

/// Files in a directory of their own, by their size, and how many of them are open.
private final class Files: Sendable {
    private final class OpenOne: ServedFile {
        let descriptor: CInt
        private let files: Files

        init(_ descriptor: CInt, of files: Files) {
            self.descriptor = descriptor
            self.files = files
        }

        deinit {
            close(descriptor)
            files.count.withLock { $0 -= 1 }
            files.closing.yield()
        }
    }

    private let directory: URL
    private let count = Mutex(0)
    private let closings: AsyncStream<Void>
    private let closing: AsyncStream<Void>.Continuation

    init() throws {
        directory = URL.temporaryDirectory.appending(path: "martlet-files-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        (closings, closing) = AsyncStream.makeStream()
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    var open: Int { count.withLock { $0 } }

    func path(_ name: String) -> String { directory.appending(path: name).path }

    /// Returns when so many have been closed.
    func closed(_ count: Int) async {
        var left = count
        for await _ in closings {
            left -= 1
            if left == 0 { return }
        }
    }

    func make(_ size: Int) throws -> [UInt8] {
        // Of a length that no block of a disk or a buffer has.
        let pattern = (0..<10_007).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) }
        var content: [UInt8] = []
        while content.count < size { content += pattern }
        content.removeLast(content.count - size)
        try Data(content).write(to: directory.appending(path: "\(size)"))
        return content
    }

    /// From what lies there `sendfile` sends nothing, as with some file systems; its size is told as 0.
    func makeUnsendable() throws -> [UInt8] {
        symlink("/proc/self/environ", path("unsendable"))
        return Array(Self.unsendable)
    }

    private static let unsendable = FileManager.default.contents(atPath: "/proc/self/environ") ?? Data()

    func makeEmpty(_ size: Int) throws -> String {
        try Data().write(to: directory.appending(path: "\(size)"))
        truncate(path("\(size)"), size)
        return path("\(size)")
    }

    func certificate() throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/openssl")
        process.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            "/CN=localhost",
            "-keyout", path("key.pem"), "-out", path("certificate.pem"),
        ]
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        return path("certificate.pem")
    }

    func answer(_ request: Request) async -> Response {
        let descriptor = Glibc.open(path(String(request.rawPath.dropFirst())), O_RDONLY | O_CLOEXEC)
        var status = stat()
        guard descriptor >= 0, fstat(descriptor, &status) == 0 else { return Response(.notFound) }
        let unsendable = request.rawPath == "/unsendable" ? Self.unsendable : Data()
        count.withLock { $0 += 1 }
        var response = Response.content(
            ofFile: OpenOne(descriptor, of: self), size: Int(status.st_size) + unsendable.count,
            type: "application/json", eTag: "\"t\"", for: request)
        // Nothing of a file is compressed, whatever its type.
        response.compress(for: [.acceptEncoding: "gzip"])
        return response
    }
}
