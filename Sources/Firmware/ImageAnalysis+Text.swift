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
        let width = 16
        return rows.map { $0 + String(repeating: " ", count: max(1, width - $0.count)) + $1 }
            + findings.map { "\($0.severity.rawValue): \($0.text) [\($0.code.rawValue)]" }
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
