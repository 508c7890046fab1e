import Configuration
import Foundation
import Testing

/// Files as people write them, under `Samples`. The first line of each says what becomes of it: `# ok`, `# warnings N`,
/// `# refused LINE TEXT` or `# refused FILE:LINE TEXT`, where TEXT begins the reason.
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

    static func verdict(_ name: String) throws -> String {
        let bytes = try bytes(name)
        do throws(ConfigurationError) {
            let configuration = try Configuration.parse(bytes, file: name, including: included)
                .applying(environment: [:])
            let count = configuration.warnings.count
            return count == 0 ? "ok" : "warnings \(count)"
        } catch {
            let place = error.file == name ? "" : "\(error.file):"
            return "refused \(place)\(error.line.map { "\($0)" } ?? "") \(error.reason)"
        }
    }

    /// What the file says of itself.
    static func expected(_ name: String) throws -> String {
        // Not by characters: CR LF is one.
        let line = try bytes(name).prefix { $0 != UInt8(ascii: "\n") }
        let text = String(decoding: line, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        return String(text.drop { $0 != "#" }.dropFirst(2))
    }
}

@Suite struct `A configuration as people write it` {
    @Test func `is there at least forty times`() {
        #expect(Sample.names.count >= 40)
    }

    @Test(arguments: Sample.names) func `is accepted, warned about or refused`(_ name: String) throws {
        let expected = try Sample.expected(name)
        let verdict = try Sample.verdict(name)
        #expect(expected.hasPrefix("refused ") ? verdict.hasPrefix(expected) : verdict == expected)
    }
}
