import Certificates
import Foundation
import Testing

@Suite struct `An authority` {
    let scratch: Scratch

    init() throws { scratch = try Scratch() }

    /// Makes one, writes it to ca.pem and ca.key, and reads it from there.
    private func authority(_ kind: KeyKind = .p256, now: UnixTime = today) throws -> CertificateAuthority {
        let made = try CertificateAuthority.make(key: try .generate(kind), now: now)
        try scratch.file("ca.pem", made.certificate.pem)
        return made
    }

    private func client(
        _ authority: borrowing CertificateAuthority, _ name: String = "0C5D32DD2568", kind: KeyKind = .p256,
        days: Int = 10, now: UnixTime = today
    ) throws -> Certificate {
        let key = try PrivateKey.generate(kind)
        let certificate = try authority.issueClient(commonName: name, key: key, days: days, now: now)
        try scratch.file("client.pem", certificate.pem)
        try scratch.file("client.key", String(decoding: try key.pem(), as: UTF8.self))
        return certificate
    }

    @Test(arguments: KeyKind.allCases) func `is what openssl takes for one`(_ kind: KeyKind) throws {
        let authority = try authority(kind)
        let text = try openssl("x509", "-in", "ca.pem", "-noout", "-text", in: scratch).output
        #expect(text.contains("X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0"))
        #expect(text.contains("X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n"))
        #expect(text.contains("X509v3 Subject Key Identifier"))
        #expect(text.contains(kind == .p256 ? "NIST CURVE: P-256" : "Public-Key: (\(kind.rawValue.dropFirst(3)) bit)"))
        #expect(try openssl("verify", "-x509_strict", "-CAfile", "ca.pem", "ca.pem", in: scratch).status == 0)
        #expect(authority.certificate.isAuthority)
        #expect(!authority.certificate.isForClients && !authority.certificate.isForServers)
        #expect(authority.certificate.subject.hasPrefix("CN=Martlet CA "))
        #expect(authority.certificate.notAfter < UnixTime("2050-01-01T00:00:00Z")!, "GeneralizedTime begins there")
    }

    @Test(arguments: KeyKind.allCases, KeyKind.allCases)
    func `signs servers that openssl believes by each of their names`(_ kind: KeyKind, _ serverKind: KeyKind) throws {
        let authority = try authority(kind)
        let key = try PrivateKey.generate(serverKind)
        let names = ["localhost", "box.local", "*.example.org", "127.0.0.1", "::1", "2001:db8::7"].map {
            ServerName($0)!
        }
        let certificate = try authority.issueServer(names: names, key: key, now: today)
        try scratch.file("server.pem", certificate.pem)
        #expect(certificate.names == names)
        #expect(certificate.isForServers && !certificate.isForClients && !certificate.isAuthority)
        func verify(_ arguments: String...) throws -> Int32 {
            let all = ["verify", "-x509_strict", "-CAfile", "ca.pem"] + arguments + ["server.pem"]
            return try run("openssl", all, in: scratch.path).status
        }
        #expect(try verify("-purpose", "sslserver") == 0)
        #expect(try verify("-purpose", "sslclient") != 0)
        for name in ["localhost", "box.local", "a.example.org"] { #expect(try verify("-verify_hostname", name) == 0) }
        for address in ["127.0.0.1", "::1", "2001:db8::7"] { #expect(try verify("-verify_ip", address) == 0) }
        #expect(try verify("-verify_hostname", "elsewhere") != 0)
        #expect(try verify("-verify_ip", "127.0.0.2") != 0)
        #expect(certificate.notBefore.days(until: certificate.notAfter) <= 825)
    }

    @Test(arguments: KeyKind.allCases) func `signs clients, for nothing else`(_ kind: KeyKind) throws {
        let authority = try authority()
        let certificate = try client(authority, kind: kind)
        #expect(certificate.commonName == "0C5D32DD2568" && certificate.subject == "CN=0C5D32DD2568")
        #expect(certificate.isForClients && !certificate.isForServers && !certificate.isAuthority)
        let verify = ["verify", "-x509_strict", "-CAfile", "ca.pem"]
        for (purpose, isRight) in [("sslclient", true), ("sslserver", false), ("crlsign", false)] {
            let outcome = try run("openssl", verify + ["-purpose", purpose, "client.pem"], in: scratch.path)
            #expect((outcome.status == 0) == isRight, "\(purpose): \(outcome.output)")
        }
    }

    @Test func `is told from another by its signature, not by its name`() throws {
        let authority = try CertificateAuthority.make(commonName: "One", key: try .generate(), now: today)
        let other = try CertificateAuthority.make(commonName: "One", key: try .generate(), now: today)
        let certificate = try client(authority)
        #expect(try authority.certificate.hasSigned(certificate))
        #expect(try !other.certificate.hasSigned(certificate))
        try scratch.file("other.pem", other.certificate.pem)
        #expect(try openssl("verify", "-CAfile", "other.pem", "client.pem", in: scratch).status != 0)
    }

    @Test func `is refused without the right key`() throws {
        let authority = try authority()
        let certificate = authority.certificate
        #expect(throws: CertificateError.refused("the key is not the certificate's")) {
            _ = try CertificateAuthority(certificate: certificate, key: try .generate())
        }
        let key = try PrivateKey.generate()
        let leaf = try authority.issueClient(commonName: "A", key: key, now: today)
        let pem = try key.pem()
        #expect(throws: CertificateError.refused("the certificate is not an authority's")) {
            _ = try CertificateAuthority(certificate: leaf, key: try PrivateKey(pem: pem))
        }
    }

