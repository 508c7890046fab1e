internal import COpenSSL
import Glibc

/// What a client has proved with its certificate.
package struct TLSPeer: Hashable, Sendable {
    /// The subject's only CN, UTF-8. Nil: it has none, several, an empty one, or one with a NUL.
    package let commonName: [UInt8]?
    /// The whole subject as RFC 2253 writes it.
    package let subject: [UInt8]
    /// Upper-case hexadecimal, without leading zeros.
    package let serial: String
    /// SHA-256 of the whole certificate.
    package let fingerprint: [UInt8]
    /// Its extended key usage names clientAuth.
    package let isForClients: Bool

    init(_ certificate: OpaquePointer) {
        defer { ERR_clear_error() }  // An extension that can't be read leaves a note, also where nothing fails.
        commonName = unsafe Self.commonName(of: certificate)
        subject = unsafe Self.subject(of: certificate)
        serial = unsafe Self.serial(of: certificate)
        fingerprint = unsafe Self.fingerprint(of: certificate)
        // Without an extended key usage the function answers that everything is allowed.
        isForClients =
            unsafe X509_get_ext_by_NID(certificate, NID_ext_key_usage, -1) >= 0
            && X509_get_extended_key_usage(certificate) & UInt32(XKU_SSL_CLIENT) != 0
    }

    /// The corresponding C functions are `X509_NAME_get_index_by_NID` and `ASN1_STRING_to_UTF8`.
    private static func commonName(of certificate: OpaquePointer) -> [UInt8]? {
        let name = unsafe X509_get_subject_name(certificate)
        let index = unsafe X509_NAME_get_index_by_NID(name, NID_commonName, -1)
        guard index >= 0, unsafe X509_NAME_get_index_by_NID(name, NID_commonName, index) < 0 else { return nil }
        let data = unsafe X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index))
        var text: UnsafeMutablePointer<UInt8>?
        let count = unsafe ASN1_STRING_to_UTF8(&text, data)
        defer { unsafe CRYPTO_free(text, #file, #line) }
        guard count > 0, let text = unsafe text else {
            _ = OpenSSLErrors.take()
            return nil
        }
        let bytes = unsafe Array(UnsafeBufferPointer(start: text, count: Int(count)))
        // A UTF8String goes through unread.
        guard !bytes.contains(0), String(validating: bytes, as: UTF8.self) != nil else { return nil }
        return bytes
    }

    /// The corresponding C function is `X509_NAME_print_ex`.
    private static func subject(of certificate: OpaquePointer) -> [UInt8] {
        guard let memory = unsafe BIO_new(BIO_s_mem()) else { return [] }
        defer { unsafe BIO_free(memory) }
        unsafe x509_name_print_rfc2253(memory, X509_get_subject_name(certificate))
        var text: UnsafeMutablePointer<CChar>?
        let count = unsafe bio_memory(memory, &text)
        guard count > 0, let text = unsafe text else { return [] }
        return unsafe Array(UnsafeRawBufferPointer(start: text, count: count))
    }

    /// The corresponding C function is `ASN1_INTEGER_to_BN`.
    private static func serial(of certificate: OpaquePointer) -> String {
        guard let number = unsafe ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nil) else { return "" }
        defer { unsafe BN_free(number) }
        guard let text = unsafe BN_bn2hex(number) else { return "" }
        defer { unsafe CRYPTO_free(text, #file, #line) }
        let hexadecimal = unsafe String(cString: text)
        let digits = hexadecimal.drop { $0 == "0" }
        return digits.isEmpty ? "0" : String(digits)
    }

    /// The corresponding C function is `X509_digest`.
    private static func fingerprint(of certificate: OpaquePointer) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe X509_digest(certificate, EVP_sha256(), &digest, nil)
        return digest
    }
}
