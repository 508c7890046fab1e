internal import COpenSSL
internal import Glibc

/// A request for a certificate (PKCS #10) whose signature is right: who made it has the private key.
package struct CertificateRequest: ~Copyable {
    let object: Owned
    /// What it wants to be called, as RFC 2253 writes it. Nobody has checked that.
    package let subject: String

    /// The largest text that is read, bytes.
    package static let largestText = 1 << 16

    /// Throws `.refused` for what is malformed, not signed by its own key, or about a weak key. The corresponding C
    /// functions are `PEM_read_bio_X509_REQ` and `X509_REQ_verify`.
    package init(pem: [UInt8]) throws(CertificateError) {
        guard pem.count <= Self.largestText else { throw .refused("a request of more than \(Self.largestText) bytes") }
        let object = try reading(pem) { file throws(CertificateError) -> Owned in
            guard let object = unsafe PEM_read_bio_X509_REQ(file.pointer, nil, noPassphrase, nil) else {
                let isEnd = isEndOfPEM()
                let reason = openSSLReason()
                throw .refused(isEnd ? "not a certificate request in PEM" : "a malformed request (\(reason))")
            }
            return try unsafe Owned(object, from: "PEM_read_bio_X509_REQ", free: X509_REQ_free)
        }
        let key = try Self.publicKey(of: object)
        try requireSound(key)
        let isSigned = unsafe X509_REQ_verify(object.pointer, key.pointer) == 1
        _ = openSSLReason()
        guard isSigned else { throw .refused("the request is not signed by the key it is about") }
        subject = try unsafe text(ofName: X509_REQ_get_subject_name(object.pointer))
        self.object = object
    }

    /// The text of a request in a file, `-` for standard input.
    package static func readText(from path: String) throws(CertificateError) -> [UInt8] {
        guard let text = try contents(of: path == "-" ? "/dev/stdin" : path, limit: largestText) else {
            throw .file(path, errno: ENOENT)
        }
        return text
    }

    /// The corresponding C function is `X509_REQ_get_pubkey`.
    private static func publicKey(of object: borrowing Owned) throws(CertificateError) -> Owned {
        guard let key = unsafe X509_REQ_get_pubkey(object.pointer) else {
            throw .refused("the key of the request can't be read (\(openSSLReason()))")
        }
        return try unsafe Owned(key, from: "X509_REQ_get_pubkey", free: EVP_PKEY_free)
    }

    func publicKey() throws(CertificateError) -> Owned { try Self.publicKey(of: object) }

    /// A request for `commonName`, signed by its key, as PEM. The corresponding C functions are `X509_REQ_set_pubkey`
    /// and `X509_REQ_sign`.
    package static func pem(commonName: String, key: borrowing PrivateKey) throws(CertificateError) -> String {
        let request = try unsafe Owned(X509_REQ_new(), from: "X509_REQ_new", free: X509_REQ_free)
        let name = try distinguishedName(commonName: commonName)
        try require(
            unsafe X509_REQ_set_subject_name(request.pointer, name.pointer), "X509_REQ_set_subject_name")
        try require(unsafe X509_REQ_set_pubkey(request.pointer, key.key.pointer), "X509_REQ_set_pubkey")
        try require(unsafe X509_REQ_sign(request.pointer, key.key.pointer, key.digest), "X509_REQ_sign")
        let der = try unsafe encoded("i2d_X509_REQ") { unsafe i2d_X509_REQ(request.pointer, $0) }
        return Certificates.pem("CERTIFICATE REQUEST", der)
    }
}

/// A name of one CN, which is not empty, has no control characters and at most 64 characters (RFC 5280, appendix A). The
/// corresponding C function is `X509_NAME_add_entry_by_txt`.
func distinguishedName(commonName: String) throws(CertificateError) -> Owned {
    let scalars = commonName.unicodeScalars
    guard (1...64).contains(scalars.count), scalars.allSatisfy({ $0.value >= 32 && $0.value != 127 }) else {
        throw .refused("a name in a certificate has 1 to 64 characters, none of them a control character")
    }
    let name = try unsafe Owned(X509_NAME_new(), from: "X509_NAME_new", free: X509_NAME_free)
    let bytes = Array(commonName.utf8)
    try require(
        unsafe X509_NAME_add_entry_by_txt(
            name.pointer, "CN", MBSTRING_UTF8, bytes, CInt(bytes.count), -1, 0), "X509_NAME_add_entry_by_txt")
    return name
}
