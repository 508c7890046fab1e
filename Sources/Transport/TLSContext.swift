internal import COpenSSL
import Glibc

/// The certificate, the keys and the rules of a listener's TLS: immutable, and used by all its connections. Who reloads
/// makes a new one for those who come then.
package final class TLSContext: Sendable {
    /// ALPN names (RFC 7301) that MQTT has. An offer without one of them is no mistake: few clients know of them.
    private static let applications = ["mqtt", "x-amzn-mqtt-ca"].map { Array($0.utf8) }
    /// As Mosquitto has it.
    private static let defaultCiphers = "DEFAULT:!aNULL:!eNULL:!LOW:!EXPORT:!SSLv2:@STRENGTH"
    /// Of a file of authorities; a system's whole bundle has a few hundred KB.
    private static let mostAuthorityBytes = 16 << 20
    /// Names of authorities that clients are told; a system's whole bundle would not fit into a small client.
    private static let mostAuthorityNames: CInt = 16

    // Where the SSL_CTX is. Its use count and its locks are OpenSSL's own (CRYPTO_THREAD), so threads may share it.
    private let address: UInt
    private let tickets: TicketKeys
    let keys: TLSSettings.PreSharedKeys?
    private let checksRevocation: Bool
    private let ignoresDates: Bool
    /// What a session must have begun under to be resumed here: the same authorities, and the same rule.
    private let sessionContext: [UInt8]

    var pointer: OpaquePointer {
        guard let pointer = unsafe OpaquePointer(bitPattern: address) else { preconditionFailure("made in init") }
        return unsafe pointer
    }

    /// Reads the files. `tickets` is shared by all that may resume each other's sessions: those with the same authorities
    /// and the same rule for client certificates do. The corresponding C function is `SSL_CTX_new`.
    package init(_ settings: TLSSettings, tickets: TicketKeys) throws(TLSError) {
        sessionContext = try Self.sessionContext(settings)
        ERR_clear_error()
        guard let context = unsafe SSL_CTX_new(TLS_server_method()) else {
            throw TLSError("TLS", OpenSSLErrors.take() ?? "can't be set up")
        }
        address = UInt(bitPattern: context)
        self.tickets = tickets
        keys = settings.keys
        checksRevocation = settings.revocationFile != nil
        ignoresDates = settings.ignoresCertificateDates
        setOptions(settings)
        try setCiphers(settings)
        if settings.certificateFile != nil || settings.keyFile != nil { try loadCertificate(settings) }
        try setAuthorities(settings)
        try setParameters(settings)
        if settings.keys != nil { try setPreSharedKeys(settings) } else { setTickets() }
        unsafe SSL_CTX_set_session_id_context(pointer, sessionContext, CUnsignedInt(sessionContext.count))
        unsafe SSL_CTX_set_alpn_select_cb(
            pointer,
            { _, chosen, length, offered, count, _ in
                unsafe selectApplication(chosen, length, offered, count)
            }, nil)
    }

    deinit { unsafe SSL_CTX_free(pointer) }

    // MARK: - What is spoken

    /// The corresponding C functions are `SSL_CTX_set_options`, `SSL_CTX_set_mode` and `SSL_CTX_set_min_proto_version`.
    private func setOptions(_ settings: TLSSettings) {
        // A peer that closes without close_notify: MQTT says itself where it ends.
        unsafe SSL_CTX_set_options(
            pointer,
            ssl_no_renegotiation() | ssl_no_compression() | ssl_server_preference() | ssl_ignore_unexpected_eof())
        unsafe _ = ssl_ctx_set_mode(
            pointer,
            Int(SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        let version =
            switch settings.oldestVersion {
            case .tls11: TLS1_1_VERSION
            case .tls12: TLS1_2_VERSION
            case .tls13: TLS1_3_VERSION
            }
        unsafe _ = ssl_ctx_set_min_version(pointer, version)
        unsafe ssl_ctx_disable_cache(pointer)
        unsafe ssl_ctx_set_read_ahead(pointer)
        // A key with a passphrase would ask for it on the terminal.
        unsafe SSL_CTX_set_default_passwd_cb(pointer) { _, _, _, _ in 0 }
    }

    /// The corresponding C functions are `SSL_CTX_set_cipher_list` and `SSL_CTX_set_ciphersuites`.
    private func setCiphers(_ settings: TLSSettings) throws(TLSError) {
        guard unsafe SSL_CTX_set_cipher_list(pointer, settings.ciphers ?? Self.defaultCiphers) == 1 else {
            throw failure("ciphers", settings.ciphers ?? "", "names no cipher that there is")
        }
        if let suites = settings.cipherSuites {
            guard unsafe SSL_CTX_set_ciphersuites(pointer, suites) == 1 else {
                throw failure("ciphers_tls1.3", suites, "names a cipher suite that there isn't")
            }
        }
    }

    // MARK: - Certificates

    /// The corresponding C functions are `SSL_CTX_use_certificate_chain_file` and `SSL_CTX_use_PrivateKey_file`.
    private func loadCertificate(_ settings: TLSSettings) throws(TLSError) {
        let file = settings.certificateFile ?? ""
        try Self.checkFile("certfile", file)
        guard unsafe SSL_CTX_use_certificate_chain_file(pointer, file) == 1 else { throw failure("certfile", file) }
        let keyFile = settings.keyFile ?? ""
        try Self.checkFile("keyfile", keyFile)
        guard unsafe SSL_CTX_use_PrivateKey_file(pointer, keyFile, SSL_FILETYPE_PEM) == 1 else {
            throw failure("keyfile", keyFile)
        }
        guard unsafe SSL_CTX_check_private_key(pointer) == 1 else { throw failure("keyfile", keyFile) }
    }

    /// The corresponding C functions are `SSL_CTX_load_verify_file`, `SSL_CTX_load_verify_dir` and `SSL_CTX_set_verify`.
    private func setAuthorities(_ settings: TLSSettings) throws(TLSError) {
        if let file = settings.authorityFile {
            try Self.checkFile("cafile", file)
            guard unsafe SSL_CTX_load_verify_file(pointer, file) == 1 else { throw failure("cafile", file) }
            try tellAuthorities(file, settings)
        }
        if let directory = settings.authorityDirectory {
            try Self.checkFile("capath", directory)
            guard unsafe SSL_CTX_load_verify_dir(pointer, directory) == 1 else { throw failure("capath", directory) }
        }
        if let file = settings.revocationFile { try loadRevocations(file) }
        if settings.ignoresCertificateDates { try set(flags: UInt(X509_V_FLAG_NO_CHECK_TIME)) }
        let mode =
            switch settings.clientCertificates {
            case .none: SSL_VERIFY_NONE
            case .optional: SSL_VERIFY_PEER
            case .required: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
            }
        unsafe SSL_CTX_set_verify(pointer, mode, nil)
    }

    /// Clients with several certificates choose by the authorities that they are told. The corresponding C function is
    /// `SSL_CTX_set_client_CA_list`.
    private func tellAuthorities(_ file: String, _ settings: TLSSettings) throws(TLSError) {
        guard settings.clientCertificates != .none else { return }
        guard let names = unsafe SSL_load_client_CA_file(file) else { throw failure("cafile", file) }
        if unsafe sk_x509_name_count(names) <= Self.mostAuthorityNames {
            unsafe SSL_CTX_set_client_CA_list(pointer, names)
        } else {
            unsafe sk_x509_name_free_all(names)
        }
    }

    /// As Mosquitto: the client's own certificate is looked up, those of its authorities aren't. The corresponding C
    /// function is `X509_load_crl_file`.
    private func loadRevocations(_ file: String) throws(TLSError) {
        try Self.checkFile("crlfile", file)
        let store = unsafe SSL_CTX_get_cert_store(pointer)
        guard let lookup = unsafe X509_STORE_add_lookup(store, X509_LOOKUP_file()),
            unsafe X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) > 0
        else { throw failure("crlfile", file) }
        try set(flags: UInt(X509_V_FLAG_CRL_CHECK))
    }

    /// The corresponding C function is `X509_VERIFY_PARAM_set_flags`.
    private func set(flags: UInt) throws(TLSError) {
        guard unsafe X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(pointer), flags) == 1 else {
            throw failure("TLS", "")
        }
    }

    /// The corresponding C function is `SSL_CTX_set0_tmp_dh_pkey`.
    private func setParameters(_ settings: TLSSettings) throws(TLSError) {
        guard let file = settings.parameterFile else {
            unsafe _ = ssl_ctx_set_dh_auto(pointer)
            return
        }
        try Self.checkFile("dhparamfile", file)
        guard let input = unsafe BIO_new_file(file, "r") else { throw failure("dhparamfile", file) }
        defer { unsafe BIO_free(input) }
        guard let parameters = unsafe PEM_read_bio_Parameters(input, nil) else { throw failure("dhparamfile", file) }
        guard unsafe SSL_CTX_set0_tmp_dh_pkey(pointer, parameters) == 1 else {
            unsafe EVP_PKEY_free(parameters)
            throw failure("dhparamfile", file)
        }
    }

    // MARK: - Resumption and pre-shared keys

    /// Without tickets a key that no longer counts ends at the next connection, and such a handshake is cheap anyway.
    /// The corresponding C functions are `SSL_CTX_set_psk_server_callback` (also for TLS 1.3) and
    /// `SSL_CTX_use_psk_identity_hint`.
    private func setPreSharedKeys(_ settings: TLSSettings) throws(TLSError) {
        unsafe SSL_CTX_set_psk_server_callback(pointer) { unsafe findKey($0, $1, $2, $3) }
        if let hint = settings.keyHint {
            guard unsafe SSL_CTX_use_psk_identity_hint(pointer, hint) == 1 else { throw failure("psk_hint", hint) }
        }
        unsafe SSL_CTX_set_options(pointer, ssl_no_ticket())
        unsafe SSL_CTX_set_num_tickets(pointer, 0)
    }

    /// The corresponding C functions are `SSL_CTX_set_tlsext_ticket_key_evp_cb`, which seals and opens a ticket, and
    /// `SSL_CTX_set_session_ticket_cb`, which judges what was in it.
    private func setTickets() {
        unsafe SSL_CTX_set_ex_data(pointer, 0, Unmanaged.passUnretained(self).toOpaque())
        unsafe SSL_CTX_set_num_tickets(pointer, 1)
        unsafe SSL_CTX_set_timeout(pointer, Int(2 * TicketKeys.period))
        unsafe SSL_CTX_set_tlsext_ticket_key_evp_cb(pointer) { unsafe sealOrOpen($0, $1, $2, $3, $4, $5) }
        unsafe SSL_CTX_set_session_ticket_cb(
            pointer, { _, _ in 1 },
            { ssl, session, _, _, status, _ in
                unsafe judge(ssl, session, status)
            }, nil)
    }

    /// A session of other authorities or another rule is none of ours. The corresponding C function is `EVP_Digest`.
    private static func sessionContext(_ settings: TLSSettings) throws(TLSError) -> [UInt8] {
        var text = Array("martlet \(settings.clientCertificates.rawValue) \(settings.authorityDirectory ?? "")\n".utf8)
        if settings.clientCertificates != .none {
            if let file = settings.authorityFile { text += try contents("cafile", file) }
            if let directory = settings.authorityDirectory { text += names(in: directory) }
        }
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe EVP_Digest(text, text.count, &digest, nil, EVP_sha256(), nil)
        return digest
    }

    /// Whether what began at `other` may go on here.
    func resumesSessions(of other: TLSContext) -> Bool { sessionContext == other.sessionContext }

    fileprivate func ticketKey() -> TicketKeys.Key { tickets.sealing() }
    fileprivate func ticketKey(_ name: [UInt8]) -> (key: TicketKeys.Key, isOld: Bool)? { tickets.opening(name) }

    /// Whether a client certificate that was good when its session began still is. Who resumes shows it only in the ticket,
    /// and OpenSSL asks nobody then.
    func stillCounts(_ certificate: OpaquePointer) -> Bool {
        if !ignoresDates {
            // Both answer 0 for a time that can't be read.
            let (begins, ends) = unsafe (X509_get0_notBefore(certificate), X509_get0_notAfter(certificate))
            guard unsafe X509_cmp_current_time(begins) < 0, unsafe X509_cmp_current_time(ends) > 0 else { return false }
        }
        guard checksRevocation else { return true }
        return unsafe isNotRevoked(certificate)
    }

    /// The corresponding C functions are `X509_STORE_CTX_get1_crls` and `X509_CRL_get0_by_cert`.
    private func isNotRevoked(_ certificate: OpaquePointer) -> Bool {
        // In the midst of a handshake, which would take an error that it finds afterwards for its own.
        ERR_set_mark()
        defer { ERR_pop_to_mark() }
        guard let search = unsafe X509_STORE_CTX_new() else { return false }
        defer { unsafe X509_STORE_CTX_free(search) }
        guard unsafe X509_STORE_CTX_init(search, SSL_CTX_get_cert_store(pointer), certificate, nil) == 1,
            let lists = unsafe X509_STORE_CTX_get1_crls(search, X509_get_issuer_name(certificate))
        else { return false }
        defer { unsafe sk_x509_crl_free_all(lists) }
        var isListed = false
        var isCurrent = false
        let count = unsafe sk_x509_crl_count(lists)
        for index in 0..<count {
            guard let list = unsafe sk_x509_crl_at(lists, index) else { continue }
            var entry: OpaquePointer?
            // 2: the list takes an earlier entry back.
            if unsafe X509_CRL_get0_by_cert(list, &entry, certificate) == 1 { isListed = true }
            let next = unsafe X509_CRL_get0_nextUpdate(list)
            if unsafe ignoresDates || next == nil || X509_cmp_current_time(next) > 0 { isCurrent = true }
        }
        return isCurrent && !isListed
    }

    /// Whether a connection that shakes hands now with this certificate would be let in. `chain` is what came with it. The
    /// corresponding C function is `X509_verify_cert`.
    func accepts(_ certificate: OpaquePointer?, chain: OpaquePointer?) -> Bool {
        let mode = unsafe SSL_CTX_get_verify_mode(pointer)
        guard let certificate = unsafe certificate else { return mode & SSL_VERIFY_FAIL_IF_NO_PEER_CERT == 0 }
        guard mode & SSL_VERIFY_PEER != 0 else { return true }
        guard let check = unsafe X509_STORE_CTX_new() else { return false }
        defer {
            unsafe X509_STORE_CTX_free(check)
            _ = OpenSSLErrors.take()
        }
        return unsafe X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(pointer), certificate, chain) == 1
            && X509_STORE_CTX_set_default(check, "ssl_client") == 1
            && X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(check), SSL_CTX_get0_param(pointer)) == 1
            && X509_verify_cert(check) == 1
    }

    // MARK: - Errors

    /// What OpenSSL has to say, with its words for the common mistakes replaced by what to look for.
    private func failure(_ key: String, _ value: String, _ fallback: String = "can't be used") -> TLSError {
        let reason =
            switch OpenSSLErrors.take() {
            case "no start line"?, "no certificate or crl found"?, "no certificate found"?, "no crl found"?:
                "holds nothing of that kind in PEM"
            case "key values mismatch"?: "is not the key of the certificate"
            case "bad decrypt"?, "bad password read"?, "problems getting password"?, "interrupted or cancelled"?:
                "is locked with a passphrase"
            case "no cipher match"?: fallback
            case let text?: "can't be used: \(text)"
            case nil: fallback
            }
        return TLSError(key, value.isEmpty ? reason : "'\(value)': \(reason)")
    }

    /// OpenSSL's own words for a file that isn't there help nobody. The corresponding C function is `open`.
    private static func checkFile(_ key: String, _ path: String) throws(TLSError) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw TLSError(key, "'\(path)': \(unsafe String(cString: strerror(errno)))") }
        close(descriptor)
    }

    private static func contents(_ key: String, _ path: String) throws(TLSError) -> [UInt8] {
        do throws(SystemError) {
            return try Transport.contents(ofFile: path, atMost: mostAuthorityBytes)
        } catch {
            throw TLSError(key, "'\(path)': \(error.reason)")
        }
    }

    /// The corresponding C function is `readdir`.
    private static func names(in directory: String) -> [UInt8] {
        guard let stream = unsafe opendir(directory) else { return [] }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            names.append(
                unsafe withUnsafeBytes(of: &entry.pointee.d_name) { name in
                    unsafe String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
                })
        }
        return Array(names.sorted().joined(separator: "\n").utf8)
    }
}

