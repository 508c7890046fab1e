internal import Cryptography

extension ImageAnalysis {
    /// For a terminal, a line each: what it is, then the findings.
    package var lines: [String] {
        var rows: [(String, String)] = [
            ("file", kind.description), ("bytes", "\(bytes)"), ("sha256", hexadecimal(digest)),
        ]
        if let version { rows.append(("version", "\(version)\(declaredVersion == nil ? "" : " (declared)")")) }
        if let descriptor { rows += descriptor.rows }
        if let layout { rows += layout.rows }
        if let checksum {
            rows.append(("checksum", "\(address(checksum.stored, digits: 2)), \(checksum.isRight ? "right" : "wrong")"))
        }
        if let hash { rows.append(("hash", "\(hexadecimal(hash.stored)), \(hash.isRight ? "right" : "wrong")")) }
        if layout?.ending != nil { rows += signature?.blocks.map { ("signature", $0.text) } ?? [("signature", "none")] }
        if let detachedSignature { rows.append(("detached", detachedSignature.text)) }
        let width = 16
        return rows.map { $0 + String(repeating: " ", count: max(1, width - $0.count)) + $1 }
            + findings.map { "\($0.severity.rawValue): \($0.text) [\($0.code.rawValue)]" }
    }
}

extension ImageSignature.Block {
    fileprivate var text: String {
        var parts = [kind, keyDigest.map { "key \(hexadecimal($0))" }].compactMap { $0 }
        parts.append(state.name.replacing("_", with: " "))
        return parts.joined(separator: ", ")
    }
}

extension ImageSignature.State {
    /// For programs; stays what it is.
    var name: String {
        switch self {
        case .trusted: "trusted"
        case .unknownKey: "unknown_key"
        case .broken: "broken"
        }
    }
}

extension DetachedSignature {
    fileprivate var text: String {
        switch self {
        case .trusted(let kind): "\(kind), trusted"
        case .broken: "broken"
        case .unchecked: "unchecked"
        }
    }
}

extension AppDescriptor {
    fileprivate var rows: [(String, String)] {
        var blocks = revisionText(minimumBlockRevision)
        if let most = maximumBlockRevision { blocks += " to \(revisionText(most))" }
        return [
            ("project", isArduino ? "\(project) (Arduino)" : project), ("calls itself", version),
            ("built", "\(date) \(time), ESP-IDF \(frameworkVersion)"), ("elf sha256", hexadecimal(elfDigest)),
            ("secure version", "\(secureVersion)"), ("eFuse blocks", blocks),
            ("MMU pages", pageBytes.map { "\($0 >> 10) KB" } ?? "unknown"),
        ]
    }
}

extension ImageLayout {
    fileprivate var rows: [(String, String)] {
        var chip = "\(header.chipName), from \(revisionText(header.minimumRevision))"
        if let most = header.maximumRevision { chip += " to \(revisionText(most))" }
        let flash = [
            header.flashModeName ?? "mode \(header.flashMode)",
            header.flashDivider.map { "clock / \($0)" } ?? "speed \(header.flashSpeed)",
            header.flashBytes.map(sizeText) ?? "size \(header.flashSize)",
        ]
        let parts = segments.enumerated().map { number, segment in
            let use = segment.isMapped ? ", mapped" : segment.address == 0 ? ", padding" : ""
            let place = "\(bytesText(segment.data.count)) at \(address(segment.data.lowerBound))"
            return ("segment \(number)", "\(address(segment.address, digits: 8)), \(place)\(use)")
        }
        return [
            ("chip", chip), ("flash", flash.joined(separator: ", ")), ("entry", address(header.entry, digits: 8)),
        ] + parts
    }
}
