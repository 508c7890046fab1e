import Broker
import Configuration
import MQTT

// What the configuration says, as the broker wants to know it.

extension ListenerRules {
    init(_ listener: Configuration.Listener, of configuration: Configuration) {
        self.init()
        let access = configuration.access(at: listener)
        acceptsMQTT31 = listener.acceptedVersions.contains(.mqtt31)
        acceptsMQTT311 = listener.acceptedVersions.contains(.mqtt311)
        maximumQoS = QoS(rawValue: UInt8(listener.maxQoS)) ?? .exactlyOnce
        mountPoint = Array((listener.mountPoint ?? "").utf8)
        allowsEmptyClientIdentifier = access.allowsEmptyClientIdentifier ?? true
        automaticPrefix = Array((access.automaticPrefix ?? "").utf8)
        usesUserNameAsClientIdentifier = listener.usesUserNameAsClientIdentifier
        connections = listener.maxConnections ?? 0
    }
}

extension Limits {
    init(_ configuration: Configuration) {
        self.init()
        packetBytes = configuration.maxPacketSize
        payloadBytes = configuration.messageSizeLimit ?? 0
        inFlightMessages = configuration.maxInflightMessages ?? 0
        inFlightBytes = configuration.maxInflightBytes ?? 0
        queuedMessages = configuration.maxQueuedMessages ?? 0
        queuedBytes = configuration.maxQueuedBytes ?? 0
        queuesAtMostOnce = configuration.queuesQoS0Messages
        upgradesQoS = configuration.upgradesOutgoingQoS
        checksRetainSource = configuration.checksRetainSource
        refusesDeniedSubscriptions = configuration.deniedSubscription == .failure
        isRetainAvailable = configuration.isRetainAvailable
        keepAlive = UInt16(configuration.maxKeepAlive ?? 0)
        clientIdentifierPrefix = Array((configuration.clientIdentifierPrefix ?? "").utf8)
        publishRate = configuration.publishRate ?? 0
        publishBandwidth = configuration.publishBandwidth ?? 0
        sessions = configuration.globalMaxClients ?? 0
        connections = configuration.globalMaxConnections ?? 0
        sessionExpiry = configuration.sessionExpiry?.milliseconds ?? 0
        connectTimeout = configuration.connectTimeout.milliseconds
    }
}

extension DurabilityRules {
    init(_ configuration: Configuration) {
        let rules = configuration.topicDurabilities.map {
            Rule(filter: Array($0.filter.utf8), durability: Durability($0.durability))
        }
        self.init(Durability(configuration.effectiveDurability), rules: rules)
    }
}

extension Durability {
    fileprivate init(_ durability: Configuration.Durability) {
        switch durability {
        case .acknowledged: self = .acknowledged
        case .relaxed: self = .relaxed
        case .memory: self = .memory
        }
    }
}

extension Duration {
    /// The whole ones.
    var milliseconds: Int64 { components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000 }
}
