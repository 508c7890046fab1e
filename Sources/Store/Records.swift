package import Access

// Rows as values. Times are milliseconds since 1970, UTC.

/// A person.
package struct UserRecord: Sendable, Equatable {
    /// UUIDv7.
    package var id: String
    /// In lower case.
    package var email: String
    package var name: String
    package var passwordHash: String
    package var role: Accounts.Role
    package var isBlocked = false
    package var mustChangePassword = false
    package var created: Int64

    package init(id: String, email: String, name: String, passwordHash: String, role: Accounts.Role, created: Int64) {
        self.id = id
        self.email = email
        self.name = name
        self.passwordHash = passwordHash
        self.role = role
        self.created = created
    }
}

package struct DeviceRecord: Sendable, Equatable {
    /// UUIDv7.
    package var id: String
    /// Canonical.
    package var deviceId: String
    package var name: String
    package var model: String?
    /// `AA:BB:CC:DD:EE:FF`.
    package var macAddress: String?
    package var registered: Int64
    package var isBlocked = false
    /// E-mail of whom it belongs to. Where there are several, the first by e-mail.
    package var owner: String?
    package var tags: [String] = []

    package init(id: String, deviceId: String, name: String, registered: Int64) {
        self.id = id
        self.deviceId = deviceId
        self.name = name
        self.registered = registered
    }
}

/// A log-in that counts.
package struct TokenRecord: Sendable, Equatable {
    /// `jti`.
    package var id: String
    /// A user's id.
    package var user: String
    /// Of what it is signed with.
    package var key: String
    package var issued: Int64
    package var expires: Int64

    package init(id: String, user: String, key: String, issued: Int64, expires: Int64) {
        self.id = id
        self.user = user
        self.key = key
        self.issued = issued
        self.expires = expires
    }
}

/// Lets somebody make an account.
package struct InviteRecord: Sendable, Equatable {
    /// UUIDv7.
    package var id: String
    package var role: Accounts.Role
    /// In lower case; nil: for whoever has the code.
    package var email: String?
    /// As the activity log names them.
    package var maker: String
    package var created: Int64
    package var expires: Int64
    package var used: Int64?
    /// E-mail of whoever did.
    package var usedBy: String?

    package init(id: String, role: Accounts.Role, email: String?, maker: String, created: Int64, expires: Int64) {
        self.id = id
        self.role = role
        self.email = email
        self.maker = maker
        self.created = created
        self.expires = expires
    }
}

/// A command that waits for its device.
package struct QueuedCommandRecord: Sendable, Equatable {
    /// UUIDv7.
    package var id: String
    package var deviceId: String
    package var payload: String
    /// As the activity log names them.
    package var actor: String
    package var created: Int64
    package var expires: Int64

    package init(id: String, deviceId: String, payload: String, actor: String, created: Int64, expires: Int64) {
        self.id = id
        self.deviceId = deviceId
        self.payload = payload
        self.actor = actor
        self.created = created
        self.expires = expires
    }
}

/// What devices of one model have in common.
package struct ModelRecord: Sendable, Equatable {
    /// What a device is told of a new firmware; the raw value is its name in the API.
    package enum OTAPayload: String, Sendable, CaseIterable { case json, url }

    package var name: String
    /// As Espressif writes it; nil: nobody has said.
    package var chip: String?
    /// Bytes; nil: nobody has said.
    package var flashSize: Int64?
    package var otaPayload = OTAPayload.json
    /// Bytes of the longest MQTT packet that it takes.
    package var packetLimit: Int64
    /// Public keys as PEM, and digests of keys in hexadecimal, that its firmware is signed with.
    package var keys: [String] = []

    package init(name: String, packetLimit: Int64) {
        self.name = name
        self.packetLimit = packetLimit
    }
}

/// A release in the tree of firmware.
package struct FirmwareRecord: Sendable, Equatable {
    /// How far somebody has taken it. Each needs the one before it.
    package enum State: String, Sendable {
        case uploaded = "UPLOADED"
        case verified = "VERIFIED"
        case approved = "APPROVED"
    }

    /// UUIDv7.
    package var id: String
    package var model: String
    /// Without a `v` in front.
    package var version: String
    package var text: String = ""
    /// Bytes.
    package var size: Int64
    /// SHA-256.
    package var digest: [UInt8]
    /// Detached, of the whole file.
    package var signature: [UInt8]?
    package var state = State.uploaded
    /// A JSON object.
    package var analysis: String
    /// As the activity log names them.
    package var uploader: String
    package var created: Int64
    package var verified: Int64?
    package var approver: String?
    package var approved: Int64?
    /// When devices were last to run it from then on.
    package var promoted: Int64?

    package init(
        id: String, model: String, version: String, size: Int64, digest: [UInt8], analysis: String, uploader: String,
        created: Int64
    ) {
        self.id = id
        self.model = model
        self.version = version
        self.size = size
        self.digest = digest
        self.analysis = analysis
        self.uploader = uploader
        self.created = created
    }
}

/// What something of ours is signed with.
package struct KeyRecord: Sendable, Equatable {
    package enum Purpose: String, Sendable { case jwt, url }

    package var id: String
    package var purpose: Purpose
    package var secret: [UInt8]
    package var created: Int64

    package init(id: String, purpose: Purpose, secret: [UInt8], created: Int64) {
        self.id = id
        self.purpose = purpose
        self.secret = secret
        self.created = created
    }
}