    @Test func `signs nothing that outlives it, and nothing once it has expired`() throws {
        let authority = try authority()
        let end = authority.certificate.notAfter
        #expect(try client(authority, days: 36_525).notAfter == end)
        #expect(failure { _ = try client(authority, now: end) }?.isRefusal == true)
        #expect(failure { _ = try client(authority, days: 0) }?.isRefusal == true)
        #expect(failure { _ = try client(authority, days: .max) }?.isRefusal == true)
    }

    @Test func `signs what has expired and what does not count yet, where the time is so`() throws {
        let authority = try authority(now: today.adding(days: -100))
        _ = try client(authority, days: 1, now: today.adding(days: -10))
        #expect(try openssl("verify", "-CAfile", "ca.pem", "client.pem", in: scratch).output.contains("has expired"))
        _ = try client(authority, days: 1, now: today.adding(days: 10))
        let outcome = try openssl("verify", "-CAfile", "ca.pem", "client.pem", in: scratch)
        #expect(outcome.output.contains("not yet valid"))
        _ = try client(authority, days: 1, now: UnixTime(seconds: today.seconds + 1800))
        let early = try openssl("verify", "-CAfile", "ca.pem", "client.pem", in: scratch)
        #expect(early.status == 0, "a clock that is half an hour ahead: \(early.output)")
    }

    @Test(arguments: ["", String(repeating: "A", count: 65), "a\nb", "a\0b", "\u{7f}"])
    func `gives no certificate to a name that does not fit`(_ name: String) throws {
        let authority = try authority()
        #expect(failure { _ = try client(authority, name) }?.isRefusal == true)
    }

    @Test(arguments: ["A,CN=B", "A+CN=B", "/CN=admin", "Bär #1", "+", String(repeating: "ü", count: 64)])
    func `takes a name as it is, whatever OpenSSL's syntax makes of it`(_ name: String) throws {
        let authority = try authority()
        let certificate = try client(authority, name)
        #expect(certificate.commonName == name)
    }

    @Test func `gives serial numbers that are positive, long and never the same`() throws {
        let authority = try authority()
        let key = try PrivateKey.generate()
        var seen: Set<SerialNumber> = []
        for _ in 0..<50 {
            let serial = try authority.issueClient(commonName: "A", key: key, now: today).serial
            #expect(serial.description.utf8.count == 32)
            #expect(seen.insert(serial).inserted)
        }
        let certificate = try client(authority)
        let outcome = try openssl("x509", "-in", "client.pem", "-noout", "-serial", in: scratch)
        #expect(outcome.output == "serial=\(certificate.serial)\n")
    }

