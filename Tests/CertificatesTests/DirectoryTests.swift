import Certificates
import Foundation
import Testing

@Suite struct `A certificate directory` {
    let scratch: Scratch
    let directory: CertificateDirectory
    let names = ["localhost", "127.0.0.1"].map { ServerName($0)! }

    init() throws {
        scratch = try Scratch()
        directory = CertificateDirectory(dataDirectory: "\(scratch.path)/data")
    }

    @discardableResult
    private func prepare(_ further: String..., now: UnixTime = today, kind: KeyKind = .p256) throws -> [CertificateStep]
    {
        try directory.prepare(names: names + further.map { ServerName($0)! }, now: now, kind: kind)
    }

    private func verify(_ file: String, _ arguments: String...) throws -> ToolRun {
        let all = ["verify", "-x509_strict", "-CAfile", "ca.pem", "-crl_check", "-CRLfile", "crl.pem"]
        return try run("openssl", all + arguments + [file], in: directory.path)
    }

    private func write(_ text: String, _ file: String) throws {
        try text.write(toFile: file, atomically: true, encoding: .utf8)
    }

    /// The names of the cases, in order.
    private func kinds(_ steps: [CertificateStep]) -> [String] {
        steps.map { step in
            switch step {
            case .closed: "closed"
            case .madeAuthority: "authority"
            case .issuedServer: "server"
            case .keptServer: "kept"
            case .signedRevocations: "list"
            case .couldNot: "could not"
            case .clockIsWrong: "clock"
            }
        }
    }

    // MARK: The first start and those after it

    @Test(arguments: KeyKind.allCases) func `has all that a broker needs after the first start`(_ kind: KeyKind) throws
    {
        #expect(kinds(try prepare(kind: kind)) == ["authority", "server", "list"])
        #expect(try verify("server.pem", "-purpose", "sslserver", "-verify_hostname", "localhost").status == 0)
        let modes = ["data", "data/certs", "data/certs/ca.key", "data/certs/server.key"].map { scratch.mode($0) }
        #expect(modes == [0o700, 0o700, 0o600, 0o600])
        let before = try scratch.everything()
        #expect(try prepare(kind: kind).isEmpty)
        #expect(try scratch.everything() == before, "nothing is left to do, and nothing temporary lies about")
    }

    @Test func `keeps its authority and its key when names come to it`() throws {
        try prepare()
        let authority = try directory.authorityCertificate()
        let key = scratch.bytes("data/certs/server.key")
        let first = try #require(try directory.serverCertificate())
        #expect(kinds(try prepare("192.0.2.7", "box.local")) == ["server"])
        let second = try #require(try directory.serverCertificate())
        #expect(second.names == names + [.address([192, 0, 2, 7]), .host("box.local")])
        #expect(second.serial != first.serial)
        #expect(try directory.authorityCertificate() == authority)
        #expect(scratch.bytes("data/certs/server.key") == key)
        #expect(try verify("server.pem", "-verify_ip", "192.0.2.7").status == 0)
        #expect(try prepare("192.0.2.7").isEmpty, "a name that has gone does no harm")
    }

    @Test func `renews what is about to expire, and not before`() throws {
        try prepare()
        let end = try #require(try directory.serverCertificate()?.notAfter)
        #expect(!kinds(try prepare(now: end.adding(days: -31))).contains("server"))
        #expect(kinds(try prepare(now: end.adding(days: -30))).contains("server"))
        #expect(try directory.serverCertificate()!.notAfter > end.adding(days: 700))
        #expect(kinds(try prepare(now: end.adding(days: 3_000))).contains("server"))
    }

