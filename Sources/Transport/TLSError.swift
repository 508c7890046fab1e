internal import COpenSSL
import Glibc

/// Why a TLS context can't be made: which file or setting, and what is wrong with it, ready for a person.
package struct TLSError: Error, Equatable, CustomStringConvertible {
    /// The key of the configuration that it is about.
    package let key: String
    package let reason: String

    init(_ key: String, _ reason: String) {
        self.key = key
        self.reason = reason
    }

    package var description: String { "\(key) \(reason)" }
}

/// What OpenSSL notes about a failure. Whoever fails takes it all, or the next to fail on this thread would find it.
package enum OpenSSLErrors {
    /// The first reason that is noted, in OpenSSL's words; nil where there is none. Nothing is left in the queue. The
    /// corresponding C function is `ERR_get_error`.
    package static func take() -> String? {
        let first = ERR_get_error()
        guard first != 0 else { return nil }
        ERR_clear_error()
        if is_system_error(first) != 0 { return unsafe String(cString: strerror(error_reason(first))) }
        guard let text = unsafe ERR_reason_error_string(first) else { return "error \(error_reason(first))" }
        return unsafe String(cString: text)
    }

    /// Whether the next reason is that of an alert from the peer.
    static var isAlert: Bool {
        let first = ERR_peek_error()
        return error_library(first) == ERR_LIB_SSL && error_reason(first) > SSL_AD_REASON_OFFSET
    }
}
