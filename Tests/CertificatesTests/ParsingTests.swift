import CLinux
import Certificates
import Foundation
import Seeded
import Testing

@Suite struct `Reading certificates` {
    @Test func `gives what openssl wrote`() throws {
        let scratch = try Scratch()
        try openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-subj", "/O=A, Inc/CN=x y",
            "-days", "3", "-set_serial", "0x00ab", "-addext", "subjectAltName=DNS:A.example,IP:10.0.0.1,email:a@b",
            in: scratch)
        let certificate = try Certificate(pem: scratch.bytes("c"))
        #expect(certificate.subject == #"CN=x y,O=A\, Inc"# && certificate.subject == certificate.issuer)
        #expect(certificate.commonName == "x y")
        #expect(certificate.serial.description == "AB")
        #expect(certificate.names == [.host("a.example"), .address([10, 0, 0, 1])])
        #expect(certificate.notBefore.days(until: certificate.notAfter) == 3)
        #expect(!certificate.isForClients && !certificate.isForServers, "it has no extended key usage")
        let digest = try openssl("x509", "-in", "c", "-noout", "-fingerprint", "-sha256", in: scratch).output
        let hexadecimal = certificate.fingerprint.map { String(format: "%02X", $0) }.joined(separator: ":")
        #expect(digest.contains(hexadecimal))
        #expect(certificate.pem == scratch.text("c"))
        #expect(try PrivateKey(pem: scratch.bytes("k")).belongs(to: certificate))
        let chain = try Certificate.chain(pem: scratch.bytes("c") + Array("\nnotes\n".utf8) + scratch.bytes("c"))
        #expect(chain == [certificate, certificate])
    }

    @Test(arguments: ["/CN=a/CN=b", "/O=none"]) func `gives no common name where there is not just one`(
        _ subject: String
    ) throws {
        let scratch = try Scratch()
        try openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k", "-out",
            "c",
            "-subj", subject, in: scratch)
        #expect(try Certificate(pem: scratch.bytes("c")).commonName == nil)
    }

    @Test func `gives no common name where it has a NUL`() throws {
        let authority = try CertificateAuthority.make(key: try .generate(), now: today)
        let certificate = try authority.issueClient(commonName: "ADMIN~X", key: try .generate(), now: today)
        var der = certificate.der
        let place = try #require(
            der.indices.dropFirst().first { der[$0] == UInt8(ascii: "~") && der[$0 - 1] == UInt8(ascii: "N") })
        der[place] = 0
        let text =
            "-----BEGIN CERTIFICATE-----\n\(Data(der).base64EncodedString(options: .lineLength64Characters))\n"
            + "-----END CERTIFICATE-----\n"
        #expect(try Certificate(pem: Array(text.utf8)).commonName == nil)
        #expect(certificate.commonName == "ADMIN~X")
    }

    @Test func `never asks for a passphrase`() throws {
        let scratch = try Scratch()
        try openssl(
            "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:secret",
            "-out",
            "k", in: scratch)
        #expect(
            failure { _ = try PrivateKey(pem: scratch.bytes("k")) } == .refused("the key is protected by a passphrase"))
    }

    @Test func `reads the keys that it writes`() throws {
        for kind in KeyKind.allCases {
            let key = try PrivateKey.generate(kind)
            let again = try PrivateKey(pem: try key.pem())
            #expect(try again.pem() == key.pem())
        }
    }

    @Test(arguments: [
        "", "\n", "hello", "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ])
    func `says that a text is none`(_ text: String) {
        let bytes = Array(text.utf8)
        #expect(failure { _ = try Certificate(pem: bytes) }?.isRefusal == true)
        #expect(failure { _ = try PrivateKey(pem: bytes) }?.isRefusal == true)
        #expect(failure { _ = try CertificateRequest(pem: bytes) }?.isRefusal == true)
        #expect(failure { _ = try RevocationList(pem: bytes) }?.isRefusal == true)
    }

    @Test func `bounds what it reads`() throws {
        let authority = try CertificateAuthority.make(key: try .generate(), now: today)
        let pem = Array(authority.certificate.pem.utf8)
        let chain = Array(repeatElement(pem, count: Certificate.longestChain + 1).joined())
        #expect(failure { _ = try Certificate.chain(pem: chain) }?.isRefusal == true)
        let long = [UInt8](repeating: 10, count: Certificate.largestText + 1)
        #expect(failure { _ = try Certificate(pem: long) }?.isRefusal == true)
        #expect(failure { _ = try CertificateRequest(pem: long) }?.isRefusal == true)
    }

    @Test func `survives whatever it is given`() throws {
        var random = SeededGenerator(seed: 0x6365_7274)
        let authority = try CertificateAuthority.make(key: try .generate(), now: today)
        let key = try PrivateKey.generate()
        let names = ["localhost", "127.0.0.1"].compactMap { ServerName($0) }
        let server = try authority.issueServer(names: names, key: key, now: today)
        let list = try authority.revocationList([.init(serial: server.serial, date: today)], number: 1, now: today)
        let corpus = try [
            server.pem, list.pem, CertificateRequest.pem(commonName: "A", key: key),
            String(decoding: key.pem(), as: UTF8.self),
        ].map { Array($0.utf8) }
        var refused = 0
        var accepted = 0
        for round in 0..<2_000 {
            let bytes = Self.mutated(random.element(of: corpus), &random)
            let before = refused
            if let certificate = try? Certificate.chain(pem: bytes) {
                accepted += 1
                #expect(certificate.count >= 1)
                _ = try? authority.certificate.hasSigned(certificate[0])
            } else {
                refused += 1
            }
            _ = try? CertificateRequest(pem: bytes)
            _ = try? PrivateKey(pem: bytes)
            _ = try? RevocationList(pem: bytes)
            #expect(refused + accepted == round + 1 && refused >= before)
        }
        #expect(refused > 500 && accepted > 10, "the mutations reach both sides")
        #expect(try Certificate(pem: corpus[0]) == server, "no error of before is left to disturb")
    }

    /// Changes the text, or, behind sound Base64, the DER.
    private static func mutated(_ original: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        guard random.happens(70) else { return changed(original, &random) }
        let lines = String(decoding: original, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first, let last = lines.last,
            let der = Data(base64Encoded: lines.dropFirst().dropLast().joined())
        else { return original }
        let body = Data(changed(Array(der), &random)).base64EncodedString(options: [
            .lineLength64Characters, .endLineWithLineFeed,
        ])
        return Array("\(first)\n\(body)\n\(last)\n".utf8)
    }

    private static func changed(_ original: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        var bytes = original
        for _ in 0...random.below(4) where !bytes.isEmpty {
            let place = random.below(bytes.count)
            switch random.below(5) {
            case 0: bytes[place] ^= 1 << UInt8(random.below(8))
            case 1: bytes[place] = random.element(of: [0, 0x7f, 0x80, 0x84, 0xff])
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(20)))
            case 3: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 1 + random.below(20))], at: place)
            default: bytes = Array(bytes[..<place])
            }
        }
        return bytes
    }

    @Test func `leaves no memory behind`() async {
        // In a process of its own: what suites at work beside it allocate would count.
        await #expect(processExitsWith: .success) {
            let authority = try CertificateAuthority.make(key: try .generate(), now: today)
            let torn = Array(authority.certificate.pem.utf8.dropLast(40))
            func work() throws {
                for _ in 0..<100 {
                    let key = try PrivateKey.generate()
                    let certificate = try authority.issueClient(commonName: "A", key: key, now: today)
                    let pem = try CertificateRequest.pem(commonName: "A", key: key)
                    _ = try CertificateRequest(pem: Array(pem.utf8))
                    _ = try authority.revocationList(
                        [.init(serial: certificate.serial, date: today)], number: 1, now: today)
                    _ = try? Certificate(pem: torn)
                    _ = try? PrivateKey(pem: torn)
                    _ = try? CertificateRequest(pem: torn)
                    _ = try? RevocationList(pem: torn)
                }
            }
            try work()
            let before = Int(malloc_used_bytes())
            try work()
            let growth = Int(malloc_used_bytes()) - before
            #expect(growth < 20_000, "100 rounds left \(growth) bytes; a certificate takes more than 1 KB")
        }
    }
}