package struct ServiceRecord: Sendable, Equatable {
    package var name: String
    package var policy: String
    package var isBlocked = false
    package var created: Int64

    package init(name: String, policy: String, created: Int64) {
        self.name = name
        self.policy = policy
        self.created = created
    }
}

package struct CertificateRecord: Sendable, Equatable {
    /// Upper-case hexadecimal, without leading zeros.
    package var serial: String
    /// Nil where it is not a device's.
    package var deviceId: String?
    package var subject: String
    package var notBefore: Int64
    package var notAfter: Int64
    /// SHA-256.
    package var fingerprint: [UInt8]
    package var issued: Int64
    package var revoked: Int64?
    package var reason: String?

    package init(
        serial: String, deviceId: String?, subject: String, notBefore: Int64, notAfter: Int64, fingerprint: [UInt8],
        issued: Int64
    ) {
        self.serial = serial
        self.deviceId = deviceId
        self.subject = subject
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.fingerprint = fingerprint
        self.issued = issued
    }
}

/// An entry of the activity log.
package struct Activity: Sendable, Equatable {
    /// What happened; the raw value is the name in the API.
    package enum Kind: String, Sendable, CaseIterable {
        case deviceOnline = "DEVICE_ONLINE"
        case deviceOffline = "DEVICE_OFFLINE"
        case ledOn = "LED_ON"
        case ledOff = "LED_OFF"
        case commandSent = "COMMAND_SENT"
        case commandDelivered = "COMMAND_DELIVERED"
        case commandExpired = "COMMAND_EXPIRED"
        case commandUnconfirmed = "COMMAND_UNCONFIRMED"
        case login = "LOGIN"
        case loginFailed = "LOGIN_FAILED"
        case logout = "LOGOUT"
        case deviceUpdated = "DEVICE_UPDATED"
        case userRegistered = "USER_REGISTERED"
        case userBlocked = "USER_BLOCKED"
        case userUnblocked = "USER_UNBLOCKED"
        case userDeleted = "USER_DELETED"
        case roleChanged = "ROLE_CHANGED"
        case passwordChanged = "PASSWORD_CHANGED"
        case deviceRegistered = "DEVICE_REGISTERED"
        case deviceDeleted = "DEVICE_DELETED"
        case deviceBlocked = "DEVICE_BLOCKED"
        case deviceUnblocked = "DEVICE_UNBLOCKED"
        case credentialsRotated = "CREDENTIALS_ROTATED"
        case inviteCreated = "INVITE_CREATED"
        case inviteDeleted = "INVITE_DELETED"
        case devicesImported = "DEVICES_IMPORTED"
        case keyRotated = "KEY_ROTATED"
        case clientDisconnected = "CLIENT_DISCONNECTED"
        case retainedDeleted = "RETAINED_DELETED"
        case sessionDeleted = "SESSION_DELETED"
        case serviceAdded = "SERVICE_ADDED"
        case serviceBlocked = "SERVICE_BLOCKED"
        case serviceUnblocked = "SERVICE_UNBLOCKED"
        case serviceRemoved = "SERVICE_REMOVED"
        case certificateIssued = "CERTIFICATE_ISSUED"
        case certificateRevoked = "CERTIFICATE_REVOKED"
        case otaStarted = "OTA_STARTED"
        case otaProgress = "OTA_PROGRESS"
        case otaSuccess = "OTA_SUCCESS"
        case otaFailed = "OTA_FAILED"
        case otaRolledBack = "OTA_ROLLED_BACK"
        case otaTimedOut = "OTA_TIMED_OUT"
        case otaCanceled = "OTA_CANCELED"
        case modelUpdated = "MODEL_UPDATED"
        case firmwareUploaded = "FIRMWARE_UPLOADED"
        case firmwareVerified = "FIRMWARE_VERIFIED"
        case firmwareApproved = "FIRMWARE_APPROVED"
        case firmwarePromoted = "FIRMWARE_PROMOTED"
        case firmwareBlocked = "FIRMWARE_BLOCKED"
        case firmwareUnblocked = "FIRMWARE_UNBLOCKED"
        case firmwareDeleted = "FIRMWARE_DELETED"
    }

    /// Ascending; 0 before it is stored.
    package var id: Int64 = 0
    package var time: Int64
    /// Who did it: a user's e-mail, or `local:NAME` for somebody at the machine itself.
    package var actor: String
    /// Where from, if over the network.
    package var address: String?
    /// A canonical deviceId.
    package var device: String?
    package var kind: Kind
    /// A JSON object.
    package var detail: String

    package init(
        time: Int64, actor: String, address: String? = nil, device: String? = nil, kind: Kind, detail: String = "{}"
    ) {
        self.time = time
        self.actor = actor
        self.address = address
        self.device = device
        self.kind = kind
        self.detail = detail
    }
}

/// A part of a list, and how many there are in all.
package struct Page<Element: Sendable>: Sendable {
    package var elements: [Element]
    package var total: Int

    package init(elements: [Element], total: Int) {
        self.elements = elements
        self.total = total
    }
}
