import Foundation
import Glibc
import Testing

extension System {
    /// A listener with a certificate.
    @Suite struct `Over TLS` {
        let authority: Authority

        init() throws { authority = try Authority() }

        private func broker(_ lines: [String] = []) throws -> Martlet {
            try Martlet(
                ["certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))", "log_type all"]
                    + lines)
        }

        /// The end of a mosquitto_pub that sends one message.
        private func publish(_ port: UInt16, _ arguments: [String]) throws -> Program.End {
            let program = try Program(
                "mosquitto_pub", ["-h", "localhost", "-p", "\(port)", "-t", "a", "-m", "b", "-q", "1"] + arguments)
            return try program.waitForEnd()
        }

        private var trust: [String] { ["--cafile", authority.file("ca.crt")] }

        private func showing(_ name: String) -> [String] {
            trust + ["--cert", authority.file("\(name).crt"), "--key", authority.file("\(name).key")]
        }

        // MARK: - Who may

        @Test func `a client that trusts the authority is served, another one goes`() throws {
            let broker = try broker()
            #expect(try publish(broker.port, trust) == .exited(0))
            #expect(try publish(broker.port, trust + ["--tls-version", "tlsv1.2"]) == .exited(0))
            let other = try Authority("another")
            #expect(try publish(broker.port, ["--cafile", other.file("ca.crt")]) != .exited(0))
            try broker.program.waitForLine(containing: "TLS: the peer says: tlsv1 alert unknown ca")
            #expect(try publish(broker.port, []) != .exited(0), "without TLS")
            try broker.program.waitForLine(containing: "TLS: wrong version number")
            try broker.stop()
        }

        @Test func `require_certificate lets in who has a good one, and the log says what is wrong with others`() throws
        {
            try authority.issue("good", "/O=Fleet/CN=A1")
            try authority.issue("old", "/CN=A2", dates: ("20200101000000Z", "20200201000000Z"))
            try authority.issue("early", "/CN=A3", dates: ("20900101000000Z", "20910101000000Z"))
            try authority.issue("revoked", "/CN=A4")
            try authority.issue("web", "/CN=A5", "extendedKeyUsage=serverAuth")
            try authority.revoke("revoked")
            try authority.list()
            let stranger = try Authority("another")
            try stranger.issue("good", "/CN=A1")
            let lines = [
                "cafile \(authority.file("ca.crt"))", "require_certificate true",
                "crlfile \(authority.file("crl.pem"))",
            ]
            let broker = try broker(lines)
            #expect(try publish(broker.port, showing("good")) == .exited(0))
            for (name, reason) in [
                ("old", "certificate has expired"), ("early", "certificate is not yet valid"),
                ("revoked", "certificate revoked"), ("web", "unsuitable certificate purpose"),
            ] {
                #expect(try publish(broker.port, showing(name)) != .exited(0), "\(name)")
                try broker.program.waitForLine(containing: "TLS: certificate verify failed: \(reason)")
            }
            let foreign = ["--cert", stranger.file("good.crt"), "--key", stranger.file("good.key")]
            #expect(try publish(broker.port, trust + foreign) != .exited(0))
            #expect(try publish(broker.port, trust) != .exited(0))
            try broker.program.waitForLine(containing: "TLS: peer did not return a certificate")
            try broker.stop()

            let lenient = try self.broker(lines + ["disable_client_cert_date_checks true"])
            #expect(try publish(lenient.port, showing("old")) == .exited(0))
            #expect(try publish(lenient.port, showing("early")) == .exited(0))
            #expect(try publish(lenient.port, showing("revoked")) != .exited(0))
            try lenient.stop()
        }

        @Test func `a cafile alone asks nobody for a certificate`() throws {
            let broker = try broker(["cafile \(authority.file("ca.crt"))"])
            #expect(try publish(broker.port, trust) == .exited(0))
            #expect(try publish(broker.port, showing("server")) == .exited(0))
            try broker.stop()
        }

        // MARK: - What is spoken

        @Test(arguments: [
            ("-tls1 -cipher ALL:@SECLEVEL=0", ""), ("-tls1_1 -cipher ALL:@SECLEVEL=0", ""), ("-tls1_2", "TLSv1.2"),
            ("-tls1_3", "TLSv1.3"), ("-tls1_2 -cipher NULL:aNULL:@SECLEVEL=0", ""), ("-tls1_2 -cipher PSK", ""),
            ("-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2"),
        ])
        func `old versions and weak ciphers are refused`(_ arguments: String, _ version: String) throws {
            let broker = try broker()
            let output = try secureClient(broker.port, arguments)
            #expect(output.contains("New, \(version.isEmpty ? "(NONE)" : version)"), "\(output)")
            try broker.stop()
        }

