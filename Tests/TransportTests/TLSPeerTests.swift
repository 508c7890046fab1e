import COpenSSL
import Foundation
import Seeded
import Testing

@testable import Transport

/// What is read from certificates, whoever has made them.
@Suite struct `The certificate of a peer` {
    // MARK: - Names

    @Test(
        arguments: [
            ([(MBSTRING_UTF8, "0C5D32DD2568")], "0C5D32DD2568"),
            ([(MBSTRING_UTF8, "Küche/1")], "Küche/1"),
            ([(MBSTRING_UTF8, "+")], "+"),
            ([], nil),
            ([(MBSTRING_UTF8, "one"), (MBSTRING_UTF8, "two")], nil),
            ([(MBSTRING_UTF8, "one"), (MBSTRING_UTF8, "one")], nil),
            ([(V_ASN1_UTF8STRING, "one\0two")], nil),
            ([(V_ASN1_IA5STRING, "one\0")], nil),
            ([(V_ASN1_PRINTABLESTRING, "printable")], "printable"),
            ([(V_ASN1_T61STRING, "old")], "old"),
        ] as [([(CInt, String)], String?)])
    func `has one name, or none that counts`(_ names: [(CInt, String)], _ expected: String?) throws {
        let made = try Made(names.map { ($0.0, Array($0.1.utf8)) })
        #expect(made.peer.commonName == expected.map { Array($0.utf8) })
        #expect(ERR_peek_error() == 0)
    }

    @Test(
        arguments: [
            (0x0C, [0xFF, 0xFE]), (0x0C, [0xC0, 0x80]), (0x0C, [0xED, 0xA0, 0x80]), (0x0C, [0x61, 0xE2, 0x82]),
            (0x0C, [0x61, 0x00]), (0x0C, [0x00]), (0x13, [0x61, 0x00, 0x62]), (0x1E, [0x00, 0x61, 0x00, 0x00]),
            (0x1E, [0x61]), (0x1E, [0xD8, 0x00]), (0x1C, [0xFF, 0xFF, 0xFF, 0xFF]), (0x04, [0x61]), (0x03, [0x61]),
        ] as [(UInt8, [UInt8])])
    func `has no name where its bytes are no text, or hold a NUL`(_ type: UInt8, _ bytes: [UInt8]) throws {
        let placeholder = [UInt8](repeating: UInt8(ascii: "x"), count: bytes.count)
        var encoded = try Made([(V_ASN1_UTF8STRING, placeholder)]).encoded
        let header: [UInt8] = [0x55, 4, 3]  // The OID of a CN, before its text.
        let found = try #require(
            encoded.firstRange(of: header + [UInt8(V_ASN1_UTF8STRING), UInt8(bytes.count)] + placeholder))
        encoded.replaceSubrange(
            (found.lowerBound + header.count)...,
            with: [type, UInt8(bytes.count)] + bytes
                + encoded[found.upperBound...])
        // Nil: for OpenSSL it is no certificate at all, so nobody comes with it.
        guard let peer = Self.peer(encoded) else { return }
        #expect(peer.commonName == nil)
        #expect(ERR_peek_error() == 0)
    }

    @Test func `has its name in UTF-8, whatever it is written in`() throws {
        #expect(try Made([(V_ASN1_BMPSTRING, [0, 0x4B, 0, 0xFC])]).peer.commonName == Array("Kü".utf8))
        #expect(try Made([(V_ASN1_T61STRING, [0x4B, 0xFC])]).peer.commonName == Array("Kü".utf8))
    }

    // MARK: - Made by openssl

    @Test func `is read as openssl reads it`() throws {
        let directory = try Certificates()
        let client = try directory.peer("client")
        #expect(client.commonName == Array("0C5D32DD2568".utf8))
        #expect(client.isForClients)
        for (name, command) in [("client", "client"), ("second", "second"), ("revoked", "revoked")] {
            let peer = try directory.peer(name)
            let said = try directory.openssl(
                [
                    "x509", "-in", "\(command).pem", "-noout", "-serial", "-subject", "-nameopt", "RFC2253",
                    "-fingerprint",
                ]
                    + ["-sha256"])
            #expect(said.contains("serial=\(peer.serial)\n"), "\(said)")
            #expect(said.contains("subject=\(String(decoding: peer.subject, as: UTF8.self))\n"), "\(said)")
            let hexadecimal = peer.fingerprint.map { String(format: "%02X", $0) }.joined(separator: ":")
            #expect(said.contains("Fingerprint=\(hexadecimal)\n"), "\(said)")
        }
        #expect(try directory.peer("nameless").commonName == nil)
        #expect(try directory.peer("nameless").subject == Array("O=Nobody".utf8))
        #expect(try directory.peer("wildcard").commonName == Array("+".utf8))
        #expect(try !directory.peer("server").isForClients)
        #expect(try !directory.peer("plain").isForClients)
    }

    // MARK: - Not made by anybody

    @Test func `is read without harm, whatever stands in it`() throws {
        let directory = try Certificates()
        let names = ["ca", "client", "nameless", "wildcard", "self-signed", "server"]
        var corpus = try names.map(directory.encoded)
        corpus.append(try Made([(MBSTRING_UTF8, Array("one".utf8)), (MBSTRING_UTF8, Array("two".utf8))]).encoded)
        corpus.append(try Made([(V_ASN1_BMPSTRING, [0, 0x4B, 0, 0xFC])]).encoded)
        var generator = SeededGenerator(seed: 0x7C15)
        var parsed = 0
        for round in 0..<30_000 {
            var bytes = generator.element(of: corpus)
            for _ in 0...generator.below(4) { Self.mutate(&bytes, &generator) }
            guard let peer = Self.peer(bytes) else { continue }
            parsed += 1
            if let name = peer.commonName {
                #expect(!name.isEmpty && !name.contains(0), "round \(round)")
                #expect(String(validating: name, as: UTF8.self) != nil, "round \(round)")
            }
            #expect(peer.fingerprint.count == 32)
            #expect(peer.serial.allSatisfy { $0.isHexDigit || $0 == "-" }, "round \(round): \(peer.serial)")
            #expect(ERR_peek_error() == 0, "round \(round)")
        }
        #expect(parsed > 3_000, "only \(parsed) were certificates still")
    }

    private static func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        let place = generator.below(bytes.count)
        switch generator.below(5) {
        case 0: bytes[place] ^= 1 << UInt8(generator.below(8))
        case 1: bytes[place] = generator.element(of: [0, 1, 0x0C, 0x13, 0x1E, 0x7F, 0x80, 0xFF])
        case 2: bytes[place] = UInt8(generator.below(256))
        case 3:  // A piece of it again elsewhere, of the same length.
            let length = min(1 + generator.below(16), bytes.count - place)
            let other = generator.below(bytes.count - length + 1)
            for index in 0..<length { bytes[place + index] = bytes[other + index] }
        default: bytes.swapAt(place, generator.below(bytes.count))
        }
    }

    /// Nil: no certificate.
    static func peer(_ bytes: [UInt8]) -> TLSPeer? {
        bytes.withUnsafeBufferPointer { buffer in
            var start = buffer.baseAddress
            guard let certificate = d2i_X509(nil, &start, buffer.count) else {
                ERR_clear_error()
                return nil
            }
            defer { X509_free(certificate) }
            // What d2i_X509 has noted on its way is not the reader's.
            ERR_clear_error()
            return TLSPeer(certificate)
        }
    }
}

