extension Configuration {
    /// The keys of the dialect, by the names that files use.
    package enum Key: String, Sendable, CaseIterable {
        // Listeners.
        case listener, port, `protocol`
        case bindAddress = "bind_address"
        case bindInterface = "bind_interface"
        case socketDomain = "socket_domain"
        case mountPoint = "mount_point"
        case maxConnections = "max_connections"
        case globalMaxConnections = "global_max_connections"
        case globalMaxClients = "global_max_clients"
        case acceptProtocolVersions = "accept_protocol_versions"
        case enableProxyProtocol = "enable_proxy_protocol"
        case proxyProtocolRequireTLS = "proxy_protocol_v2_require_tls"
        case webSocketsOrigin = "websockets_origin"
        // Access.
        case perListenerSettings = "per_listener_settings"
        case allowAnonymous = "allow_anonymous"
        case listenerAllowAnonymous = "listener_allow_anonymous"
        case passwordFile = "password_file"
        case aclFile = "acl_file"
        case checkRetainSource = "check_retain_source"
        case clientIDPrefixes = "clientid_prefixes"
        case useUserNameAsClientID = "use_username_as_clientid"
        case allowZeroLengthClientID = "allow_zero_length_clientid"
        case autoIDPrefix = "auto_id_prefix"
        case listenerAutoIDPrefix = "listener_auto_id_prefix"
        // TLS.
        case certFile = "certfile"
        case keyFile = "keyfile"
        case caFile = "cafile"
        case caPath = "capath"
        case crlFile = "crlfile"
        case requireCertificate = "require_certificate"
        case useIdentityAsUserName = "use_identity_as_username"
        case useSubjectAsUserName = "use_subject_as_username"
        case disableClientCertDateChecks = "disable_client_cert_date_checks"
        case tlsVersion = "tls_version"
        case ciphers
        case ciphersTLS13 = "ciphers_tls1.3"
        case dhParamFile = "dhparamfile"
        case pskHint = "psk_hint"
        case pskFile = "psk_file"
        // Sessions and limits.
        case persistence
        case persistenceLocation = "persistence_location"
        case persistenceFile = "persistence_file"
        case autosaveInterval = "autosave_interval"
        case autosaveOnChanges = "autosave_on_changes"
        case persistentClientExpiration = "persistent_client_expiration"
        case maxInflightMessages = "max_inflight_messages"
        case maxInflightBytes = "max_inflight_bytes"
        case maxQueuedMessages = "max_queued_messages"
        case maxQueuedBytes = "max_queued_bytes"
        case queueQoS0Messages = "queue_qos0_messages"
        case messageSizeLimit = "message_size_limit"
        case maxPacketSize = "max_packet_size"
        case maxKeepAlive = "max_keepalive"
        case maxQoS = "max_qos"
        case memoryLimit = "memory_limit"
        case retainAvailable = "retain_available"
        case upgradeOutgoingQoS = "upgrade_outgoing_qos"
        case allowDuplicateMessages = "allow_duplicate_messages"
        // The process.
        case includeDir = "include_dir"
        case user
        case pidFile = "pid_file"
        case sysInterval = "sys_interval"
        case setTCPNoDelay = "set_tcp_nodelay"
        case logDest = "log_dest"
        case logType = "log_type"
        case logTimestamp = "log_timestamp"
        case logTimestampFormat = "log_timestamp_format"
        case logFacility = "log_facility"
        case connectionMessages = "connection_messages"
        // Accepted, and without effect.
        case retainedPersistence = "retained_persistence"
        case retainExpiryInterval = "retain_expiry_interval"
        case retryInterval = "retry_interval"
        case webSocketsLogLevel = "websockets_log_level"
        case webSocketsHeadersSize = "websockets_headers_size"
        case packetBufferSize = "packet_buffer_size"
        case tlsEngine = "tls_engine"
        case tlsEngineKeyHash = "tls_engine_kpass_sha1"
        case tlsKeyForm = "tls_keyform"
        case httpDir = "http_dir"
        case enableControlAPI = "enable_control_api"
        case maxTopicAlias = "max_topic_alias"
        case maxTopicAliasBroker = "max_topic_alias_broker"
        // Ours.
        case dataDir = "data_dir"
        case durability
        case durabilityTopic = "durability_topic"
        case connectTimeout = "connect_timeout"
        case publishRate = "publish_rate"
        case publishBandwidth = "publish_bandwidth"
        case subscribeDenied = "subscribe_denied"
        case shards
        case logFormat = "log_format"
        case baseURL = "base_url"
        case registration
        case corsOrigins = "cors_origins"
        case trustedProxies = "trusted_proxies"
        case jwtLifetime = "jwt_lifetime"
        case loginAttempts = "login_attempts"
        case maxDevicesPerUser = "max_devices_per_user"
        case firmwareURLTTL = "firmware_url_ttl"
        case firmwareReleases = "firmware_releases"
        case firmwareVerifier = "firmware_verifier"
        case deviceOfflineAfter = "device_offline_after"
        case activityRetention = "activity_retention"
        case healthRetention = "health_retention"

        /// Other names that mean the same.
        package static let aliases = ["maximum_qos": maxQoS]

        /// Nil for a name that no key has.
        package init?(name: String) {
            guard let key = Self.byName[name] else { return nil }
            self = key
        }

        private static let byName = Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0) })
            .merging(aliases) { key, _ in key }
    }
}
