internal import COpenSSL

/// OpenSSL is not taken down when the process exits, which would be under the hands of threads that still check a password
/// or look at a certificate. To be called before anything else of it. The corresponding C function is
/// `OPENSSL_init_crypto`.
package func keepCryptographyUntilTheEnd() {
    let result = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
    precondition(result == 1, "OpenSSL can't be used")
}
