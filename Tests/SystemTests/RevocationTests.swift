import Foundation
import Glibc
import Testing

extension System {
    /// Connections that were made with a client certificate, after it has lost its force.
    @Suite struct `A live connection with a client certificate` {
        private let authority: Authority
        private let broker: Martlet

        init() throws {
            authority = try Authority()
            try authority.issue("first", "/CN=A1")
            try authority.issue("second", "/CN=A2")
            try authority.list()
            broker = try Martlet([
                "certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))",
                "cafile \(authority.file("ca.crt"))", "require_certificate true", "use_identity_as_username true",
                "crlfile \(authority.file("crl.pem"))", "shards 2",
            ])
        }

        private func connect(_ name: String) throws -> Program {
            let client = try Program(
                "mosquitto_sub",
                [
                    "-h", "localhost", "-p", "\(broker.port)", "--cafile", authority.file("ca.crt"), "--cert",
                    authority.file("\(name).crt"), "--key", authority.file("\(name).key"), "-i", name, "-t", "a",
                ])
            try broker.program.waitForLine(containing: " as \(name) ")
            return client
        }

        @Test func `ends when a reload finds its certificate revoked, and no other does`() throws {
            let (first, second) = (try connect("first"), try connect("second"))
            try authority.revoke("first")
            try authority.list()
            broker.program.signal(SIGHUP)
            _ = try first.waitForEnd()
            try broker.program.waitForLine(containing: "Client first [127.0.0.1:")
            #expect(broker.program.output.contains("disconnected: no longer authorised."))
            try broker.program.waitForLine(containing: "configuration reloaded")
            #expect(second.endIfOver() == nil)
            try broker.stop()
        }

        @Test func `ends when a reload trusts another authority`() throws {
            let first = try connect("first")
            let other = try Authority("another")
            try other.list()
            for name in ["ca.crt", "crl.pem"] { try authority.directory.write(other.directory.text(name), name) }
            broker.program.signal(SIGHUP)
            _ = try first.waitForEnd()
            try broker.program.waitForLine(containing: "no longer authorised")
            try broker.stop()
        }

        @Test func `goes on when a reload finds nothing changed`() throws {
            let first = try connect("first")
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "configuration reloaded")
            let publisher = try connect("second")
            #expect(first.endIfOver() == nil)
            publisher.signal(SIGTERM)
            try broker.stop()
        }
    }
}
