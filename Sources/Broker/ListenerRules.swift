package import MQTT

/// Which of the server's listeners a connection came through.
package typealias ListenerNumber = UInt16

/// What holds for the clients of one listener.
package struct ListenerRules: Sendable, Equatable {
    /// `accept_protocol_versions`
    package var acceptsMQTT31 = true
    package var acceptsMQTT311 = true
    /// The highest QoS that a client may publish with, and that it is granted (`max_qos`).
    package var maximumQoS = QoS.exactlyOnce
    /// What stands before all topics of the clients, who don't see it (`mount_point`); a valid beginning of a topic.
    /// The same for as long as the server runs.
    package var mountPoint: [UInt8] = []
    /// An empty Client Identifier gets one of ours (`allow_zero_length_clientid`).
    package var allowsEmptyClientIdentifier = true
    /// What such an identifier begins with (`auto_id_prefix`).
    package var automaticPrefix = Array("auto-".utf8)
    /// The user name takes the place of the Client Identifier (`use_username_as_clientid`).
    package var usesUserNameAsClientIdentifier = false
    /// Connections at once, from being accepted to being closed (`max_connections`). 0: no limit.
    package var connections = 0

    package init() {}

    func accepts(_ version: ProtocolVersion) -> Bool {
        switch version {
        case .mqtt31: acceptsMQTT31
        case .mqtt311: acceptsMQTT311
        }
    }
}
