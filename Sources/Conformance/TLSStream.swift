internal import COpenSSL
internal import Glibc
internal import Transport

/// What the runner trusts and shows over TLS: its own client, so that the broker's way with OpenSSL is not tried by itself.
package final class TLSClient: Sendable {
    // Where the SSL_CTX is. Its use count and its locks are OpenSSL's own, so threads may share it.
    private let address: UInt
    private let host: String
    private let isAddress: Bool

    fileprivate var pointer: OpaquePointer {
        guard let pointer = unsafe OpaquePointer(bitPattern: address) else { preconditionFailure("made in init") }
        return unsafe pointer
    }

    /// `host`: what the broker's certificate has to be for, a name or an address. `authorities`: a file, PEM; nil: those of
    /// the system. `certificate` and `key`: what the client shows, PEM. The corresponding C function is `SSL_CTX_new`.
    package init(
        host: String, authorities: String?, certificate: String? = nil, key: String? = nil
    ) throws(TLSProblem) {
        ERR_clear_error()
        guard let context = unsafe SSL_CTX_new(TLS_client_method()) else { throw TLSProblem(during: "TLS") }
        address = UInt(bitPattern: context)
        self.host = host
        isAddress = Self.isAddress(host)
        unsafe _ = ssl_ctx_set_min_version(pointer, TLS1_2_VERSION)
        unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
        // A key with a passphrase would ask for it on the terminal.
        unsafe SSL_CTX_set_default_passwd_cb(pointer) { _, _, _, _ in 0 }
        if let authorities {
            guard unsafe SSL_CTX_load_verify_file(pointer, authorities) == 1 else {
                throw TLSProblem(during: "'\(authorities)'")
            }
        } else {
            guard unsafe SSL_CTX_set_default_verify_paths(pointer) == 1 else {
                throw TLSProblem(during: "the system's authorities")
            }
        }
        if let certificate {
            guard unsafe SSL_CTX_use_certificate_chain_file(pointer, certificate) == 1 else {
                throw TLSProblem(during: "'\(certificate)'")
            }
        }
        if let key {
            guard unsafe SSL_CTX_use_PrivateKey_file(pointer, key, SSL_FILETYPE_PEM) == 1,
                unsafe SSL_CTX_check_private_key(pointer) == 1
            else { throw TLSProblem(during: "'\(key)'") }
        }
    }

    deinit { unsafe SSL_CTX_free(pointer) }

    /// Shakes hands over a stream. Waits 10 s for it at most.
    package func secure(_ lower: any ByteStream) throws(TLSProblem) -> any ByteStream { try TLSStream(lower, self) }

    /// The corresponding C function is `inet_pton`.
    private static func isAddress(_ host: String) -> Bool {
        var bytes = in6_addr()
        return unsafe inet_pton(AF_INET, host, &bytes) == 1 || inet_pton(AF_INET6, host, &bytes) == 1
    }

    /// The corresponding C functions are `SSL_set1_host`, `X509_VERIFY_PARAM_set1_ip_asc` and `SSL_set_tlsext_host_name`.
    fileprivate func expect(_ ssl: OpaquePointer) -> Bool {
        if isAddress { return unsafe X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1 }
        return unsafe ssl_set_server_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1
    }
}

/// A file that can't be used, or a handshake that failed, with OpenSSL's reason.
package struct TLSProblem: Error, CustomStringConvertible {
    package let description: String

    fileprivate init(during step: String, _ reason: String? = nil) {
        description = "\(step): \(reason ?? OpenSSLErrors.take() ?? "can't be used")"
        ERR_clear_error()
    }
}

