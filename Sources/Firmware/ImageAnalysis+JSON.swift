internal import Cryptography
package import JSON

extension ImageAnalysis {
    /// For programs; hashes in hexadecimal, addresses as numbers.
    package var json: JSONValue {
        var members: [String: JSONValue] = [
            "kind": .string(kind.name), "description": .string(kind.description), "bytes": .integer(Int64(bytes)),
            "sha256": .string(hexadecimal(digest)), "isSound": .bool(isSound),
            "version": .optional(version?.text), "declaredVersion": .optional(declaredVersion?.text),
            "signature": signature?.json ?? .null, "detachedSignature": detachedSignature?.json ?? .null,
            "findings": .array(findings.map(\.json)),
        ]
        if let layout { members["image"] = image(layout) }
        if let descriptor { members["descriptor"] = descriptor.json }
        return .object(members)
    }

    private func image(_ layout: ImageLayout) -> JSONValue {
        let header = layout.header
        var members: [String: JSONValue] = [
            "chip": .string(header.chipName), "chipNumber": .integer(Int64(header.chipNumber)),
            "minimumRevision": .integer(Int64(header.minimumRevision)),
            "maximumRevision": header.maximumRevision.map { .integer(Int64($0)) } ?? .null,
            "flashMode": .optional(header.flashModeName),
            "flashDivider": header.flashDivider.map { .integer(Int64($0)) } ?? .null,
            "flashBytes": header.flashBytes.map { .integer(Int64($0)) } ?? .null,
            "entry": .integer(Int64(header.entry)), "segments": .array(layout.segments.map(\.json)),
            "end": layout.ending.map { .integer(Int64($0.end)) } ?? .null,
        ]
        if let checksum {
            members["checksum"] = ["stored": .integer(Int64(checksum.stored)), "isRight": .bool(checksum.isRight)]
        }
        if let hash { members["hash"] = ["stored": .string(hexadecimal(hash.stored)), "isRight": .bool(hash.isRight)] }
        return .object(members)
    }
}

extension Segment {
    fileprivate var json: JSONValue {
        [
            "address": .integer(Int64(address)), "offset": .integer(Int64(data.lowerBound)),
            "bytes": .integer(Int64(data.count)), "isMapped": .bool(isMapped),
        ]
    }
}

extension AppDescriptor {
    fileprivate var json: JSONValue {
        [
            "version": .string(version), "project": .string(project), "time": .string(time), "date": .string(date),
            "idf": .string(frameworkVersion), "elfSha256": .string(hexadecimal(elfDigest)),
            "secureVersion": .integer(Int64(secureVersion)),
            "minimumBlockRevision": .integer(Int64(minimumBlockRevision)),
            "maximumBlockRevision": maximumBlockRevision.map { .integer(Int64($0)) } ?? .null,
            "pageBytes": pageBytes.map { .integer(Int64($0)) } ?? .null, "isArduino": .bool(isArduino),
        ]
    }
}

extension ImageSignature {
    fileprivate var json: JSONValue {
        [
            "scheme": .string(scheme.rawValue), "state": .string(state.name),
            "blocks": .array(
                blocks.map { block in
                    [
                        "kind": .optional(block.kind), "keyDigest": .optional(block.keyDigest.map(hexadecimal)),
                        "state": .string(block.state.name),
                    ]
                }),
        ]
    }
}

extension DetachedSignature {
    fileprivate var json: JSONValue {
        switch self {
        case .trusted(let kind): ["state": "trusted", "kind": .string(kind)]
        case .broken: ["state": "broken"]
        case .unchecked: ["state": "unchecked"]
        }
    }
}

extension Finding {
    fileprivate var json: JSONValue {
        ["severity": .string(severity.rawValue), "code": .string(code.rawValue), "text": .string(text)]
    }
}
