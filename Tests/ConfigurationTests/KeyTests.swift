import Configuration
import Testing

/// A key's edges: values that it takes, and values that it does not.
struct Edges: Sendable, CustomTestStringConvertible {
    let key: Configuration.Key
    let takes: [String]
    let refuses: [String]

    init(_ key: Configuration.Key, takes: [String], refuses: [String] = []) {
        self.key = key
        self.takes = takes
        self.refuses = refuses
    }

    var testDescription: String { key.rawValue }
}

private let noNumbers = ["-1", "+1", "0x10", "1.5", "1k", "", "9223372036854775808", "\u{661}"]

extension Edges {
    private static func flag(_ key: Configuration.Key) -> Edges {
        Edges(key, takes: ["true", "false", "1", "0", "true # so"], refuses: ["yes", "True", "2", "on", "", "#true"])
    }

    private static func number(_ key: Configuration.Key, _ least: Int, _ most: Int, zero: Bool = false) -> Edges {
        let outside = [least - 1, most == .max ? -2 : most + 1].filter { !(zero && $0 == 0) && $0 >= 0 }.map { "\($0)" }
        return Edges(
            key, takes: ["\(least)", "\(most)", "00\(least)"] + (zero ? ["0"] : []), refuses: outside + noNumbers)
    }

    private static func count(_ key: Configuration.Key) -> Edges {
        Edges(key, takes: ["-1", "0", "1", "2147483647"], refuses: ["-2", "2147483648", "x", ""])
    }

    private static func duration(_ key: Configuration.Key, _ least: Int, _ most: Int) -> Edges {
        Edges(
            key, takes: ["\(least)", "\(most)", "\(least)s", "1h"],
            refuses: ["\(least - 1)", "\(most + 1)", "5m", "1y", "h", "-1", "9223372036854775807w", ""])
    }

    private static func text(_ key: Configuration.Key) -> Edges {
        Edges(key, takes: ["/a b/c#d", "x", "\u{FC}"], refuses: [""])
    }

    private static func words(_ key: Configuration.Key, _ words: [String]) -> Edges {
        Edges(key, takes: words, refuses: ["", "x", words[0].uppercased(), words[0] + "x"])
    }

