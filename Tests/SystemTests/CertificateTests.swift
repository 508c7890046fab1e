import Foundation
import Glibc
import Testing

extension System {
    @Suite struct `martlet certs` {
        private let directory: TemporaryDirectory

        init() throws { directory = try TemporaryDirectory() }

        private var certificates: String { "\(directory.path)/data/certs" }

        /// Runs it to its end.
        @discardableResult
        private func certs(_ arguments: String...) throws -> (end: Program.End, output: String) {
            try ended(
                Martlet.binary, ["certs"] + arguments + ["--data", "\(directory.path)/data"])
        }

        private func ended(_ tool: String, _ arguments: [String]) throws -> (end: Program.End, output: String) {
            let program = try Program(tool, arguments)
            return (try program.waitForEnd(within: 60), program.output)
        }

        private func verify(_ file: String, _ arguments: String...) throws -> String {
            let all = ["verify", "-x509_strict", "-CAfile", "\(certificates)/ca.pem"] + arguments + [file]
            return try ended("openssl", all).output
        }

        /// The serial numbers that the list has, by name.
        private func listed() throws -> [String: [String]] {
            struct List: Decodable {
                struct Row: Decodable {
                    let name: String
                    let serial: String
                    let state: String
                }
                let certificates: [Row]
            }
            let text = try certs("list", "--json").output
            let rows = try JSONDecoder().decode(List.self, from: Data(text.utf8)).certificates
            return Dictionary(grouping: rows, by: \.name).mapValues { $0.map { "\($0.state) \($0.serial)" } }
        }

