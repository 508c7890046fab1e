package import Cryptography

/// What is stored of a password that a person may have chosen: enough to check it, as costly as its line says.
package struct PasswordHash: Sendable, Hashable {
    /// How a password becomes a digest.
    package enum Scheme: Sendable, Hashable {
        /// `$6$`: SHA-512 over password and salt. Mosquitto's of old; quick to try for whoever has the file.
        case sha512
        /// `$7$`: PBKDF2 with HMAC-SHA-512. Mosquitto's.
        case pbkdf2SHA512(iterations: Int)
        /// `$scrypt$`: RFC 7914 as a PHC string. Ours.
        case scrypt(ScryptCost)

        /// What `martlet passwd` makes. Mosquitto's 101 iterations are guessed a thousand times a millisecond on a graphics
        /// card; the 210,000 that OWASP asks for would keep a Mosquitto that reads the same file busy for a tenth of a
        /// second at every connect, and a fleet of a thousand that comes back for a minute.
        package static let forFiles = Scheme.pbkdf2SHA512(iterations: 10_000)
        /// For people.
        package static let forPeople = Scheme.scrypt(ScryptCost(logN: 14, blockSize: 8, parallelization: 5))
    }

    /// What a file may ask for: it must not be able to stall or to starve the server.
    package enum Limits {
        /// About a second of a CPU.
        package static let iterations = 1_000_000
        package static let scryptBytes = 64 << 20
        /// Four times what our own hashes cost.
        package static let scryptWork = 4 * 8 * 5 << 14
        package static let saltBytes = 64
        package static let digestBytes = 16...64
    }

    package let scheme: Scheme
    package let salt: [UInt8]
    package let digest: [UInt8]

    init(scheme: Scheme, salt: [UInt8], digest: [UInt8]) {
        self.scheme = scheme
        self.salt = salt
        self.digest = digest
    }

    /// Hashes a password, for as long as `scheme` takes. Throws where there is no memory.
    package init(of password: [UInt8], scheme: Scheme, salt: [UInt8]) throws(CryptographyError) {
        try self.init(
            scheme: scheme, salt: salt, digest: scheme.digest(of: password, salt: salt, bytes: scheme.digestBytes))
    }

    /// With a salt of its own: 12 bytes as Mosquitto has them, for it takes no other; 16 for scrypt.
    package static func making(of password: [UInt8], scheme: Scheme) throws(CryptographyError) -> PasswordHash {
        let salt = if case .scrypt = scheme { randomBytes(16) } else { randomBytes(12) }
        return try PasswordHash(of: password, scheme: scheme, salt: salt)
    }

    /// Whether it is this password: in the same time, whatever is wrong. Throws where there is no memory.
    package func matches(_ password: [UInt8]) throws(CryptographyError) -> Bool {
        try areEqualInConstantTime(scheme.digest(of: password, salt: salt, bytes: digest.count), digest)
    }

    /// Takes long enough to be done away from the connections.
    package var isCostly: Bool { scheme != .sha512 }

    /// About how long a check takes on a slow core, in microseconds.
    package var costMicroseconds: Int { scheme.costMicroseconds }

    package var text: String {
        switch scheme {
        case .sha512: "$6$\(Base64.standard.encode(salt))$\(Base64.standard.encode(digest))"
        case .pbkdf2SHA512(let iterations):
            "$7$\(iterations)$\(Base64.standard.encode(salt))$\(Base64.standard.encode(digest))"
        case .scrypt(let cost):
            "$scrypt$ln=\(cost.logN),r=\(cost.blockSize),p=\(cost.parallelization)"
                + "$\(Base64.unpadded.encode(salt))$\(Base64.unpadded.encode(digest))"
        }
    }
}

extension PasswordHash.Scheme {
    /// About how long one hash takes on a slow core, in microseconds.
    package var costMicroseconds: Int {
        switch self {
        case .sha512: 5
        case .pbkdf2SHA512(let iterations): 20 + iterations * 3 / 2
        case .scrypt(let cost): cost.work / 2
        }
    }

    fileprivate var digestBytes: Int { if case .scrypt = self { 32 } else { 64 } }

