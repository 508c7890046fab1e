internal import Cryptography

/// The address by which one device fetches one release for a time: `/firmware/MODEL/VERSION/firmware.bin?d=DEVICE&e=TIME&k=KEY&s=SIGNATURE`.
/// The signature is an HMAC-SHA256 over everything else and the class of methods that it is for; HEAD and ranges are of GET's.
/// Short, since ESP-IDF's client has 512 bytes for its whole request head: at most 164 bytes with a deviceId of 12, of 32 for each
/// name 197.
package struct FirmwareURL: Sendable, Equatable {
    /// What signs. `id`: as it stands in the address.
    package struct Key: Sendable {
        package let id: String
        package let secret: [UInt8]

        package init(id: String, secret: [UInt8]) {
            self.id = id
            self.secret = secret
        }
    }

    package enum Refusal: Error, Equatable, Sendable {
        /// A parameter that is missing, twice, unknown or of another form, or a signature that is not ours.
        case wrong
        /// It is ours, and its time is over.
        case expired
    }

    package let release: ReleaseName
    /// A canonical deviceId.
    package let device: String
    /// Seconds since 1970, from which on it is refused.
    package let expires: Int64

    package init(release: ReleaseName, device: String, expires: Int64) {
        self.release = release
        self.device = device
        self.expires = expires
    }

    /// Path and query, to go behind scheme, host and port.
    package func signed(with key: Key) -> String {
        let unsigned = "\(release.downloadPath)?d=\(device)&e=\(expires)&k=\(key.id)"
        return "\(unsigned)&s=\(Base64.url.encode(Self.signature(of: unsigned, key)))"
    }

    /// The address that somebody asks by GET or HEAD, with path and query as they were sent. `now`: seconds since 1970. Throws
    /// `Refusal`.
    package init(
        path: Substring, query: Substring, keys: [Key], now: Int64
    ) throws(Refusal) {
        let parts = query.split(separator: "&", omittingEmptySubsequences: false)
        let names = ["d=", "e=", "k=", "s="]
        guard let release = ReleaseName(downloadPath: path), parts.count == names.count,
            zip(parts, names).allSatisfy({ $0.0.hasPrefix($0.1) })
        else { throw .wrong }
        let values = parts.map { $0.dropFirst(2) }
        guard let key = keys.first(where: { $0.id == values[2] }), let signature = Base64.url.decode(values[3].utf8),
            let expires = Int64(values[1]), "\(expires)" == values[1]
        else { throw .wrong }
        self.init(release: release, device: String(values[0]), expires: expires)
        // Over what was sent, and not over what was read from it.
        let expected = Self.signature(of: "\(path)?\(query.dropLast(values[3].utf8.count + "&s=".utf8.count))", key)
        guard areEqualInConstantTime(signature, expected) else { throw .wrong }
        guard now < expires else { throw .expired }
    }

    private static func signature(of unsigned: String, _ key: Key) -> [UInt8] {
        hmacSHA256(key: key.secret, Array("martlet-firmware-1\nGET\n\(unsigned)".utf8))
    }
}