// MARK: - What OpenSSL calls

/// RFC 7301 3.2: the server's favourite among what the client offers.
private func selectApplication(
    _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ length: UnsafeMutablePointer<UInt8>?,
    _ offered: UnsafePointer<UInt8>?, _ count: UInt32
) -> CInt {
    let offer = unsafe UnsafeBufferPointer(start: offered, count: Int(count))
    for application in TLSContext.knownApplications {
        var start = 0
        while start < offer.count {
            let end = start + 1 + Int(unsafe offer[start])
            guard end <= offer.count else { break }
            if unsafe offer[(start + 1)..<end].elementsEqual(application) {
                unsafe chosen?.pointee = offered?.advanced(by: start + 1)
                unsafe length?.pointee = offer[start]
                return SSL_TLSEXT_ERR_OK
            }
            start = end
        }
    }
    return SSL_TLSEXT_ERR_NOACK
}

extension TLSContext {
    fileprivate static var knownApplications: [[UInt8]] { applications }

    /// The context of a connection. It outlives the connection, which holds it.
    fileprivate static func of(_ ssl: OpaquePointer?) -> TLSContext? {
        guard let data = unsafe ssl_ctx_data(ssl) else { return nil }
        return unsafe Unmanaged<TLSContext>.fromOpaque(data).takeUnretainedValue()
    }
}

