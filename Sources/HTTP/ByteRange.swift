package import HTTPTypes

/// What a client wants of a body (RFC 9110, 14.2).
package enum ByteRange: Equatable, Sendable {
    case whole
    case part(Range<Int>)
    /// 416: it begins behind the end.
    case unsatisfiable

    /// Of a body of `length` bytes. One range only: several, and what can't be read, count as none, which a server may do. The
    /// end is cut off where it lies behind the body's.
    package init(_ fields: HTTPFields, of length: Int, eTag: String?, lastModified: String? = nil) {
        self = .whole
        guard let value = fields[.range]?.lowercased(), value.hasPrefix("bytes="),
            Self.isCurrent(fields[.ifRange], eTag, lastModified)
        else { return }
        let bounds = value.dropFirst("bytes=".count).split(separator: "-", omittingEmptySubsequences: false)
        guard bounds.count == 2 else { return }
        let (first, last) = (Self.number(bounds[0]), Self.number(bounds[1]))
        guard bounds[0].isEmpty || first != nil, bounds[1].isEmpty || last != nil else { return }
        switch (first, last) {
        case (nil, let count?):
            self = count == 0 || length == 0 ? .unsatisfiable : .part(max(0, length - count)..<length)
        case (let first?, let last):
            guard last ?? first >= first else { return }
            self = first >= length ? .unsatisfiable : .part(first..<(min(last ?? length, length - 1) + 1))
        case (nil, nil): return
        }
    }

    /// RFC 9110, 13.1.5: a strong comparison, so a weak tag never matches.
    private static func isCurrent(_ condition: String?, _ eTag: String?, _ lastModified: String?) -> Bool {
        guard let condition else { return true }
        if condition.hasPrefix("\"") { return condition == eTag }
        return condition == lastModified
    }

    /// Digits only; what is too large for a number is larger than any body.
    private static func number(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy(\.isDigit) else { return nil }
        return Int(text) ?? Int.max - 1
    }
}

/// Whether a client has it already (RFC 9110, 13.1.2): the tags of `If-None-Match`, compared weakly.
package func isUnchanged(_ fields: HTTPFields, eTag: String) -> Bool {
    guard let condition = fields[.ifNoneMatch] else { return false }
    let plain = eTag.hasPrefix("W/") ? String(eTag.dropFirst(2)) : eTag
    return condition.split(separator: ",").contains { part in
        let tag = part.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()
        let text = String(tag)
        return text == "*" || (text.hasPrefix("W/") ? String(text.dropFirst(2)) : text) == plain
    }
}

extension Response {
    /// Something that lies there whole: the part of it that a GET or HEAD asks for, or that the client has it already.
    package static func content(
        _ bytes: [UInt8], type: String, eTag: String, for request: Request, _ fields: HTTPFields = [:]
    ) -> Response {
        content(ofLength: bytes.count, type: type, eTag: eTag, for: request, fields) { part in
            .bytes(part.count == bytes.count ? bytes : Array(bytes[part]))
        }
    }

    /// The same of an open file with `size` bytes.
    package static func content(
        ofFile file: any ServedFile, size: Int, type: String, eTag: String, for request: Request,
        _ fields: HTTPFields = [:]
    ) -> Response {
        content(ofLength: size, type: type, eTag: eTag, for: request, fields) { .file(FileBody(file, $0)) }
    }

    private static func content(
        ofLength length: Int, type: String, eTag: String, for request: Request, _ fields: HTTPFields,
        body: (Range<Int>) -> Body
    ) -> Response {
        var fields = fields
        fields[.eTag] = eTag
        fields[.acceptRanges] = "bytes"
        guard !isUnchanged(request.fields, eTag: eTag) else { return Response(.notModified, fields) }
        fields[.contentType] = type
        // RFC 9110, 14.2: ranges are for GET.
        let range = request.method == .get ? ByteRange(request.fields, of: length, eTag: eTag) : .whole
        switch range {
        case .whole: return Response(.ok, fields, body: body(0..<length))
        case .part(let part):
            fields[.contentRange] = "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(length)"
            return Response(.partialContent, fields, body: body(part))
        case .unsatisfiable:
            fields[.contentRange] = "bytes */\(length)"
            fields[.contentType] = nil
            return Response(.rangeNotSatisfiable, fields)
        }
    }
}
