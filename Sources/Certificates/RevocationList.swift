internal import COpenSSL

/// Which certificates of an authority no longer count (RFC 5280, 5), as a value: its DER and what is read from it.
package struct RevocationList: Hashable, Sendable {
    package struct Entry: Hashable, Sendable {
        package let serial: SerialNumber
        package let date: UnixTime

        package init(serial: SerialNumber, date: UnixTime) {
            self.serial = serial
            self.date = date
        }
    }

    package let der: [UInt8]
    /// The issuer as RFC 2253 writes it.
    package let issuer: String
    /// The CRL number; nil where it has none.
    package let number: Int64?
    package let thisUpdate: UnixTime
    /// When it stops counting; nil: never.
    package let nextUpdate: UnixTime?
    /// By serial number.
    package let entries: [Entry]

    /// The largest text that is read, bytes; some 100,000 entries.
    package static let largestText = 8 << 20

    /// The first list of a PEM text. The corresponding C function is `PEM_read_bio_X509_CRL`.
    package init(pem: [UInt8]) throws(CertificateError) {
        guard pem.count <= Self.largestText else { throw .refused("more than \(Self.largestText) bytes") }
        self = try reading(pem) { file throws(CertificateError) in
            guard let pointer = unsafe PEM_read_bio_X509_CRL(file.pointer, nil, noPassphrase, nil) else {
                let isEnd = isEndOfPEM()
                let reason = openSSLReason()
                throw .refused(isEnd ? "not a revocation list in PEM" : "a malformed revocation list (\(reason))")
            }
            return try RevocationList(
                try unsafe Owned(pointer, from: "PEM_read_bio_X509_CRL", free: X509_CRL_free))
        }
    }

    /// The corresponding C functions are `X509_CRL_get0_lastUpdate`, `X509_CRL_get0_nextUpdate`,
    /// `X509_CRL_get_ext_d2i`, `X509_CRL_get_REVOKED`, `X509_REVOKED_get0_serialNumber` and
    /// `X509_REVOKED_get0_revocationDate`.
    private init(_ object: borrowing Owned) throws(CertificateError) {
        der = try unsafe encoded("i2d_X509_CRL") { unsafe i2d_X509_CRL(object.pointer, $0) }
        issuer = try unsafe text(ofName: X509_CRL_get_issuer(object.pointer))
        thisUpdate = try unsafe UnixTime(X509_CRL_get0_lastUpdate(object.pointer))
        let next = unsafe X509_CRL_get0_nextUpdate(object.pointer)
        nextUpdate = unsafe next == nil ? nil : try UnixTime(next)
        if let value = unsafe X509_CRL_get_ext_d2i(object.pointer, NID_crl_number, nil, nil) {
            let integer = unsafe value.assumingMemoryBound(to: ASN1_INTEGER.self)
            defer { unsafe ASN1_INTEGER_free(integer) }
            var result: Int64 = 0
            number = unsafe ASN1_INTEGER_get_int64(&result, integer) == 1 ? result : nil
        } else {
            number = nil
        }
        _ = openSSLReason()
        var entries: [Entry] = []
        let list = unsafe X509_CRL_get_REVOKED(object.pointer)
        for index in unsafe 0..<max(0, OPENSSL_sk_num(list)) {
            let revoked = unsafe OpaquePointer(OPENSSL_sk_value(list, index))
            guard let serial = unsafe SerialNumber(X509_REVOKED_get0_serialNumber(revoked)) else {
                throw .refused("a revocation list with a serial number that is not positive, or too long")
            }
            let date = try unsafe UnixTime(X509_REVOKED_get0_revocationDate(revoked))
            entries.append(Entry(serial: serial, date: date))
        }
        self.entries = entries
    }

    package var pem: String { Certificates.pem("X509 CRL", der) }

    /// Whether the authority's key has signed it. The corresponding C functions are `d2i_X509_CRL` and
    /// `X509_CRL_verify`.
    package func isSigned(by authority: Certificate) throws(CertificateError) -> Bool {
        let certificate = try authority.object()
        let pointer = unsafe der.withUnsafeBufferPointer { bytes in
            var position = bytes.baseAddress
            return unsafe d2i_X509_CRL(nil, &position, bytes.count)
        }
        let list = try unsafe Owned(pointer, from: "d2i_X509_CRL", free: X509_CRL_free)
        let isSigned =
            unsafe issuer == authority.subject
            && X509_CRL_verify(list.pointer, X509_get0_pubkey(certificate.pointer)) == 1
        _ = openSSLReason()
        return isSigned
    }
}

