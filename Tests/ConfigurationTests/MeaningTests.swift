import Configuration
import Testing

private func parse(_ text: String) throws(ConfigurationError) -> Configuration {
    try Configuration.parse(Array(text.utf8), file: "f.conf")
}

private func warnings(_ text: String) throws -> [String] {
    try parse(text).warnings.map(\.description)
}

@Suite struct `A key of a listener` {
    @Test func `belongs to the listener above it`() throws {
        let configuration = try parse(
            """
            listener 1883
            listener 8883 ::1
            protocol websockets
            socket_domain ipv6
            bind_interface eth0
            mount_point site/
            max_connections 10
            maximum_qos 1
            accept_protocol_versions 3, 4
            enable_proxy_protocol 1
            websockets_origin https://a
            websockets_origin https://b
            use_username_as_clientid true
            listener_allow_anonymous true
            listener_auto_id_prefix web-
            certfile c.pem
            keyfile k.pem
            cafile ca.pem
            capath ca.d
            crlfile crl.pem
            require_certificate true
            use_identity_as_username true
            use_subject_as_username true
            disable_client_cert_date_checks true
            tls_version tlsv1.3
            ciphers A:B
            ciphers_tls1.3 C:D
            dhparamfile dh.pem
            listener 0 /run/mqtt.sock
            psk_hint hint
            """)
        var second = Configuration.Listener(port: 8883, address: "::1")
        second.application = .webSockets
        second.socketDomain = .ipv6
        second.bindInterface = "eth0"
        second.mountPoint = "site/"
        second.maxConnections = 10
        second.maxQoS = 1
        second.acceptedVersions = [.mqtt31, .mqtt311]
        second.proxyProtocol = .version1
        second.webSocketsOrigins = ["https://a", "https://b"]
        second.usesUserNameAsClientIdentifier = true
        second.access.allowsAnonymous = true
        second.access.automaticPrefix = "web-"
        second.tls.certificateFile = "c.pem"
        second.tls.keyFile = "k.pem"
        second.tls.authorityFile = "ca.pem"
        second.tls.authorityDirectory = "ca.d"
        second.tls.revocationFile = "crl.pem"
        second.tls.requiresCertificate = true
        second.tls.usesIdentityAsUserName = true
        second.tls.usesSubjectAsUserName = true
        second.tls.ignoresCertificateDates = true
        second.tls.minimumVersion = .tls13
        second.tls.ciphers = "A:B"
        second.tls.cipherSuites = "C:D"
        second.tls.parameterFile = "dh.pem"
        var third = Configuration.Listener(socketPath: "/run/mqtt.sock")
        third.tls.keyHint = "hint"
        #expect(configuration.listeners == [.init(port: 1883), second, third])
        #expect(configuration.warnings == [])
    }

    @Test func `above the first listener is about the one of port and bind_address`() throws {
        let configuration = try parse("max_qos 1\nport 1884\nbind_address 10.0.0.1\nlistener 1885\nmax_qos 0")
        var first = Configuration.Listener(port: 1884, address: "10.0.0.1")
        first.maxQoS = 1
        var second = Configuration.Listener(port: 1885)
        second.maxQoS = 0
        #expect(configuration.listeners == [first, second])
        #expect(!configuration.isLoopbackOnly && configuration.warnings == [])
    }

    @Test func `without any listener is about the loopback's`() throws {
        let configuration = try parse("max_connections 3")
        #expect(configuration.isLoopbackOnly && configuration.allowsAnonymous)
        #expect(configuration.listeners.map(\.maxConnections) == [3])
        #expect(configuration.listeners.map(\.address) == ["localhost"])
    }

    @Test func `above the first listener makes one more, as in Mosquitto, and says so`() throws {
        let configuration = try parse("protocol mqtt\nmax_connections 3\nmax_qos 1\nlistener 1884")
        #expect(configuration.listeners.map(\.port) == [1883, 1884])
        #expect(configuration.listeners.map(\.maxConnections) == [3, nil])
        #expect(
            configuration.warnings.map(\.description) == [
                "f.conf:2: warning: 'max_connections' above the first 'listener' makes one more listener, on port 1883 "
                    + "of all addresses, as Mosquitto does; put it below the 'listener' that it is about"
            ])
    }

    @Test func `above the first listener makes none if it says what is so anyway`() throws {
        #expect(try parse("protocol mqtt\nmax_connections -1\nlistener 1884").listeners.map(\.port) == [1884])
    }

    @Test(arguments: [
        ("port 1883\nlistener 1883", "'listener 1883' is also what 'port' and 'bind_address' make"),
        ("mount_point a/", "'mount_point' belongs to a listener; put it below a 'listener' line"),
        ("websockets_origin x", "'websockets_origin' belongs to a listener; put it below a 'listener' line"),
        ("listener 1883\ncapath x", "'capath' without 'certfile' and 'keyfile' for the same listener"),
        ("listener 0 /\(String(repeating: "p", count: 107))", "'listener' takes a path of at most 107 bytes, not 108"),
    ])
    func `is refused where it can't be meant`(_ text: String, _ reason: String) {
        let error = #expect(throws: ConfigurationError.self) { try parse(text) }
        #expect(error?.reason == reason)
    }
}

