/// With its `%XX` decoded (RFC 3986, 2.1). Nil: one of them is none, or the bytes are no UTF-8.
package func percentDecoded(_ text: some StringProtocol, plusIsSpace: Bool = false) -> String? {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") }) else { return String(text) }
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
        if byte == UInt8(ascii: "+"), plusIsSpace {
            bytes.append(UInt8(ascii: " "))
            continue
        }
        guard byte == UInt8(ascii: "%") else {
            bytes.append(byte)
            continue
        }
        let digits = rest.prefix(2)
        guard digits.count == 2, digits.allSatisfy(\.isHexadecimal),
            let value = UInt8(String(decoding: Array(digits), as: UTF8.self), radix: 16)
        else { return nil }
        bytes.append(value)
        rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
}

/// The parameters of a query, in order (WHATWG URL, 5.1). Nil: it can't be read.
package func queryParameters(_ query: some StringProtocol) -> [(name: String, value: String)]? {
    var result: [(String, String)] = []
    for part in query.split(separator: "&") {
        let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = percentDecoded(pair[0], plusIsSpace: true),
            let value = percentDecoded(pair.count == 2 ? pair[1] : "", plusIsSpace: true)
        else { return nil }
        result.append((name, value))
    }
    return result
}
