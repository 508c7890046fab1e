internal import JSON

/// `blocked_versions.json` of a model: what no device gets any more. Administrators may edit it; members that are not ours stay.
package struct BlockedVersions: Equatable, Sendable {
    /// Of the file, in bytes.
    static let most = 1 << 20

    private var members: [String: JSONValue] = [:]
    /// Why each is blocked; empty where nobody has said.
    package private(set) var reasons: [FirmwareVersion: String] = [:]

    package init() {}

    /// Nil: it is no object with a list `blocked_versions` of versions, and perhaps an object `reason` of texts.
    package init?(parsing bytes: [UInt8]) {
        guard let members = JSONValue(parsing: bytes)?.object, let versions = members["blocked_versions"]?.array,
            let reasons = (members["reason"] ?? .object([:])).object
        else { return nil }
        self.members = members
        // With a `v` or without, here and there.
        let said = Dictionary(
            reasons.compactMap { text, reason in FirmwareVersion(text).map { ($0, reason.string ?? "") } },
            uniquingKeysWith: { $1.isEmpty ? $0 : $1 })
        for version in versions {
            guard let text = version.string, let name = FirmwareVersion(text) else { return nil }
            self.reasons[name] = said[name] ?? ""
        }
    }

    package func contains(_ version: FirmwareVersion) -> Bool { reasons[version] != nil }

    package mutating func block(_ version: FirmwareVersion, _ reason: String) { reasons[version] = reason }
    package mutating func unblock(_ version: FirmwareVersion) { reasons[version] = nil }

    package var bytes: [UInt8] {
        var members = members
        let names = reasons.keys.map(\.name).sorted()
        members["blocked_versions"] = .array(names.map { .string($0) })
        let said = reasons.filter { !$0.value.isEmpty }
        members["reason"] = .object(
            Dictionary(uniqueKeysWithValues: said.map { ($0.key.name, JSONValue.string($0.value)) }))
        return Array(JSONValue.object(members).text.utf8) + [UInt8(ascii: "\n")]
    }
}
