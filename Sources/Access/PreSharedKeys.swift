internal import Cryptography

/// The keys of a `psk_file`: a line `identity:key` each, the key in hexadecimal. Otherwise read as a password file is.
package struct PreSharedKeys: Sendable {
    package enum Limits {
        /// OpenSSL's `PSK_MAX_IDENTITY_LEN` for what is sent.
        package static let identityBytes = 256
        /// OpenSSL's `PSK_MAX_PSK_LEN`.
        package static let keyBytes = 512
    }

    private let keys: [[UInt8]: [UInt8]]
    /// Of each key that counts with its identity: what `Principal.credential` holds.
    let credentials: Set<Credential>
    package let warnings: [AccessFileWarning]

    package static let empty = PreSharedKeys(keys: [:], credentials: [], warnings: [])

    package var count: Int { keys.count }

    private init(keys: [[UInt8]: [UInt8]], credentials: Set<Credential>, warnings: [AccessFileWarning]) {
        self.keys = keys
        self.credentials = credentials
        self.warnings = warnings
    }

    package subscript(identity: [UInt8]) -> [UInt8]? { keys[identity] }

    /// `file` is for errors only.
    package static func parse(_ bytes: [UInt8], file: String) throws(AccessFileError) -> PreSharedKeys {
        guard bytes.count <= PasswordFile.Limits.fileBytes else {
            throw AccessFileError(file: file, reason: "longer than \(PasswordFile.Limits.fileBytes) bytes")
        }
        var keys: [[UInt8]: [UInt8]] = [:]
        var credentials: Set<Credential> = []
        var warnings: [AccessFileWarning] = []
        for line in CredentialLines(bytes) {
            func error(_ reason: String) -> AccessFileError {
                AccessFileError(file: file, line: line.number, reason: reason)
            }
            guard !line.isPassedOver else { continue }
            let (identity, text): ([UInt8], ArraySlice<UInt8>)
            switch line.fields {
            case .success(let fields): (identity, text) = fields
            case .failure(let problem): throw error(problem.description)
            }
            guard identity.count <= Limits.identityBytes else {
                throw error("the identity is longer than \(Limits.identityBytes) bytes")
            }
            // Half a byte in front is a whole one, as in Mosquitto.
            let digits = text.count.isMultiple(of: 2) ? Array(text) : [UInt8(ascii: "0")] + text
            guard let key = Cryptography.bytes(hexadecimal: digits), !key.isEmpty else {
                throw error("the key is not hexadecimal")
            }
            guard key.count <= Limits.keyBytes else { throw error("the key is longer than \(Limits.keyBytes) bytes") }
            if let earlier = keys.updateValue(key, forKey: identity) {
                credentials.remove(.key(earlier, identity: identity))
                warnings.append(
                    AccessFileWarning(
                        file: file, line: line.number, reason: "takes the place of an earlier line of the same identity"
                    ))
            }
            credentials.insert(.key(key, identity: identity))
        }
        return PreSharedKeys(keys: keys, credentials: credentials, warnings: warnings)
    }
}