    @Test func `signs its list of revoked certificates anew long before that ends`() throws {
        try prepare()
        let first = try RevocationList(pem: scratch.bytes("data/certs/crl.pem"))
        #expect(try prepare(now: today.adding(days: 180)).isEmpty)
        #expect(kinds(try prepare(now: today.adding(days: 184))) == ["list"])
        let second = try RevocationList(pem: scratch.bytes("data/certs/crl.pem"))
        #expect(second.number! > first.number!)
        try FileManager.default.removeItem(atPath: directory.revocationFile)
        try prepare(now: today.adding(days: 185))
        #expect(try RevocationList(pem: scratch.bytes("data/certs/crl.pem")).number! > second.number!)
    }

    @Test func `does not believe a clock of 1970`() throws {
        let steps = try prepare(now: UnixTime(seconds: 1_000))
        #expect(kinds(steps) == ["clock", "authority", "server", "list"])
        #expect(try verify("server.pem").status == 0, "right once the clock is")
    }

    @Test func `goes on where a first start was interrupted`() throws {
        try prepare()
        let files = ["ca.pem", "server.pem", "server.key", "crl.pem", "issued.jsonl"]
        // In the order in which they come: each time one more is there.
        for count in 0..<4 {
            let keep = ["ca.key"] + ["ca.pem", "server.key"].prefix(count)
            for file in files where !keep.contains(file) {
                try? FileManager.default.removeItem(atPath: "\(directory.path)/\(file)")
            }
            try prepare()
            #expect(try verify("server.pem", "-purpose", "sslserver").status == 0, "after \(keep)")
            #expect(try prepare().isEmpty)
        }
    }

    @Test func `gives the server a new key where the old one has got lost`() throws {
        try prepare()
        try FileManager.default.removeItem(atPath: directory.serverKeyFile)
        #expect(kinds(try prepare()) == ["server"])
        #expect(try prepare().isEmpty)
    }

    @Test func `closes what was open to others`() throws {
        try prepare()
        chmod(directory.path, 0o755)
        chmod(directory.authorityKeyFile, 0o644)
        #expect(try prepare() == [.closed(directory.path), .closed(directory.authorityKeyFile)])
        #expect(scratch.mode("data/certs") == 0o700 && scratch.mode("data/certs/ca.key") == 0o600)
    }