    static let all: [Edges] =
        [
            Edges(.listener, takes: ["1", "65535 ::1", "0 /s"], refuses: ["0", "65536", "-1", "", "x", "00 /s"]),
            number(.port, 1, 65535), text(.bindAddress), count(.maxConnections), count(.globalMaxConnections),
            count(.globalMaxClients), words(.protocol, ["mqtt", "websockets", "http"]),
            words(.socketDomain, ["ipv4", "ipv6"]), number(.maxQoS, 0, 2), number(.enableProxyProtocol, 1, 2),
            Edges(.bindInterface, takes: ["lo", "123456789012345"], refuses: ["1234567890123456", ""]),
            Edges(.mountPoint, takes: ["a/", "a b"], refuses: ["a/+", "#", ""]),
            Edges(
                .acceptProtocolVersions, takes: ["3", "3,4,5", "3, 4", "5 # x"], refuses: ["2", "3,6", ",", "#", ""]),
            flag(.proxyProtocolRequireTLS), text(.webSocketsOrigin), flag(.allowAnonymous),
            flag(.listenerAllowAnonymous), text(.passwordFile), text(.aclFile), flag(.checkRetainSource),
            text(.clientIDPrefixes), flag(.useUserNameAsClientID), flag(.allowZeroLengthClientID),
        ]
        + [.autoIDPrefix, .listenerAutoIDPrefix].map { key in
            Edges(
                key, takes: ["a", String(repeating: "a", count: 50)], refuses: [String(repeating: "a", count: 51), ""])
        } + [
            text(.certFile), text(.keyFile), text(.caFile), text(.caPath), text(.crlFile), text(.ciphers),
            text(.ciphersTLS13), text(.dhParamFile), text(.pskHint), text(.pskFile), flag(.requireCertificate),
            flag(.useIdentityAsUserName), flag(.useSubjectAsUserName), flag(.disableClientCertDateChecks),
            words(.tlsVersion, ["tlsv1.1", "tlsv1.2", "tlsv1.3"]), flag(.persistence), text(.persistenceLocation),
            text(.persistenceFile), number(.autosaveInterval, 0, 2_147_483_647), flag(.autosaveOnChanges),
            Edges(
                .persistentClientExpiration, takes: ["1s", "1h", "14d", "2w", "2m", "2147483647y"],
                refuses: ["1", "0d", "-1d", "d", "1x", "2147483648y", "", "1 d"]),
            number(.maxInflightMessages, 0, 65535), number(.maxInflightBytes, 0, .max),
            number(.maxQueuedMessages, 0, .max), number(.maxQueuedBytes, 0, .max), flag(.queueQoS0Messages),
            number(.messageSizeLimit, 0, 268_435_455), number(.maxPacketSize, 20, 268_435_460, zero: true),
            number(.maxKeepAlive, 0, 65535), number(.memoryLimit, 0, .max), flag(.retainAvailable),
            flag(.upgradeOutgoingQoS), flag(.allowDuplicateMessages),
            Edges(.user, takes: ["mosquitto", "root"], refuses: ["", String(repeating: "u", count: 256)]),
            text(.pidFile), number(.sysInterval, 0, 65535), flag(.setTCPNoDelay), flag(.logTimestamp),
            Edges(
                .logTimestampFormat, takes: ["%Y-%m-%d %H:%M"], refuses: ["", String(repeating: "%", count: 256)]),
            Edges(
                .logDest, takes: ["stdout", "stderr # x", "file /a b", "syslog", "topic", "none", "dlt", "android"],
                refuses: ["", "file", "x", "#"]),
            words(
                .logType,
                [
                    "error", "warning", "notice", "information", "debug", "subscribe", "unsubscribe", "websockets",
                    "none", "all",
                ]),
            number(.logFacility, 0, 7), flag(.connectionMessages), flag(.retainedPersistence),
            number(.retainExpiryInterval, 1, 2_147_483_647), text(.retryInterval),
            number(.webSocketsLogLevel, 0, 2_147_483_647), number(.webSocketsHeadersSize, 0, 65535),
            number(.packetBufferSize, 0, 65535), text(.tlsEngine), text(.tlsEngineKeyHash), text(.tlsKeyForm),
            text(.httpDir), flag(.enableControlAPI), number(.maxTopicAlias, 0, 65535),
            number(.maxTopicAliasBroker, 0, 65535), text(.dataDir),
            words(.durability, ["acknowledged", "relaxed", "memory"]),
            Edges(
                .durabilityTopic, takes: ["# memory", "a/+/b relaxed", "a b/#  acknowledged"],
                refuses: ["memory", "a/# disk", "#/a memory", "a+ memory", ""]),
            duration(.connectTimeout, 1, 3600), number(.publishRate, 0, 2_147_483_647),
            number(.publishBandwidth, 0, .max), words(.subscribeDenied, ["failure", "silent"]), number(.shards, 1, 64),
            words(.logFormat, ["text", "json"]),
            Edges(
                .baseURL, takes: ["https://a", "http://[::1]:8080"],
                refuses: ["a", "ftp://a", "https://", "https://a/b", "https://a?b", ""]),
            words(.registration, ["local", "open", "invite", "closed"]),
            Edges(
                .corsOrigins, takes: ["https://a", "https://a, https://b:1"], refuses: ["*", "https://a x", "# x", ""]),
            Edges(
                .trustedProxies, takes: ["10.0.0.1", "10.0.0.0/8 2001:db8::/32"],
                refuses: ["proxy", "#", "10.0.0.0/129", "10.0.0.0/8/8", "/8", ""]),
            duration(.jwtLifetime, 60, 366 * 86_400), number(.loginAttempts, 1, 1000),
            number(.maxDevicesPerUser, 1, 1_000_000), duration(.firmwareURLTTL, 60, 366 * 86_400),
            number(.firmwareReleases, 0, 100_000), text(.firmwareVerifier),
            duration(.deviceOfflineAfter, 1, 366 * 86_400),
            duration(.activityRetention, 3600, 36600 * 86_400), duration(.healthRetention, 3600, 36600 * 86_400),
            flag(.perListenerSettings), Edges(.includeDir, takes: ["/conf.d"], refuses: [""]),
        ]
}

@Suite struct `A key` {
    @Test func `has its edges in the table`() {
        #expect(Set(Edges.all.map(\.key)) == Set(Configuration.Key.allCases))
        #expect(Edges.all.count == Configuration.Key.allCases.count)
    }

    @Test(arguments: Edges.all) func `takes what is inside its edges and refuses the rest by name`(_ edges: Edges) {
        let needsListener = ![.perListenerSettings, .listener].contains(edges.key)
        let first = needsListener ? "listener 4000\n" : "\n"
        for value in edges.takes {
            #expect(problem("\(first)\(edges.key.rawValue) \(value)\n\(completion(edges.key))") == nil, "\(value)")
        }
        for value in edges.refuses {
            let problem = problem("\(first)\(edges.key.rawValue) \(value)")
            #expect(problem?.hasPrefix("f.conf:2: '\(edges.key.rawValue)") == true, "\(value): \(problem ?? "taken")")
        }
    }

    /// What a few keys can't be without.
    private func completion(_ key: Configuration.Key) -> String {
        switch key {
        case .certFile: "keyfile k"
        case .keyFile: "certfile c"
        case .caFile, .caPath: "certfile c\nkeyfile k"
        case .proxyProtocolRequireTLS: "enable_proxy_protocol 2"
        default: ""
        }
    }

    private func problem(_ text: String) -> String? {
        let files = Configuration.IncludedFiles(
            names: { (_) throws(ConfigurationError) -> [String] in [] },
            bytes: { (_) throws(ConfigurationError) -> [UInt8] in [] })
        do throws(ConfigurationError) {
            _ = try Configuration.parse(Array(text.utf8), file: "f.conf", including: files)
            return nil
        } catch {
            return error.description
        }
    }

    @Test func `that is refused at first may be mended further down`() throws {
        let text = "listener 1883\njwt_lifetime 12h\njwt_lifetime 24h\n"
        let configuration = try Configuration.parse(Array(text.utf8), file: "f.conf")
        #expect(
            configuration.warnings.map(\.description) == [
                "f.conf:3: warning: 'jwt_lifetime' a second time; this one counts, and no longer line 2"
            ])
    }
}
