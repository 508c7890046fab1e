package import HTTPTypes

/// The body of an error (RFC 9457). `code` is for programs, `detail` for people; `success` and `message` are what older
/// clients read.
package func problemDocument(_ status: HTTPResponse.Status, code: String, detail: String) -> [UInt8] {
    let title = status.reasonPhrase.isEmpty ? "Error" : status.reasonPhrase
    return Array(
        """
        {"type":"about:blank","title":\(quoted(title)),"status":\(status.code),"detail":\(quoted(detail)),\
        "code":\(quoted(code)),"success":false,"message":\(quoted(detail))}
        """.utf8)
}

/// As JSON writes a string (RFC 8259, 7).
private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"", "\\": result += "\\\(scalar)"
        case "\u{0}"..."\u{1F}":
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