    @Test func `keeps further names for good`() throws {
        try directory.add(names: [ServerName("mqtt.example.org")!])
        try directory.add(names: [ServerName("mqtt.example.org")!, ServerName("198.51.100.1")!])
        try prepare()
        #expect(
            try directory.serverCertificate()?.names == names + [
                .host("mqtt.example.org"), .address([198, 51, 100, 1]),
            ])
        let many = (0..<70).map { ServerName("n\($0)")! }
        #expect(failure { try directory.add(names: many) }?.isRefusal == true)
        _ = try directory.prepare(names: many, now: today)
        #expect(try directory.serverCertificate()?.names.count == CertificateDirectory.mostNames)
        try write("# ours\n\nnot a name\n", directory.namesFile)
        #expect(failure { try prepare() }?.description.contains("line 3") == true)
    }

    // MARK: Other people's files

    @Test func `never replaces a server certificate from elsewhere`() throws {
        try prepare()
        let scratch = self.scratch
        try openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mine", "-days", "1", "-keyout",
            directory.serverKeyFile, "-out", directory.serverFile, in: scratch)
        let before = scratch.bytes("data/certs/server.pem")
        #expect(kinds(try prepare("new.name", now: today.adding(days: 20))) == ["kept"])
        #expect(kinds(try directory.renew(names: names, now: today)) == ["kept", "list"])
        #expect(scratch.bytes("data/certs/server.pem") == before)
        try write(String(decoding: try PrivateKey.generate().pem(), as: UTF8.self), directory.serverKeyFile)
        #expect(failure { try prepare() } == .damaged(file: directory.serverKeyFile, "not the key of server.pem"))
        try FileManager.default.removeItem(atPath: directory.serverKeyFile)
        #expect(failure { try prepare() }?.isDamage == true)
    }

    @Test func `works with somebody's own authority, RSA or not`() throws {
        try prepare()
        try FileManager.default.removeItem(atPath: directory.path)
        try FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)
        try openssl(
            "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-subj", "/O=Firm/CN=Own CA", "-days", "2000", "-keyout",
            directory.authorityKeyFile, "-out", directory.authorityFile, in: scratch)
        #expect(kinds(try prepare()) == ["closed", "server", "list"])
        #expect(try verify("server.pem", "-purpose", "sslserver").status == 0)
        let credential = try directory.issueDevice("A", now: today)
        try scratch.file("data/certs/a.pem", credential.certificate.pem)
        #expect(try verify("a.pem", "-purpose", "sslclient").status == 0)
    }

    @Test func `does without the authority's key, and says what can't be done`() throws {
        try prepare()
        try FileManager.default.moveItem(atPath: directory.authorityKeyFile, toPath: "\(scratch.path)/offline.key")
        #expect(kinds(try prepare("new.name")) == ["kept", "could not"])
        #expect(failure { _ = try directory.issueDevice("A", now: today) }?.description.contains("ca.key") == true)
        #expect(failure { _ = try directory.revoke("A", now: today) } != nil)
    }

    @Test func `never makes a second authority beside what the first has signed`() throws {
        try prepare()
        try FileManager.default.removeItem(atPath: directory.authorityFile)
        try FileManager.default.removeItem(atPath: directory.authorityKeyFile)
        let before = try scratch.everything()
        #expect(failure { try prepare() }?.isDamage == true)
        #expect(try scratch.everything() == before)
    }

    @Test(
        arguments: ["ca.pem", "ca.key", "server.pem", "server.key", "crl.pem", "issued.jsonl"],
        ["", "garbage\n", "torn"])
    func `says which file is damaged, and leaves all as it is`(_ name: String, _ damage: String) throws {
        if name == "issued.jsonl", damage != "garbage\n" { return }  // See below.
        try prepare()
        let path = "\(directory.path)/\(name)"
        let text = try String(contentsOfFile: path, encoding: .utf8)
        try write(damage == "torn" ? String(text.prefix(text.count / 2)) : damage, path)
        chmod(path, 0o600)
        let before = try scratch.everything()
        let error = failure { try prepare("new.name") }
        #expect(
            error?.isDamage == true && error?.description.hasPrefix("\(path): ") == true, "\(String(describing: error))"
        )
        #expect(failure { _ = try directory.renew(names: names, now: today) } != nil)
        if name.hasPrefix("ca") || name == "issued.jsonl" {
            #expect(failure { _ = try directory.issueDevice("A", now: today) } != nil)
        }
        #expect(try scratch.everything() == before)
    }

    @Test func `says that a key and a certificate are no pair`() throws {
        try prepare()
        try write(String(decoding: try PrivateKey.generate().pem(), as: UTF8.self), directory.authorityKeyFile)
        #expect(failure { try prepare() } == .damaged(file: directory.authorityKeyFile, "not the key of ca.pem"))
    }

    @Test func `leaves links to other people's files alone`() throws {
        try prepare()
        for name in ["server.pem", "server.key"] {
            try FileManager.default.removeItem(atPath: "\(directory.path)/\(name)")
        }
        try openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mine", "-keyout", "mine.key", "-out",
            "mine.pem",
            in: scratch)
        chmod("\(scratch.path)/mine.key", 0o640)
        for name in ["pem", "key"] {
            try FileManager.default.createSymbolicLink(
                atPath: "\(directory.path)/server.\(name)", withDestinationPath: "\(scratch.path)/mine.\(name)")
        }
        #expect(kinds(try prepare()) == ["kept"])
        #expect(scratch.mode("mine.key") == 0o640)
    }

    // MARK: Devices

    @Test(arguments: KeyKind.allCases) func `issues certificates to devices and remembers them`(_ kind: KeyKind) throws
    {
        try prepare()
        let credential = try directory.issueDevice("0C5D32DD2568", kind: kind, now: today)
        let record = try #require(try directory.list().last)
        #expect(
            record.serial == credential.certificate.serial && record.kind == .device && record.name == "0C5D32DD2568")
        #expect(record.notAfter == credential.certificate.notAfter && record.revoked == nil)
        let kept = scratch.text("data/certs/issued/\(record.serial).pem")
        #expect(kept == credential.certificate.pem)
        let files = try scratch.everything().keys.filter { $0.hasSuffix(".key") }
        #expect(files.sorted() == ["data/certs/ca.key", "data/certs/server.key"], "nobody but the device has its key")
        #expect(try verify("issued/\(record.serial).pem", "-purpose", "sslclient").status == 0)
    }

    @Test func `revokes by serial number and by device, and only what was meant`() throws {
        try prepare()
        let one = try directory.issueDevice("ONE", now: today).certificate
        let two = [try directory.issueDevice("TWO", now: today), try directory.issueDevice("TWO", now: today)].map(
            \.certificate)
        #expect(try directory.revoke(one.serial.description.lowercased(), now: today).map(\.serial) == [one.serial])
        #expect(try verify("issued/\(one.serial).pem").output.contains("certificate revoked"))
        #expect(try verify("issued/\(two[0].serial).pem").status == 0)
        #expect(try Set(directory.revoke("TWO", now: today).map(\.serial)) == Set(two.map(\.serial)))
        for certificate in two { #expect(try verify("issued/\(certificate.serial).pem").status != 0) }
        #expect(try directory.revoke("TWO", now: today).isEmpty)
        #expect(failure { _ = try directory.revoke("THREE", now: today) }.map { "\($0)".contains("THREE") } == true)
        #expect(try directory.list().map { $0.revoked != nil } == [false, true, true, true])
        #expect(try prepare().isEmpty)
    }

    @Test func `puts on its list what was revoked before the list could be written`() throws {
        try prepare()
        let old = scratch.bytes("data/certs/crl.pem")
        let certificate = try directory.issueDevice("A", now: today).certificate
        _ = try directory.revoke("A", now: today)
        try Data(old).write(to: URL(fileURLWithPath: directory.revocationFile))
        #expect(try verify("issued/\(certificate.serial).pem").status == 0)
        #expect(try prepare() == [.signedRevocations(count: 1)])
        #expect(try verify("issued/\(certificate.serial).pem").status != 0)
    }

    @Test func `gives the server another key once its certificate was revoked`() throws {
        try prepare()
        let key = scratch.bytes("data/certs/server.key")
        _ = try directory.revoke(try #require(try directory.serverCertificate()).serial.description, now: today)
        #expect(kinds(try prepare()) == ["server"])
        #expect(scratch.bytes("data/certs/server.key") != key)
        #expect(try verify("server.pem").status == 0)
    }

    @Test func `keeps an expired certificate on the list, for those who do not look at dates`() throws {
        try prepare()
        let certificate = try directory.issueDevice("A", days: 1, now: today).certificate
        _ = try directory.revoke("A", now: today)
        try prepare(now: today.adding(days: 1_000))
        let list = try RevocationList(pem: scratch.bytes("data/certs/crl.pem"))
        #expect(list.entries.map(\.serial) == [certificate.serial])
    }

    @Test func `drops what a power cut has torn off its index`() throws {
        try prepare()
        _ = try directory.issueDevice("A", now: today)
        let index = "\(directory.path)/issued.jsonl"
        let whole = try String(contentsOfFile: index, encoding: .utf8)
        let lastLine = whole.dropLast().split(separator: "\n").last!
        for cut in stride(from: 1, through: lastLine.utf8.count, by: 7) {
            try write(whole + lastLine.prefix(cut), index)
            #expect(try directory.list().count == 2)
            let issued = try directory.issueDevice("B", now: today).certificate.serial
            #expect(try directory.list().map(\.serial).last == issued)
            #expect(try directory.list().count == 3)
            try write(whole, index)
        }
    }

    @Test func `serves many at once`() async throws {
        try prepare()
        let directory = self.directory
        let serials = try await withThrowingTaskGroup(of: SerialNumber.self) { group in
            for number in 0..<24 {
                group.addTask { try directory.issueDevice("DEVICE-\(number)", now: today).certificate.serial }
            }
            for number in 0..<4 {
                group.addTask {
                    let serial = try directory.issueDevice("GONE-\(number)", now: today).certificate.serial
                    _ = try directory.revoke("GONE-\(number)", now: today)
                    return serial
                }
            }
            return try await group.reduce(into: Set()) { $0.insert($1) }
        }
        let records = try directory.list()
        #expect(serials.count == 28 && Set(records.map(\.serial)).isSuperset(of: serials) && records.count == 29)
        let list = try RevocationList(pem: scratch.bytes("data/certs/crl.pem"))
        #expect(Set(list.entries.map(\.serial)) == Set(records.filter { $0.revoked != nil }.map(\.serial)))
        #expect(list.entries.count == 4)
    }

    @Test func `does not wait without end for somebody who keeps it locked`() throws {
        try prepare()
        let descriptor = open("\(directory.path)/lock", O_RDWR)
        defer { close(descriptor) }
        #expect(flock(descriptor, LOCK_EX) == 0)
        #expect(throws: CertificateError.busy("\(directory.path)/lock")) {
            try directory.issueDevice("DEVICE", now: today)
        }
        #expect(flock(descriptor, LOCK_UN) == 0)
        _ = try directory.issueDevice("DEVICE", now: today)
    }

    @Test func `tells when what it holds will end`() throws {
        try prepare()
        _ = try directory.issueDevice("OLD", days: 5, now: today)
        _ = try directory.issueDevice("NEW", days: 5, now: today)
        _ = try directory.issueDevice("NEW", days: 500, now: today)
        _ = try directory.issueDevice("GONE", days: 5, now: today)
        _ = try directory.revoke("GONE", now: today)
        let announcements = try directory.expiry().announcements(now: today)
        #expect(announcements.map(\.subject) == ["the certificate of device OLD"])
    }

    @Test func `writes a header that C and C++ compilers take`() throws {
        try prepare()
        let credential = try directory.issueDevice("A-1", now: today)
        let out = try Scratch()
        try ClientCredential.requireRoom(in: out.path, for: "A-1")
        _ = try credential.write(to: out.path, name: "A-1")
        #expect(out.mode("A-1.key") == 0o600 && out.mode("A-1.h") == 0o600 && out.mode("A-1.pem") == 0o644)
        let program = #"""
            #include "A-1.h"
            #include <stdio.h>
            int main(void) { fputs(MARTLET_CA, stdout); fputs(MARTLET_CERTIFICATE, stdout); fputs(MARTLET_KEY, stdout); return MARTLET_DEVICE_ID[0] != 'A'; }
            """#
        try out.file("sketch.c", program)
        let pems = out.text("ca.pem") + out.text("A-1.pem") + out.text("A-1.key")
        for arguments in [["-x", "c"], ["-x", "c++"]] {
            // It comes with the Swift toolchain.
            let compiled = try run("clang", arguments + ["sketch.c", "-o", "sketch"], in: out.path)
            try #require(compiled.status == 0, "\(compiled.output)")
            let outcome = try run("./sketch", [], in: out.path)
            #expect(outcome.status == 0 && outcome.output == pems)
        }
        #expect(failure { try ClientCredential.requireRoom(in: out.path, for: "A-1") }?.isRefusal == true)
        try out.file("ca.pem", "another\n")
        #expect(failure { _ = try credential.write(to: out.path, name: "B") }?.isRefusal == true)
        #expect(out.mode("B.key") == nil)
    }

    @Test func `says that it is not there`() {
        #expect(failure { _ = try directory.issueDevice("A", now: today) }?.description.contains("certs init") == true)
        #expect(failure { _ = try directory.renew(names: names, now: today) } != nil)
        #expect(!FileManager.default.fileExists(atPath: directory.path))
    }
}
