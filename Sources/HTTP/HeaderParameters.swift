/// A field's value that is a word with parameters: `form-data; name="a"` (RFC 9110, 5.6.6). Nothing but what the grammar
/// allows, and no parameter twice.
struct HeaderParameters: Equatable {
    /// As a lower-case word: what the value is.
    let value: String
    private var parameters: [String: String] = [:]

    subscript(name: String) -> String? { parameters[name] }

    /// Nil: it can't be read.
    init?(_ text: some StringProtocol) {
        var rest = Array(text.utf8)[...]
        let word = rest.prefix { $0 != UInt8(ascii: ";") && !$0.isBlank }
        rest = rest.dropFirst(word.count)
        guard !word.isEmpty, word.allSatisfy({ $0.isTokenCharacter || $0 == UInt8(ascii: "/") }) else { return nil }
        value = String(decoding: word, as: UTF8.self).lowercased()
        while true {
            rest = rest.drop(while: \.isBlank)
            guard let separator = rest.popFirst() else { return }
            guard separator == UInt8(ascii: ";") else { return nil }
            rest = rest.drop(while: \.isBlank)
            guard let first = rest.first, first != UInt8(ascii: ";") else { continue }
            guard let (name, value) = Self.parameter(&rest), parameters.updateValue(value, forKey: name) == nil else {
                return nil
            }
        }
    }

    private static func parameter(_ rest: inout ArraySlice<UInt8>) -> (name: String, value: String)? {
        let name = rest.prefix(while: \.isTokenCharacter)
        rest = rest.dropFirst(name.count)
        guard !name.isEmpty, rest.popFirst() == UInt8(ascii: "=") else { return nil }
        let value: [UInt8]
        if rest.first == UInt8(ascii: "\"") {
            guard let quoted = quoted(&rest) else { return nil }
            value = quoted
        } else {
            value = Array(rest.prefix(while: \.isTokenCharacter))
            rest = rest.dropFirst(value.count)
            guard !value.isEmpty else { return nil }
        }
        guard let text = String(validating: value, as: UTF8.self) else { return nil }
        return (String(decoding: name, as: UTF8.self).lowercased(), text)
    }

    /// A backslash stands before a quotation mark or another backslash. Before anything else it is itself: there are clients
    /// that send `C:\path` as it is.
    private static func quoted(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
        let (mark, backslash) = (UInt8(ascii: "\""), UInt8(ascii: "\\"))
        var bytes: [UInt8] = []
        rest = rest.dropFirst()
        while let byte = rest.popFirst() {
            if byte == mark { return bytes }
            if byte == backslash, let next = rest.first, next == mark || next == backslash {
                bytes.append(next)
                rest = rest.dropFirst()
            } else {
                bytes.append(byte)
            }
        }
        return nil
    }
}
