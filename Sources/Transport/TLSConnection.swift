internal import COpenSSL
import Glibc
import Synchronization

/// One connection's TLS: the state between the bytes of its peer and its descriptor. One shard at a time uses it, so nobody
/// waits for its lock.
final class TLSConnection: Sendable {
    /// An SSL and what its last use left to do.
    private struct Session: ~Copyable {
        // Where the SSL is: a number, which the lock may hand to whoever holds it.
        private let address: UInt
        /// A fatal error has come: OpenSSL forbids any further use.
        var isBroken = false
        var isEstablished = false

        init(_ ssl: OpaquePointer) { address = UInt(bitPattern: ssl) }

        var ssl: OpaquePointer {
            guard let pointer = unsafe OpaquePointer(bitPattern: address) else { preconditionFailure("given to init") }
            return unsafe pointer
        }

        deinit { unsafe SSL_free(ssl) }
    }

    private let session: Mutex<Session>
    private let context: TLSContext
    private let search: KeySearch?
    /// Decrypted, or at least received, bytes wait that the descriptor won't announce.
    private let pending = Atomic<Bool>(false)
    /// The next read has to write first: an answer of TLS itself.
    private let blockedOnWrite = Atomic<Bool>(false)

    /// The corresponding C functions are `SSL_new` and `SSL_set_fd`. Nil: no memory.
    init?(_ descriptor: CInt, _ context: TLSContext) {
        self.context = context
        search = context.keys.map(KeySearch.init)
        guard let ssl = unsafe SSL_new(context.pointer) else {
            _ = OpenSSLErrors.take()
            return nil
        }
        session = unsafe Mutex(Session(ssl))
        let isReady = session.withLock { session in
            if let search { unsafe SSL_set_ex_data(session.ssl, 0, Unmanaged.passUnretained(search).toOpaque()) }
            unsafe SSL_set_accept_state(session.ssl)
            return unsafe SSL_set_fd(session.ssl, descriptor) == 1
        }
        guard isReady else {
            _ = OpenSSLErrors.take()
            return nil
        }
    }

    var hasPending: Bool { pending.load(ordering: .relaxed) }
    var isBlockedOnWrite: Bool { blockedOnWrite.load(ordering: .relaxed) }

    // MARK: - Bytes

    /// Goes on with the handshake. The corresponding C function is `SSL_do_handshake`.
    func handshake() -> Stream.HandshakeResult {
        session.withLock { session in
            if session.isEstablished { return .done }
            if session.isBroken { return .failed(.tls("broken")) }
            ERR_clear_error()
            let result = unsafe SSL_do_handshake(session.ssl)
            if result == 1 {
                session.isEstablished = true
                pending.store(unsafe SSL_has_pending(session.ssl) == 1, ordering: .relaxed)
                return .done
            }
            switch unsafe SSL_get_error(session.ssl, result) {
            case SSL_ERROR_WANT_READ: return .wantsToRead
            case SSL_ERROR_WANT_WRITE: return .wantsToWrite
            case SSL_ERROR_ZERO_RETURN:
                session.isBroken = true
                return .failed(.tls("closed during the handshake"))
            case let code: return .failed(Self.failure(&session, code))
            }
        }
    }

