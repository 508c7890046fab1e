/// Why a request is refused: a code that programs may count on, and a sentence for a person.
package struct ManagementProblem: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Code: String, Sendable, CaseIterable {
        /// It can't be read, or lacks something.
        case invalidRequest = "invalid_request"
        case unknownCommand = "unknown_command"
        /// Not by this way, or not by this person.
        case forbidden
        case notFound = "not_found"
        case alreadyExists = "already_exists"
        case invalidDeviceId = "invalid_device_id"
        case invalidEmail = "invalid_email"
        case invalidPassword = "invalid_password"
        case invalidName = "invalid_name"
        case invalidModel = "invalid_model"
        case invalidMACAddress = "invalid_mac_address"
        case invalidRole = "invalid_role"
        case invalidPolicy = "invalid_policy"
        case invalidTag = "invalid_tag"
        /// Nobody has that name, or it has another password.
        case invalidCredentials = "invalid_credentials"
        /// No log-in is shown, or one that does not count.
        case notAuthenticated = "not_authenticated"
        case blocked
        /// Nothing else goes before that.
        case passwordChangeRequired = "password_change_required"
        /// Too many wrong passwords lately.
        case tooManyAttempts = "too_many_attempts"
        /// `registration` does not let them.
        case registrationClosed = "registration_closed"
        /// A code that is wrong, used, for somebody else, or of yesterday.
        case invalidInvite = "invalid_invite"
        /// The device was imported, and is whose who have its code.
        case claimCodeRequired = "claim_code_required"
        case wrongClaimCode = "wrong_claim_code"
        /// As many as somebody may have.
        case tooMany = "too_many"
        case methodNotAllowed = "method_not_allowed"
        case unsupportedMediaType = "unsupported_media_type"
        case tooLarge = "too_large"
        /// The request names another host than this one.
        case misdirected
        case invalidVersion = "invalid_version"
        /// Devices shall not have this image.
        case unsoundFirmware = "unsound_firmware"
        /// Something else has to be done before.
        case wrongState = "wrong_state"
        /// A device gets one firmware at a time.
        case updateUnderWay = "update_under_way"
        /// What the device would be told is more than it takes.
        case packetLimit = "packet_limit"
        /// An address whose time is over.
        case expired
        /// Presence says that the device is not there.
        case deviceOffline = "device_offline"
        /// The last administrator who can sign in.
        case lastAdmin = "last_admin"
        case ownAccount = "own_account"
        /// Nothing was changed: the disk is full, for instance.
        case storageFailed = "storage_failed"
        /// As many ask at once as may.
        case busy
        case failed
    }

    package let code: Code
    package let message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { message }
}
