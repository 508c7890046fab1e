// What a configuration comes to, in sentences for the person who wrote it.

extension Configuration {
    /// What `check-config` prints: what to look at, what it comes to, and that it can be used.
    package func report(on file: String) -> [String] {
        warnings.map(\.description) + explanation + ["\(file): ok"]
    }

    /// A line for each listener, and one for the limits that are not the defaults.
    package var explanation: [String] {
        let limits = unusualLimits
        return listeners.map(explanation) + (limits.isEmpty ? [] : ["Limits: \(limits.joined(separator: ", "))."])
    }

    private func explanation(of listener: Listener) -> String {
        ([place(of: listener) + ": " + Self.application(of: listener) + "."]
            + [Self.reach(of: listener), whoMayConnect(to: listener), whatTheyMayDo(at: listener)]
            + Self.limits(of: listener))
            .filter { !$0.isEmpty }.joined(separator: " ")
    }

    // MARK: - The place

    private func place(of listener: Listener) -> String {
        if let path = listener.socketPath { return "Unix socket \(printable(path))" }
        if isLoopback(listener) { return "Port \(listener.port) on the loopback, 127.0.0.1 and ::1" }
        guard let address = listener.address else { return "Port \(listener.port) on all addresses" }
        return "Port \(listener.port) at \(printable(address))"
    }

    private static func application(of listener: Listener) -> String {
        let security = listener.tls.keyHint == nil ? "TLS" : "TLS with pre-shared keys"
        let version = listener.tls.minimumVersion.rawValue.dropFirst("tlsv".count)
        let layer = listener.tls.isOn ? "\(security), version \(version) or newer" : ""
        return switch (listener.application, listener.tls.isOn) {
        case (.mqtt, true): "MQTT over \(layer)"
        case (.mqtt, false): listener.socketPath == nil ? "MQTT over TCP, not encrypted" : "MQTT"
        case (.webSockets, true): "MQTT over WebSocket over \(layer)"
        case (.webSockets, false): "MQTT over WebSocket, not encrypted"
        case (.http, true): "HTTP over \(layer), and MQTT over WebSocket at /mqtt"
        case (.http, false): "HTTP, not encrypted, and MQTT over WebSocket at /mqtt"
        }
    }

    private static func reach(of listener: Listener) -> String {
        var parts: [String] = []
        switch listener.socketDomain {
        case .ipv4: parts.append("IPv4 only.")
        case .ipv6: parts.append("IPv6 only.")
        case nil: break
        }
        if let name = listener.bindInterface { parts.append("Interface \(printable(name)) only.") }
        if let version = listener.proxyProtocol {
            let tls = listener.proxyRequiresTLS ? ", for clients that use TLS" : ""
            parts.append("Only through a proxy that sends the PROXY header, version \(version.rawValue)\(tls).")
        }
        if !listener.webSocketsOrigins.isEmpty {
            let origins = listener.webSocketsOrigins.map { printable($0) }
            parts.append("Web pages only from \(Value.list(origins)).")
        }
        return parts.joined(separator: " ")
    }

    // MARK: - The people

    private func whoMayConnect(to listener: Listener) -> String {
        var parts: [String] = []
        if listener.tls.requiresCertificate, listener.tls.certificateFile != nil {
            let authority = listener.tls.authorityFile ?? listener.tls.authorityDirectory
            parts.append("A client certificate\(authority.map { " from \(printable($0))" } ?? "") is required.")
        }
        if listener.tls.keyHint != nil {
            guard let file = access(at: listener).keysFile else {
                return "Nobody may connect: there is no 'psk_file'."
            }
            parts.append("A pre-shared key in \(printable(file)) is required.")
        }
        parts.append(Self.goesByTLS(listener) ? nameByTLS(at: listener) : nameAndPassword(at: listener))
        if let prefix = clientIdentifierPrefix {
            parts.append("Client identifiers begin with \(printable(prefix)).")
        }
        if listener.usesUserNameAsClientIdentifier { parts.append("The user name is the client identifier.") }
        if access(at: listener).allowsEmptyClientIdentifier == false {
            parts.append("An empty client identifier is refused.")
        }
        return parts.joined(separator: " ")
    }

    private static func goesByTLS(_ listener: Listener) -> Bool {
        listener.tls.isOn && (listener.tls.usesIdentityAsUserName || listener.tls.usesSubjectAsUserName)
    }

    /// Of the accounts only devices come in here, and only by the CN of their certificates.
    private func nameByTLS(at listener: Listener) -> String {
        if listener.tls.keyHint != nil { return "Its identity is the user name." }
        if listener.tls.usesSubjectAsUserName { return "Its subject is the user name." }
        let devices = dataDirectory.map { "; a device of \(printable($0)) is known by it" } ?? ""
        return "Its name is the user name\(devices)."
    }

