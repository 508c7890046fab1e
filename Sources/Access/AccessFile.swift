/// Why a file about access cannot be used, and where that stands. Holds nothing secret of what the line says.
package struct AccessFileError: Error, Equatable, CustomStringConvertible {
    /// As the caller named it.
    package let file: String
    /// Counted from 1; nil where the whole file is meant.
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

/// What somebody should know about such a file that can be used all the same.
package struct AccessFileWarning: Sendable, Equatable, CustomStringConvertible {
    /// As in `AccessFileError`.
    package let file: String
    package let line: Int
    package let reason: String

    /// The one line `FILE:LINE: warning: reason`.
    package var description: String { "\(file):\(line): warning: \(reason)" }
}
