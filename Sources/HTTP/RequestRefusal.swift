package import HTTPTypes

/// Why a request can't be taken: the status that answers it, and what its sender got wrong. Nothing behind it on its
/// connection can be trusted to begin where it seems to, so the connection ends with the answer.
package struct RequestRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    package let status: Int
    package let reason: String

    package init(_ status: Int, _ reason: String) {
        self.status = status
        self.reason = reason
    }

    static func malformed(_ reason: String) -> RequestRefusal { RequestRefusal(400, reason) }

    package var description: String { reason }

    /// With its phrase, which HTTPTypes knows by name only.
    package var responseStatus: HTTPResponse.Status {
        let known: [HTTPResponse.Status] = [
            .badRequest, .forbidden, .requestTimeout, .uriTooLong, .expectationFailed, .upgradeRequired,
            .requestHeaderFieldsTooLarge, .notImplemented, .httpVersionNotSupported,
        ]
        return known.first { $0.code == status } ?? .init(code: status)
    }
}

/// What a request may cost before anybody has looked at it.
package enum HTTPLimits {
    /// Of the request line and all fields together.
    package static let headBytes = 16 << 10
    package static let targetBytes = 8 << 10
    package static let fields = 100
    /// Of the sizes and extensions of one chunk, and of all trailers.
    package static let chunkLineBytes = 256
    package static let trailerBytes = 4 << 10
}
