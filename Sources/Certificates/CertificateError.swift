internal import COpenSSL
internal import Glibc

/// Why a certificate could not be read, made, kept or revoked. No description holds key material.
package enum CertificateError: Error, Equatable, CustomStringConvertible {
    /// What was asked for or handed in is not acceptable.
    case refused(String)
    /// A file of the certificate directory is not what it should be. It has been left as it is.
    case damaged(file: String, String)
    /// Nothing by that name or serial number.
    case unknown(String)
    /// Another process, or a thread of this one, works on the certificates and does not end.
    case busy(String)
    /// The machine's refusal: an `errno` on a file.
    case file(String, errno: CInt)
    /// OpenSSL's refusal.
    case openSSL(function: String, String)

    package var description: String {
        switch self {
        case .refused(let reason), .unknown(let reason): reason
        case .busy(let path): "\(path): somebody else has been at work on the certificates for ten seconds"
        case .damaged(let file, let reason): "\(file): \(reason)"
        case .file(let path, let code): "\(path): \(unsafe String(cString: strerror(code)))"
        case .openSSL(let function, let reason): "\(function): \(reason)"
        }
    }

    /// What OpenSSL says about its function that has just failed. Leaves its queue of errors empty.
    static func openSSL(_ function: String) -> CertificateError { .openSSL(function: function, openSSLReason()) }
}

/// The innermost reason of the errors of this thread, which are forgotten by it. The corresponding C functions are
/// `ERR_get_error` and `ERR_reason_error_string`; the details that `ERR_get_error_all` would give may quote input.
func openSSLReason() -> String {
    var reason = "no reason given"
    var isFirst = true
    while true {
        let code = ERR_get_error()
        guard code != 0 else { return reason }
        if isFirst, let text = unsafe ERR_reason_error_string(code) { reason = unsafe String(cString: text) }
        isFirst = false
    }
}