/// TLS over another stream. OpenSSL meets bytes in memory only: what becomes of the connection below never stops it from
/// reading what had come before.
@safe private final class TLSStream: ByteStream {
    private let lower: any ByteStream
    // Holds what the SSL was made from.
    private let client: TLSClient
    private let ssl: OpaquePointer
    /// What has come from below, and what is to go there. They belong to the SSL.
    private let (input, output): (OpaquePointer, OpaquePointer)
    /// After a fatal error OpenSSL forbids any further use, after our own end any further writing.
    private var (isBroken, isFinished) = (false, false)
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)
    private static let patience = Duration.seconds(10)

    /// The corresponding C functions are `SSL_new`, `SSL_set_bio` and `SSL_connect`.
    init(_ lower: any ByteStream, _ client: TLSClient) throws(TLSProblem) {
        self.lower = lower
        self.client = client
        guard let ssl = unsafe SSL_new(client.pointer), let input = unsafe BIO_new(BIO_s_mem()),
            let output = unsafe BIO_new(BIO_s_mem())
        else { throw TLSProblem(during: "TLS") }
        unsafe (self.ssl, self.input, self.output) = (ssl, input, output)
        unsafe SSL_set_bio(ssl, input, output)
        guard unsafe client.expect(ssl) else { throw TLSProblem(during: "TLS") }
        let deadline = ContinuousClock.now + Self.patience
        while true {
            ERR_clear_error()
            let result = unsafe SSL_connect(ssl)
            let code = unsafe SSL_get_error(ssl, result)
            handOn()  // An alert, if it has failed.
            if result == 1 { return }
            guard code == SSL_ERROR_WANT_READ else { throw failure() }
            switch lower.receive(until: deadline) {
            case .bytes(let bytes): take(bytes)
            case .closed: throw TLSProblem(during: "the TLS handshake", "the broker has closed the connection")
            case .timedOut, .illegal: throw TLSProblem(during: "the TLS handshake", "no answer")
            }
        }
    }

    deinit { unsafe SSL_free(ssl) }

    private func failure() -> TLSProblem {
        let verification = unsafe SSL_get_verify_result(ssl)
        guard verification != X509_V_OK else { return TLSProblem(during: "the TLS handshake") }
        return unsafe TLSProblem(
            during: "the broker's certificate", String(cString: X509_verify_cert_error_string(verification)))
    }

    /// The corresponding C function is `BIO_write`.
    private func take(_ bytes: [UInt8]) {
        let count = unsafe BIO_write(input, bytes, CInt(bytes.count))
        precondition(Int(count) == bytes.count, "memory takes all")
    }

    /// Sends what TLS has to say. The corresponding C function is `BIO_read`.
    private func handOn() {
        var bytes = [UInt8](repeating: 0, count: unsafe BIO_ctrl_pending(output))
        guard !bytes.isEmpty else { return }
        unsafe BIO_read(output, &bytes, CInt(bytes.count))
        lower.send(bytes)
    }

    /// The corresponding C function is `SSL_write`, which takes all at once.
    func send(_ bytes: [UInt8]) {
        guard !bytes.isEmpty, !isBroken, !isFinished else { return }
        ERR_clear_error()
        if unsafe SSL_write(ssl, bytes, CInt(bytes.count)) <= 0 { noteFailure() }
        handOn()
    }

    /// The corresponding C function is `SSL_read`.
    func receive(until deadline: ContinuousClock.Instant) -> Received {
        while !isBroken {
            ERR_clear_error()
            let count = unsafe SSL_read(ssl, &buffer, CInt(buffer.count))
            let code = unsafe SSL_get_error(ssl, count)
            handOn()
            if count > 0 { return .bytes(Array(buffer.prefix(Int(count)))) }
            guard code == SSL_ERROR_WANT_READ else {
                noteFailure()
                break
            }
            let received = lower.receive(until: deadline)
            guard case .bytes(let bytes) = received else { return received }
            take(bytes)
        }
        return .closed
    }

    private func noteFailure() {
        ERR_clear_error()
        isBroken = true
    }

    /// Of TLS, and of what lies below it. The corresponding C function is `SSL_shutdown`.
    func finish() {
        if !isBroken, !isFinished {
            ERR_clear_error()
            if unsafe SSL_shutdown(ssl) < 0 { noteFailure() }
            handOn()
        }
        isFinished = true
        lower.finish()
    }

    func reset() { lower.reset() }
}
