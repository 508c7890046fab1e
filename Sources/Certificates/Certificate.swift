internal import COpenSSL

/// An X.509 certificate as a value: its DER and what is read from it.
package struct Certificate: Hashable, Sendable {
    package let der: [UInt8]
    /// The subject and the issuer as RFC 2253 writes them.
    package let subject: String
    package let issuer: String
    /// The subject's only CN. Nil: it has none, several, or one with a NUL.
    package let commonName: String?
    package let serial: SerialNumber
    package let notBefore: UnixTime
    package let notAfter: UnixTime
    /// The names and addresses of a server that it is for; others (e-mail, URI) are left out.
    package let names: [ServerName]
    /// SHA-256 of the whole.
    package let fingerprint: [UInt8]
    /// It may sign others: basicConstraints says so, and keyUsage does not deny it.
    package let isAuthority: Bool
    /// Its extended key usage names serverAuth, and clientAuth.
    package let isForServers: Bool
    package let isForClients: Bool

    /// The largest PEM text that is read, bytes.
    package static let largestText = 1 << 20
    /// The most certificates that are read from one text.
    package static let longestChain = 64

    /// The first certificate of a PEM text.
    package init(pem: [UInt8]) throws(CertificateError) { self = try Self.chain(pem: pem)[0] }

    /// All certificates of a PEM text, at least one. Throws `.refused` where one is malformed. The corresponding C
    /// function is `PEM_read_bio_X509`.
    package static func chain(pem: [UInt8]) throws(CertificateError) -> [Certificate] {
        guard pem.count <= largestText else { throw .refused("more than \(largestText) bytes") }
        return try reading(pem) { file throws(CertificateError) in
            var chain: [Certificate] = []
            while let pointer = unsafe PEM_read_bio_X509(file.pointer, nil, noPassphrase, nil) {
                let object = try unsafe Owned(pointer, from: "PEM_read_bio_X509", free: X509_free)
                guard chain.count < longestChain else { throw .refused("more than \(longestChain) certificates") }
                chain.append(try Certificate(object))
            }
            let isEnd = isEndOfPEM()
            let reason = openSSLReason()
            guard isEnd, !chain.isEmpty else {
                throw .refused(isEnd ? "not a certificate in PEM" : "a malformed certificate (\(reason))")
            }
            return chain
        }
    }

    /// The corresponding C functions are `X509_get0_serialNumber`, `X509_get0_notBefore`, `X509_get0_notAfter`,
    /// `X509_get_extended_key_usage`, `X509_check_ca` and `X509_digest`.
    init(_ object: borrowing Owned) throws(CertificateError) {
        der = try unsafe encoded("i2d_X509") { unsafe i2d_X509(object.pointer, $0) }
        let subjectName = unsafe X509_get_subject_name(object.pointer)
        subject = try unsafe text(ofName: subjectName)
        issuer = try unsafe text(ofName: X509_get_issuer_name(object.pointer))
        commonName = unsafe onlyCommonName(subjectName)
        guard let serial = unsafe SerialNumber(X509_get0_serialNumber(object.pointer)) else {
            throw .refused("a certificate whose serial number is not positive, or too long")
        }
        self.serial = serial
        notBefore = try unsafe UnixTime(X509_get0_notBefore(object.pointer))
        notAfter = try unsafe UnixTime(X509_get0_notAfter(object.pointer))
        names = unsafe alternativeNames(of: object.pointer)
        let usages = unsafe X509_get_extended_key_usage(object.pointer)
        let hasUsages = usages != .max
        isForServers = hasUsages && usages & UInt32(XKU_SSL_SERVER) != 0
        isForClients = hasUsages && usages & UInt32(XKU_SSL_CLIENT) != 0
        isAuthority = unsafe X509_check_ca(object.pointer) == 1
        var digest = [UInt8](repeating: 0, count: 32)
        try require(unsafe X509_digest(object.pointer, EVP_sha256(), &digest, nil), "X509_digest")
        fingerprint = digest
        _ = openSSLReason()  // What an extension that could not be read has left.
    }

    package var pem: String { Certificates.pem("CERTIFICATE", der) }

    /// OpenSSL's object of it. The corresponding C function is `d2i_X509`.
    func object() throws(CertificateError) -> Owned {
        let pointer = unsafe der.withUnsafeBufferPointer { bytes in
            var position = bytes.baseAddress
            return unsafe d2i_X509(nil, &position, bytes.count)
        }
        return try unsafe Owned(pointer, from: "d2i_X509", free: X509_free)
    }

    /// Whether this authority's key has signed `other`, and `other` names it as its issuer. Dates and purposes are
    /// another question. The corresponding C functions are `X509_check_issued` and `X509_verify`.
    package func hasSigned(_ other: Certificate) throws(CertificateError) -> Bool {
        let authority = try object()
        let issued = try other.object()
        let isSigned =
            unsafe X509_check_issued(authority.pointer, issued.pointer) == X509_V_OK
            && X509_verify(issued.pointer, X509_get0_pubkey(authority.pointer)) == 1
        _ = openSSLReason()
        return isSigned
    }
}

