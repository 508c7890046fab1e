extension Configuration {
    /// One place to accept connections at, and what holds for those who come there.
    package struct Listener: Sendable, Equatable {
        /// What is spoken there: `protocol`.
        package enum Application: String, Sendable, CaseIterable {
            /// MQTT over TCP, TLS or a unix socket.
            case mqtt
            /// MQTT in WebSocket frames.
            case webSockets = "websockets"
            /// REST, console, firmware downloads, and MQTT over WebSocket at `/mqtt`.
            case http
        }

        /// `socket_domain`: the one version of IP that is used.
        package enum SocketDomain: String, Sendable, CaseIterable { case ipv4, ipv6 }

        /// `accept_protocol_versions`: the raw value is CONNECT's protocol level.
        package enum ProtocolVersion: Int, Sendable, CaseIterable {
            case mqtt31 = 3
            case mqtt311 = 4
            case mqtt5 = 5
        }

        /// `enable_proxy_protocol`: the header with the client's address that a proxy sends first.
        package enum ProxyProtocol: Int, Sendable, CaseIterable {
            case version1 = 1
            case version2 = 2
        }

        /// `listener`, `port`: 1...65535; 0 where there is a `socketPath`.
        package var port: UInt16
        /// `listener`, `bind_address`: an IPv4 or IPv6 address or a host name, not yet resolved; nil: every address of
        /// the machine.
        package var address: String?
        /// `listener 0 PATH`: a unix socket, at most 107 bytes. Nil (the default): TCP.
        package var socketPath: String?
        /// `protocol`, default mqtt.
        package var application = Application.mqtt
        /// `socket_domain`. Nil (unset): IPv4 and IPv6.
        package var socketDomain: SocketDomain?
        /// `bind_interface`: a network interface, 1...15 bytes. Nil (unset): all.
        package var bindInterface: String?
        /// `mount_point`: what stands before every topic of the clients here, without wildcards. Nil (unset): nothing.
        package var mountPoint: String?
        /// `max_connections`: clients at once. Nil (-1 or 0 in the file, the default): no limit.
        package var maxConnections: Int?
        /// `max_qos`, also `maximum_qos`: the highest QoS that a client here may publish with, 0...2, default 2.
        package var maxQoS = 2
        /// `accept_protocol_versions`. Default: all.
        package var acceptedVersions = Set(ProtocolVersion.allCases)
        /// `enable_proxy_protocol`. Nil (unset): clients come directly.
        package var proxyProtocol: ProxyProtocol?
        /// `proxy_protocol_v2_require_tls`: the proxy must say that the client came over TLS. Default false.
        package var proxyRequiresTLS = false
        /// `websockets_origin`, one a line: the origins that a browser's page may have. Empty (the default): any.
        package var webSocketsOrigins: [String] = []
        /// `use_username_as_clientid`: the user name takes the place of the Client Identifier. Default false.
        package var usesUserNameAsClientIdentifier = false
        /// What the file says about access for this listener alone; `Configuration.access(at:)` is what counts.
        package var access = Access()
        /// Certificates and keys.
        package var tls = TLS()
        /// Where the file has keys that are about this listener alone.
        package var places = KeyPlaces()

        package init(port: UInt16, address: String? = nil) {
            self.port = port
            self.address = address
        }

        package init(socketPath: String) {
            port = 0
            self.socketPath = socketPath
        }
    }

    /// Where a key stands that counts at a listener, for errors that show only when the file that it names is read.
    package func place(of key: Key, at listener: Listener) -> KeyPlaces.Place? {
        listener.places[key.rawValue] ?? places[key.rawValue]
    }

    /// Whether a listener is the one of `isLoopbackOnly`.
    package func isLoopback(_ listener: Listener) -> Bool { isLoopbackOnly && listener.address == "localhost" }

    /// Where keys stand, by name. What two configurations mean does not depend on it, so all are equal.
    package struct KeyPlaces: Sendable, Equatable {
        private var places: [String: Place] = [:]

        package struct Place: Sendable {
            package let file: String
            package let line: Int?

            package init(file: String, line: Int?) {
                self.file = file
                self.line = line
            }
        }

        package init() {}

        package subscript(name: String) -> Place? {
            get { places[name] }
            set { places[name] = newValue }
        }

        package static func == (left: Self, right: Self) -> Bool { true }
    }

    /// The TLS keys of one listener, as the file has them. Paths are not opened here.
    package struct TLS: Sendable, Equatable {
        /// `tls_version`: the oldest version that is spoken.
        package enum Version: String, Sendable, CaseIterable {
            case tls11 = "tlsv1.1"
            case tls12 = "tlsv1.2"
            case tls13 = "tlsv1.3"
        }

        /// `certfile`: the server's certificate chain, PEM. Nil (unset): no TLS with certificates.
        package var certificateFile: String?
        /// `keyfile`: its private key, PEM; never without `certfile`.
        package var keyFile: String?
        /// `cafile`: the authorities whose client certificates count, PEM.
        package var authorityFile: String?
        /// `capath`: a directory of such, hashed as by `openssl rehash`.
        package var authorityDirectory: String?
        /// `crlfile`: revoked client certificates, PEM.
        package var revocationFile: String?
        /// `require_certificate`: nobody without a client certificate. Default false.
        package var requiresCertificate = false
        /// Who has a client certificate may show it, and must not show one that is no good; only the set-up without a file
        /// has that. Default false: without `require_certificate` nobody is asked.
        package var asksForCertificate = false
        /// `use_identity_as_username`: the certificate's CN, or the PSK identity, is the user name. Default false.
        package var usesIdentityAsUserName = false
        /// `use_subject_as_username`: the certificate's whole subject is. Default false.
        package var usesSubjectAsUserName = false
        /// `disable_client_cert_date_checks`: expired client certificates count too. Default false.
        package var ignoresCertificateDates = false
        /// `tls_version`, default 1.2.
        package var minimumVersion = Version.tls12
        /// `ciphers`: OpenSSL's list for TLS 1.2. Nil (unset): OpenSSL's own.
        package var ciphers: String?
        /// `ciphers_tls1.3`: the suites of TLS 1.3. Nil (unset): OpenSSL's own.
        package var cipherSuites: String?
        /// `dhparamfile`: parameters for Diffie-Hellman. Nil (unset): OpenSSL's own.
        package var parameterFile: String?
        /// `psk_hint`: turns on pre-shared keys, and is shown to clients. Nil (unset): no pre-shared keys.
        package var keyHint: String?

        package init() {}

        /// Whether clients speak TLS with this listener.
        package var isOn: Bool { certificateFile != nil || keyHint != nil }
    }
}