@Suite struct `A key about access` {
    @Test func `is for everyone, and for one listener with per_listener_settings`() throws {
        let keys = """
            allow_anonymous true
            password_file p
            acl_file a
            psk_file k
            allow_zero_length_clientid false
            auto_id_prefix x-
            """
        var access = Configuration.Access()
        access.allowsAnonymous = true
        access.passwordFile = "p"
        access.aclFile = "a"
        access.keysFile = "k"
        access.allowsEmptyClientIdentifier = false
        access.automaticPrefix = "x-"

        let shared = try parse("listener 1\n\(keys)\nlistener 2")
        #expect(shared.access == access)
        #expect(shared.listeners.map { shared.access(at: $0) } == [access, access])

        var none = Configuration.Access()
        none.allowsAnonymous = false
        none.allowsEmptyClientIdentifier = true
        none.automaticPrefix = "auto-"
        let own = try parse("per_listener_settings true\nlistener 1\n\(keys)\nlistener 2")
        #expect(own.perListenerSettings && own.access == .init())
        #expect(own.listeners.map { own.access(at: $0) } == [access, none])
    }

    @Test func `of one listener comes before everyone's`() throws {
        let configuration = try parse(
            "allow_anonymous false\nauto_id_prefix a-\nlistener 1\nlistener_allow_anonymous true\nlistener 2\n"
                + "listener_auto_id_prefix b-")
        let access = configuration.listeners.map { configuration.access(at: $0) }
        #expect(access.map(\.allowsAnonymous) == [true, false])
        #expect(access.map(\.automaticPrefix) == ["a-", "b-"])
        #expect(!configuration.allowsAnonymous)
    }

    @Test func `a second time is warned about, with what it is for`() throws {
        #expect(
            try warnings("listener 1\nallow_anonymous true\nlistener 2\nallow_anonymous false") == [
                "f.conf:4: warning: 'allow_anonymous' a second time; this one counts, for all listeners, and no longer "
                    + "line 2"
            ])
        #expect(
            try warnings("per_listener_settings true\nlistener 1\nacl_file a\nlistener 2\nacl_file a")
                == [])
    }

    @Test func `stays with its listener once per_listener_settings was true`() throws {
        let text = "per_listener_settings true\nlistener 1\nper_listener_settings true\nper_listener_settings false"
        #expect(try parse(text).perListenerSettings)
        #expect(
            try warnings(text) == [
                "f.conf:4: warning: 'per_listener_settings' stays true, as it was set further up"
            ])
    }
}