    private func nameAndPassword(at listener: Listener) -> String {
        let access = access(at: listener)
        let accounts = dataDirectory.map { "a device, a person or a service of \(printable($0))" }
        let names = access.passwordFile.map { "in \(printable($0))" }
        return switch (access.allowsAnonymous ?? false, names, accounts) {
        case (true, nil, nil): "Anyone may connect, without user name and password."
        case (true, nil, let accounts?):
            "Anyone may connect, without user name and password; who gives the name of \(accounts) has to prove it."
        case (true, let names?, nil):
            "Anyone may connect without a user name; who gives one needs its password \(names)."
        case (true, let names?, let accounts?):
            "Anyone may connect without a user name; who gives one needs its password \(names), or is \(accounts)."
        case (false, let names?, nil): "Who connects needs a user name and its password \(names)."
        case (false, let names?, let accounts?):
            "Who connects needs a user name and its password \(names), or is \(accounts)."
        case (false, nil, nil): "Nobody may connect: 'allow_anonymous' is false, and there is no 'password_file'."
        case (false, nil, let accounts?): "Who connects has to be \(accounts)."
        }
    }

    private func whatTheyMayDo(at listener: Listener) -> String {
        let access = access(at: listener)
        let hasKeys = listener.tls.keyHint == nil || access.keysFile != nil
        let hasOthers = access.allowsAnonymous ?? false || access.passwordFile != nil || Self.goesByTLS(listener)
        var parts: [String] = []
        switch (hasKeys && hasOthers, dataDirectory != nil) {
        case (true, let hasAccounts):
            let everything = hasAccounts ? "Every topic but the management's" : "Every topic"
            let topics =
                access.aclFile.map { "Topics are open as \(printable($0)) says" } ?? "\(everything) is open to them"
            let accounts = hasAccounts && !Self.isByKeyAlone(listener)
            parts.append(topics + (accounts ? "; to devices, people and services, as their policies say." : "."))
        case (false, true) where hasKeys: parts.append("Topics are open as their policies say.")
        case (false, _): break
        }
        if let mountPoint = listener.mountPoint { parts.append("All their topics lie under \(printable(mountPoint)).") }
        return parts.joined(separator: " ")
    }

    /// Then accounts have no way to show themselves.
    private static func isByKeyAlone(_ listener: Listener) -> Bool {
        goesByTLS(listener) && (listener.tls.keyHint != nil || listener.tls.usesSubjectAsUserName)
    }

    // MARK: - Limits

    private static func limits(of listener: Listener) -> [String] {
        var limits: [String] = []
        if let most = listener.maxConnections { limits.append("At most \(most) connections.") }
        if listener.maxQoS < 2 { limits.append("QoS up to \(listener.maxQoS).") }
        if listener.acceptedVersions != Set(Listener.ProtocolVersion.allCases) {
            let names = Listener.ProtocolVersion.allCases.filter(listener.acceptedVersions.contains)
                .map { [3: "3.1", 4: "3.1.1", 5: "5"][$0.rawValue] ?? "" }
            limits.append("Only MQTT \(names.joined(separator: " and ")).")
        }
        return limits
    }

    private var unusualLimits: [String] {
        let usual = Configuration.defaults()
        let limits: [(Key, Int?, Int?)] = [
            (.globalMaxConnections, globalMaxConnections, usual.globalMaxConnections),
            (.globalMaxClients, globalMaxClients, usual.globalMaxClients),
            (.maxInflightMessages, maxInflightMessages, usual.maxInflightMessages),
            (.maxInflightBytes, maxInflightBytes, usual.maxInflightBytes),
            (.maxQueuedMessages, maxQueuedMessages, usual.maxQueuedMessages),
            (.maxQueuedBytes, maxQueuedBytes, usual.maxQueuedBytes),
            (.messageSizeLimit, messageSizeLimit, usual.messageSizeLimit),
            (.maxPacketSize, maxPacketSize, usual.maxPacketSize),
            (.maxKeepAlive, maxKeepAlive, usual.maxKeepAlive),
            (.memoryLimit, memoryLimit, usual.memoryLimit),
            (.publishRate, publishRate, usual.publishRate),
            (.publishBandwidth, publishBandwidth, usual.publishBandwidth),
        ]
        var texts = limits.filter { $0.1 != $0.2 }
            .map { "\($0.0.rawValue) \($0.1.map { "\($0)" } ?? "without limit")" }
        if let expiry = sessionExpiry {
            texts.append("\(Key.persistentClientExpiration.rawValue) \(expiry.components.seconds) seconds")
        }
        if connectTimeout != usual.connectTimeout {
            texts.append("\(Key.connectTimeout.rawValue) \(connectTimeout.components.seconds) seconds")
        }
        if queuesQoS0Messages { texts.append("QoS 0 is queued for clients that are away") }
        if !isRetainAvailable { texts.append("nothing is retained") }
        return texts
    }
}
