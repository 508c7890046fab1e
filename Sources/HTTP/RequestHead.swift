package import HTTPTypes

/// What a request begins with (RFC 9112, 2 to 6). Strict: where two readers could disagree about what a request is, or where
/// it ends, it is refused.
package struct RequestHead: Sendable, Equatable {
    /// How the body is framed (RFC 9112, 6).
    package enum Framing: Sendable, Equatable {
        case none
        /// Bytes; not 0.
        case length(Int)
        case chunked
    }

    package var request: HTTPRequest
    /// HTTP/1.0 has neither chunks nor interim answers.
    package let isVersion10: Bool
    package let framing: Framing
    /// Whether the connection outlives the answer, if it is up to the client (RFC 9112, 9.3).
    package let keepsAlive: Bool
    /// The body comes when it is asked for (RFC 9110, 10.1.1).
    package let expectsContinue: Bool
    /// The protocols of `Upgrade`, in lower case, where `Connection` names it.
    package let upgrades: [String]

    /// As it was sent, without the query.
    package var path: Substring {
        let target = request.path ?? "/"
        return target[..<(target.utf8.firstIndex(of: UInt8(ascii: "?")) ?? target.endIndex)]
    }

    /// Where the head that begins at `start` ends, behind its empty line; nil: not all of it is there. `searched`: how far an
    /// earlier call has looked; it says so for the next one. Throws when it can't become one.
    package static func end(
        in bytes: Span<UInt8>, from start: Int, searched: inout Int
    ) throws(RequestRefusal) -> Int? {
        var index = max(start, searched - 3)
        let limit = min(bytes.count, start + HTTPLimits.headBytes)
        while index + 3 < limit {
            if bytes[index + 3] > 13 {
                index += 4
            } else if bytes[index] == 13, bytes[index + 1] == 10, bytes[index + 2] == 13, bytes[index + 3] == 10 {
                return index + 4
            } else {
                index += 1
            }
        }
        guard bytes.count - start < HTTPLimits.headBytes else {
            throw RequestRefusal(431, "a request's head has at most \(HTTPLimits.headBytes) bytes")
        }
        searched = index
        return nil
    }

    /// From a whole head, its empty line included.
    package init(parsing bytes: Span<UInt8>) throws(RequestRefusal) {
        var offset = 0
        let line = try RequestLine(bytes.line(at: &offset) ?? 0..<0, bytes)
        var fields = HTTPFields()
        while let range = try bytes.line(at: &offset), !range.isEmpty {
            guard fields.count < HTTPLimits.fields else {
                throw RequestRefusal(431, "a request has at most \(HTTPLimits.fields) fields")
            }
            fields.append(try Self.field(range, bytes))
        }
        isVersion10 = line.isVersion10
        let authority = try Self.authority(of: line, fields)
        framing = try Self.framing(fields, isVersion10: line.isVersion10)
        let options = fields[.connection].map(tokens) ?? []
        keepsAlive = line.isVersion10 ? options.contains("keep-alive") : !options.contains("close")
        expectsContinue = try Self.expectsContinue(fields) && !line.isVersion10 && framing != .none
        upgrades = options.contains("upgrade") && !line.isVersion10 ? fields[.upgrade].map(tokens) ?? [] : []
        fields[.hostField] = nil
        request = HTTPRequest(
            method: line.method, scheme: nil, authority: authority, path: line.path, headerFields: fields)
    }

    // MARK: - Fields

    private static func field(_ range: Range<Int>, _ bytes: Span<UInt8>) throws(RequestRefusal) -> HTTPField {
        guard let colon = range.first(where: { bytes[$0] == UInt8(ascii: ":") }), colon > range.lowerBound else {
            throw .malformed("a field is a name, ':' and a value")
        }
        let nameBytes = range.lowerBound..<colon
        guard nameBytes.allSatisfy({ bytes[$0].isTokenCharacter }),
            let name = HTTPField.Name(String(decoding: bytes.extracting(nameBytes).copied(), as: UTF8.self))
        else {
            // Also obs-fold (RFC 9112, 5.2), and a space before the colon (5.1).
            throw .malformed("a field's name has letters, digits and !#$%&'*+-.^_`|~ only")
        }
        var (first, last) = (colon + 1, range.upperBound)
        while first < last, bytes[first].isBlank { first += 1 }
        while last > first, bytes[last - 1].isBlank { last -= 1 }
        guard (first..<last).allSatisfy({ bytes[$0] >= 32 && bytes[$0] != 127 || bytes[$0] == 9 }) else {
            throw .malformed("the field \(name.canonicalName) has a control character")
        }
        return HTTPField(name: name, value: bytes.extracting(first..<last).copied())
    }

    /// RFC 9112, 3.2: where the request is for, from the target if that says so.
    private static func authority(
        of line: RequestLine, _ fields: HTTPFields
    ) throws(RequestRefusal) -> String? {
        let hosts = fields[values: .hostField]
        guard hosts.count == 1 || line.isVersion10 && hosts.isEmpty else {
            throw .malformed("a request has one Host field")
        }
        if let host = hosts.first, !host.isEmpty, HostAndPort(host) == nil {
            throw .malformed("Host is a name or an address, and perhaps a port")
        }
        return line.authority ?? hosts.first
    }

    /// RFC 9112, 6.3. What two readers could take for different lengths is how requests are smuggled.
    private static func framing(_ fields: HTTPFields, isVersion10: Bool) throws(RequestRefusal) -> Framing {
        let (codings, lengths) = (fields[values: .transferEncoding], fields[values: .contentLength])
        if !codings.isEmpty {
            guard lengths.isEmpty else { throw .malformed("Transfer-Encoding and Content-Length exclude each other") }
            guard !isVersion10 else { throw .malformed("HTTP/1.0 has no Transfer-Encoding") }
            // Not by lowercased(), which makes a 'k' of the Kelvin sign.
            guard codings.count == 1, codings[0].utf8.map({ $0 | 0x20 }) == Array("chunked".utf8) else {
                throw RequestRefusal(501, "'chunked' is the only Transfer-Encoding there is here")
            }
            return .chunked
        }
        guard !lengths.isEmpty else { return .none }
        guard lengths.count == 1, (1...18).contains(lengths[0].utf8.count),
            lengths[0].utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let length = Int(lengths[0])
        else { throw .malformed("Content-Length is one number") }
        return length == 0 ? .none : .length(length)
    }

    private static func expectsContinue(_ fields: HTTPFields) throws(RequestRefusal) -> Bool {
        guard let expectation = fields[.expect] else { return false }
        guard expectation.lowercased() == "100-continue" else {
            throw RequestRefusal(417, "'100-continue' is the only expectation that can be met")
        }
        return true
    }
}