        @Test func `makes an authority and certificates that openssl takes`() throws {
            #expect(try certs("init", "--name", "mqtt.example.org").end == .exited(0))
            #expect(try verify("\(certificates)/server.pem", "-purpose", "sslserver").hasSuffix(": OK\n"))
            #expect(
                try verify("\(certificates)/server.pem", "-verify_hostname", "mqtt.example.org").hasSuffix(": OK\n"))
            let made = try certs("device", "0c5d32dd2568", "--out", directory.path)
            #expect(made.end == .exited(0), "\(made.output)")
            for name in ["0C5D32DD2568.pem", "0C5D32DD2568.key", "0C5D32DD2568.h", "ca.pem"] {
                #expect(directory.exists(name))
            }
            let list = "\(certificates)/crl.pem"
            let check = ["-purpose", "sslclient", "-crl_check", "-CRLfile", list]
            func result() throws -> String {
                try verify("\(directory.path)/0C5D32DD2568.pem", check[0], check[1], check[2], check[3], check[4])
            }
            #expect(try result().hasSuffix(": OK\n"))
            #expect(try listed()["0C5D32DD2568"]?.count == 1)
            #expect(try certs("revoke", "0c5d32dd2568").end == .exited(0))
            #expect(try result().contains("certificate revoked"))
            #expect(try listed()["0C5D32DD2568"]?.first?.hasPrefix("revoked ") == true)
            let before = directory.text("data/certs/server.pem")
            #expect(try certs("renew").end == .exited(0))
            #expect(directory.text("data/certs/server.pem") != before)
            #expect(
                try verify("\(certificates)/server.pem", "-verify_hostname", "mqtt.example.org").hasSuffix(": OK\n"))
        }

        @Test func `signs the request of a device that keeps its key`() throws {
            try certs("init")
            let request = "\(directory.path)/a.csr"
            let key = "\(directory.path)/a.key"
            _ = try ended(
                "openssl",
                [
                    "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out",
                    request, "-subj", "/CN=ADMIN",
                ])
            let signed = try certs("sign", request, "--device", "ab-1", "--days", "30")
            #expect(signed.end == .exited(0))
            try directory.write(signed.output, "a.pem")
            #expect(try verify("\(directory.path)/a.pem", "-purpose", "sslclient").hasSuffix(": OK\n"))
            let subject = try ended("openssl", ["x509", "-in", "\(directory.path)/a.pem", "-noout", "-subject"]).output
            #expect(subject == "subject=CN = AB-1\n")
        }

        @Test(
            arguments: [
                (["device"], 2), (["device", "ESP32_AB"], 2), (["device", "a/b"], 2),
                (["device", "A", "--days", "0"], 2),
                (["device", "A", "--key-type", "dsa"], 2), (["init", "--name", "a..b"], 2), (["nonsense"], 2),
                (["device", "A", "--out", "/nonexistent"], 1), (["revoke", "UNKNOWN"], 1), (["list"], 1),
                (["renew"], 1),
                (["device", "A"], 1), (["sign", "/nonexistent", "--device", "A"], 1),
                (["sign", "/etc/passwd", "--device", "A"], 1),
            ] as [([String], Int32)])
        func `says in one line why not`(_ arguments: [String], _ status: Int32) throws {
            let outcome = try ended(
                Martlet.binary,
                ["certs"] + arguments + (arguments == ["nonsense"] ? [] : ["--data", "\(directory.path)/data"]))
            #expect(outcome.end == .exited(status))
            #expect(outcome.output.split(separator: "\n").count == 1, "\(outcome.output)")
            #expect(outcome.output.hasPrefix("martlet: "))
            #expect(!directory.exists("data"))
        }

        @Test func `replaces no files of a device, and says so`() throws {
            try certs("init")
            try certs("device", "A", "--out", directory.path)
            let key = directory.text("A.key")
            let again = try certs("device", "A", "--out", directory.path)
            #expect(again.end == .exited(1) && again.output.contains("is there already"))
            #expect(directory.text("A.key") == key)
            #expect(try listed()["A"]?.count == 1, "nothing was issued in vain")
            #expect(try certs("device", "A", "--out", directory.path, "--force").end == .exited(0))
            #expect(directory.text("A.key") != key)
        }

        @Test func `keeps its books when many are at it`() throws {
            try certs("init")
            let path = directory.path
            @Sendable func run(_ arguments: String...) throws {
                let program = try Program(Martlet.binary, ["certs"] + arguments + ["--data", "\(path)/data"])
                #expect(try program.waitForEnd(within: 60) == .exited(0), "\(program.output)")
            }
            try concurrently(
                (0..<12).map { number in
                    {
                        try run("device", "D\(number)", "--out", path)
                        if number % 3 == 0 { try run("revoke", "D\(number)") }
                    }
                })
            let all = try listed()
            for number in 0..<12 {
                let isRevoked = all["D\(number)"]?.first?.hasPrefix("revoked")
                #expect(isRevoked == (number % 3 == 0), "D\(number)")
            }
            let list = try ended("openssl", ["crl", "-in", "\(certificates)/crl.pem", "-noout", "-text"]).output
            #expect(list.components(separatedBy: "Serial Number:").count == 5)
        }

        @Test func `makes what two ends of a TLS connection believe, until one is revoked`() throws {
            try certs("init")
            try certs("device", "GOOD", "--out", directory.path)
            try certs("device", "BAD", "--out", directory.path)
            try certs("revoke", "BAD")
            for version in ["-tls1_2", "-tls1_3"] {
                let port = try freePort()
                let server = try Program(
                    "openssl",
                    [
                        "s_server", "-accept", "127.0.0.1:\(port)", "-cert", "\(certificates)/server.pem", "-key",
                        "\(certificates)/server.key", "-CAfile", "\(certificates)/ca.pem", "-CRL",
                        "\(certificates)/crl.pem", "-crl_check", "-Verify", "1", "-verify_return_error", version,
                        "-www",
                    ])
                #expect(eventually { accepts(port) }, "\(server.output)")
                for (name, isRight) in [("GOOD", true), ("BAD", false)] {
                    let address = "https://127.0.0.1:\(port)/"
                    let files = ["--cert", "\(directory.path)/\(name).pem", "--key", "\(directory.path)/\(name).key"]
                    let outcome = try ended(
                        "curl", ["-sS", "--cacert", "\(certificates)/ca.pem"] + files + [address])
                    #expect((outcome.end == .exited(0)) == isRight, "\(name) \(version): \(outcome.output.suffix(400))")
                }
            }
        }

        @Test func `tells a broker that runs, and says when it can't`() throws {
            try certs("init")
            let socket = try ControlSocket("\(directory.path)/data/control.sock")
            let answers = [
                (#"{"responses":[{"command":"reloadCertificates"}]}"#, Int32(0), "a new certificate"),
                (
                    #"{"responses":[{"command":"reloadCertificates","error":{"code":"failed","message":"no disk"}}]}"#,
                    1,
                    "the files are written, but not in force yet: no disk"
                ),
                ("nonsense", 1, "the broker's answer can't be understood"),
            ]
            for (answer, status, words) in answers {
                let program = try Program(Martlet.binary, ["certs", "renew", "--data", "\(directory.path)/data"])
                let question = try socket.answer(answer)
                #expect(question == #"{"commands":[{"command":"reloadCertificates"}]}"#)
                #expect(try program.waitForEnd() == .exited(status))
                #expect(program.output.contains(words))
            }
        }

        @Test func `does not mind the socket of a broker that was killed`() throws {
            try certs("init")
            do { _ = try ControlSocket("\(directory.path)/data/control.sock") }
            #expect(directory.exists("data/control.sock"))
            #expect(try certs("renew").end == .exited(0))
        }

        @Test(arguments: ["ecdsa", "rsa"]) func `have test certificates that are what their names say`(_ kind: String)
            throws
        {
            let made = try ended("\(packageRoot)/certs/make-test-certificates", [directory.path, kind])
            #expect(made.end == .exited(0), "\(made.output)")
            func check(_ name: String, _ purpose: String) throws -> String {
                let ca = "\(directory.path)/ca.pem"
                let list = "\(directory.path)/crl.pem"
                return try ended(
                    "openssl",
                    [
                        "verify", "-CAfile", ca, "-crl_check", "-CRLfile", list, "-purpose", purpose,
                        "\(directory.path)/\(name).pem",
                    ]
                ).output
            }
            for name in ["client", "second", "wildcard", "nameless"] {
                #expect(try check(name, "sslclient").hasSuffix(": OK\n"), "\(name)")
            }
            for name in ["server", "elsewhere"] { #expect(try check(name, "sslserver").hasSuffix(": OK\n"), "\(name)") }
            let faults = [
                ("expired", "has expired"), ("early", "not yet valid"), ("revoked", "certificate revoked"),
                ("stranger", "unable to get local issuer"), ("self-signed", "self-signed certificate"),
                ("server", "unsuitable certificate purpose"),
            ]
            for (name, words) in faults {
                let output = try check(name, "sslclient")
                #expect(output.contains(words), "\(name): \(output)")
            }
        }
    }
}

/// The socket of a broker, played by the test.
private final class ControlSocket {
    private let descriptor: Int32

    init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0, listen(descriptor, 4) == 0 else { throw Unexpected(errno: errno, during: "bind \(path)") }
    }

    deinit { close(descriptor) }

    /// Takes one connection, reads a line and answers with another; returns what it has read.
    func answer(_ text: String) throws -> String {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, Int32(20_000 * patience)) == 1 else { throw Unexpected("nobody came") }
        let peer = accept(descriptor, nil, nil)
        guard peer >= 0 else { throw Unexpected(errno: errno, during: "accept") }
        defer { close(peer) }
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while recv(peer, &byte, 1, 0) == 1, byte != UInt8(ascii: "\n") { line.append(byte) }
        let bytes = Array("\(text)\n".utf8)
        guard send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw Unexpected(errno: errno, during: "send")
        }
        return String(decoding: line, as: UTF8.self)
    }
}