@Suite struct `A key of the broker` {
    @Test func `is kept as a value`() throws {
        let configuration = try parse(
            """
            listener 1883
            global_max_connections 5
            global_max_clients 6
            check_retain_source false
            clientid_prefixes dev-
            persistence true
            persistence_location /data
            persistence_file other.db
            autosave_interval 60
            autosave_on_changes true
            persistent_client_expiration 2w
            max_keepalive 600
            memory_limit 1000000
            retain_available false
            upgrade_outgoing_qos true
            allow_duplicate_messages false
            connect_timeout 30
            publish_rate 7
            publish_bandwidth 8
            subscribe_denied failure
            data_dir /srv
            durability relaxed
            durability_topic a b/# memory
            durability_topic c acknowledged
            sys_interval 0
            log_dest syslog
            log_dest topic
            log_timestamp false
            log_timestamp_format %H:%M # so
            log_facility 7
            log_format json
            connection_messages false
            pid_file /run/m.pid
            user nobody
            base_url https://m.example
            registration closed
            cors_origins https://a https://b
            cors_origins https://c
            trusted_proxies 10.0.0.0/8,::1
            jwt_lifetime 1h
            login_attempts 3
            max_devices_per_user 4
            firmware_url_ttl 120s
            firmware_releases 5
            firmware_verifier verify --hard
            device_offline_after 90
            activity_retention 2w
            health_retention 1d
            """)
        var expected = Configuration.defaults()
        expected.listeners = [.init(port: 1883)]
        expected.isLoopbackOnly = false
        expected.globalMaxConnections = 5
        expected.globalMaxClients = 6
        expected.checksRetainSource = false
        expected.clientIdentifierPrefix = "dev-"
        expected.persistence = true
        expected.persistenceLocation = "/data"
        expected.persistenceFile = "other.db"
        expected.autosaveInterval = .seconds(60)
        expected.autosavesOnChanges = true
        expected.sessionExpiry = .seconds(14 * 86_400)
        expected.maxKeepAlive = 600
        expected.memoryLimit = 1_000_000
        expected.isRetainAvailable = false
        expected.upgradesOutgoingQoS = true
        expected.allowsDuplicateMessages = false
        expected.connectTimeout = .seconds(30)
        expected.publishRate = 7
        expected.publishBandwidth = 8
        expected.deniedSubscription = .failure
        expected.dataDirectory = "/srv"
        expected.durability = .relaxed
        expected.topicDurabilities = [
            .init(filter: "a b/#", durability: .memory), .init(filter: "c", durability: .acknowledged),
        ]
        expected.systemInterval = nil
        expected.logDestinations = [.syslog, .topic]
        expected.logsTimestamp = false
        expected.logTimestampFormat = "%H:%M # so"
        expected.logFacility = 7
        expected.logFormat = .json
        expected.logsConnections = false
        expected.pidFile = "/run/m.pid"
        expected.user = "nobody"
        expected.management.baseURL = "https://m.example"
        expected.management.registration = .closed
        expected.management.corsOrigins = ["https://a", "https://b", "https://c"]
        expected.management.trustedProxies = ["10.0.0.0/8", "::1"]
        expected.management.tokenLifetime = .seconds(3600)
        expected.management.loginAttempts = 3
        expected.management.maxDevicesPerUser = 4
        expected.management.firmwareURLLifetime = .seconds(120)
        expected.management.firmwareReleases = 5
        expected.management.firmwareVerifier = "verify --hard"
        expected.management.deviceOfflineAfter = .seconds(90)
        expected.management.activityRetention = .seconds(14 * 86_400)
        expected.management.healthRetention = .seconds(86_400)
        expected.warnings = configuration.warnings
        #expect(configuration == expected)
        #expect(configuration.warnings.map(\.line) == [8])
    }

    @Test func `without limit is nil`() throws {
        let configuration = try parse(
            "listener 1\nmax_connections -1\nglobal_max_clients -1\nglobal_max_connections 0\nmemory_limit 0\n"
                + "max_keepalive 0\npublish_rate 0\npublish_bandwidth 0")
        #expect(configuration.globalMaxClients == nil && configuration.globalMaxConnections == nil)
        #expect(configuration.memoryLimit == nil && configuration.maxKeepAlive == nil)
        #expect(configuration.publishRate == nil && configuration.publishBandwidth == nil)
        #expect(configuration.listeners.map(\.maxConnections) == [nil])
        #expect(try parse("max_keepalive 65535").maxKeepAlive == nil)
    }

    @Test func `that is about the disk is taken as it is`() throws {
        #expect(try warnings("autosave_interval 1800\npersistence true\ndata_dir /x\ndurability relaxed") == [])
        #expect(try warnings("durability memory\ndurability_topic # memory\npersistence false") == [])
    }

    @Test func `that promises a disk needs a place on one, from whoever speaks last`() throws {
        let file = try parse("shards 1\ndurability relaxed")
        let error = ConfigurationError(
            file: "f.conf", line: 2, reason: "'durability relaxed' needs 'data_dir' or 'persistence true'")
        #expect(throws: error) { try file.applying(environment: [:]) }
        #expect(try file.applying(environment: ["MARTLET_DATA_DIR": "/x"]).storageDirectory == "/x")
        #expect(try file.applying(environment: ["MARTLET_DURABILITY": "memory"]).effectiveDurability == .memory)
        var flag = file
        flag.dataDirectory = "/y"
        #expect(try flag.applying(environment: [:]).effectiveDurability == .relaxed)
        let variable = ConfigurationError(
            file: "MARTLET_DURABILITY", reason: "'durability acknowledged' needs 'data_dir' or 'persistence true'")
        #expect(throws: variable) {
            try parse("shards 1").applying(environment: ["MARTLET_DURABILITY": "acknowledged"])
        }
    }

    @Test func `takes one word, and warns about more unless it is a comment`() throws {
        #expect(
            try warnings("max_inflight_messages 2 0\nshards 2 # two\nlistener 1883 ::1 x\nlog_dest stdout x") == [
                "f.conf:1: warning: 'max_inflight_messages' takes one word; what follows is ignored",
                "f.conf:3: warning: 'listener' takes 2 words; what follows is ignored",
                "f.conf:4: warning: 'log_dest stdout' takes no more words; what follows is ignored",
            ])
    }

    @Test func `in a log that does not exist leaves the log where it was`() throws {
        #expect(try parse("log_dest dlt").logDestinations == [.standardError])
        #expect(try parse("log_dest dlt\nlog_dest stdout").logDestinations == [.standardOutput])
    }
}
