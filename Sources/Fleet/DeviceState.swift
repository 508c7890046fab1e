package import JSON

/// Why a device is offline; the raw value is its name in the API.
package enum OfflineReason: String, Sendable, CaseIterable {
    /// It said so (MQTT 3.14).
    case disconnected = "DISCONNECTED"
    /// The network failed, or the device closed its connection without a word.
    case connectionLost = "CONNECTION_LOST"
    /// Nothing came for one and a half times its keep-alive (MQTT 3.1.2.10).
    case keepAliveExpired = "KEEP_ALIVE_EXPIRED"
    /// What it sent broke a rule of MQTT.
    case protocolViolation = "PROTOCOL_VIOLATION"
    /// What it signed in with counts no longer: it is blocked, or has other credentials.
    case notAuthorized = "NOT_AUTHORIZED"
    /// An administrator, or a shortage of memory, has ended the connection.
    case endedByServer = "ENDED_BY_SERVER"
    /// It was known only by its messages, and none has come for `device_offline_after`.
    case silent = "SILENT"
    /// It was online when the server ended, and has not come back since.
    case serverRestarted = "SERVER_RESTARTED"
}

/// What is known of a device by what it does.
package struct DeviceState: Sendable, Equatable {
    package var isOnline = false
    /// Milliseconds since 1970 of its last sign of life; nil: it was never seen. While it is connected any packet is one.
    package var lastSeen: Int64?
    /// Since when it is as it is, milliseconds since 1970; nil: it was never seen.
    package var since: Int64?
    /// Nil while it is online, and before it was.
    package var offlineReason: OfflineReason?
    /// How often it has come online.
    package var sessions = 0
    /// It comes and goes so often that each time says little.
    package var isFlapping = false

    /// What its `status` said last, of its LED or relay; nil: nothing yet.
    package var ledState: Bool?
    /// Where its `status` is JSON and not `ON` or `OFF`.
    package var status: JSONValue?
    /// What its health said last it runs.
    package var firmwareVersion: String?
    /// As it came last.
    package var health: JSONValue?
    /// Milliseconds since 1970.
    package var healthTime: Int64?
    /// The latest firmware that it was to have; nil: none yet. Kept apart from the rest.
    package var deployment: Deployment?
    /// Messages that could not be read.
    package var unreadable = 0

    package init() {}

    /// Nil while it is online, and before it was.
    package var offlineAt: Int64? { isOnline ? nil : since }
}
