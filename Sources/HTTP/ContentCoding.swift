package import HTTPTypes

/// Whether a client takes gzip (RFC 9110, 12.5.3).
package func acceptsGzip(_ fields: HTTPFields) -> Bool {
    guard let value = fields[.acceptEncoding] else { return false }
    var ofAny = false
    for part in tokens(value) {
        let words = part.split(separator: ";").map { $0.filter { !$0.isWhitespace } }
        let isWanted = words.dropFirst().first { $0.hasPrefix("q=") }.map { (Double($0.dropFirst(2)) ?? 0) > 0 } ?? true
        if words.first == "gzip" || words.first == "x-gzip" { return isWanted }
        if words.first == "*" { ofAny = isWanted }
    }
    return ofAny
}

extension Response {
    /// Below this a packet carries it anyway.
    private static let fewestBytesToCompress = 1024

    /// With a body in gzip, where that is worth it and the client takes it.
    package mutating func compress(for request: HTTPFields) {
        switch body {
        case .bytes(let bytes) where bytes.count < Self.fewestBytesToCompress: return
        case .file: return  // It goes as it lies on the disk.
        case .bytes, .stream: break
        }
        guard head.mayHaveBody, head.status != .partialContent, head.headerFields[.contentEncoding] == nil,
            head.headerFields[.contentType].map(Self.gains) ?? false
        else { return }
        head.headerFields[.vary] = head.headerFields[.vary].map { "\($0), Accept-Encoding" } ?? "Accept-Encoding"
        guard acceptsGzip(request) else { return }
        switch body {
        case .bytes(let bytes): body = .bytes(Gzip.compressed(bytes))
        case .stream(_, let write):
            body = .stream(length: nil) { writer in
                let compressing = CompressingWriter(writer)
                try await write(compressing)
                try await compressing.finish()
            }
        case .file: return
        }
        head.headerFields[.contentEncoding] = "gzip"
        // Other bytes are another representation (RFC 9110, 8.8.3.3); byte ranges are of the plain one.
        if let tag = head.headerFields[.eTag], !tag.hasPrefix("W/") { head.headerFields[.eTag] = "W/\(tag)" }
        head.headerFields[.acceptRanges] = nil
    }

    private static func gains(_ type: String) -> Bool {
        let type = type.lowercased()
        // A stream of reports that are awaited one by one would wait for the compressor.
        guard !type.contains("ndjson") else { return false }
        return type.hasPrefix("text/") || type.contains("json") || type.contains("javascript") || type.contains("xml")
            || type.contains("svg")
    }
}

private actor CompressingWriter: BodyWriter {
    private var gzip: Gzip? = Gzip()
    private let writer: any BodyWriter

    init(_ writer: any BodyWriter) { self.writer = writer }

    func write(_ bytes: [UInt8]) async throws {
        guard let part = gzip?.compress(bytes), !part.isEmpty else { return }
        try await writer.write(part)
    }

    func finish() async throws {
        guard let part = gzip?.finish() else { return }
        gzip = nil
        try await writer.write(part)
    }
}
