/// A value beside a log line's message, by name.
package struct LogField: Sendable, Equatable {
    package enum Value: Sendable, Equatable {
        case text(String)
        /// A number or a truth value, as JSON writes it.
        case literal(String)
    }

    package let name: String
    package let value: Value

    package init(_ name: String, _ value: Value) {
        self.name = name
        self.value = value
    }

    package init(_ name: String, _ text: String) { self.init(name, .text(text)) }

    var text: String {
        switch value {
        case .text(let text), .literal(let text): text
        }
    }
}

/// How a log line looks: `1700000000: session taken over (client=kitchen, from=192.0.2.7)`. Fields come from outside as
/// often as not; nothing in them can end a line, look like another field, or steer a terminal.
package enum LogLine {
    /// The message with its fields, without a time: in Mosquitto's words where it has some, so that what people search
    /// for is still found.
    package static func text(_ message: String, _ fields: [LogField]) -> String {
        if let words = Wording.text(message, fields) { return words }
        let message = escaped(message)
        guard !fields.isEmpty else { return message }
        return "\(message) (\(fields.map { "\(escaped($0.name))=\(quoted($0.text))" }.joined(separator: ", ")))"
    }

    /// One JSON object (RFC 8259): the time, the kind, the message, and the fields in their order.
    package static func json(_ kind: LogKind, _ message: String, _ fields: [LogField], at time: LogTime) -> String {
        var line = "{\"time\":\"\(time.rfc3339)\",\"level\":\"\(kind.rawValue)\",\"message\":\(string(message))"
        var used: Set<String> = ["time", "level", "message"]
        for field in fields {
            var name = field.name
            while !used.insert(name).inserted { name += "_" }
            line += ",\(string(name)):"
            switch field.value {
            case .text(let text): line += string(cut(text))
            case .literal(let literal): line += literal
            }
        }
        return line + "}"
    }

    /// Characters of a field; the rest is cut, so that nobody can make a line expensive.
    private static let fieldCharacters = 256

    static func cut(_ field: LogField) -> LogField {
        guard case .text(let text) = field.value else { return field }
        return LogField(field.name, cut(text))
    }

    private static func cut(_ whole: String) -> String {
        let fits = whole.unicodeScalars.dropFirst(fieldCharacters).isEmpty
        return fits ? whole : String(whole.unicodeScalars.prefix(fieldCharacters)) + "..."
    }

    /// In quotation marks where the bare value could be read as something else.
    static func quoted(_ whole: String) -> String {
        let value = cut(whole)
        let isBare = !value.isEmpty && !value.utf8.contains { " ,=()\"".utf8.contains($0) }
        return isBare ? escaped(value) : "\"\(escaped(value, alsoEscaping: "\""))\""
    }

    /// For a value that has marks of its own around it, or stands at the end of a line.
    static func bare(_ whole: String, alsoEscaping mark: Unicode.Scalar? = nil) -> String {
        escaped(cut(whole), alsoEscaping: mark)
    }

    /// What is not seen is written `\xNN`, a byte of its UTF-8 at a time; a backslash is doubled.
    private static func escaped(_ text: String, alsoEscaping mark: Unicode.Scalar? = nil) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case _ where scalar == mark: result += "\\\(scalar)"
            case _ where isVisible(scalar): result.unicodeScalars.append(scalar)
            default: for byte in String(scalar).utf8 { result += "\\x" + hexadecimal(byte) }
            }
        }
        return result
    }

    /// A JSON string. What is not seen is escaped here too, for people read these lines on terminals.
    private static func string(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case _ where isVisible(scalar): result.unicodeScalars.append(scalar)
            default:
                for unit in String(scalar).utf16 {
                    result += "\\u" + hexadecimal(UInt8(unit >> 8)) + hexadecimal(UInt8(truncatingIfNeeded: unit))
                }
            }
        }
        return result + "\""
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