    /// Fills `bytes` with what there is. The corresponding C function is `SSL_read`.
    func read(into bytes: UnsafeMutableRawBufferPointer) -> Stream.ReadResult {
        session.withLock { session in
            if session.isBroken { return .end }
            var total = 0
            pending.store(false, ordering: .relaxed)
            blockedOnWrite.store(false, ordering: .relaxed)
            while total < bytes.count {
                let room = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[total...])
                ERR_clear_error()
                let count = unsafe SSL_read(session.ssl, room.baseAddress, CInt(clamping: room.count))
                guard count <= 0 else {
                    total += Int(count)
                    // What is still in the kernel announces itself.
                    if unsafe SSL_has_pending(session.ssl) == 0 { return .bytes(total) }
                    continue
                }
                let code = unsafe SSL_get_error(session.ssl, count)
                if code == SSL_ERROR_WANT_WRITE { blockedOnWrite.store(true, ordering: .relaxed) }
                if code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE {
                    return total > 0 ? .bytes(total) : .wouldBlock
                }
                // What came before the end counts; the end is there again at the next attempt.
                if total > 0 {
                    _ = code == SSL_ERROR_ZERO_RETURN ? nil : OpenSSLErrors.take()
                    pending.store(true, ordering: .relaxed)
                    return .bytes(total)
                }
                return code == SSL_ERROR_ZERO_RETURN ? .end : .failed(Self.failure(&session, code))
            }
            pending.store(unsafe SSL_has_pending(session.ssl) == 1, ordering: .relaxed)
            return .bytes(total)
        }
    }

    /// Whether something of what is inside has come, which stays where it is. The corresponding C function is `SSL_peek`.
    func peek() -> Stream.ReadResult {
        session.withLock { session in
            if session.isBroken { return .end }
            ERR_clear_error()
            var byte: UInt8 = 0
            let count = unsafe SSL_peek(session.ssl, &byte, 1)
            blockedOnWrite.store(false, ordering: .relaxed)
            guard count <= 0 else {
                pending.store(true, ordering: .relaxed)
                return .bytes(Int(count))
            }
            switch unsafe SSL_get_error(session.ssl, count) {
            case SSL_ERROR_WANT_READ: return .wouldBlock
            case SSL_ERROR_WANT_WRITE:
                blockedOnWrite.store(true, ordering: .relaxed)
                return .wouldBlock
            case SSL_ERROR_ZERO_RETURN: return .end
            case let code: return .failed(Self.failure(&session, code))
            }
        }
    }

    /// Writes one record at most. The corresponding C function is `SSL_write`.
    func write(_ bytes: UnsafeRawBufferPointer) -> Stream.WriteResult {
        session.withLock { session in
            if session.isBroken { return .failed(.tls("broken")) }
            ERR_clear_error()
            let count = unsafe SSL_write(session.ssl, bytes.baseAddress, CInt(clamping: bytes.count))
            if count > 0 { return .bytes(Int(count)) }
            switch unsafe SSL_get_error(session.ssl, count) {
            case SSL_ERROR_WANT_WRITE: return .wouldBlock
            // Only a renegotiation could want that, and there is none.
            case SSL_ERROR_WANT_READ: return .failed(.tls("a write that waits for a read"))
            case let code: return .failed(Self.failure(&session, code))
            }
        }
    }

    /// Says that nothing more comes (RFC 8446 6.1). The corresponding C function is `SSL_shutdown`.
    func finish() {
        session.withLock { session in
            guard session.isEstablished, !session.isBroken else { return }
            ERR_clear_error()
            if unsafe SSL_shutdown(session.ssl) < 0 { _ = OpenSSLErrors.take() }
            session.isBroken = true
        }
    }

    private static func failure(_ session: inout Session, _ code: CInt) -> StreamError {
        let system = errno
        session.isBroken = true
        if code == SSL_ERROR_SYSCALL, ERR_peek_error() == 0 {
            return system == 0 ? .tls("cut") : .system(SystemError(system, during: "SSL"))
        }
        let isAlert = OpenSSLErrors.isAlert
        let reason = OpenSSLErrors.take() ?? "error \(code)"
        if isAlert { return .tls("the peer says: \(reason)") }
        let verification = unsafe SSL_get_verify_result(session.ssl)
        if reason == "certificate verify failed", verification != X509_V_OK {
            return .tls("\(reason): \(unsafe String(cString: X509_verify_cert_error_string(verification)))")
        }
        return .tls(reason)
    }

    // MARK: - Facts

    /// The corresponding C function is `SSL_get0_peer_certificate`.
    var peer: TLSPeer? {
        session.withLock { session in
            guard let certificate = unsafe SSL_get0_peer_certificate(session.ssl) else { return nil }
            return unsafe TLSPeer(certificate)
        }
    }

    /// Whether a context would let it in with the client certificate that it has shown, or none. Its own has done so. The
    /// corresponding C function is `SSL_get_peer_cert_chain`.
    func isAccepted(by other: TLSContext) -> Bool {
        if other === context { return true }
        return session.withLock { session in
            let certificate = unsafe SSL_get0_peer_certificate(session.ssl)
            // Who has resumed has shown no chain, and is judged as anybody who resumes.
            if let certificate = unsafe certificate, unsafe SSL_session_reused(session.ssl) == 1,
                other.resumesSessions(of: context)
            {
                defer { _ = OpenSSLErrors.take() }
                return unsafe other.stillCounts(certificate)
            }
            return unsafe other.accepts(certificate, chain: SSL_get_peer_cert_chain(session.ssl))
        }
    }

    /// The identity whose key the handshake has proved; one that was only named is none. The corresponding C functions are
    /// `SSL_session_reused`, which with TLS 1.3 says so, and `SSL_get_psk_identity`.
    var keyIdentity: [UInt8]? {
        guard let search else { return nil }
        let isProven = session.withLock { session in
            unsafe SSL_version(session.ssl) == TLS1_3_VERSION
                ? SSL_session_reused(session.ssl) == 1 : SSL_get_psk_identity(session.ssl) != nil
        }
        return isProven ? search.used : nil
    }

    /// The corresponding C function is `SSL_get_version`.
    var version: String { session.withLock { unsafe String(cString: SSL_get_version($0.ssl)) } }

    /// The corresponding C function is `SSL_CIPHER_get_name`.
    var cipher: String {
        session.withLock { unsafe String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher($0.ssl))) }
    }

    /// Where there are pre-shared keys there are no tickets; TLS 1.3 calls those resumed too. The corresponding C function
    /// is `SSL_session_reused`.
    var isResumed: Bool { search == nil && session.withLock { unsafe SSL_session_reused($0.ssl) == 1 } }

    /// The name that the client asked for (RFC 6066 3). The corresponding C function is `SSL_get_servername`.
    var serverName: String? {
        session.withLock { session in
            guard let name = unsafe SSL_get_servername(session.ssl, TLSEXT_NAMETYPE_host_name) else { return nil }
            return unsafe String(cString: name)
        }
    }
}

/// Finds the pre-shared key of one connection, and remembers whose it was.
final class KeySearch: Sendable {
    private let keys: TLSSettings.PreSharedKeys
    private let name = Mutex<[UInt8]?>(nil)

    init(_ keys: @escaping TLSSettings.PreSharedKeys) { self.keys = keys }

    /// The last identity that had a key. A handshake with TLS 1.3 may go on without it, with a certificate.
    var used: [UInt8]? { name.withLock { $0 } }

    func key(of identity: [UInt8]) -> [UInt8]? {
        guard let key = keys(identity) else { return nil }
        name.withLock { $0 = identity }
        return key
    }
}