/// `SSL_CTX_set_tlsext_ticket_key_evp_cb`(3): 0 is no such key, 1 is done, 2 is done and give the client a new ticket.
private func sealOrOpen(
    _ ssl: OpaquePointer?, _ name: UnsafeMutablePointer<UInt8>?, _ vector: UnsafeMutablePointer<UInt8>?,
    _ cipher: OpaquePointer?, _ authentication: OpaquePointer?, _ isSealing: CInt
) -> CInt {
    guard let context = unsafe TLSContext.of(ssl), let name = unsafe name, let vector = unsafe vector else { return -1 }
    let key: TicketKeys.Key
    var result: CInt = 1
    if isSealing == 1 {
        key = context.ticketKey()
        for index in key.name.indices { unsafe name[index] = key.name[index] }
        guard unsafe RAND_bytes(vector, EVP_MAX_IV_LENGTH) == 1,
            unsafe EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nil, key.cipherKey, vector) == 1
        else { return -1 }
    } else {
        let asked = unsafe Array(UnsafeBufferPointer(start: name, count: 16))
        guard let found = context.ticketKey(asked) else { return 0 }
        key = found.key
        guard unsafe EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nil, key.cipherKey, vector) == 1 else { return -1 }
        // A ticket of TLS 1.3 serves once (RFC 8446 C.4): without a new one every second connection would be in full.
        result = unsafe found.isOld || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1
    }
    guard let digest = unsafe strdup("SHA256") else { return -1 }
    defer { unsafe free(digest) }
    let parameters = unsafe [
        OSSL_PARAM_construct_utf8_string("digest", digest, 0), OSSL_PARAM_construct_end(),
    ]
    let isReady = unsafe EVP_MAC_init(authentication, key.authenticationKey, key.authenticationKey.count, parameters)
    return isReady == 1 ? result : -1
}