@Suite struct `Names of a server` {
    @Test(arguments: [
        ("localhost", "localhost"), ("BOX.Local", "box.local"), ("*.example.org", "*.example.org"),
        ("my_host", "my_host"),
        ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("2001:DB8:0::7", "2001:db8::7"), ("1.2.example", "1.2.example"),
    ]) func `are taken`(_ text: String, _ canonical: String) {
        #expect(ServerName(text)?.description == canonical)
    }

    @Test(arguments: [
        "", ".", "a..b", "-a", "a-", "a b", "a,DNS:evil", "a\nb", "*", "*.org", "a.*.org", "1.2.3", "1.2.3.4.5",
        "256.1.1.1",
        "fe80::1%eth0", "ü.example", String(repeating: "a", count: 64), String(repeating: "a.", count: 127) + "a",
    ]) func `are refused where they are none`(_ text: String) {
        #expect(ServerName(text) == nil)
    }

    @Test func `of this machine begin with localhost and have the loopback's addresses`() {
        let names = ServerName.ofThisMachine()
        #expect(names.first == .host("localhost"))
        #expect(names.contains(.address([127, 0, 0, 1])))
        #expect(names.contains(.address([UInt8](repeating: 0, count: 15) + [1])))
        #expect(Set(names).count == names.count && names.count <= 29)
    }
}

