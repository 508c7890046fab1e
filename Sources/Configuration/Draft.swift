/// What one line changes: the broker, and the listener that the line is about.
struct Draft: Equatable {
    var configuration: Configuration
    var listener: Configuration.Listener
    /// What should be said about the value.
    var notes: [String] = []
    /// The value counts for nothing, not even for having been set.
    var isIgnored = false

    init(configuration: Configuration, listener: Configuration.Listener) {
        self.configuration = configuration
        self.listener = listener
    }

    mutating func assign(_ key: Configuration.Key, _ value: Value, isFirst: Bool) throws(Problem) {
        switch key.scope {
        case .listener, .namedListener: try assignListener(key, value)
        case .access: try assignAccess(key, value)
        case .global, .file: try assignGlobal(key, value, isFirst: isFirst)
        }
    }

    // MARK: - Access

    private mutating func assignAccess(_ key: Configuration.Key, _ value: Value) throws(Problem) {
        var access = configuration.perListenerSettings ? listener.access : configuration.access
        switch key {
        case .allowAnonymous: access.allowsAnonymous = try value.flag()
        case .passwordFile: access.passwordFile = value.text
        case .aclFile: access.aclFile = value.text
        case .pskFile: access.keysFile = value.text
        case .allowZeroLengthClientID: access.allowsEmptyClientIdentifier = try value.flag()
        case .autoIDPrefix: access.automaticPrefix = try value.text(upTo: 50, what: "a prefix")
        default: preconditionFailure("the keys of Scope.access are those above")
        }
        if configuration.perListenerSettings { listener.access = access } else { configuration.access = access }
    }

    // MARK: - Listeners

    private mutating func assignListener(_ key: Configuration.Key, _ value: Value) throws(Problem) {
        switch key {
        case .protocol: listener.application = try application(value)
        case .bindInterface: listener.bindInterface = try value.text(upTo: 15, what: "the name of an interface")
        case .socketDomain: listener.socketDomain = try value.word()
        case .mountPoint: listener.mountPoint = try mountPoint(value)
        case .maxConnections: listener.maxConnections = try value.count()
        case .maxQoS: listener.maxQoS = try value.number(in: 0...2)
        case .acceptProtocolVersions: listener.acceptedVersions = try versions(value)
        case .enableProxyProtocol: listener.proxyProtocol = .init(rawValue: try value.number(in: 1...2))
        case .proxyProtocolRequireTLS: listener.proxyRequiresTLS = try value.flag()
        case .webSocketsOrigin: listener.webSocketsOrigins.append(value.text)
        case .useUserNameAsClientID: listener.usesUserNameAsClientIdentifier = try value.flag()
        case .listenerAllowAnonymous: listener.access.allowsAnonymous = try value.flag()
        case .listenerAutoIDPrefix: listener.access.automaticPrefix = try value.text(upTo: 50, what: "a prefix")
        case .httpDir, .tlsEngine, .tlsEngineKeyHash, .tlsKeyForm: break  // Accepted as they are.
        case .maxTopicAlias, .maxTopicAliasBroker: _ = try value.number(in: 0...65535)
        default: try assignTLS(key, value)
        }
    }

    private mutating func assignTLS(_ key: Configuration.Key, _ value: Value) throws(Problem) {
        switch key {
        case .certFile: listener.tls.certificateFile = value.text
        case .keyFile: listener.tls.keyFile = value.text
        case .caFile: listener.tls.authorityFile = value.text
        case .caPath: listener.tls.authorityDirectory = value.text
        case .crlFile: listener.tls.revocationFile = value.text
        case .requireCertificate: listener.tls.requiresCertificate = try value.flag()
        case .useIdentityAsUserName: listener.tls.usesIdentityAsUserName = try value.flag()
        case .useSubjectAsUserName: listener.tls.usesSubjectAsUserName = try value.flag()
        case .disableClientCertDateChecks: listener.tls.ignoresCertificateDates = try value.flag()
        case .tlsVersion: listener.tls.minimumVersion = try value.word()
        case .ciphers: listener.tls.ciphers = value.text
        case .ciphersTLS13: listener.tls.cipherSuites = value.text
        case .dhParamFile: listener.tls.parameterFile = value.text
        case .pskHint: listener.tls.keyHint = value.text
        default: preconditionFailure("the keys of a listener are those above")
        }
    }

    private func application(_ value: Value) throws(Problem) -> Configuration.Listener.Application {
        guard value.text != "http_api" else {
            throw Problem("'protocol http_api' is Mosquitto's own interface; ours is 'protocol http'")
        }
        return try value.word()
    }

    private func mountPoint(_ value: Value) throws(Problem) -> String {
        guard !value.text.utf8.contains(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }) else {
            throw value.refusal("the beginning of a topic, without + and #")
        }
        return try value.text(upTo: 65535, what: "the beginning of a topic")
    }

    private func versions(_ value: Value) throws(Problem) -> Set<Configuration.Listener.ProtocolVersion> {
        var versions: Set<Configuration.Listener.ProtocolVersion> = []
        for word in value.words(separatedBy: { $0.isBlank || $0 == "," }) {
            guard let number = Int(word), word.utf8.count == 1, let version = .init(rawValue: number) as Version? else {
                throw value.refusal("3, 4 and 5, separated by commas")
            }
            versions.insert(version)
        }
        guard !versions.isEmpty else { throw value.refusal("3, 4 and 5, separated by commas") }
        return versions
    }

    private typealias Version = Configuration.Listener.ProtocolVersion
}
