/// Why a configuration cannot be used, and where that stands.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    /// The file as the caller named it, or the environment variable.
    package let file: String
    /// Counted from 1; nil where the whole file, or no file, is meant.
    package let line: Int?
    /// Ready for a person, on one line.
    package let reason: String

    package init(file: String, line: Int? = nil, reason: String) {
        self.file = file
        self.line = line
        self.reason = reason
    }

    /// The one line `FILE:LINE: reason`.
    package var description: String {
        if let line { "\(file):\(line): \(reason)" } else { "\(file): \(reason)" }
    }
}

/// What somebody should know about a configuration that can be used all the same: for the log, and for `check-config`.
package struct ConfigurationWarning: Sendable, Equatable, CustomStringConvertible {
    /// As in `ConfigurationError`.
    package let file: String
    package let line: Int?
    package let reason: String

    package init(file: String, line: Int? = nil, reason: String) {
        self.file = file
        self.line = line
        self.reason = reason
    }

    /// The one line `FILE:LINE: warning: reason`.
    package var description: String {
        if let line { "\(file):\(line): warning: \(reason)" } else { "\(file): warning: \(reason)" }
    }
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
    return scalars.joined() + (word.unicodeScalars.dropFirst(longest).isEmpty ? "" : "...")
}
