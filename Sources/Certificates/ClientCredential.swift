internal import Glibc

/// A client's certificate that was made together with its key.
package struct ClientCredential: Sendable {
    package let certificate: Certificate
    /// PEM. A secret that is kept nowhere here.
    package let key: [UInt8]
    /// The authority that the client knows the server by.
    package let authority: Certificate

    /// What `write` puts into a directory for a client of this name.
    private static func files(_ name: String) -> [String] { ["\(name).pem", "\(name).key", "\(name).h"] }

    /// Throws where the directory is not one, or has files of this name, before anything is issued in vain.
    package static func requireRoom(in directory: String, for name: String) throws(CertificateError) {
        guard isDirectory(directory) else { throw .file(directory, errno: ENOTDIR) }
        for file in files(name) where unsafe access("\(directory)/\(file)", F_OK) == 0 {
            throw .refused("\(directory)/\(file) is there already")
        }
    }

    /// Writes `NAME.pem`, `NAME.key` and `NAME.h`, and `ca.pem` where there is none. What holds the key is its owner's
    /// alone. Returns the paths.
    package func write(to directory: String, name: String) throws(CertificateError) -> [String] {
        var files: [(name: String, bytes: [UInt8], mode: mode_t)] = [
            ("\(name).key", key, 0o600), ("\(name).pem", Array(certificate.pem.utf8), 0o644),
            ("\(name).h", Array(header(name: name).utf8), 0o600),
        ]
        let authorityText = Array(authority.pem.utf8)
        if try contents(of: "\(directory)/ca.pem", limit: Certificate.largestText) != authorityText {
            guard unsafe access("\(directory)/ca.pem", F_OK) != 0 else {
                throw .refused("\(directory)/ca.pem is there already, and another authority's")
            }
            files.append(("ca.pem", authorityText, 0o644))
        }
        var written: [String] = []
        for file in files {
            try replace("\(directory)/\(file.name)", with: file.bytes, mode: file.mode)
            written.append("\(directory)/\(file.name)")
        }
        return written
    }

    /// For a sketch: the three texts as constants. Raw strings are C++ and GNU C.
    package func header(name: String) -> String {
        func constant(_ name: String, _ pem: some StringProtocol) -> String {
            "static const char \(name)[] = R\"PEM(\(pem))PEM\";\n"
        }
        return """
            // Device \(name): made by `martlet certs device`, good until \(certificate.notAfter).
            // Serial number \(certificate.serial). Holds the private key: keep it out of version control.
            #pragma once

            static const char MARTLET_DEVICE_ID[] = "\(name)";

            \(constant("MARTLET_CA", authority.pem))
            \(constant("MARTLET_CERTIFICATE", certificate.pem))
            \(constant("MARTLET_KEY", String(decoding: key, as: UTF8.self)))
            """
    }
}