extension CertificateAuthority {
    /// Signs a list of all that it has revoked. `number` is larger than that of each list before; the list counts for
    /// `Lifetime.revocationList` days. The corresponding C functions are `X509_CRL_add0_revoked`,
    /// `X509_CRL_add1_ext_i2d` and `X509_CRL_sign`.
    package func revocationList(
        _ entries: [RevocationList.Entry], number: Int64, now: UnixTime
    ) throws(CertificateError) -> RevocationList {
        let list = try unsafe Owned(X509_CRL_new(), from: "X509_CRL_new", free: X509_CRL_free)
        let authority = try certificate.object()
        let pointer = unsafe list.pointer
        try require(unsafe X509_CRL_set_version(pointer, 1), "X509_CRL_set_version")
        try require(
            unsafe X509_CRL_set_issuer_name(pointer, X509_get_subject_name(authority.pointer)),
            "X509_CRL_set_issuer_name")
        // Not beyond the authority's own end, or the list would seem to outlive who vouches for it.
        let end = max(now.adding(days: 1), min(now.adding(days: Lifetime.revocationList), certificate.notAfter))
        try unsafe UnixTime(seconds: now.seconds - 3600).withASN1 { time throws(CertificateError) in
            try require(unsafe X509_CRL_set1_lastUpdate(pointer, time), "X509_CRL_set1_lastUpdate")
        }
        try unsafe end.withASN1 { time throws(CertificateError) in
            try require(unsafe X509_CRL_set1_nextUpdate(pointer, time), "X509_CRL_set1_nextUpdate")
        }
        for entry in entries {
            let revoked = try unsafe Owned(X509_REVOKED_new(), from: "X509_REVOKED_new", free: X509_REVOKED_free)
            let target = unsafe revoked.pointer
            try unsafe entry.serial.withASN1 { number throws(CertificateError) in
                try require(unsafe X509_REVOKED_set_serialNumber(target, number), "X509_REVOKED_set_serialNumber")
            }
            try unsafe entry.date.withASN1 { time throws(CertificateError) in
                try require(unsafe X509_REVOKED_set_revocationDate(target, time), "X509_REVOKED_set_revocationDate")
            }
            try require(unsafe X509_CRL_add0_revoked(pointer, revoked.release()), "X509_CRL_add0_revoked")
        }
        try require(unsafe X509_CRL_sort(pointer), "X509_CRL_sort")
        try addNumber(number, to: list)
        var context = unsafe X509V3_CTX()
        unsafe X509V3_set_ctx(&context, authority.pointer, nil, nil, pointer, 0)
        let ext = try unsafe Owned(
            X509V3_EXT_conf_nid(nil, &context, NID_authority_key_identifier, "keyid,issuer"),
            from: "X509V3_EXT_conf_nid", free: X509_EXTENSION_free)
        try require(unsafe X509_CRL_add_ext(pointer, ext.pointer, -1), "X509_CRL_add_ext")
        try require(unsafe X509_CRL_sign(pointer, key.key.pointer, key.digest), "X509_CRL_sign")
        let der = try unsafe encoded("i2d_X509_CRL") { unsafe i2d_X509_CRL(pointer, $0) }
        return try RevocationList(pem: Array(Certificates.pem("X509 CRL", der).utf8))
    }

    private func addNumber(_ number: Int64, to list: borrowing Owned) throws(CertificateError) {
        guard let integer = unsafe ASN1_INTEGER_new() else { throw .openSSL("ASN1_INTEGER_new") }
        defer { unsafe ASN1_INTEGER_free(integer) }
        try require(unsafe ASN1_INTEGER_set_int64(integer, number), "ASN1_INTEGER_set_int64")
        try require(
            unsafe X509_CRL_add1_ext_i2d(list.pointer, NID_crl_number, integer, 0, 0), "X509_CRL_add1_ext_i2d")
    }
}
