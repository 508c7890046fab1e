/// Something that was noticed about a file.
package struct Finding: Sendable, Equatable {
    package enum Severity: String, Sendable {
        /// No device shall get it.
        case error
        /// Somebody should look at it.
        case warning
        case note
    }

    package let severity: Severity
    /// For programs; stays what it is.
    package let code: Code
    /// For people: one line.
    package let text: String

    package enum Code: String, CaseIterable, Sendable {
        case wrongKind = "wrong_kind"
        case truncated
        case segmentCount = "segment_count"
        case segmentLength = "segment_length"
        case segmentAlignment = "segment_alignment"
        case checksum
        case hash
        case hashFlag = "hash_flag"
        case noHash = "no_hash"
        case headerField = "header_field"
        case chipInvalid = "chip_invalid"
        case chipUnknown = "chip_unknown"
        case chipMismatch = "chip_mismatch"
        case chipRevisions = "chip_revisions"
        case flashSize = "flash_size"
        case tooLarge = "too_large"
        case trailingData = "trailing_data"
        case noDescriptor = "no_descriptor"
        case secureVersion = "secure_version"
        case versionMissing = "version_missing"
        case versionUnusable = "version_unusable"
        case versionMismatch = "version_mismatch"
        case arduino
        case deltaPatch = "delta_patch"
        case encryptedImage = "encrypted_image"
        case unsigned
        case unknownKey = "unknown_key"
        case brokenSignature = "broken_signature"
        case brokenDetachedSignature = "broken_detached_signature"
    }

    static func error(_ code: Code, _ text: String) -> Finding { Finding(severity: .error, code: code, text: text) }
    static func warning(_ code: Code, _ text: String) -> Finding { Finding(severity: .warning, code: code, text: text) }
    static func note(_ code: Code, _ text: String) -> Finding { Finding(severity: .note, code: code, text: text) }
}