/// A certificate with these common names, each with its type.
private struct Made {
    let encoded: [UInt8]

    var peer: TLSPeer {
        guard let peer = `The certificate of a peer`.peer(encoded) else { preconditionFailure("it was encoded") }
        return peer
    }

    init(_ names: [(type: CInt, bytes: [UInt8])]) throws {
        ERR_clear_error()
        let certificate = try #require(X509_new())
        defer { X509_free(certificate) }
        let key = try #require(generate_ec_key("P-256"))
        defer { EVP_PKEY_free(key) }
        X509_set_version(certificate, 2)
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7)
        X509_gmtime_adj(X509_getm_notBefore(certificate), 0)
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600)
        let subject = X509_get_subject_name(certificate)
        for (type, bytes) in names {
            let isAdded = X509_NAME_add_entry_by_NID(subject, NID_commonName, type, bytes, CInt(bytes.count), -1, 0)
            ERR_clear_error()
            try #require(isAdded == 1)
        }
        X509_set_pubkey(certificate, key)
        try #require(X509_sign(certificate, key, EVP_sha256()) > 0)
        var start: UnsafeMutablePointer<UInt8>?
        let count = i2d_X509(certificate, &start)
        try #require(count > 0)
        encoded = Array(UnsafeBufferPointer(start: start, count: Int(count)))
        free_openssl_memory(start)
    }
}

/// What certs/make-test-certificates makes, in a directory that goes with this.
final class Certificates {
    private let directory: URL

    init() throws {
        directory = URL.temporaryDirectory.appending(path: "martlet-certificates-\(UUID().uuidString)")
        let repository = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
            .standardizedFileURL
        let script = repository.appending(path: "certs/make-test-certificates")
        _ = try Self.run("/bin/bash", [script.path, directory.path])
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func file(_ name: String) -> String { directory.appending(path: name).path }

    func openssl(_ arguments: [String]) throws -> String {
        try Self.run("/usr/bin/openssl", arguments, in: directory)
    }

    /// As DER.
    func encoded(_ name: String) throws -> [UInt8] {
        _ = try openssl(["x509", "-in", "\(name).pem", "-outform", "DER", "-out", "\(name).der"])
        return try Array(Data(contentsOf: directory.appending(path: "\(name).der")))
    }

    func peer(_ name: String) throws -> TLSPeer {
        try #require(`The certificate of a peer`.peer(encoded(name)))
    }

    private static func run(_ program: String, _ arguments: [String], in directory: URL? = nil) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        if let directory { process.currentDirectoryURL = directory }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let said = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(program) \(arguments)")
        return String(decoding: said, as: UTF8.self)
    }
}
