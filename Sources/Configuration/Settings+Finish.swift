// What can be said only when all lines are known.

extension Settings {
    consuming func finished() throws(ConfigurationError) -> Configuration {
        notePlaces()
        if !isOverriding {
            try placeListeners()
            try checkListeners()
            placeData()
        }
        if isOverriding { try checkStorage() }
        let new = warnings.sorted { $0.order < $1.order }.map(\.warning)
        configuration.warnings += new
        return configuration
    }

    private mutating func notePlaces() {
        for (place, position) in seen {
            let found = Configuration.KeyPlaces.Place(file: position.file, line: position.line)
            switch place.listener {
            case nil: configuration.places[place.key.rawValue] = found
            case let listener? where listener < 0: defaultListener.places[place.key.rawValue] = found
            case let listener?: listeners[listener].places[place.key.rawValue] = found
            }
        }
    }

    /// The default listener is there if it was named, if nothing else is, or if a key was about it.
    private mutating func placeListeners() throws(ConfigurationError) {
        if listeners.isEmpty, !isDefaultNamed {
            defaultListener.address = "localhost"
            configuration.listeners = [defaultListener]
            return
        }
        configuration.isLoopbackOnly = false
        configuration.listeners = listeners
        if isDefaultNamed || defaultListener != Configuration.Listener(port: Configuration.defaultPort) {
            if !isDefaultNamed { try tellOfDefaultListener() }
            configuration.listeners.insert(defaultListener, at: 0)
        }
        if isDefaultNamed, let second = listeners.firstIndex(where: { $0.isSamePlace(as: defaultListener) }) {
            throw error("'listener \(listeners[second].port)' is also what 'port' and 'bind_address' make", .port)
        }
    }

    private mutating func tellOfDefaultListener() throws(ConfigurationError) {
        guard let (position, name) = defaultListenerKey else { return }
        guard !listeners.contains(where: { $0.port == defaultListener.port }) else {
            throw ConfigurationError(
                file: position.file, line: position.line,
                reason: "'\(name)' above the first 'listener' makes one more listener on port "
                    + "\(defaultListener.port), which is taken; put it below the 'listener' that it is about")
        }
        warn(
            "'\(name)' above the first 'listener' makes one more listener, on port \(defaultListener.port) of all "
                + "addresses, as Mosquitto does; put it below the 'listener' that it is about", at: position)
    }

    /// Keys that can't do without each other, or with each other.
    private func checkListeners() throws(ConfigurationError) {
        for (index, listener) in listeners.enumerated() { try check(listener, index) }
        try check(defaultListener, -1)
    }

    private func check(_ listener: Configuration.Listener, _ index: Int) throws(ConfigurationError) {
        let tls = listener.tls
        let hasCertificate = tls.certificateFile != nil
        if hasCertificate, tls.keyFile == nil {
            throw error("'certfile' without a 'keyfile' for the same listener", .certFile, index)
        }
        if tls.keyFile != nil, !hasCertificate {
            throw error("'keyfile' without a 'certfile' for the same listener", .keyFile, index)
        }
        if tls.authorityFile != nil, !hasCertificate {
            throw error("'cafile' without 'certfile' and 'keyfile' for the same listener", .caFile, index)
        }
        if tls.authorityDirectory != nil, !hasCertificate {
            throw error("'capath' without 'certfile' and 'keyfile' for the same listener", .caPath, index)
        }
        if tls.keyHint != nil, hasCertificate {
            throw error("a listener has either 'certfile' or 'psk_hint', not both", .pskHint, index)
        }
        if listener.proxyRequiresTLS, listener.proxyProtocol != .version2 {
            throw error(
                "'proxy_protocol_v2_require_tls' needs 'enable_proxy_protocol 2' for the same listener",
                .proxyProtocolRequireTLS, index)
        }
        if listener.proxyProtocol == .version2, tls.isOn || tls.usesSubjectAsUserName {
            throw error(
                "'enable_proxy_protocol 2' goes with neither TLS of its own nor 'use_subject_as_username'",
                .enableProxyProtocol, index)
        }
    }

    /// Who manages has to keep what they manage.
    private mutating func placeData() {
        guard configuration.dataDirectory == nil, configuration.listeners.contains(where: { $0.application == .http })
        else { return }
        configuration.dataDirectory = configuration.persistenceLocation ?? Configuration.defaultDataDirectory
    }

    /// Only when the environment and the flags have spoken, which may name the place.
    private func checkStorage() throws(ConfigurationError) {
        guard configuration.storageDirectory == nil else { return }
        if let durability = configuration.durability, durability != .memory {
            throw needsPlace("durability \(durability.rawValue)", .durability)
        }
        if let topic = configuration.topicDurabilities.last(where: { $0.durability != .memory }) {
            throw needsPlace("durability_topic \(topic.filter) \(topic.durability.rawValue)", .durabilityTopic)
        }
    }

    private func needsPlace(_ what: String, _ key: Configuration.Key) -> ConfigurationError {
        let place = configuration.places[key.rawValue]
        return ConfigurationError(
            file: place?.file ?? "", line: place?.line,
            reason: "'\(what)' needs 'data_dir' or 'persistence true'")
    }

    private func error(_ reason: String, _ key: Configuration.Key, _ listener: Int? = nil) -> ConfigurationError {
        let position = seen[Place(key: key, listener: listener)] ?? seen[Place(key: .bindAddress, listener: nil)]
        return ConfigurationError(file: position?.file ?? "", line: position?.line, reason: reason)
    }
}
