import Foundation
import Glibc
import Testing
import Transport

/// `openssl s_client` against a context of ours.
@Suite struct `A stream with TLS` {
    private let certificates: Certificates

    init() throws { certificates = try Certificates() }

    private func settings() -> TLSSettings {
        var settings = TLSSettings()
        settings.certificateFile = certificates.file("server.pem")
        settings.keyFile = certificates.file("server.key")
        return settings
    }

    private struct End {
        var failure: String?
        var (serverName, version, cipher): (String?, String?, String?)
        var isResumed = false
        var certificate: TLSPeer?
        var said = ""
    }

    /// One connection of s_client: what it said, and what the stream knew once both had shaken hands.
    private func connect(_ settings: TLSSettings, _ arguments: [String], tickets: TicketKeys = TicketKeys()) throws
        -> End
    {
        let context = try TLSContext(settings, tickets: tickets)
        let address = try #require(try SocketAddress.resolve("127.0.0.1", port: 0).first)
        let socket = try ListeningSocket(address, count: ConnectionCount(), total: ConnectionCount())
        let client = Process()
        client.executableURL = URL(filePath: "/usr/bin/openssl")
        client.arguments = ["s_client", "-connect", "127.0.0.1:\(socket.address.port)", "-ign_eof"] + arguments
        let output = Pipe()
        (client.standardInput, client.standardOutput, client.standardError) = (FileHandle.nullDevice, output, output)
        try client.run()
        var end = End()
        do {
            try wait(for: socket.rawDescriptor)
            guard case .stream(let stream) = socket.accept(tls: context) else {
                throw SystemError(EAGAIN, during: "accept")
            }
            var result = stream.handshake()
            while result == .wantsToRead {
                try wait(for: stream.rawDescriptor)
                result = stream.handshake()
            }
            if case .failed(let reason) = result { end.failure = "\(reason)" }
            (end.serverName, end.version, end.cipher) = (stream.serverName, stream.tlsVersion, stream.cipher)
            (end.isResumed, end.certificate) = (stream.isResumed, stream.clientCertificate)
            stream.finish()
        }
        end.said = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        client.waitUntilExit()
        return end
    }

    private func wait(for descriptor: CInt) throws {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 20_000) == 1 else { throw SystemError(ETIMEDOUT, during: "poll") }
    }

    @Test func `knows what was agreed on, and which name was asked for`() throws {
        let end = try connect(settings(), ["-servername", "broker.example", "-tls1_3"])
        #expect(end.failure == nil && end.serverName == "broker.example" && end.version == "TLSv1.3")
        #expect(end.cipher == "TLS_AES_256_GCM_SHA384" && end.certificate == nil && !end.isResumed)
        let other = try connect(settings(), ["-noservername", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"])
        #expect(other.failure == nil && other.serverName == nil && other.version == "TLSv1.2")
        #expect(other.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256")
    }

    @Test(arguments: ["-tls1_2", "-tls1_3"])
    func `may go without a certificate where one is optional, but not with a bad one`(_ version: String) throws {
        var settings = settings()
        settings.clientCertificates = .optional
        settings.authorityFile = certificates.file("ca.pem")
        settings.revocationFile = certificates.file("crl.pem")
        func show(_ name: String) -> [String] {
            [version, "-cert", certificates.file("\(name).pem"), "-key", certificates.file("\(name).key")]
        }
        let without = try connect(settings, [version])
        #expect(without.failure == nil && without.certificate == nil)
        #expect(without.said.contains("Acceptable client certificate CA names"), "it is asked for")
        let good = try connect(settings, show("client"))
        #expect(good.failure == nil && good.certificate?.commonName == Array("0C5D32DD2568".utf8))
        for (name, reason) in [
            ("expired", "certificate has expired"), ("early", "certificate is not yet valid"),
            ("revoked", "certificate revoked"), ("stranger", "unable to get local issuer certificate"),
            ("self-signed", "self-signed certificate"), ("server", "unsuitable certificate purpose"),
        ] {
            let end = try connect(settings, show(name))
            #expect(
                end.failure?.contains(reason) == true || name == "stranger" && end.failure != nil, "\(name): \(end)")
            #expect(end.said.contains("alert"), "\(name): \(end.said)")
        }
    }

    @Test func `finds authorities in a directory`() throws {
        var settings = settings()
        settings.clientCertificates = .required
        let directory = certificates.file("trusted")
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        settings.authorityDirectory = directory
        let show = ["-cert", certificates.file("client.pem"), "-key", certificates.file("client.key")]
        #expect(try connect(settings, show).failure != nil)
        try FileManager.default.copyItem(atPath: certificates.file("ca.pem"), toPath: "\(directory)/ca.pem")
        _ = try certificates.openssl(["rehash", directory])
        let end = try connect(settings, show)
        #expect(end.failure == nil && end.certificate != nil, "\(end)")
        let stranger = ["-cert", certificates.file("stranger.pem"), "-key", certificates.file("stranger.key")]
        #expect(try connect(settings, stranger).failure != nil)
    }

    @Test func `resumes with a ticket, the client's certificate too, and not without its key`() throws {
        var settings = settings()
        settings.clientCertificates = .required
        settings.authorityFile = certificates.file("ca.pem")
        let show = ["-cert", certificates.file("client.pem"), "-key", certificates.file("client.key"), "-tls1_2"]
        let session = certificates.file("session")
        let tickets = TicketKeys()
        #expect(try connect(settings, show + ["-sess_out", session], tickets: tickets).failure == nil)
        let again = try connect(settings, show + ["-sess_in", session], tickets: tickets)
        #expect(again.isResumed && again.certificate?.commonName == Array("0C5D32DD2568".utf8))
        let elsewhere = try connect(settings, show + ["-sess_in", session])
        #expect(elsewhere.failure == nil && !elsewhere.isResumed)
    }

    @Test func `takes the parameters for Diffie-Hellman from a file`() throws {
        _ = try certificates.openssl([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "rsa.key", "-out",
            "rsa.pem",
        ])
        _ = try certificates.openssl([
            "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe3072", "-out", "dh.pem",
        ])
        var settings = TLSSettings()
        settings.certificateFile = certificates.file("rsa.pem")
        settings.keyFile = certificates.file("rsa.key")
        let cipher = ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"]
        #expect(try connect(settings, cipher).said.contains("Server Temp Key: DH, 2048 bits"))
        settings.parameterFile = certificates.file("dh.pem")
        #expect(try connect(settings, cipher).said.contains("Server Temp Key: DH, 3072 bits"))
    }

    @Test func `speaks TLS 1.1 only where that is asked for`() throws {
        var settings = settings()
        settings.ciphers = "ALL:@SECLEVEL=0"
        let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
        #expect(try connect(settings, old).failure?.contains("unsupported protocol") == true)
        settings.oldestVersion = .tls11
        let end = try connect(settings, old)
        #expect(end.failure == nil && end.version == "TLSv1.1", "\(end)")
        #expect(try connect(settings, ["-tls1_3"]).version == "TLSv1.3")
        #expect(try connect(settings, ["-tls1", "-cipher", "ALL:@SECLEVEL=0"]).failure != nil)
    }
}