    @Test func `takes only the public key from a request`() throws {
        let authority = try authority()
        let configuration = """
            [req]
            distinguished_name=dn
            req_extensions=ext
            prompt=no
            [dn]
            CN=SOMEBODY-ELSE
            O=Evil
            [ext]
            basicConstraints=CA:TRUE
            keyUsage=keyCertSign
            extendedKeyUsage=serverAuth
            subjectAltName=DNS:localhost
            """
        try scratch.file("req.conf", configuration)
        try openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "own.key", in: scratch)
        try openssl("req", "-new", "-key", "own.key", "-config", "req.conf", "-out", "own.csr", in: scratch)
        let request = try CertificateRequest(pem: scratch.bytes("own.csr"))
        #expect(request.subject.contains("SOMEBODY-ELSE"))
        let certificate = try authority.issueClient(commonName: "ME", request: request, now: today)
        #expect(certificate.subject == "CN=ME")
        #expect(!certificate.isAuthority && certificate.isForClients && !certificate.isForServers)
        #expect(certificate.names.isEmpty)
        #expect(try PrivateKey(pem: scratch.bytes("own.key")).belongs(to: certificate))
    }

    @Test func `makes requests that openssl believes`() throws {
        for kind in KeyKind.allCases {
            let key = try PrivateKey.generate(kind)
            try scratch.file("made.csr", try CertificateRequest.pem(commonName: "ME", key: key))
            let outcome = try openssl("req", "-in", "made.csr", "-noout", "-verify", "-subject", in: scratch)
            #expect(outcome.status == 0 && outcome.output.contains("CN = ME"), "\(outcome.output)")
            #expect(try CertificateRequest(pem: scratch.bytes("made.csr")).subject == "CN=ME")
        }
    }

    @Test(arguments: [
        (["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "too weak"),
        (["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "another curve"),
        (["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp224r1"], "another curve"),
        (
            [
                "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt",
                "ec_param_enc:explicit",
            ], "another curve"
        ), (["genpkey", "-algorithm", "ED448"], "another kind"),
    ]) func `refuses a request about a weak or odd key`(_ arguments: [String], _ reason: String) throws {
        let made = try run("openssl", arguments + ["-out", "weak.key"], in: scratch.path)
        try #require(made.status == 0, "\(made.output)")
        try openssl("req", "-new", "-key", "weak.key", "-subj", "/CN=A", "-out", "weak.csr", in: scratch)
        let error = failure { _ = try CertificateRequest(pem: scratch.bytes("weak.csr")) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test func `refuses a request that its key has not signed`() throws {
        let lines = try CertificateRequest.pem(commonName: "ME", key: try .generate()).split(separator: "\n")
        var der = Array(Data(base64Encoded: lines.dropFirst().dropLast().joined())!)
        // The name, which the signature covers.
        let place = try #require(
            (0..<der.count - 1).first { der[$0] == UInt8(ascii: "M") && der[$0 + 1] == UInt8(ascii: "E") })
        der[place] = UInt8(ascii: "W")
        let text =
            "-----BEGIN CERTIFICATE REQUEST-----\n\(Data(der).base64EncodedString(options: .lineLength64Characters))\n"
            + "-----END CERTIFICATE REQUEST-----\n"
        let error = failure { _ = try CertificateRequest(pem: Array(text.utf8)) }
        #expect(error == .refused("the request is not signed by the key it is about"))
    }

    @Test func `signs lists of what it has revoked, as openssl reads and obeys them`() throws {
        let authority = try authority()
        let good = try client(authority, "GOOD")
        try scratch.file("good.pem", good.pem)
        let bad = try client(authority, "BAD")
        try scratch.file("bad.pem", bad.pem)
        let list = try authority.revocationList([.init(serial: bad.serial, date: today)], number: 4_711, now: today)
        try scratch.file("crl.pem", list.pem)
        let text = try openssl("crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "ca.pem", in: scratch).output
        #expect(text.contains("verify OK") && text.contains("Serial Number: \(bad.serial)"))
        #expect(text.contains("X509v3 CRL Number: \n                4711"))
        #expect(list.number == 4_711 && list.entries == [.init(serial: bad.serial, date: today)])
        #expect(try list.isSigned(by: authority.certificate))
        #expect(list.nextUpdate! > today.adding(days: 360))
        let verify = ["verify", "-x509_strict", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "crl.pem"]
        #expect(try run("openssl", verify + ["good.pem"], in: scratch.path).status == 0)
        let refused = try run("openssl", verify + ["bad.pem"], in: scratch.path)
        #expect(refused.status != 0 && refused.output.contains("certificate revoked"))
    }

    @Test func `signs lists of thousands quickly, and an empty one`() throws {
        let authority = try authority()
        let entries = (1...5_000).map { RevocationList.Entry(serial: SerialNumber("ABCDEF\($0)")!, date: today) }
        let list = try authority.revocationList(entries, number: 2, now: today)
        #expect(Set(list.entries) == Set(entries))
        #expect(try RevocationList(pem: Array(list.pem.utf8)) == list)
        #expect(try authority.revocationList([], number: 1, now: today).entries.isEmpty)
    }

    @Test func `knows another's list from its own`() throws {
        let authority = try CertificateAuthority.make(commonName: "One", key: try .generate(), now: today)
        let other = try CertificateAuthority.make(commonName: "One", key: try .generate(), now: today)
        #expect(try !authority.revocationList([], number: 1, now: today).isSigned(by: other.certificate))
    }
}