@Suite struct `Times and serial numbers` {
    @Test(arguments: [0, 951_782_400, 1_767_225_600, 2_147_483_648, 4_102_444_799, 253_402_300_799])
    func `read back what they write`(_ seconds: Int64) {
        let time = UnixTime(seconds: seconds)
        #expect(UnixTime(time.description) == time)
        #expect(ISO8601DateFormatter().date(from: time.description)?.timeIntervalSince1970 == Double(seconds))
    }

    @Test(arguments: [
        "", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+01:00", "2026-01-01 00:00:00Z",
        "x026-01-01T00:00:00Z",
    ])
    func `refuse what is no time`(_ text: String) { #expect(UnixTime(text) == nil) }

    @Test(arguments: [("0", "0"), ("00ab", "AB"), ("AB:CD:0e", "ABCD0E"), ("0000", "0")])
    func `are compared by value`(_ text: String, _ canonical: String) {
        #expect(SerialNumber(text)?.description == canonical)
    }

    @Test(arguments: ["", ":", "-1", "0x1", "G", "1 2", String(repeating: "F", count: 41)])
    func `refuse what is no serial number`(_ text: String) { #expect(SerialNumber(text) == nil) }
}

@Suite struct `Expiry` {
    private let end = today.adding(days: 100)
    private var expiry: CertificateExpiry {
        CertificateExpiry([.init(subject: "the server certificate", notAfter: end)])
    }

    @Test(
        arguments: [
            (31, nil), (30, .month), (15, .month), (14, .fortnight), (8, .fortnight), (7, .week), (2, .week), (1, .day),
            (0, .expired), (-5, .expired),
        ] as [(Int, CertificateExpiry.Stage?)])
    func `is announced from its stage on`(_ days: Int, _ stage: CertificateExpiry.Stage?) {
        let announcements = expiry.announcements(now: end.adding(days: -days))
        #expect(announcements.map(\.stage) == (stage.map { [$0] } ?? []))
        #expect(announcements.allSatisfy { $0.daysLeft == days && $0.description.contains("the server certificate") })
    }

    @Test func `is announced once for each stage when asked daily`() {
        var said: [CertificateExpiry.Stage] = []
        for day in 0..<120 {
            let now = UnixTime(seconds: today.adding(days: day).seconds + 3_600)
            said += expiry.announcements(now: now, since: now.adding(days: -1)).map(\.stage)
        }
        #expect(said == [.month, .fortnight, .week, .day, .expired])
    }
}