/// The comma-separated words of a field's value, in lower case.
func tokens(_ value: String) -> [String] {
    value.split(separator: ",").map { word in
        String(word.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()).lowercased()
    }
}

extension Span where Element == UInt8 {
    /// The line at `offset` without its CR LF, neither of which it has within; steps past it. Nil behind the last.
    fileprivate func line(at offset: inout Int) throws(RequestRefusal) -> Range<Int>? {
        guard offset < count else { return nil }
        let start = offset
        while offset < count, self[offset] != 13 {
            guard self[offset] != 10, self[offset] != 0 else { throw .malformed("a line ends with CR LF") }
            offset += 1
        }
        guard offset + 1 < count, self[offset + 1] == 10 else { throw .malformed("a line ends with CR LF") }
        offset += 2
        return start..<(offset - 2)
    }
}

/// RFC 9112, 3.
private struct RequestLine {
    static let methodBytes = 24

    let method: HTTPRequest.Method
    /// The path and the query, or `*`.
    let path: String
    /// Of a target in absolute form.
    let authority: String?
    let isVersion10: Bool

    init(_ range: Range<Int>, _ bytes: Span<UInt8>) throws(RequestRefusal) {
        let spaces = range.filter { bytes[$0] == UInt8(ascii: " ") }
        guard spaces.count == 2 else {
            throw .malformed("a request line is a method, a target and a version, with a space between")
        }
        let name = range.lowerBound..<spaces[0]
        guard (1...Self.methodBytes).contains(name.count), name.allSatisfy({ bytes[$0].isTokenCharacter }),
            let method = HTTPRequest.Method(String(decoding: bytes.extracting(name).copied(), as: UTF8.self))
        else { throw .malformed("this is no method") }
        self.method = method
        isVersion10 = try Self.isVersion10(bytes.extracting((spaces[1] + 1)..<range.upperBound))
        let target = (spaces[0] + 1)..<spaces[1]
        guard target.count <= HTTPLimits.targetBytes else {
            throw RequestRefusal(414, "a target has at most \(HTTPLimits.targetBytes) bytes")
        }
        guard target.allSatisfy({ bytes[$0] > 32 && bytes[$0] < 127 && bytes[$0] != UInt8(ascii: "#") }) else {
            throw .malformed("a target has visible characters of ASCII only, and no '#'")
        }
        let text = String(decoding: bytes.extracting(target).copied(), as: UTF8.self)
        (authority, path) = try Self.parts(of: text, method)
    }

    private static func isVersion10(_ bytes: Span<UInt8>) throws(RequestRefusal) -> Bool {
        let text = String(decoding: bytes.copied(), as: UTF8.self)
        switch text {
        case "HTTP/1.1": return false
        case "HTTP/1.0": return true
        default:
            let isVersion = text.utf8.count == 8 && text.hasPrefix("HTTP/")
            throw isVersion
                ? RequestRefusal(505, "HTTP/1.1 and HTTP/1.0 are spoken here")
                : .malformed("this is no version of HTTP")
        }
    }

    /// RFC 9112, 3.2.
    private static func parts(
        of target: String, _ method: HTTPRequest.Method
    ) throws(RequestRefusal) -> (authority: String?, path: String) {
        if target.hasPrefix("/") { return (nil, target) }
        if target == "*", method == .options { return (nil, target) }
        guard method != .connect else { throw RequestRefusal(501, "this is no proxy") }
        let lower = target.lowercased()
        guard let scheme = ["http://", "https://"].first(where: lower.hasPrefix) else {
            throw .malformed("a target begins with '/'")
        }
        let rest = target.dropFirst(scheme.count)
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        let authority = String(rest[..<end])
        guard HostAndPort(authority) != nil else { throw .malformed("the target names no host") }
        let path = String(rest[end...])
        return (authority, path.hasPrefix("/") ? path : "/" + path)
    }
}

extension UInt8 {
    /// RFC 9110, 5.6.2.
    var isTokenCharacter: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(self)
        }
    }

    var isBlank: Bool { self == UInt8(ascii: " ") || self == UInt8(ascii: "\t") }
}

extension Span where Element == UInt8 {
    func copied() -> [UInt8] { unsafe withUnsafeBufferPointer { unsafe Array($0) } }
}
