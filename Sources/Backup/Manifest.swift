internal import Cryptography

/// What a backup has, and how each file can be known again: its last file, as text. The lines about files are what
/// `sha256sum` writes, so that `sha256sum -c MANIFEST` checks what `tar xf` has unpacked; the others are comments to it.
package struct Manifest: Equatable, Sendable {
    package struct File: Equatable, Sendable {
        package var name: String
        /// Small hexadecimal digits.
        package var sha256: String

        package init(name: String, sha256: String) {
            self.name = name
            self.sha256 = sha256
        }
    }

    package static let fileName = "MANIFEST"
    /// The newest that this Martlet can read. What stands around a manifest, and its first line, stay as they are.
    package static let newestFormat = 1
    /// Files of one backup.
    package static let mostFiles = 200_000
    /// Bytes of it: so many files with the longest names, and the lines above them.
    package static let longest = mostFiles * (64 + 2 + TarHeader.longestName + 1) + 1024

    package var format: Int
    /// The version of the Martlet that wrote it.
    package var martlet: String
    /// RFC 3339, UTC.
    package var created: String
    package var files: [File]

    package init(format: Int = newestFormat, martlet: String, created: String, files: [File]) {
        self.format = format
        self.martlet = martlet
        self.created = created
        self.files = files
    }

    package var text: String {
        (["# martlet-backup \(format)", "# martlet \(martlet)", "# created \(created)"]
            + files.map { "\($0.sha256)  \($0.name)" })
            .map { $0 + "\n" }.joined()
    }
}

/// Why a manifest can't be used.
package enum ManifestProblem: Error, Equatable {
    /// A later format, and who wrote it.
    case newer(format: Int, martlet: String?)
    /// Counted from 1.
    case malformed(line: Int)
}

extension Manifest {
    package init(parsing bytes: [UInt8]) throws(ManifestProblem) {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard lines.popLast()?.isEmpty == true, lines.count <= Self.mostFiles + 3 else {
            throw .malformed(line: lines.count + 1)
        }
        func comment(_ index: Int, _ key: String) throws(ManifestProblem) -> String {
            guard index < lines.count, let text = String(validating: lines[index], as: UTF8.self),
                text.hasPrefix("# \(key) "), text.utf8.count <= 200, !text.utf8.contains(where: { $0 < 0x20 })
            else { throw .malformed(line: index + 1) }
            return String(text.dropFirst(key.count + 3))
        }
        guard let format = Int(try comment(0, "martlet-backup")), format > 0 else { throw .malformed(line: 1) }
        guard format <= Self.newestFormat else { throw .newer(format: format, martlet: try? comment(1, "martlet")) }
        (martlet, created) = (try comment(1, "martlet"), try comment(2, "created"))
        self.format = format
        files = []
        files.reserveCapacity(lines.count - 3)
        for (index, line) in lines.enumerated().dropFirst(3) {
            guard let text = String(validating: line, as: UTF8.self), text.utf8.count > 66 else {
                throw .malformed(line: index + 1)
            }
            let (digest, rest) = (text.utf8.prefix(64), text.utf8.dropFirst(64))
            guard digest.allSatisfy(isSmallHexadecimal), rest.starts(with: "  ".utf8),
                let name = String(rest.dropFirst(2)), TarHeader.isSafe(name), let sha256 = String(digest)
            else { throw .malformed(line: index + 1) }
            files.append(File(name: name, sha256: sha256))
        }
    }
}

private func isSmallHexadecimal(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
}

func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
