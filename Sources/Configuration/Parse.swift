// The mosquitto.conf dialect: `key value` lines. Lines end with LF or CRLF, blanks are spaces and tabs, a line whose
// first visible byte is `#` is a comment, a value runs to the end of its line without the blanks around it.

extension Configuration {
    /// How the files of an `include_dir` are reached: the caller's, so that parsing touches no disk.
    package struct IncludedFiles: Sendable {
        /// The names in a directory, in any order. What it throws is told at the line with `include_dir`.
        package var names: @Sendable (_ directory: String) throws(ConfigurationError) -> [String]
        /// The bytes of a file.
        package var bytes: @Sendable (_ path: String) throws(ConfigurationError) -> [UInt8]

        package init(
            names: @escaping @Sendable (_ directory: String) throws(ConfigurationError) -> [String],
            bytes: @escaping @Sendable (_ path: String) throws(ConfigurationError) -> [UInt8]
        ) {
            self.names = names
            self.bytes = bytes
        }

        /// For text that comes from no directory.
        package static let unavailable = IncludedFiles(
            names: { (directory) throws(ConfigurationError) -> [String] in
                throw ConfigurationError(file: directory, reason: "there are no directories here")
            },
            bytes: { (path) throws(ConfigurationError) -> [UInt8] in
                throw ConfigurationError(file: path, reason: "there are no files here")
            })
    }

    /// Reads the bytes of `file`, whose name serves only errors and warnings.
    package static func parse(
        _ bytes: [UInt8], file: String, including files: IncludedFiles = .unavailable
    ) throws(ConfigurationError) -> Configuration {
        var reader = Reader(settings: Settings(), files: files)
        try reader.read(bytes, file: file, isMain: true)
        return try reader.settings.finished()
    }

    /// With `MARTLET_<KEY>` in place of the global keys; a value replaces every line of the file with that key.
    /// The names that the tests use themselves, `MARTLET_BINARY` and `MARTLET_TEST_...`, are passed over.
    package func applying(
        environment: [String: String]
    ) throws(ConfigurationError) -> Configuration {
        var settings = Settings(overriding: self)
        // Sorted, so that of several errors always the same one is told.
        for name in environment.keys.sorted() {
            guard name.hasPrefix("MARTLET_"), name != "MARTLET_BINARY", !name.hasPrefix("MARTLET_TEST_"),
                let text = environment[name]
            else { continue }
            settings.move(to: printable(name), line: nil)
            do throws(Problem) {
                let key = String(name.dropFirst("MARTLET_".count)).lowercased()
                try settings.set(global: key, to: Lines.text(Array(text.utf8)[...], of: "'\(printable(key))'"))
            } catch {
                throw ConfigurationError(file: printable(name), reason: error.reason)
            }
        }
        return try settings.finished()
    }
}

/// Goes through a file, and the files that it includes.
private struct Reader {
    var settings: Settings
    let files: Configuration.IncludedFiles

    mutating func read(_ bytes: [UInt8], file: String, isMain: Bool) throws(ConfigurationError) {
        var number = 0
        for line in Lines.split(bytes) {
            number += 1
            settings.move(to: file, line: number)
            var directory: String?
            do throws(Problem) {
                guard let (name, text) = try Lines.keyAndValue(of: line) else { continue }
                if name == Configuration.Key.includeDir.rawValue {
                    directory = try settings.directoryToInclude(text, isMain: isMain)
                } else {
                    try settings.set(name, to: text)
                }
            } catch {
                throw ConfigurationError(file: file, line: number, reason: error.reason)
            }
            if let directory { try include(directory, file: file, line: number) }
        }
    }

    private mutating func include(_ directory: String, file: String, line: Int) throws(ConfigurationError) {
        let names: [String]
        do throws(ConfigurationError) {
            names = try files.names(directory)
        } catch {
            throw ConfigurationError(
                file: file, line: line, reason: "'include_dir' \(printable(directory)): \(error.reason)")
        }
        let listener = settings.current
        for name in Self.configurationFiles(names) {
            settings.current = nil  // Each file begins above its first listener.
            let path = directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
            try read(files.bytes(path), file: path, isMain: false)
        }
        settings.current = listener
    }

    /// In Mosquitto's order: by letters whatever their case, of the same letters the capital first.
    static func configurationFiles(_ names: [String]) -> [String] {
        let order = { (name: String) in
            name.utf8.map { byte in
                let isSmall = (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                return (isSmall ? byte & 0xDF : byte, byte)
            }
        }
        return names.filter { $0.hasSuffix(".conf") && $0.utf8.count > ".conf".utf8.count }
            .sorted { order($0).lexicographicallyPrecedes(order($1), by: <) }
    }
}

/// What a line is.
enum Lines {
    /// An editor's byte order mark in front is not part of the first.
    static func split(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        return (bytes.starts(with: mark) ? bytes[mark.count...] : bytes[...])
            .split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    }

    /// Nil for an empty line and for a comment, whose bytes may be anything.
    static func keyAndValue(of line: ArraySlice<UInt8>) throws(Problem) -> (String, String)? {
        let isCRLF = line.last == UInt8(ascii: "\r")
        let line = trimmed(isCRLF ? line.dropLast() : line)
        guard !line.isEmpty, line.first != UInt8(ascii: "#") else { return nil }
        let key = line.prefix { !isBlank($0) }
        let name = try text(key, of: "a key")
        return (name, try text(line[key.endIndex...], of: "'\(printable(name))'"))
    }

    static func text(_ bytes: ArraySlice<UInt8>, of what: String) throws(Problem) -> String {
        let bytes = trimmed(bytes)
        guard !bytes.contains(0) else { throw Problem("\(what) takes text, without NUL bytes") }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw Problem("\(what) takes UTF-8") }
        guard !bytes.contains(where: { $0 < 0x20 && !isBlank($0) || $0 == 0x7F }) else {
            throw Problem("\(what) takes text, without control characters")
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

extension Character {
    var isBlank: Bool { self == " " || self == "\t" }
}