        @Test func `tls_version and ciphers narrow what is spoken`() throws {
            let newest = try broker(["tls_version tlsv1.3", "ciphers_tls1.3 TLS_CHACHA20_POLY1305_SHA256"])
            #expect(try !secureClient(newest.port, "-tls1_2").contains("New, TLSv1"))
            #expect(try secureClient(newest.port, "-tls1_3").contains("Cipher is TLS_CHACHA20_POLY1305_SHA256"))
            try newest.stop()
            let one = try broker(["ciphers ECDHE-ECDSA-AES128-GCM-SHA256"])
            #expect(
                try secureClient(one.port, "-tls1_2").contains("New, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"))
            #expect(try !secureClient(one.port, "-tls1_2 -cipher AES256").contains("New, TLSv1.2"))
            try one.stop()
        }

        @Test func `a renegotiation is refused`() throws {
            let broker = try broker()
            let output = try secureClient(broker.port, "-tls1_2", input: "echo R; sleep 3")
            #expect(output.contains("RENEGOTIATING") && output.contains("no renegotiation"), "\(output)")
            try broker.stop()
        }

        @Test func `ALPN is answered where MQTT was offered, and no mistake where it was not`() throws {
            let broker = try broker()
            #expect(try secureClient(broker.port, "-alpn mqtt").contains("ALPN protocol: mqtt"))
            #expect(try secureClient(broker.port, "-alpn h2,x-amzn-mqtt-ca").contains("ALPN protocol: x-amzn-mqtt-ca"))
            let output = try secureClient(broker.port, "-alpn h2")
            #expect(output.contains("No ALPN negotiated") && output.contains("New, TLSv1"))
            try broker.stop()
        }

        @Test(arguments: ["-tls1_2", "-tls1_3"])
        func `a small client gets small records`(_ version: String) throws {
            let names = (0..<60).map { "DNS:name-\($0).example.org" }.joined(separator: ",")
            try authority.issue("wide", "/CN=localhost", "subjectAltName=\(names)")
            let broker = try Martlet([
                "certfile \(authority.file("wide.crt"))", "keyfile \(authority.file("wide.key"))",
            ])
            /// The longest record from the broker: each header of one is a line, followed by its five bytes.
            func longest(_ arguments: String) throws -> Int {
                let lines = try secureClient(broker.port, "\(version) \(arguments) -msg").split(separator: "\n")
                let lengths = zip(lines, lines.dropFirst())
                    .filter { $0.0.hasPrefix("<<<") && $0.0.contains("RecordHeader") }
                    .compactMap { Int($0.1.split(separator: " ").suffix(2).joined(), radix: 16) }
                return try #require(lengths.max())
            }
            #expect(try longest("-maxfraglen 512") <= 512 + 64)
            #expect(try longest("") > 512 + 64)
            try broker.stop()
        }

        // MARK: - Resumption

        /// Whether a second connection resumes the session of a first; the broker ends both, once the ticket has arrived.
        private func resumes(_ port: UInt16, _ arguments: String, between: () throws -> Void = {}) throws -> Bool {
            let session = temporaryFile("session")
            defer { unlink(session) }
            let first = try secureClient(port, "\(arguments) -ign_eof -sess_out \(session)")
            guard first.contains("New, TLSv1") else { throw Unexpected("no handshake: \(first)") }
            try between()
            let second = try secureClient(port, "\(arguments) -sess_in \(session)")
            return second.contains("Reused, TLSv1")
        }

