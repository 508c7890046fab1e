// The mosquitto.conf dialect: `key value` lines. Lines end with LF or CRLF, blanks are spaces and tabs, a line whose
// first visible byte is `#` is a comment, a value runs to the end of its line without the blanks around it.

extension Configuration {
    /// Reads the bytes of `file`, whose name serves only the error.
    package static func parse(_ bytes: [UInt8], file: String) throws(ConfigurationError) -> Configuration {
        var settings = Settings(.defaults())
        var number = 0
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            do throws(Settings.Problem) {
                guard let (key, value) = try keyAndValue(of: line) else { continue }
                try settings.set(key, to: value)
            } catch {
                throw ConfigurationError(file: file, line: number, reason: error.reason)
            }
        }
        return settings.configuration
    }

    /// With `MARTLET_<KEY>` in place of the global keys; a value replaces every line of the file with that key.
    /// The names that the tests use themselves, `MARTLET_BINARY` and `MARTLET_TEST_...`, are passed over.
    package func applying(environment: [String: String]) throws(ConfigurationError) -> Configuration {
        var settings = Settings(self)
        // Sorted, so that of several errors always the same one is told.
        for name in environment.keys.sorted() {
            guard name.hasPrefix("MARTLET_"), name != "MARTLET_BINARY", !name.hasPrefix("MARTLET_TEST_"),
                let text = environment[name]
            else { continue }
            do throws(Settings.Problem) {
                let value = try Self.text(Array(text.utf8)[...])
                try settings.set(global: String(name.dropFirst("MARTLET_".count)).lowercased(), to: value)
            } catch {
                throw ConfigurationError(file: printable(name), reason: error.reason)
            }
        }
        return settings.configuration
    }

    /// Nil for an empty line and for a comment, whose bytes may be anything.
    private static func keyAndValue(of line: ArraySlice<UInt8>) throws(Settings.Problem) -> (String, String)? {
        let isCRLF = line.last == UInt8(ascii: "\r")
        let line = trimmed(isCRLF ? line.dropLast() : line)
        guard !line.isEmpty, line.first != UInt8(ascii: "#") else { return nil }
        let key = line.prefix { !isBlank($0) }
        return (try text(key), try text(line[key.endIndex...]))
    }

    private static func text(_ bytes: ArraySlice<UInt8>) throws(Settings.Problem) -> String {
        let bytes = trimmed(bytes)
        guard !bytes.contains(0) else { throw Settings.Problem("a NUL byte") }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw Settings.Problem("not UTF-8") }
        guard !bytes.contains(where: { $0 < 0x20 && !isBlank($0) || $0 == 0x7F }) else {
            throw Settings.Problem("a control character")
        }
        return text
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let bytes = bytes.drop(while: isBlank)
        guard let last = bytes.lastIndex(where: { !isBlank($0) }) else { return [] }
        return bytes[...last]
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
}

/// Fits a word of the input into a line for a person: no control characters, and no end of the line out of sight.
func printable(_ word: some StringProtocol) -> String {
    let longest = 64
    let scalars = word.unicodeScalars.prefix(longest).map { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse: "\u{FFFD}"
        default: String(scalar)
        }
    }
    return scalars.joined() + (word.unicodeScalars.count > longest ? "..." : "")
}