/// What comes of a ticket: who may not resume shakes hands anew, and is then told what is wrong.
private func judge(_ ssl: OpaquePointer?, _ session: OpaquePointer?, _ status: SSL_TICKET_STATUS) -> SSL_TICKET_RETURN {
    switch status {
    case SSL_TICKET_SUCCESS, SSL_TICKET_SUCCESS_RENEW:
        if let certificate = unsafe SSL_SESSION_get0_peer(session) {
            guard let context = unsafe TLSContext.of(ssl), unsafe context.stillCounts(certificate) else {
                return SSL_TICKET_RETURN_IGNORE_RENEW
            }
        }
        return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW
    case SSL_TICKET_EMPTY, SSL_TICKET_NO_DECRYPT: return SSL_TICKET_RETURN_IGNORE_RENEW
    default: return SSL_TICKET_RETURN_ABORT
    }
}

/// `SSL_CTX_set_psk_server_callback`(3): the length of the key, 0 where nobody has that name.
private func findKey(
    _ ssl: OpaquePointer?, _ identity: UnsafePointer<CChar>?, _ key: UnsafeMutablePointer<UInt8>?, _ most: UInt32
) -> UInt32 {
    guard let data = unsafe SSL_get_ex_data(ssl, 0), let identity = unsafe identity, let key = unsafe key else {
        return 0
    }
    let search = unsafe Unmanaged<KeySearch>.fromOpaque(data).takeUnretainedValue()
    let name = unsafe UnsafeRawBufferPointer(start: identity, count: strlen(identity))
    guard let found = search.key(of: unsafe Array(name)), !found.isEmpty, found.count <= Int(most) else { return 0 }
    for index in found.indices { unsafe key[index] = found[index] }
    return UInt32(found.count)
}