    fileprivate func digest(of password: [UInt8], salt: [UInt8], bytes: Int) throws(CryptographyError) -> [UInt8] {
        switch self {
        case .sha512: Cryptography.sha512(password + salt)
        case .pbkdf2SHA512(let iterations):
            try Cryptography.pbkdf2SHA512(password: password, salt: salt, iterations: iterations, bytes: bytes)
        case .scrypt(let cost): try Cryptography.scrypt(password: password, salt: salt, cost: cost, bytes: bytes)
        }
    }
}

/// Why a text is no password hash. Never holds what it said: that may be a password.
package enum PasswordHashProblem: Error, Equatable, CustomStringConvertible {
    case plainText, argon2, unknownScheme, malformed, tooManyIterations, tooCostly

    package var description: String {
        switch self {
        case .plainText: "the password is not hashed; 'martlet passwd -U FILE' does that"
        case .argon2: "argon2id hashes can't be checked with OpenSSL 3.0; set this password anew with 'martlet passwd'"
        case .unknownScheme: "the password hash is of a kind that is not known: $6$, $7$ and $scrypt$ are"
        case .malformed: "the password hash is malformed"
        case .tooManyIterations: "the password hash asks for more than \(PasswordHash.Limits.iterations) iterations"
        case .tooCostly: "the password hash asks for more time or memory than is allowed"
        }
    }
}

extension PasswordHash {
    /// Reads what `text` writes, and nothing else.
    package init(parsing text: some Collection<UInt8>) throws(PasswordHashProblem) {
        let fields = Array(text).split(separator: UInt8(ascii: "$"), omittingEmptySubsequences: false)
        guard fields.count > 1, fields[0].isEmpty else { throw .plainText }
        switch String(decoding: fields[1], as: UTF8.self) {
        case "6":
            guard fields.count == 4 else { throw .malformed }
            try self.init(.sha512, salt: fields[2], digest: fields[3], as: .standard)
        case "7":
            guard fields.count == 5, let iterations = Self.number(fields[2]) else { throw .malformed }
            guard iterations <= Limits.iterations else { throw .tooManyIterations }
            try self.init(.pbkdf2SHA512(iterations: iterations), salt: fields[3], digest: fields[4], as: .standard)
        case "scrypt":
            guard fields.count == 5 else { throw .malformed }
            try self.init(.scrypt(Self.cost(fields[2])), salt: fields[3], digest: fields[4], as: .unpadded)
        case "argon2id", "argon2i", "argon2d": throw .argon2
        default: throw .unknownScheme
        }
    }

    private init(
        _ scheme: Scheme, salt: ArraySlice<UInt8>, digest: ArraySlice<UInt8>, as encoding: Base64
    ) throws(PasswordHashProblem) {
        guard let salt = encoding.decode(salt), let digest = encoding.decode(digest),
            (1...Limits.saltBytes).contains(salt.count)
        else { throw .malformed }
        if case .scrypt = scheme {
            guard Limits.digestBytes.contains(digest.count) else { throw .malformed }
        } else {
            guard digest.count == scheme.digestBytes else { throw .malformed }
        }
        self.init(scheme: scheme, salt: salt, digest: digest)
    }

    /// `ln=14,r=8,p=5`
    private static func cost(_ text: ArraySlice<UInt8>) throws(PasswordHashProblem) -> ScryptCost {
        let names = ["ln=", "r=", "p="]
        let fields = text.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard fields.count == names.count else { throw .malformed }
        var values: [Int] = []
        for (name, field) in zip(names, fields) {
            guard field.starts(with: name.utf8), let value = number(field.dropFirst(name.utf8.count)) else {
                throw .malformed
            }
            values.append(value)
        }
        // Each by itself first, so that their product is a number.
        guard values[0] <= 20, values[1] <= 64, values[2] <= 64 else { throw .tooCostly }
        let cost = ScryptCost(logN: values[0], blockSize: values[1], parallelization: values[2])
        guard cost.memoryBytes <= Limits.scryptBytes, cost.work <= Limits.scryptWork else { throw .tooCostly }
        return cost
    }

    /// From 1 up, in decimal digits without zeros in front.
    private static func number(_ text: ArraySlice<UInt8>) -> Int? {
        guard let first = text.first, first != UInt8(ascii: "0"), text.count <= 12 else { return nil }
        var number = 0
        for digit in text {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            number = number * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return number
    }
}
