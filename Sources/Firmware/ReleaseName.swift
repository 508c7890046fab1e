/// One version of one model's firmware.
package struct ReleaseName: Hashable, Sendable, CustomStringConvertible {
    package let model: ModelName
    package let version: FirmwareVersion

    package init(model: ModelName, version: FirmwareVersion) {
        self.model = model
        self.version = version
    }

    /// Whose download this is: as `FirmwareURL` has it, without the query, and byte for byte. Nil: nobody's.
    package init?(downloadPath path: Substring) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, let model = ModelName(String(parts[2])), let version = FirmwareVersion(String(parts[3]))
        else { return nil }
        self.init(model: model, version: version)
        guard downloadPath == path else { return nil }
    }

    package var downloadPath: String { "/firmware/\(model)/\(version.name)/firmware.bin" }

    package var description: String { "\(model) \(version.name)" }
}
