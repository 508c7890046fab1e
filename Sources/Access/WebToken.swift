internal import Cryptography
internal import JSON

/// A key that log-ins are signed with.
package struct TokenKey: Sendable, Equatable {
    /// `kid` of the header.
    package let id: String
    /// 256 random bits.
    let secret: [UInt8]
    /// The first part of every token that it signs.
    fileprivate let header: [UInt8]

    package init(id: String, secret: [UInt8]) {
        self.id = id
        self.secret = secret
        let header: JSONValue = ["alg": "HS256", "kid": .string(id), "typ": "JWT"]
        self.header = Array(Base64.url.encode(header.bytes).utf8)
    }
}

/// What a log-in proves (RFC 7519): who somebody is, until when, and how to call it back.
package struct WebToken: Sendable, Equatable {
    package static let issuer = "martlet"
    package static let audience = "martlet"
    /// Seconds that clocks may differ: ours, before and after somebody has set it.
    package static let clockSkew: Int64 = 60
    /// Ours have some 400 bytes.
    static let mostBytes = 2048

    /// `jti`.
    package var id: String
    /// `sub`: a person's id.
    package var subject: String
    package var email: String
    package var role: Accounts.Role
    /// Seconds since 1970.
    package var issued: Int64
    package var expires: Int64
    private var notBefore: Int64?

    package init(id: String, subject: String, email: String, role: Accounts.Role, issued: Int64, expires: Int64) {
        self.id = id
        self.subject = subject
        self.email = email
        self.role = role
        self.issued = issued
        self.expires = expires
    }

    /// Why one does not count.
    package enum Failure: Error, Equatable, Sendable {
        case malformed, wrongAlgorithm, unknownKey, badSignature, wrongClaims
    }

    package func signed(with key: TokenKey) -> String {
        let claims: JSONValue = [
            "iss": .string(Self.issuer), "aud": .string(Self.audience), "jti": .string(id), "sub": .string(subject),
            "id": .string(subject), "email": .string(email), "role": .string(role.rawValue), "iat": .integer(issued),
            "exp": .integer(expires),
        ]
        let text = key.header + ".".utf8 + Base64.url.encode(claims.bytes).utf8
        return String(decoding: text, as: UTF8.self) + "." + Base64.url.encode(hmacSHA256(key: key.secret, text))
    }

    /// HS256 is the only algorithm, whatever the header says (RFC 8725, 3.1). Neither its time nor whether it was called back
    /// is asked here.
    package init(verifying text: some StringProtocol, with keys: [TokenKey]) throws(Failure) {
        guard text.utf8.count <= Self.mostBytes else { throw .malformed }
        let text = Array(text.utf8)
        let dot = UInt8(ascii: ".")
        guard let first = text.firstIndex(of: dot), let last = text.lastIndex(of: dot), first < last,
            !text[(first + 1)..<last].contains(dot)
        else { throw .malformed }
        let key = try Self.key(text[..<first], among: keys)
        guard let signature = Base64.url.decode(text[(last + 1)...]) else { throw .malformed }
        let expected = hmacSHA256(key: key.secret, Array(text[..<last]))
        guard areEqualInConstantTime(expected, signature) else { throw .badSignature }
        guard let bytes = Base64.url.decode(text[(first + 1)..<last]),
            let claims = JSONValue(parsing: bytes, allowingRepeatedNames: false)
        else { throw .malformed }
        guard claims["iss"]?.string == Self.issuer, Self.names(Self.audience, claims["aud"]),
            let id = claims["jti"]?.string, let subject = claims["sub"]?.string, let email = claims["email"]?.string,
            let role = claims["role"]?.string.flatMap(Accounts.Role.init), let issued = claims["iat"]?.integer,
            let expires = claims["exp"]?.integer
        else { throw .wrongClaims }
        self.init(id: id, subject: subject, email: email, role: role, issued: issued, expires: expires)
        notBefore = try claims["nbf"].map { claim throws(Failure) in
            guard let seconds = claim.integer else { throw .wrongClaims }
            return seconds
        }
    }

    /// Whether it counts at that time, seconds since 1970.
    package func isValid(at now: Int64) -> Bool {
        now < expires && max(issued, notBefore ?? issued) <= now + Self.clockSkew
    }

    private static func key(_ header: ArraySlice<UInt8>, among keys: [TokenKey]) throws(Failure) -> TokenKey {
        if let key = keys.first(where: { $0.header[...] == header }) { return key }
        guard let bytes = Base64.url.decode(header),
            let members = JSONValue(parsing: bytes, allowingRepeatedNames: false)
        else { throw .malformed }
        guard members["alg"]?.string == "HS256", members["crit"] == nil else { throw .wrongAlgorithm }
        guard let id = members["kid"]?.string, let key = keys.first(where: { $0.id == id }) else { throw .unknownKey }
        return key
    }

    private static func names(_ audience: String, _ claim: JSONValue?) -> Bool {
        claim?.string == audience || claim?.array?.contains(.string(audience)) == true
    }
}
