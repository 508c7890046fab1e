import Foundation
import Glibc
import Testing
import Transport

/// mosquitto_pub against a context that knows one key.
@Suite struct `A pre-shared key` {
    /// What the client's exit status was, and whose key the server saw.
    private func connect(_ identity: String, _ key: String, _ version: String) throws -> (status: Int32, name: String?)
    {
        var settings = TLSSettings()
        settings.keyHint = "hint"
        settings.keys = { $0 == Array("device".utf8) ? [0xAB, 0xCD, 0xEF, 0x01] : nil }
        let context = try TLSContext(settings, tickets: TicketKeys())
        let address = try #require(try SocketAddress.resolve("127.0.0.1", port: 0).first)
        let socket = try ListeningSocket(address, count: ConnectionCount(), total: ConnectionCount())
        let client = Process()
        client.executableURL = URL(filePath: "/usr/bin/mosquitto_pub")
        client.arguments = [
            "-h", "127.0.0.1", "-p", "\(socket.address.port)", "-t", "a", "-m", "b", "--psk", key, "--psk-identity",
            identity, "--tls-version", version,
        ]
        client.standardError = FileHandle.nullDevice
        try client.run()
        defer { client.waitUntilExit() }
        while true {
            var entry = pollfd(fd: socket.rawDescriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 20_000) == 1 else { throw SystemError(ETIMEDOUT, during: "accept") }
            guard case .stream(let stream) = socket.accept(tls: context) else { continue }
            let name = serve(stream)
            client.waitUntilExit()
            return (client.terminationStatus, name)
        }
    }

    /// Shakes hands, accepts the CONNECT, and reads until the client goes. Returns the identity.
    private func serve(_ stream: Transport.Stream) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        var isAccepted = false
        for _ in 0..<1000 {
            switch stream.handshake() {
            case .done: break
            case .failed:
                stream.finish()
                return nil
            case .wantsToRead, .wantsToWrite:
                wait(for: stream)
                continue
            }
            switch stream.read(into: &buffer, from: 0) {
            case .bytes:
                if !isAccepted { _ = stream.write([0x20, 2, 0, 0].span) }
                isAccepted = true
            case .wouldBlock: wait(for: stream)
            case .end, .failed: return stream.keyIdentity.map { String(decoding: $0, as: UTF8.self) }
            }
        }
        return nil
    }

    private func wait(for stream: Transport.Stream) {
        var entry = pollfd(fd: stream.rawDescriptor, events: Int16(POLLIN), revents: 0)
        poll(&entry, 1, 20_000)
    }

    @Test(arguments: ["tlsv1.2", "tlsv1.3"]) func `lets in who has it, and nobody else`(_ version: String) throws {
        #expect(try connect("device", "ABCDEF01", version) == (0, "device"))
        let wrongKey = try connect("device", "ABCDEF02", version)
        #expect(wrongKey.status != 0 && wrongKey.name == nil)
        let wrongName = try connect("other", "ABCDEF01", version)
        #expect(wrongName.status != 0 && wrongName.name == nil)
    }
}
