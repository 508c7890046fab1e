/// How a log line looks: `1700000000: session taken over (client=kitchen, from=192.0.2.7)`. Fields come from outside as
/// often as not; nothing in them can end a line, look like another field, or steer a terminal.
package enum LogLine {
    package static func text(unixSeconds: Int, _ message: String, _ fields: [(name: String, value: String)]) -> String {
        let line = "\(unixSeconds): \(escaped(message))"
        guard !fields.isEmpty else { return line }
        let list = fields.map { "\(escaped($0.name))=\(quoted($0.value))" }.joined(separator: ", ")
        return "\(line) (\(list))"
    }

    /// Characters of a field; the rest is cut, so that nobody can make a line expensive.
    private static let fieldCharacters = 256

    /// In quotation marks where the bare value could be read as something else.
    private static func quoted(_ whole: String) -> String {
        let fits = whole.unicodeScalars.dropFirst(fieldCharacters).isEmpty
        let value = fits ? whole : String(whole.unicodeScalars.prefix(fieldCharacters)) + "..."
        let isBare = !value.isEmpty && !value.utf8.contains { " ,=()\"".utf8.contains($0) }
        return isBare ? escaped(value) : "\"\(escaped(value, quote: true))\""
    }

    /// What is not seen is written `\xNN`, a byte of its UTF-8 at a time; a backslash is doubled.
    private static func escaped(_ text: String, quote: Bool = false) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\"" where quote: result += "\\\""
            case _ where isVisible(scalar): result.unicodeScalars.append(scalar)
            default: for byte in String(scalar).utf8 { result += "\\x" + hexadecimal(byte) }
            }
        }
        return result
    }

    private static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return (0x20..<0x7F).contains(scalar.value) }
        return switch scalar.properties.generalCategory {
        // Format holds the marks that turn the direction of what follows them.
        case .control, .format, .lineSeparator, .paragraphSeparator, .spaceSeparator: false
        case .privateUse, .surrogate, .unassigned: false
        default: true
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16)
        return byte < 16 ? "0" + digits : digits
    }
}
