import Configuration
import Foundation
import Testing

/// Files as people write them, under `Samples`. The first line of each says what becomes of it: `# ok`, `# warnings N`,
/// `# refused LINE TEXT` or `# refused FILE:LINE TEXT`, where TEXT begins the reason. A second line `# once built: ...`
/// says what it comes to when every key is honoured, where that is something else.
enum Sample {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Samples")

    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [])
        .filter { $0.hasSuffix(".conf") }.sorted()

    static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: folder.appending(path: name)))
    }

    /// The files that samples include; the folder takes the place of the root.
    static var included: Configuration.IncludedFiles {
        Configuration.IncludedFiles(
            names: { (directory) throws(ConfigurationError) -> [String] in
                do {
                    return try FileManager.default.contentsOfDirectory(atPath: folder.path + directory)
                } catch {
                    throw ConfigurationError(file: directory, reason: "No such file or directory")
                }
            },
            bytes: { (path) throws(ConfigurationError) -> [UInt8] in
                guard let data = FileManager.default.contents(atPath: folder.path + path) else {
                    throw ConfigurationError(file: path, reason: "No such file or directory")
                }
                return Array(data)
            })
    }

    static func verdict(_ name: String, _ support: Configuration.Support) throws -> String {
        let bytes = try bytes(name)
        do throws(ConfigurationError) {
            let configuration = try Configuration.parse(bytes, file: name, including: included, support: support)
                .applying(environment: [:], support: support)
            let count = configuration.warnings.count
            return count == 0 ? "ok" : "warnings \(count)"
        } catch {
            let place = error.file == name ? "" : "\(error.file):"
            return "refused \(place)\(error.line.map { "\($0)" } ?? "") \(error.reason)"
        }
    }

    /// What the file says of itself.
    static func expected(_ name: String, _ support: Configuration.Support) throws -> String {
        // Not by characters: CR LF is one.
        let lines = try bytes(name).split(separator: UInt8(ascii: "\n"), maxSplits: 2)
            .map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines) }
        let today = String((lines.first ?? "").drop { $0 != "#" }.dropFirst(2))
        let mark = "# once built: "
        guard support == .everything, lines.count > 1, lines[1].hasPrefix(mark) else { return today }
        return String(lines[1].dropFirst(mark.count))
    }
}

@Suite struct `A configuration as people write it` {
    @Test func `is there at least forty times`() {
        #expect(Sample.names.count >= 40)
    }

    @Test(arguments: Sample.names) func `is accepted, warned about or refused`(_ name: String) throws {
        try expect(name, .built)
    }

    @Test(arguments: Sample.names) func `comes to this when every key is honoured`(_ name: String) throws {
        try expect(name, .everything)
    }

    private func expect(_ name: String, _ support: Configuration.Support) throws {
        let expected = try Sample.expected(name, support)
        let verdict = try Sample.verdict(name, support)
        #expect(expected.hasPrefix("refused ") ? verdict.hasPrefix(expected) : verdict == expected)
    }
}
