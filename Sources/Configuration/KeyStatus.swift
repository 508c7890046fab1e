// The one table of what this version of the server does with each key. A change that builds something moves its keys
// to `honoured`, here and in docs/configuration.md; a test compares the two.

extension Configuration.Key {
    /// What becomes of a key that is set.
    package enum Status: Sendable, Equatable {
        /// The server does as it says.
        case honoured
        /// It has no effect, and one warning says why.
        case accepted(String)
    }

    package var status: Status {
        switch self {
        case .listener, .port, .bindAddress, .allowAnonymous, .includeDir: .honoured
        case .maxInflightMessages, .maxInflightBytes, .maxQueuedMessages, .maxQueuedBytes: .honoured
        case .queueQoS0Messages, .messageSizeLimit, .maxPacketSize: .honoured
        case .setTCPNoDelay, .shards, .user, .pidFile, .connectionMessages: .honoured
        case .logDest, .logType, .logTimestamp, .logTimestampFormat, .logFacility, .logFormat: .honoured
        case .bindInterface, .socketDomain, .maxConnections, .globalMaxConnections: .honoured
        case .enableProxyProtocol, .proxyProtocolRequireTLS: .honoured
        case .mountPoint, .globalMaxClients, .acceptProtocolVersions, .perListenerSettings: .honoured
        case .listenerAllowAnonymous, .clientIDPrefixes, .useUserNameAsClientID: .honoured
        case .allowZeroLengthClientID, .autoIDPrefix, .listenerAutoIDPrefix: .honoured
        case .persistentClientExpiration, .maxKeepAlive, .maxQoS, .retainAvailable: .honoured
        case .upgradeOutgoingQoS, .allowDuplicateMessages, .connectTimeout: .honoured
        case .sysInterval, .memoryLimit, .publishRate, .publishBandwidth, .dataDir: .honoured
        case .certFile, .keyFile, .caFile, .caPath, .crlFile, .requireCertificate: .honoured
        case .disableClientCertDateChecks, .tlsVersion, .ciphers, .ciphersTLS13, .dhParamFile, .pskHint: .honoured
        case .passwordFile, .aclFile, .checkRetainSource, .subscribeDenied, .pskFile, .loginAttempts: .honoured
        case .useIdentityAsUserName, .useSubjectAsUserName: .honoured
        case .persistence, .persistenceLocation, .durability, .durabilityTopic: .honoured
        case .protocol, .webSocketsOrigin: .honoured
        case .baseURL, .registration, .corsOrigins, .trustedProxies, .jwtLifetime, .maxDevicesPerUser: .honoured
        case .deviceOfflineAfter, .activityRetention, .healthRetention: .honoured
        case .firmwareURLTTL, .firmwareReleases, .firmwareVerifier: .honoured
        // What they ask for at the latest has always been done already.
        case .autosaveInterval, .autosaveOnChanges: .honoured

        case .persistenceFile: .accepted("what is kept lies in 'broker.db'")
        case .retainedPersistence: .accepted("it is an old name; what counts is 'persistence'")
        case .retainExpiryInterval: .accepted("only MQTT 5 messages expire")
        case .retryInterval: .accepted("messages are sent again when their client comes back, and only then")
        case .webSocketsLogLevel: .accepted("there is no libwebsockets here to log; see 'log_type'")
        case .webSocketsHeadersSize: .accepted("the headers of a request have a fixed bound")
        case .packetBufferSize: .accepted("buffers grow and shrink by themselves")
        case .tlsEngine, .tlsEngineKeyHash, .tlsKeyForm: .accepted("keys come from PEM files, not from engines")
        case .httpDir: .accepted("no files are served from a directory")
        case .enableControlAPI: .accepted("there are no plugins to list")
        case .maxTopicAlias, .maxTopicAliasBroker: .accepted("only MQTT 5 has topic aliases")
        }
    }
}
