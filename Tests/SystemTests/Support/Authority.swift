import Foundation

/// A certificate authority of the openssl command line, in a directory of its own: `ca.crt`, and NAME.crt with NAME.key for
/// whoever it has issued a certificate to.
final class Authority {
    let directory: TemporaryDirectory

    init(_ name: String = "authority") throws {
        directory = try TemporaryDirectory()
        try directory.write("", "index.txt")
        try directory.write("01", "serial")
        try directory.write("01", "crlnumber")
        try directory.write(
            """
            [ca]
            default_ca = own
            [own]
            database = \(directory.path)/index.txt
            serial = \(directory.path)/serial
            crlnumber = \(directory.path)/crlnumber
            new_certs_dir = \(directory.path)
            certificate = \(directory.path)/ca.crt
            private_key = \(directory.path)/ca.key
            default_md = sha256
            default_days = 30
            default_crl_days = 30
            policy = any
            unique_subject = no
            [any]
            organizationName = optional
            commonName = optional
            """, "ca.cnf")
        try openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
            "/CN=\(name)", "-keyout", file("ca.key"), "-out", file("ca.crt"))
        try issue("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    }

    func file(_ name: String) -> String { "\(directory.path)/\(name)" }

    /// `dates`: first and last, as YYYYMMDDHHMMSSZ.
    func issue(
        _ name: String, _ subject: String, _ extensions: String = "extendedKeyUsage=clientAuth",
        dates: (String, String)? = nil
    ) throws {
        try directory.write(extensions + "\n", "\(name).ext")
        try openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject, "-keyout",
            file("\(name).key"), "-out", file("\(name).csr"))
        let when = dates.map { ["-startdate", $0.0, "-enddate", $0.1] } ?? []
        try run(
            [
                "ca", "-batch", "-config", file("ca.cnf"), "-in", file("\(name).csr"), "-out", file("\(name).crt"),
                "-extfile", file("\(name).ext"), "-notext",
            ] + when)
        // The broker may run as somebody else.
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: file("\(name).key"))
    }

    func revoke(_ name: String) throws {
        try openssl("ca", "-batch", "-config", file("ca.cnf"), "-revoke", file("\(name).crt"))
    }

    /// Writes who is revoked now to `crl.pem`.
    func list() throws { try openssl("ca", "-batch", "-config", file("ca.cnf"), "-gencrl", "-out", file("crl.pem")) }

    private func openssl(_ arguments: String...) throws { try run(arguments) }

    private func run(_ arguments: [String]) throws {
        let program = try Program("openssl", arguments)
        guard try program.waitForEnd() == .exited(0) else { throw Unexpected("openssl: \(program.output)") }
    }
}

/// One connection of `openssl s_client`, from beginning to end. What it said, whatever came of it.
func secureClient(_ port: UInt16, _ arguments: String, input: String = ":") throws -> String {
    let command = "(\(input)) | openssl s_client -connect 127.0.0.1:\(port) -servername localhost \(arguments)"
    let program = try Program("/bin/sh", ["-c", command])
    _ = try program.waitForEnd()
    return program.output
}
