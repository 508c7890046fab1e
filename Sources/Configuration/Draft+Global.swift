extension Draft {
    /// The keys that are about the whole broker, and those that make listeners.
    mutating func assignGlobal(_ key: Configuration.Key, _ value: Value, isFirst: Bool) throws(Problem) {
        switch key {
        case .listener: listener = try place(value)
        case .port: listener.port = UInt16(try value.number(in: 1...65535))
        case .bindAddress: listener.address = value.text
        case .includeDir: preconditionFailure("include_dir is read where the files are")
        case .globalMaxConnections: configuration.globalMaxConnections = try value.count()
        case .globalMaxClients: configuration.globalMaxClients = try value.count()

        case .perListenerSettings: configuration.perListenerSettings = try value.flag()
        case .checkRetainSource: configuration.checksRetainSource = try value.flag()
        case .clientIDPrefixes: configuration.clientIdentifierPrefix = value.text

        case .persistence: configuration.persistence = try value.flag()
        case .retainedPersistence: configuration.persistence = try value.flag()
        case .persistenceLocation: configuration.persistenceLocation = value.text
        case .persistenceFile: configuration.persistenceFile = value.text
        case .autosaveInterval: configuration.autosaveInterval = try value.seconds(in: 0...Int(Int32.max))
        case .autosaveOnChanges: configuration.autosavesOnChanges = try value.flag()
        case .persistentClientExpiration: configuration.sessionExpiry = try value.expiry()
        case .dataDir: configuration.dataDirectory = value.text
        case .durability: configuration.durability = try value.word()
        case .durabilityTopic:
            let topic = try topicDurability(value)
            configuration.topicDurabilities = (isFirst ? [] : configuration.topicDurabilities) + [topic]

        case .user: configuration.user = try value.text(upTo: 255, what: "a name")
        case .pidFile: configuration.pidFile = value.text
        case .sysInterval:
            let interval = try value.limit(upTo: 65535)
            configuration.systemInterval = interval.map { .seconds($0) }
        case .setTCPNoDelay: configuration.setsTCPNoDelay = try value.flag()
        case .shards: configuration.shards = try value.number(in: 1...64)
        case .logDest: try assignLogDestination(value, isFirst: isFirst)
        case .logType: try assignLogType(value, isFirst: isFirst)
        case .logTimestamp: configuration.logsTimestamp = try value.flag()
        case .logTimestampFormat: configuration.logTimestampFormat = try value.text(upTo: 255, what: "a format")
        case .logFacility: configuration.logFacility = try value.number(in: 0...7)
        case .logFormat: configuration.logFormat = try value.word()
        case .connectionMessages: configuration.logsConnections = try value.flag()
        default: try assignLimit(key, value, isFirst: isFirst)
        }
    }

    private mutating func assignLimit(_ key: Configuration.Key, _ value: Value, isFirst: Bool) throws(Problem) {
        switch key {
        case .maxInflightMessages: configuration.maxInflightMessages = try value.limit(upTo: 65535)
        case .maxInflightBytes: configuration.maxInflightBytes = try value.limit()
        case .maxQueuedMessages: configuration.maxQueuedMessages = try value.limit()
        case .maxQueuedBytes: configuration.maxQueuedBytes = try value.limit()
        case .queueQoS0Messages: configuration.queuesQoS0Messages = try value.flag()
        case .messageSizeLimit: configuration.messageSizeLimit = try value.limit(upTo: 268_435_455)
        case .maxPacketSize: configuration.maxPacketSize = try packetSize(value)
        case .maxKeepAlive:
            let seconds = try value.number(in: 0...65535)
            configuration.maxKeepAlive = seconds == 0 || seconds == 65535 ? nil : seconds
        case .memoryLimit: configuration.memoryLimit = try value.limit()
        case .retainAvailable: configuration.isRetainAvailable = try value.flag()
        case .upgradeOutgoingQoS: configuration.upgradesOutgoingQoS = try value.flag()
        case .allowDuplicateMessages: configuration.allowsDuplicateMessages = try value.flag()
        case .connectTimeout: configuration.connectTimeout = try value.duration(in: 1...3600)
        case .publishRate: configuration.publishRate = try value.limit(upTo: Int(Int32.max))
        case .publishBandwidth: configuration.publishBandwidth = try value.limit()
        case .subscribeDenied: configuration.deniedSubscription = try value.word()
        default: try assignManagement(key, value, isFirst: isFirst)
        }
    }

    private mutating func assignManagement(_ key: Configuration.Key, _ value: Value, isFirst: Bool) throws(Problem) {
        let year = 366 * 86_400
        var management = configuration.management
        switch key {
        case .baseURL: management.baseURL = try origin(value.text, of: value)
        case .registration: management.registration = try value.word()
        case .corsOrigins: management.corsOrigins = try (isFirst ? [] : management.corsOrigins) + origins(value)
        case .trustedProxies:
            management.trustedProxies = try (isFirst ? [] : management.trustedProxies) + networks(value)
        case .jwtLifetime: management.tokenLifetime = try value.duration(in: 60...year)
        case .loginAttempts: management.loginAttempts = try value.number(in: 1...1000)
        case .maxDevicesPerUser: management.maxDevicesPerUser = try value.number(in: 1...1_000_000)
        case .firmwareURLTTL: management.firmwareURLLifetime = try value.duration(in: 60...year)
        case .firmwareReleases: management.firmwareReleases = try value.number(in: 0...100_000)
        case .firmwareVerifier: management.firmwareVerifier = value.text
        case .deviceOfflineAfter: management.deviceOfflineAfter = try value.duration(in: 1...year)
        case .activityRetention: management.activityRetention = try value.duration(in: 3600...100 * year)
        case .healthRetention: management.healthRetention = try value.duration(in: 3600...100 * year)
        case .retryInterval: break  // Mosquitto does not look at its value either.
        case .enableControlAPI: _ = try value.flag()
        case .webSocketsLogLevel: _ = try value.number(in: 0...Int(Int32.max))
        case .webSocketsHeadersSize, .packetBufferSize: _ = try value.number(in: 0...65535)
        case .retainExpiryInterval: _ = try value.number(in: 1...Int(Int32.max))
        default: preconditionFailure("every key has a line in one of these tables")
        }
        configuration.management = management
    }

    // MARK: - Keys with a form of their own

    private func place(_ value: Value) throws(Problem) -> Configuration.Listener {
        let words = value.text.split(separator: " ")
        guard words[0] == "0" else {
            let port = try Value(name: value.name, text: String(words[0])).number(in: 1...65535)
            return Configuration.Listener(port: UInt16(port), address: words.count == 2 ? String(words[1]) : nil)
        }
        guard words.count == 2 else {
            throw Problem("'listener 0' takes the path of a unix socket behind it")
        }
        let path = Value(name: value.name, text: String(words[1]))
        return Configuration.Listener(socketPath: try path.text(upTo: 107, what: "a path"))
    }

    private func packetSize(_ value: Value) throws(Problem) -> Int {
        let size = try value.number(in: 0...Configuration.protocolPacketSize)
        guard size == 0 || size >= 20 else { throw Problem("'\(value.name)' is at least 20 bytes, or 0, not \(size)") }
        return size == 0 ? Configuration.protocolPacketSize : size
    }

    private func topicDurability(_ value: Value) throws(Problem) -> Configuration.TopicDurability {
        let right = "a topic filter and acknowledged, relaxed or memory"
        guard let end = value.text.lastIndex(where: \.isBlank),
            let durability = Configuration.Durability(rawValue: String(value.text[end...].dropFirst()))
        else { throw value.refusal(right) }
        var filter = value.text[..<end]
        while filter.last?.isBlank == true { filter.removeLast() }
        guard isTopicFilter(filter) else { throw value.refusal(right) }
        return Configuration.TopicDurability(filter: String(filter), durability: durability)
    }

    private func isTopicFilter(_ filter: Substring) -> Bool {
        let levels = filter.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        return (1...65535).contains(filter.utf8.count)
            && levels.indices.allSatisfy { index in
                let level = levels[index]
                if level.contains(UInt8(ascii: "#")) { return level.count == 1 && index == levels.count - 1 }
                return !level.contains(UInt8(ascii: "+")) || level.count == 1
            }
    }

    // MARK: - Addresses

    /// `https://host[:port]`, with nothing behind it.
    private func origin(_ text: some StringProtocol, of value: Value) throws(Problem) -> String {
        let host = ["https://", "http://"].first(where: text.hasPrefix).map { text.dropFirst($0.count) }
        guard let host, !host.isEmpty, !host.contains(where: { $0.isBlank || "/?#@".contains($0) }) else {
            throw value.refusal("https://HOST or https://HOST:PORT")
        }
        return String(text)
    }

    private func origins(_ value: Value) throws(Problem) -> [String] {
        var result: [String] = []
        for word in value.words(separatedBy: { $0.isBlank || $0 == "," }) { result.append(try origin(word, of: value)) }
        guard !result.isEmpty else { throw value.refusal("https://HOST or https://HOST:PORT") }
        return result
    }

    /// Addresses, or networks in the form ADDRESS/BITS; whether they are right shows when they are used.
    private func networks(_ value: Value) throws(Problem) -> [String] {
        let words = value.words(separatedBy: { $0.isBlank || $0 == "," })
        for word in words {
            let parts = word.split(separator: "/", omittingEmptySubsequences: false)
            let isAddress = parts[0].contains { ".:".contains($0) } && parts[0].allSatisfy(Self.isOfAddress)
            let isLength = parts.count == 1 || Int(parts[1]).map { (0...128).contains($0) } ?? false
            guard isAddress, isLength, parts.count <= 2 else { throw value.refusal("ADDRESS or ADDRESS/BITS") }
        }
        guard !words.isEmpty else { throw value.refusal("ADDRESS or ADDRESS/BITS") }
        return words.map(String.init)
    }

    private static func isOfAddress(_ character: Character) -> Bool {
        character.isASCII && (character.isHexDigit || ".:".contains(character))
    }

    // MARK: - The log

    private mutating func assignLogDestination(_ value: Value, isFirst: Bool) throws(Problem) {
        let words = value.text.split(maxSplits: 1, whereSeparator: \.isBlank)
        let behind = words.count == 2 ? words[1].drop(while: \.isBlank) : ""
        let destination: Configuration.LogDestination
        switch words[0] {
        case "none": destination = .standardError
        case "stdout": destination = .standardOutput
        case "stderr": destination = .standardError
        case "syslog": destination = .syslog
        case "topic": destination = .topic
        case "file":
            guard !behind.isEmpty else { throw Problem("'log_dest file' without a path") }
            destination = .file(path: String(behind))
        case "dlt", "android":
            notes.append("'log_dest \(words[0])' has no effect: that log does not exist here")
            isIgnored = true
            return
        default:
            throw value.refusal("stdout, stderr, file PATH, syslog, topic or none")
        }
        if words[0] != "file", !behind.isEmpty, !behind.hasPrefix("#") {
            notes.append("'log_dest \(words[0])' takes no more words; what follows is ignored")
        }
        // "none" is also about what stands above it, as in Mosquitto.
        if isFirst || words[0] == "none" { configuration.logDestinations = [] }
        guard words[0] != "none", !configuration.logDestinations.contains(destination) else { return }
        configuration.logDestinations.append(destination)
    }

    private mutating func assignLogType(_ value: Value, isFirst: Bool) throws(Problem) {
        if isFirst { configuration.logTypes = [] }
        switch value.text {
        case "none": configuration.logTypes = []  // Also what stood above, as in Mosquitto.
        case "all": configuration.logTypes = Set(Configuration.LogType.allCases)
        default:
            guard let type = Configuration.LogType(rawValue: value.text) else {
                throw value.refusal(Value.list(Configuration.LogType.allCases.map(\.rawValue) + ["none", "all"]))
            }
            configuration.logTypes.insert(type)
        }
    }
}
