import HTTP
import HTTPTypes
import Testing

private func fields(_ pairs: (HTTPField.Name, String)...) -> HTTPFields {
    var fields = HTTPFields()
    for (name, value) in pairs { fields.append(HTTPField(name: name, value: value)) }
    return fields
}

@Suite struct `A byte range` {
    @Test(
        arguments: [
            // As esp_https_ota asks for the first part.
            ("bytes=0-", .part(0..<1000)), ("bytes=0-499", .part(0..<500)), ("bytes=500-999", .part(500..<1000)),
            ("bytes=-500", .part(500..<1000)), ("bytes=500-", .part(500..<1000)), ("bytes=0-0", .part(0..<1)),
            ("bytes=-1", .part(999..<1000)), ("bytes=999-", .part(999..<1000)),
            // Behind the end.
            ("bytes=0-1000", .part(0..<1000)), ("bytes=900-99999", .part(900..<1000)),
            ("bytes=-1001", .part(0..<1000)), ("bytes=0-99999999999999999999999", .part(0..<1000)),
            ("bytes=-99999999999999999999999", .part(0..<1000)), ("bytes=1000-", .unsatisfiable),
            ("bytes=1000-1001", .unsatisfiable), ("bytes=99999999999999999999999-", .unsatisfiable),
            ("bytes=-0", .unsatisfiable), ("BYTES=1-1", .part(1..<2)),
            // None, or not one.
            ("bytes=1-0", .whole), ("bytes=-", .whole), ("bytes=", .whole), ("bytes=a-b", .whole), ("bytes=1", .whole),
            ("bytes=0-1,2-3", .whole), ("bytes=1--2", .whole), ("bytes=--2", .whole), ("bytes=+1-2", .whole),
            ("lines=0-1", .whole), ("bytes 0-1", .whole), ("bytes=0x0-1", .whole), ("bytes=\u{661}-", .whole),
        ] as [(String, ByteRange)])
    func `is what its field says of 1000 bytes (RFC 9110, 14.1.2)`(_ text: String, _ range: ByteRange) {
        #expect(ByteRange(fields((.range, text)), of: 1000, eTag: nil) == range)
    }

    @Test(
        arguments: [("bytes=0-", .unsatisfiable), ("bytes=-1", .unsatisfiable), ("bytes=1-0", .whole)]
            as [(String, ByteRange)])
    func `of nothing there is none`(_ text: String, _ range: ByteRange) {
        #expect(ByteRange(fields((.range, text)), of: 0, eTag: nil) == range)
    }

    @Test(
        arguments: [
            ("\"a\"", "\"a\"", nil, true), ("\"b\"", "\"a\"", nil, false), ("W/\"a\"", "W/\"a\"", nil, false),
            ("W/\"a\"", "\"a\"", nil, false), ("\"a\"", "W/\"a\"", nil, false), ("\"a\"", nil, nil, false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", nil, "Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("Sun, 06 Nov 1994 08:49:38 GMT", nil, "Sun, 06 Nov 1994 08:49:37 GMT", false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "\"a\"", nil, false), ("", "\"a\"", nil, false),
        ] as [(String, String?, String?, Bool)])
    func `counts with If-Range only of the same representation (RFC 9110, 13.1.5)`(
        _ condition: String, _ eTag: String?, _ lastModified: String?, _ counts: Bool
    ) {
        let fields = fields((.range, "bytes=0-1"), (.ifRange, condition))
        let range = ByteRange(fields, of: 10, eTag: eTag, lastModified: lastModified)
        #expect(range == (counts ? .part(0..<2) : .whole))
    }
}

@Suite struct `What a client has already` {
    @Test(
        arguments: [
            ("\"a\"", true), ("\"b\"", false), ("*", true), ("W/\"a\"", true), ("\"b\", \"a\"", true),
            ("\"b\",W/\"a\" ,\"c\"", true), ("a", false), ("", false), ("\"A\"", false), ("\"a", false),
        ])
    func `is known by its tag, compared weakly (RFC 9110, 13.1.2)`(_ condition: String, _ isKnown: Bool) {
        for tag in ["\"a\"", "W/\"a\""] {
            #expect(isUnchanged(fields((.ifNoneMatch, condition)), eTag: tag) == isKnown)
        }
        #expect(!isUnchanged([:], eTag: "\"a\""))
    }
}

@Suite struct `Content that lies there whole` {
    private let bytes = Array("0123456789".utf8)

    private func request(_ pairs: [(HTTPField.Name, String)], _ method: HTTPRequest.Method) throws -> Request {
        let lines = pairs.map { "\($0.0.rawName): \($0.1)\r\n" }.joined()
        let head = try head("\(method.rawValue) / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n")
        let peer = Peer(address: [], host: "", isSecure: false, listener: 0, isLoopback: true, port: 0)
        return Request(head: head, body: .empty, peer: peer)
    }

    private func response(_ pairs: (HTTPField.Name, String)..., method: HTTPRequest.Method = .get) throws -> Response {
        .content(bytes, type: "text/plain", eTag: "\"t\"", for: try request(pairs, method), [.vary: "Origin"])
    }

