import HTTP
import HTTPTypes
import Testing

/// The head that `text` is, whole and nothing but that.
func head(_ text: String) throws(RequestRefusal) -> RequestHead { try head(Array(text.utf8)) }

func head(_ bytes: [UInt8]) throws(RequestRefusal) -> RequestHead {
    var searched = 0
    guard let end = try RequestHead.end(in: bytes.span, from: 0, searched: &searched), end == bytes.count else {
        throw RequestRefusal(0, "this is not one head")
    }
    return try RequestHead(parsing: bytes.span)
}

/// The status that refuses it; 200: none does.
func status(of bytes: [UInt8]) -> Int {
    do throws(RequestRefusal) {
        _ = try head(bytes)
        return 200
    } catch { return error.status }
}

private func status(_ text: String) -> Int { status(of: Array(text.utf8)) }

/// A GET with these lines besides its Host.
private func get(_ lines: String...) -> String {
    (["GET / HTTP/1.1", "Host: a"] + lines).joined(separator: "\r\n") + "\r\n\r\n"
}

private func post(_ lines: String...) -> String {
    (["POST / HTTP/1.1", "Host: a"] + lines).joined(separator: "\r\n") + "\r\n\r\n"
}

@Suite struct `A request's head` {
    @Test func `says what is wanted, of whom`() throws {
        let head = try head(
            "PATCH /api/device/7?x=%20&y HTTP/1.1\r\nhOsT: Example.org:8080\r\nX-A:  b\t c \t\r\nX-a: d\r\n"
                + "Content-Length: 12\r\n\r\n")
        #expect(head.request.method == .patch)
        #expect(head.request.path == "/api/device/7?x=%20&y")
        #expect(head.request.authority == "Example.org:8080")
        #expect(head.request.headerFields[values: HTTPField.Name("x-A")!] == ["b\t c", "d"])
        #expect(head.framing == .length(12))
        #expect(head.keepsAlive && !head.isVersion10 && !head.expectsContinue && head.upgrades.isEmpty)
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a", "/"), ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "", "/"),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "[::1]:80", "/"),
            ("GET http://b:1/c?d HTTP/1.1\r\nHost: a\r\n\r\n", "b:1", "/c?d"),
            ("GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "b", "/"),
            ("GET http://b?d HTTP/1.1\r\nHost: a\r\n\r\n", "b", "/?d"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "a", "*"),
            ("GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", "a", "//b/c"),
            ("GET / HTTP/1.0\r\n\r\n", nil, "/"), ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "a", "/"),
            ("M-SEARCH /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "a", "/%00"),
        ] as [(String, String?, String)])
    func `names an authority and a path in each form (RFC 9112, 3.2)`(
        _ text: String, _ authority: String?, _ path: String
    ) throws {
        let request = try head(text).request
        #expect(request.authority == authority)
        #expect(request.path == path)
    }

    @Test(
        arguments: [
            (get(), .none), (post(), .none), (post("Content-Length: 0"), .none),
            (post("content-length: 007"), .length(7)),
            (post("Content-Length: 999999999999999999"), .length(999_999_999_999_999_999)),
            (post("Transfer-Encoding: chunked"), .chunked), (post("transfer-encoding:\tChunKED "), .chunked),
            (get("Content-Length: 3"), .length(3)),
        ] as [(String, RequestHead.Framing)])
    func `says where the body ends`(_ text: String, _ framing: RequestHead.Framing) throws {
        #expect(try head(text).framing == framing)
    }

    // MARK: What could be taken for two things