        @Test(arguments: ["-tls1_2", "-tls1_3"]) func `a session is resumed`(_ version: String) throws {
            try authority.issue("good", "/CN=A1")
            let certificate = "-cert \(authority.file("good.crt")) -key \(authority.file("good.key"))"
            let plain = try broker(["connect_timeout 1s"])
            #expect(try resumes(plain.port, version))
            // A reload changes nothing in that.
            #expect(
                try resumes(plain.port, version) {
                    plain.program.signal(SIGHUP)
                    try plain.program.waitForLine(containing: "configuration reloaded")
                })
            try plain.stop()
            let mutual = try broker([
                "connect_timeout 1s", "cafile \(authority.file("ca.crt"))", "require_certificate true",
            ])
            #expect(try resumes(mutual.port, "\(version) \(certificate)"))
            try mutual.stop()
        }

        @Test(arguments: ["-tls1_2", "-tls1_3"])
        func `a session is not resumed once its certificate is revoked, nor once the authority is another`(
            _ version: String
        ) throws {
            try authority.issue("good", "/CN=A1")
            try authority.list()
            try FileManager.default.copyItem(atPath: authority.file("ca.crt"), toPath: authority.file("trusted.pem"))
            let certificate = "-cert \(authority.file("good.crt")) -key \(authority.file("good.key"))"
            let broker = try broker([
                "connect_timeout 1s", "cafile \(authority.file("trusted.pem"))", "require_certificate true",
                "crlfile \(authority.file("crl.pem"))",
            ])
            #expect(try resumes(broker.port, "\(version) \(certificate)"))
            #expect(
                try !resumes(broker.port, "\(version) \(certificate)") {
                    try authority.revoke("good")
                    try authority.list()
                    broker.program.signal(SIGHUP)
                    try broker.program.waitForLine(containing: "configuration reloaded")
                })
            try broker.program.waitForLine(containing: "certificate verify failed: certificate revoked")

            try authority.issue("new", "/CN=A2")
            let newcomer = "-cert \(authority.file("new.crt")) -key \(authority.file("new.key"))"
            let reloads = { broker.program.lines.filter { $0.contains("configuration reloaded") }.count }
            let isResumed = try resumes(broker.port, "\(version) \(newcomer)") {
                let before = reloads()
                let other = try Authority("another")
                try other.directory.text("ca.crt").write(
                    toFile: authority.file("trusted.pem"), atomically: true, encoding: .utf8)
                broker.program.signal(SIGHUP)
                #expect(eventually { reloads() > before })
            }
            #expect(!isResumed)
            try broker.stop()
        }

        // MARK: - Bytes

        @Test func `a megabyte goes both ways, also to a slow reader`() throws {
            let broker = try broker()
            let payload = String(repeating: "0123456789abcdef", count: 65_536)
            let directory = try TemporaryDirectory()
            try directory.write(payload, "payload")
            let subscriber = try Program(
                "mosquitto_sub",
                ["-h", "localhost", "-p", "\(broker.port)", "-t", "big", "-C", "3", "-q", "1"] + trust)
            try broker.program.waitForLine(containing: " 1 big")
            // It reads nothing while all of it comes.
            subscriber.signal(SIGSTOP)
            for _ in 0..<3 {
                let publisher = try Program(
                    "mosquitto_pub",
                    [
                        "-h", "localhost", "-p", "\(broker.port)", "-t", "big", "-q", "1", "-f",
                        "\(directory.path)/payload",
                    ]
                        + trust)
                #expect(try publisher.waitForEnd() == .exited(0))
            }
            subscriber.signal(SIGCONT)
            #expect(try subscriber.waitForEnd() == .exited(0))
            #expect(subscriber.output == String(repeating: payload + "\n", count: 3))
            try broker.stop()
        }

        @Test(arguments: [1, 2])
        func `packets that come together with the end of the handshake are all handled, in order`(_ shards: Int) throws
        {
            let broker = try broker(["shards \(shards)"])
            for (number, count) in [1, 64, 64, 64, 200, 200].enumerated() {
                let client = try SecureClient(port: broker.port, authority, holding: true)
                let payload = [UInt8](repeating: 7, count: 1000)
                var bytes = Packet.connect("early\(number)")
                for identifier in 1...count {
                    bytes += Packet.publish(Array("t".utf8), payload, qos: 1, identifier: UInt16(identifier))
                }
                client.send(bytes + Packet.pingRequest)
                client.release()
                var expected: [UInt8] = [0x20, 2, 0, 0]
                for identifier in 1...count { expected += Packet.acknowledge(0x40, UInt16(identifier)) }
                expected += [0xD0, 0]
                let received = client.receive(expected.count)
                #expect(received == expected, "\(received.count) of \(expected.count) bytes")
            }
            try broker.stop()
        }

        @Test(arguments: [true, false])
        func `what came before a client's end counts, and then its will`(_ isOrderly: Bool) throws {
            let port = try freePort()
            let broker = try broker(["listener \(port) 127.0.0.1"])
            let witness = try RawClient(port: port)
            try witness.connect("witness")
            try witness.subscribe([("will", 0), ("last", 0)])
            let client = try SecureClient(port: broker.port, authority)
            client.send(Packet.connect("halved", will: ("will", "gone", 0)))
            #expect(client.receive(4) == [0x20, 2, 0, 0])
            client.send(Packet.publish("last", "word"))
            if isOrderly { client.finish() } else { client.cut() }
            #expect(try witness.receive().text == "word")
            #expect(try witness.receive().text == "gone")
            #expect(client.isClosed())
            try broker.program.waitForLine(containing: "connection closed by client")
            try broker.stop()
        }

        // MARK: - Those who do not shake hands

        @Test func `whoever stalls, or sends something else, is closed in time and counted`() throws {
            let broker = try broker(["connect_timeout 1s", "sys_interval 1"])
            let hello: [UInt8] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3] + [UInt8](repeating: 7, count: 40)
            for bytes in [[], [0x16], hello] as [[UInt8]] {
                let client = try RawClient(port: broker.port)
                try client.send(bytes)
                #expect(client.isClosed(within: 5))
            }
            try broker.program.waitForLine(containing: "no TLS handshake in time")
            for bytes in [
                Packet.connect("plain"), Array("GET / HTTP/1.1\r\n\r\n".utf8), [UInt8](repeating: 0xFF, count: 600),
            ] {
                let client = try RawClient(port: broker.port)
                try client.send(bytes)
                #expect(client.isClosed(within: 5))
            }
            let dripping = try RawClient(port: broker.port)
            for byte in hello {
                guard !dripping.isClosed(within: 0.05 / patience) else { break }
                try? dripping.send([byte])
            }
            #expect(dripping.isClosed(within: 5))
            let subscriber = try Program(
                "mosquitto_sub",
                ["-h", "localhost", "-p", "\(broker.port)", "-t", "$SYS/broker/tls/handshakes/failed", "-C", "1"]
                    + trust)
            #expect(try subscriber.waitForEnd() == .exited(0))
            #expect((Int(subscriber.output.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0) >= 7)
            try broker.stop()
        }

        @Test func `a ClientHello may come byte by byte, behind the line of a proxy`() throws {
            let broker = try broker(["enable_proxy_protocol 1"])
            let relay = try Relay(to: broker.port, first: Array("PROXY TCP4 192.0.2.1 192.0.2.9 56324 8883\r\n".utf8))
            #expect(try publish(relay.port, trust + ["-i", "behind"]) == .exited(0))
            try broker.program.waitForLine(containing: "New client connected from 192.0.2.1:56324 as behind")
            #expect(relay.count > 200)
            try broker.stop()
        }

        @Test func `those who are connected are answered while many shake hands and many stall`() throws {
            let port = try freePort()
            let broker = try broker(["listener \(port) 127.0.0.1"])
            let client = try RawClient(port: port)
            try client.connect("plain")
            let stalled = try (0..<200).map { _ in
                let client = try RawClient(port: broker.port)
                try client.send([0x16, 3, 1])
                return client
            }
            let storm = try (0..<4).map { _ in
                try Program(
                    "/bin/sh",
                    [
                        "-c",
                        "for i in 1 2 3 4 5 6 7 8; do openssl s_client -connect 127.0.0.1:\(broker.port) </dev/null & done; wait",
                    ])
            }
            while storm.contains(where: { $0.endIfOver() == nil }) { try client.ping() }
            #expect(storm.allSatisfy { $0.output.contains("New, TLSv1.3") })
            try client.ping()
            #expect(try publish(broker.port, trust) == .exited(0))
            withExtendedLifetime(stalled) {}
            try broker.stop()
        }

        @Test func `those who stall take no more than the places there are, and give them up to others`() throws {
            let port = try freePort()
            let broker = try broker(["listener \(port) 127.0.0.1", "connect_timeout 60s"])
            let client = try RawClient(port: port)
            try client.connect("plain")
            let before = broker.residentMegabytes
            let most = 4096  // LobbyCore.mostGuests
            let stalled = try (0..<most + 100).map { _ in
                let client = try RawClient(port: broker.port)
                try client.send([0x16, 3, 1])
                return client
            }
            try client.ping()
            // All places are taken: the oldest go after a while, long before `connect_timeout`, and no more of them than needed.
            let late = try SecureClient(port: broker.port, authority)
            late.send(Packet.connect("late"))
            #expect(late.receive(4) == [0x20, 2, 0, 0])
            try broker.program.waitForLine(containing: "no TLS handshake in time")
            #expect(stalled[0].isClosed(within: 1))
            #expect(broker.residentMegabytes - before < Double(most) * 0.064)
            try client.ping()
            withExtendedLifetime(stalled) {}
            try broker.stop()
        }

        @Test func `with too few descriptors those who shake hands wait for one, and the broker sleeps`() throws {
            let broker = try Martlet(
                [
                    "certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))",
                    "connect_timeout 60s",
                ], openFiles: 96)
            var stalled = try (0..<100).map { _ in
                let client = try RawClient(port: broker.port)
                try client.send([0x16, 3, 1])
                return client
            }
            try broker.program.waitForLine(containing: "no new connections for now")
            let before = broker.processorSeconds
            poll(nil, 0, 1_000)
            #expect(broker.processorSeconds - before < 0.3, "it spins")
            // One that was accepted and closed at once, at each attempt, has been refused, not kept waiting.
            #expect(stalled.filter(\.hasInput).count <= 4)
            stalled = []
            #expect(eventually { (try? publish(broker.port, trust)) == .exited(0) })
            try broker.stop()
        }

        // MARK: - Files

        @Test func `a reload brings a new certificate to those who come next, and a bad one nothing`() throws {
            let directory = try TemporaryDirectory()
            func install(_ authority: Authority) throws {
                for name in ["server.crt", "server.key"] {
                    try directory.write(authority.directory.text(name), name)
                    chmod("\(directory.path)/\(name)", 0o644)
                }
            }
            try install(authority)
            let broker = try ConfiguredMartlet(
                ["allow_anonymous true", "certfile DIR/server.crt", "keyfile DIR/server.key"], in: directory)
            let subscriber = try Program.unbuffered(
                "mosquitto_sub", ["-h", "localhost", "-p", "\(broker.port)", "-t", "a", "-C", "2", "-v"] + trust)
            #expect(
                eventually { (try? publish(broker.port, trust)) == .exited(0) && subscriber.output.contains("a b") })

            let other = try Authority("another")
            try install(other)
            try directory.write("no key", "server.key")
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "the configuration is not reloaded")
            #expect(broker.program.output.contains("m.conf:4: keyfile '\(directory.path)/server.key'"))
            #expect(try publish(broker.port, ["--cafile", other.file("ca.crt")]) != .exited(0))

            try install(other)
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "configuration reloaded")
            #expect(try publish(broker.port, ["--cafile", other.file("ca.crt")]) == .exited(0))
            #expect(try publish(broker.port, trust) != .exited(0))
            #expect(try subscriber.waitForEnd() == .exited(0), "who was connected stays so")
            broker.program.signal(SIGTERM)
            #expect(try broker.program.waitForEnd() == .exited(0))
        }

        @Test(arguments: [
            ("certfile /nowhere/x.crt\nkeyfile KEY", "2: certfile '/nowhere/x.crt': No such file or directory"),
            ("certfile CERT\nkeyfile OTHER", "3: keyfile 'OTHER': is not the key of the certificate"),
            ("certfile KEY\nkeyfile KEY", "2: certfile 'KEY': holds nothing of that kind in PEM"),
            ("certfile CERT\nkeyfile LOCKED", "3: keyfile 'LOCKED': is locked with a passphrase"),
            ("certfile CERT\nkeyfile KEY\ncafile KEY", "4: cafile 'KEY'"),
            ("certfile CERT\nkeyfile KEY\nciphers nonsense", "4: ciphers 'nonsense': names no cipher that there is"),
            ("certfile CERT\nkeyfile KEY\ncrlfile CERT", "4: crlfile 'CERT': holds nothing of that kind in PEM"),
            ("certfile CERT\nkeyfile KEY\ndhparamfile CERT", "4: dhparamfile 'CERT'"),
        ])
        func `what can't be used stops the start, with status 3 and the line`(_ text: String, _ error: String) throws {
            let other = try Authority("another")
            let locked = try Program(
                "openssl",
                [
                    "pkey", "-in", authority.file("server.key"), "-aes256", "-passout", "pass:x", "-out",
                    authority.file("locked.key"),
                ])
            #expect(try locked.waitForEnd() == .exited(0))
            func filled(_ text: String) -> String {
                text.replacing("CERT", with: authority.file("server.crt")).replacing(
                    "LOCKED", with: authority.file("locked.key")
                ).replacing("OTHER", with: other.file("server.key")).replacing(
                    "KEY", with: authority.file("server.key"))
            }
            let directory = try TemporaryDirectory()
            try directory.write("listener \(try freePort())\n\(filled(text))\nuser root\n", "m.conf")
            let program = try Program(Martlet.binary, ["serve", "-c", "\(directory.path)/m.conf"])
            #expect(try program.waitForEnd() == .exited(3))
            #expect(program.output.contains("m.conf:\(filled(error))"), "\(program.output)")
            #expect(program.lines.filter { $0.contains("m.conf:") }.count == 1)
        }
    }
}