    private func body(_ response: Response) -> [UInt8]? {
        if case .bytes(let bytes) = response.body { bytes } else { nil }
    }

    @Test func `is sent whole`() throws {
        let response = try response()
        #expect(response.head.status == .ok && body(response) == bytes)
        #expect(
            response.head.headerFields == [
                .vary: "Origin", .eTag: "\"t\"", .acceptRanges: "bytes", .contentType: "text/plain",
            ])
    }

    @Test func `is sent in part`() throws {
        let all = try response((.range, "bytes=0-"))
        #expect(all.head.status == .partialContent && body(all) == bytes)
        #expect(all.head.headerFields[.contentRange] == "bytes 0-9/10")
        let part = try response((.range, "bytes=7-99"))
        #expect(part.head.status == .partialContent && body(part) == Array("789".utf8))
        #expect(part.head.headerFields[.contentRange] == "bytes 7-9/10")
        let none = try response((.range, "bytes=10-"))
        #expect(none.head.status == .rangeNotSatisfiable && body(none) == [])
        #expect(none.head.headerFields[.contentRange] == "bytes */10")
        // RFC 9110, 14.2: only GET has ranges.
        #expect(try response((.range, "bytes=0-1"), method: .head).head.status == .ok)
    }

    @Test(arguments: [nil, "bytes=0-", "bytes=7-99", "bytes=-3", "bytes=10-"], [HTTPRequest.Method.get, .head])
    func `is answered in the same way if it is a file`(_ range: String?, _ method: HTTPRequest.Method) throws {
        for fields in [[], [(.ifRange, "\"u\"")], [(.ifNoneMatch, "*")]] as [[(HTTPField.Name, String)]] {
            let request = try request(range.map { [(.range, $0)] + fields } ?? fields, method)
            let plain = Response.content(bytes, type: "text/plain", eTag: "\"t\"", for: request)
            var response = Response.content(
                ofFile: NoFile(), size: bytes.count, type: "text/plain", eTag: "\"t\"", for: request)
            #expect(response.head == plain.head)
            switch response.body {
            case .file(let file): #expect(Array(bytes[file.range]) == body(plain))
            case .bytes(let bytes): #expect(bytes.isEmpty && body(plain) == [])
            case .stream: Issue.record("a file is no stream")
            }
            response.compress(for: [.acceptEncoding: "gzip"])
            #expect(response.head == plain.head)
        }
    }

    private final class NoFile: ServedFile { var descriptor: CInt { -1 } }

    @Test func `is not sent to who has it, whatever part they want`() throws {
        let response = try response((.range, "bytes=0-1"), (.ifNoneMatch, "\"t\""))
        #expect(response.head.status == .notModified && body(response) == [])
        #expect(response.head.headerFields[.eTag] == "\"t\"")
    }
}

@Suite struct `A response's head` {
    private func text(
        _ framing: ResponseFraming, _ status: HTTPResponse.Status = .ok, isVersion10: Bool = false,
        keepsAlive: Bool = true,
        date: String? = nil
    ) -> String {
        var bytes: [UInt8] = []
        HTTPResponse(status: status, headerFields: [.server: "a"]).encode(
            framing, isVersion10: isVersion10, keepsAlive: keepsAlive, date: date, into: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func `says how its body ends, and whether the connection does`() {
        #expect(text(.length(0)) == "HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 0\r\n\r\n")
        #expect(text(.none, .noContent) == "HTTP/1.1 204 No Content\r\nServer: a\r\n\r\n")
        #expect(text(.chunked, keepsAlive: false).hasSuffix("Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"))
        #expect(text(.length(1), isVersion10: true).hasSuffix("Content-Length: 1\r\nConnection: keep-alive\r\n\r\n"))
        #expect(text(.none, date: "D") == "HTTP/1.1 200 OK\r\nServer: a\r\nDate: D\r\n\r\n")
    }

    @Test(arguments: [
        (100, false), (101, false), (200, true), (204, false), (206, true), (304, false), (404, true), (503, true),
    ])
    func `says whether a body may follow (RFC 9110, 6.4.1)`(_ status: Int, _ mayHaveBody: Bool) {
        #expect(HTTPResponse(status: .init(code: status)).mayHaveBody == mayHaveBody)
    }

    @Test func `is followed by chunks that a reader takes apart again`() throws {
        var bytes = Array("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
        for part in [[1, 2, 3], [], [UInt8](repeating: 4, count: 70_000)] { encodeChunk(part, into: &bytes) }
        bytes += lastChunk
        let transcript = Transcript(bytes)
        #expect(transcript.bodies == [[1, 2, 3] + [UInt8](repeating: 4, count: 70_000)])
        #expect(transcript.entries.last == .end && transcript.left == 0)
    }

    @Test(
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"), (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"), (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"), (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"), (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] as [(Int64, String)])
    func `has a date (RFC 9110, 5.6.7)`(_ seconds: Int64, _ text: String) { #expect(httpDate(seconds) == text) }
}
