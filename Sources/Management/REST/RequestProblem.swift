internal import HTTPTypes

extension ManagementProblem.Code {
    /// The status that a request with this problem is answered with: the one place for all.
    var status: HTTPResponse.Status {
        switch self {
        case .invalidRequest, .unknownCommand, .invalidDeviceId, .invalidEmail, .invalidPassword, .invalidName,
            .invalidModel, .invalidMACAddress, .invalidRole, .invalidPolicy, .invalidTag, .invalidVersion:
            .badRequest
        case .invalidCredentials, .notAuthenticated: .unauthorized
        case .forbidden, .blocked, .passwordChangeRequired, .registrationClosed, .invalidInvite, .claimCodeRequired,
            .wrongClaimCode:
            .forbidden
        case .notFound: .notFound
        case .methodNotAllowed: .methodNotAllowed
        case .alreadyExists, .lastAdmin, .ownAccount, .tooMany, .deviceOffline, .wrongState, .updateUnderWay: .conflict
        case .unsoundFirmware, .packetLimit: .unprocessableContent
        case .expired: .gone
        case .tooLarge: .contentTooLarge
        case .unsupportedMediaType: .unsupportedMediaType
        case .misdirected: HTTPResponse.Status(code: 421, reasonPhrase: "Misdirected Request")
        case .tooManyAttempts: .tooManyRequests
        case .storageFailed: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
        case .busy: .serviceUnavailable
        case .failed: .internalServerError
        }
    }
}