/// A name as RFC 2253 writes it. The corresponding C function is `X509_NAME_print_ex`.
func text(ofName name: OpaquePointer?) throws(CertificateError) -> String {
    let bytes = try written { file throws(CertificateError) in
        guard unsafe X509_NAME_print_ex(file.pointer, name, 0, rfc2253_name_flags()) >= 0 else {
            throw .openSSL("X509_NAME_print_ex")
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}

/// The corresponding C functions are `X509_NAME_get_index_by_NID` and `ASN1_STRING_to_UTF8`.
private func onlyCommonName(_ name: OpaquePointer?) -> String? {
    let index = unsafe X509_NAME_get_index_by_NID(name, NID_commonName, -1)
    guard index >= 0, unsafe X509_NAME_get_index_by_NID(name, NID_commonName, index) < 0 else { return nil }
    let value = unsafe X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index))
    var bytes: UnsafeMutablePointer<UInt8>?
    let count = unsafe ASN1_STRING_to_UTF8(&bytes, value)
    guard count >= 0, let bytes = unsafe bytes else { return nil }
    defer { unsafe free_openssl_memory(bytes) }
    let text = unsafe String(validating: UnsafeBufferPointer(start: bytes, count: Int(count)), as: UTF8.self)
    return text.flatMap { $0.utf8.contains(0) ? nil : $0 }
}

/// The corresponding C functions are `X509_get_ext_d2i`, `OPENSSL_sk_num`, `OPENSSL_sk_value` and
/// `GENERAL_NAME_get0_value`.
private func alternativeNames(of certificate: OpaquePointer) -> [ServerName] {
    guard let list = unsafe X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil) else { return [] }
    let names = OpaquePointer(list)
    defer { unsafe GENERAL_NAMES_free(names) }
    return unsafe (0..<OPENSSL_sk_num(names)).compactMap { index in
        guard let entry = unsafe OPENSSL_sk_value(names, index) else { return nil }
        var type: CInt = 0
        let value = unsafe GENERAL_NAME_get0_value(entry.assumingMemoryBound(to: GENERAL_NAME.self), &type)
        guard type == GEN_DNS || type == GEN_IPADD, let value = unsafe value else { return nil }
        let string = unsafe UnsafePointer<ASN1_STRING>(value.assumingMemoryBound(to: ASN1_STRING.self))
        let bytes = unsafe Array(
            UnsafeBufferPointer(start: ASN1_STRING_get0_data(string), count: Int(ASN1_STRING_length(string))))
        if type == GEN_DNS { return ServerName(String(decoding: bytes, as: UTF8.self)) }
        return bytes.count == 4 || bytes.count == 16 ? .address(bytes) : nil
    }
}
