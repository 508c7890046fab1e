internal import FoundationEssentials
internal import Glibc

/// A certificate that the authority has signed, as it is remembered.
package struct IssuedCertificate: Hashable, Sendable, Codable {
    package enum Kind: String, Sendable, Codable { case device, server }

    package let serial: SerialNumber
    package let kind: Kind
    /// Its CN; a device's deviceId.
    package let name: String
    package let issued: UnixTime
    package let notBefore: UnixTime
    package let notAfter: UnixTime
    /// SHA-256 of the whole, upper-case hexadecimal.
    package let fingerprint: String
    /// When it was revoked; nil: it was not.
    package var revoked: UnixTime?
}

/// What the authority has signed and revoked: a file to which lines are appended, each one event as JSON. What a power cut
/// has torn off the last line was never acknowledged, and is dropped. Appending is for whoever holds the directory's lock.
struct IssuedCertificates {
    let path: String

    /// The most that are kept; once there are more, those go that have expired and were not revoked.
    static let most = 100_000
    private static let largestFile = 64 << 20

    /// A line: either a certificate that was issued, or the number of one that was revoked and when.
    private struct Event: Codable {
        var issued: IssuedCertificate?
        var revoked: SerialNumber?
        var at: UnixTime?
    }

    /// All, in the order in which they were signed.
    func load() throws(CertificateError) -> [IssuedCertificate] {
        guard let bytes = try contents(of: path, limit: Self.largestFile) else { return [] }
        var all: [IssuedCertificate] = []
        var places: [SerialNumber: Int] = [:]
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast()
        let decoder = JSONDecoder()
        for (index, line) in lines.enumerated() {
            guard let event = try? decoder.decode(Event.self, from: Data(line)) else {
                throw .damaged(file: path, "line \(index + 1) is not a record of a certificate")
            }
            switch (event.issued, event.revoked, event.at) {
            case (let certificate?, nil, nil):
                guard places.updateValue(all.count, forKey: certificate.serial) == nil else {
                    throw .damaged(file: path, "line \(index + 1) repeats a serial number")
                }
                all.append(certificate)
            case (nil, let serial?, let time?):
                guard let place = places[serial] else {
                    throw .damaged(file: path, "line \(index + 1) revokes a certificate that is not there")
                }
                if all[place].revoked == nil { all[place].revoked = time }
            default: throw .damaged(file: path, "line \(index + 1) is not a record of a certificate")
            }
        }
        return all
    }

    /// On disk when it returns.
    func append(_ certificate: IssuedCertificate, now: UnixTime) throws(CertificateError) {
        let all = try load()
        if all.count >= Self.most {
            let kept = all.filter { $0.revoked != nil || $0.notAfter > now }
            guard kept.count < Self.most else {
                throw .refused("\(Self.most) certificates count already, the most that are kept")
            }
            try rewrite(kept)
        }
        try append([Event(issued: certificate)])
    }

    /// On disk when it returns. Those that were revoked before stay as they are.
    func revoke(_ serials: [SerialNumber], now: UnixTime) throws(CertificateError) {
        try append(serials.map { Event(revoked: $0, at: now) })
    }

    private func rewrite(_ all: [IssuedCertificate]) throws(CertificateError) {
        var bytes: [UInt8] = []
        for certificate in all { bytes += line(Event(issued: certificate)) }
        try replace(path, with: bytes, mode: 0o600)
    }

    private func append(_ events: [Event]) throws(CertificateError) {
        let lines = events.flatMap { line($0) }
        let isNew = unsafe access(path, F_OK) != 0
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .file(path, errno: errno) }
        defer { close(descriptor) }
        if isNew { try giveToOwner(of: directory(of: path), descriptor, path) }
        let end = try dropTornLine(descriptor)
        do throws(CertificateError) {
            try write(lines, to: descriptor, path)
            guard fsync(descriptor) == 0 else { throw .file(path, errno: errno) }
        } catch {
            _ = ftruncate(descriptor, end)
            throw error
        }
        if isNew { try synchronize(directory: directory(of: path)) }
    }

    /// Leaves the file's position at its end, which it returns.
    private func dropTornLine(_ descriptor: CInt) throws(CertificateError) -> off_t {
        let whole = try contents(of: path, limit: Self.largestFile) ?? []
        let end = whole.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        if end < whole.count, ftruncate(descriptor, off_t(end)) != 0 { throw .file(path, errno: errno) }
        guard lseek(descriptor, off_t(end), SEEK_SET) >= 0 else { throw .file(path, errno: errno) }
        return off_t(end)
    }

    private func line(_ event: Event) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(event) else { preconditionFailure("an event is plain JSON") }
        return Array(data) + [UInt8(ascii: "\n")]
    }
}
