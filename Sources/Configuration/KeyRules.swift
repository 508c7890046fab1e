extension Configuration.Key {
    /// What a line with a key speaks about.
    package enum Scope: Sendable {
        /// The whole broker.
        case global
        /// The listener above it; before any, the default listener.
        case listener
        /// Likewise, but there has to be one.
        case namedListener
        /// The whole broker; with `per_listener_settings` the listener above it.
        case access
        /// Where it stands in the file, so that nothing but a file can have it.
        case file
    }

    package var scope: Scope {
        switch self {
        case .listener, .port, .bindAddress, .includeDir, .perListenerSettings: .file
        case .protocol, .bindInterface, .socketDomain, .maxConnections, .maxQoS, .useUserNameAsClientID: .listener
        case .certFile, .keyFile, .caFile, .caPath, .crlFile, .requireCertificate: .listener
        case .useIdentityAsUserName, .useSubjectAsUserName, .tlsVersion, .ciphers, .ciphersTLS13, .dhParamFile:
            .listener
        case .pskHint, .tlsEngine, .tlsEngineKeyHash, .tlsKeyForm: .listener
        case .mountPoint, .acceptProtocolVersions, .enableProxyProtocol, .proxyProtocolRequireTLS: .namedListener
        case .webSocketsOrigin, .listenerAllowAnonymous, .listenerAutoIDPrefix: .namedListener
        case .disableClientCertDateChecks, .httpDir, .maxTopicAlias, .maxTopicAliasBroker: .namedListener
        case .allowAnonymous, .passwordFile, .aclFile, .pskFile, .allowZeroLengthClientID, .autoIDPrefix: .access
        default: .global
        }
    }

    /// Whether several lines with the key add up. Of any other key the last line counts.
    var addsUp: Bool {
        switch self {
        case .listener, .includeDir, .logDest, .logType, .webSocketsOrigin: true
        case .durabilityTopic, .corsOrigins, .trustedProxies: true
        default: false
        }
    }

    /// How many words the value has, so that what follows them is a comment or a mistake; nil: the rest of the line is
    /// the value, blanks and `#` included.
    var words: Int? {
        switch self {
        case .listener: 2
        case .protocol, .socketDomain, .tlsVersion, .tlsKeyForm, .persistentClientExpiration, .logType: 1
        case .port, .maxConnections, .globalMaxConnections, .globalMaxClients, .enableProxyProtocol: 1
        case .proxyProtocolRequireTLS, .perListenerSettings, .allowAnonymous, .listenerAllowAnonymous: 1
        case .checkRetainSource, .useUserNameAsClientID, .allowZeroLengthClientID, .requireCertificate: 1
        case .useIdentityAsUserName, .useSubjectAsUserName, .disableClientCertDateChecks: 1
        case .persistence, .autosaveInterval, .autosaveOnChanges, .maxInflightMessages, .maxInflightBytes: 1
        case .maxQueuedMessages, .maxQueuedBytes, .queueQoS0Messages, .messageSizeLimit, .maxPacketSize: 1
        case .maxKeepAlive, .maxQoS, .memoryLimit, .retainAvailable, .upgradeOutgoingQoS, .allowDuplicateMessages: 1
        case .sysInterval, .setTCPNoDelay, .logTimestamp, .logFacility, .connectionMessages: 1
        case .retainedPersistence, .retainExpiryInterval, .retryInterval, .webSocketsLogLevel: 1
        case .webSocketsHeadersSize, .packetBufferSize, .enableControlAPI, .maxTopicAlias, .maxTopicAliasBroker: 1
        case .durability, .connectTimeout, .publishRate, .publishBandwidth, .subscribeDenied, .shards, .logFormat: 1
        case .baseURL, .registration, .jwtLifetime, .loginAttempts, .maxDevicesPerUser, .firmwareURLTTL: 1
        case .firmwareReleases: 1
        case .deviceOfflineAfter, .activityRetention, .healthRetention: 1
        default: nil
        }
    }
}