    @Test(
        arguments: [
            // Lengths.
            (400, post("Content-Length: 5", "Content-Length: 5")),
            (400, post("Content-Length: 5", "Content-Length: 6")),
            (400, post("Content-Length: 5, 5")), (400, post("Content-Length: +5")), (400, post("Content-Length: -0")),
            (400, post("Content-Length: 0x5")), (400, post("Content-Length: 5 5")), (400, post("Content-Length:")),
            (400, post("Content-Length: 5;")), (400, post("Content-Length: 1e1")), (400, post("Content-Length: 5.0")),
            (400, post("Content-Length: 9223372036854775808")), (400, post("Content-Length: 18446744073709551621")),
            (400, post("Content-Length: \u{665}")), (400, post("Content-Length: 5\u{b}")),
            // Codings.
            (400, post("Content-Length: 5", "Transfer-Encoding: chunked")),
            (400, post("Transfer-Encoding: chunked", "Content-Length: 0")),
            (400, post("Transfer-Encoding: identity", "Content-Length: 5")),
            (501, post("Transfer-Encoding: chunked, chunked")), (501, post("Transfer-Encoding: gzip, chunked")),
            (501, post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")),
            (501, post("Transfer-Encoding: chunked", "Transfer-Encoding: identity")),
            (501, post("Transfer-Encoding: xchunked")), (501, post("Transfer-Encoding: chunkedx")),
            (501, post("Transfer-Encoding: identity")), (501, post("Transfer-Encoding: ")),
            (501, post("Transfer-Encoding: chunked;q=1")), (501, post("Transfer-Encoding: \"chunked\"")),
            (501, post("Transfer-Encoding: 'chunked'")), (501, post("Transfer-Encoding: chunked,")),
            (501, post("Transfer-Encoding: ,chunked")), (501, post("Transfer-Encoding: chun\u{212A}ed")),
            (501, post("Transfer-Encoding: \u{A0}chunked")), (501, post("Transfer-Encoding: chunked\u{85}")),
            (400, post("Transfer-Encoding: \u{b}chunked")), (400, post("Transfer-Encoding: chunked\u{c}")),
            (400, post("Transfer-Encoding:\n chunked")), (400, post("Transfer-Encoding: chunked\0")),
            (400, post("Transfer-Encoding : chunked")), (400, post("Transfer-Encoding\t: chunked")),
            (400, post(" Transfer-Encoding: chunked")), (400, post("Transfer-Encoding", " : chunked")),
            (400, post("X: y\nTransfer-Encoding: chunked")), (400, post("X: y\rTransfer-Encoding: chunked")),
            (400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            // Lines.
            (400, get("X: a", " b")), (400, get("X: a", "\tb")), (400, get("X : a")), (400, get("X\t: a")),
            (400, get("X")), (400, get(": a")), (400, get("X y: a")), (400, get("X: a\0b")), (400, get("X: a\u{7f}b")),
            (400, get("X: a\nb: c")), (400, get("X: a\rb: c")), (400, get("X: \u{1b}[31m")), (400, get("\u{e9}: a")),
            (400, get("X(: a")), (400, get("X\0: a")), (400, " \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\nHost: a\r\n\r\n"), (400, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
            // Hosts.
            (400, "GET / HTTP/1.1\r\n\r\n"), (400, get("Host: a")), (400, get("hOST: b")),
            (400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), (400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), (400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"), (400, "GET / HTTP/1.1\r\nHost: [a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: \u{212A}\r\n\r\n"), (400, "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"),
            (400, "GET http://b HTTP/1.1\r\n\r\n"), (400, "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n"), (400, "GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            // Request lines.
            (400, "\r\n\r\n"), (400, "GET /\r\nHost: a\r\n\r\n"), (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"), (400, "GET / a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"), (400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"), (400, "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"), (400, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n"), (400, "GET / HTTP/1\r\nHost: a\r\n\r\n"),
            (400, "GET / http/1.1\r\nHost: a\r\n\r\n"), (400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
            (400, "GET / ICY/1.1\r\nHost: a\r\n\r\n"), (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            (505, "PRI * HTTP/2.0\r\n\r\n"), (505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            (505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"), (501, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            (400, "\(String(repeating: "A", count: 25)) / HTTP/1.1\r\nHost: a\r\n\r\n"),
            // The rest.
            (417, post("Expect: 200-ok", "Content-Length: 1")), (417, post("Expect: 100-continue, x")),
            (417, post("Expect:")),
        ] as [(Int, String)])
    func `that two readers could take differently is refused`(_ status: Int, _ text: String) {
        #expect(HTTPTests.status(of: Array(text.utf8)) == status)
    }

    // MARK: Bounds

    @Test func `has a target of at most 8192 bytes`() throws {
        let most = "/" + String(repeating: "a", count: HTTPLimits.targetBytes - 1)
        #expect(try head("GET \(most) HTTP/1.1\r\nHost: a\r\n\r\n").request.path == most)
        #expect(status("GET \(most)a HTTP/1.1\r\nHost: a\r\n\r\n") == 414)
    }

    @Test func `has at most 100 fields`() throws {
        func text(_ count: Int) -> String {
            "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "A: b\r\n", count: count - 1) + "\r\n"
        }
        #expect(try head(text(100)).request.headerFields.count == 99)
        #expect(status(text(101)) == 431)
    }

    @Test func `has at most 16384 bytes, wherever it was cut`() throws {
        func bytes(_ count: Int) -> [UInt8] {
            let (start, end) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n")
            return Array((start + String(repeating: "x", count: count - start.utf8.count - 4) + end).utf8)
        }
        #expect(status(of: bytes(HTTPLimits.headBytes)) == 200)
        #expect(status(of: bytes(HTTPLimits.headBytes + 1)) == 431)
        // As soon as it can't be one any more, and not before.
        let endless = [UInt8](repeating: 0x61, count: HTTPLimits.headBytes)
        var searched = 0
        let early = endless.span.extracting(first: HTTPLimits.headBytes - 1)
        #expect(try RequestHead.end(in: early, from: 0, searched: &searched) == nil)
        #expect(throws: RequestRefusal.self) { try RequestHead.end(in: endless.span, from: 0, searched: &searched) }
    }

    @Test func `ends at its empty line, however it came`() throws {
        let bytes = Array("xxGET / HTTP/1.1\r\nHost: a\r\nX: \r\r\n\n\r\n\r\nGET".utf8)
        let end = bytes.count - 3
        for cut in 2...bytes.count {
            var searched = 2
            let first = try RequestHead.end(in: bytes.span.extracting(first: cut), from: 2, searched: &searched)
            #expect(first == (cut < end ? nil : end), "\(cut)")
            if first == nil {
                #expect(try RequestHead.end(in: bytes.span, from: 2, searched: &searched) == end, "\(cut)")
            }
        }
    }

    // MARK: The connection

    @Test(
        arguments: [
            (get(), true), (get("Connection: close"), false), (get("Connection: Keep-Alive, CLOSE"), false),
            (get("Connection: x", "Connection: close"), false), (get("Connection: closed"), true),
            ("GET / HTTP/1.0\r\n\r\n", false), ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: close\r\n\r\n", false),
        ])
    func `says whether the connection goes on (RFC 9112, 9.3)`(_ text: String, _ keepsAlive: Bool) throws {
        #expect(try head(text).keepsAlive == keepsAlive)
    }

    @Test(
        arguments: [
            (post("Expect: 100-continue", "Content-Length: 1"), true),
            (post("expect: 100-Continue", "Transfer-Encoding: chunked"), true), (post("Expect: 100-continue"), false),
            ("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", false),
        ])
    func `waits for 100 only where there is a body, and HTTP/1.1`(_ text: String, _ expects: Bool) throws {
        #expect(try head(text).expectsContinue == expects)
    }

    @Test(
        arguments: [
            (get("Upgrade: WebSocket, h2c", "Connection: keep-alive, Upgrade"), ["websocket", "h2c"]),
            (get("Upgrade: websocket"), []), (get("Connection: Upgrade"), []),
            ("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", []),
        ] as [(String, [String])])
    func `asks for another protocol only if Connection says so too`(_ text: String, _ upgrades: [String]) throws {
        #expect(try head(text).upgrades == upgrades)
    }
}
