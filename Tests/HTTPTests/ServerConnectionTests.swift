import HTTP
import HTTPTypes
import Testing

/// What a connection says of a stream of requests, each answered when all of it is there; bodies in one piece.
struct Transcript: Equatable {
    enum Entry: Equatable {
        case head(RequestHead)
        case body([UInt8])
        case end
        case refused(RequestRefusal)
    }

    var entries: [Entry] = []
    /// Bytes that nobody took.
    var left = 0

    /// `cuts`: where the stream is cut, in order. What is not taken comes again in front of the next piece.
    init(_ bytes: [UInt8], cuts: [Int] = []) {
        var connection = ServerConnection()
        var (input, start): ([UInt8], Int) = ([], 0)
        for end in cuts + [bytes.count] {
            input += bytes[start..<end]
            start = end
            do throws(RequestRefusal) {
                input.removeFirst(try take(input, &connection))
            } catch {
                entries.append(.refused(error))
                return
            }
        }
        left = input.count
    }

    private mutating func take(_ input: [UInt8], _ connection: inout ServerConnection) throws(RequestRefusal) -> Int {
        var offset = 0
        while true {
            let before = offset
            let event = try connection.next(in: input.span, &offset)
            precondition(before <= offset && offset <= input.count, "the offset left the bytes")
            switch event {
            case .head(let head): entries.append(.head(head))
            case .body(let part):
                precondition(!part.isEmpty && part.count <= offset - before, "a body of nothing, or of too much")
                if case .body(let earlier) = entries.last {
                    entries[entries.count - 1] = .body(earlier + part)
                } else {
                    entries.append(.body(part))
                }
            case .end: entries.append(.end)
            case .waiting: connection.answered()
            case .nothing: return offset
            }
        }
    }

    var bodies: [[UInt8]] { entries.compactMap { if case .body(let bytes) = $0 { bytes } else { nil } } }
    var refusal: RequestRefusal? { if case .refused(let refusal) = entries.last { refusal } else { nil } }
    var paths: [String?] { entries.compactMap { if case .head(let head) = $0 { head.request.path } else { nil } } }
}

private func chunked(_ body: String, then rest: String = "") -> [UInt8] {
    Array(("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + rest).utf8)
}

@Suite struct `A connection's requests` {
    static let streams = [
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "5;a=\"b\"\r\nhello\r\n0000A\r\n0123456789\r\n1\r\n\r\r\n0;x\r\nA: b\r\nB: c\r\n\r\n"
            + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ]

    @Test(arguments: streams)
    func `are the same wherever the stream is cut`(_ text: String) {
        let bytes = Array(text.utf8)
        let whole = Transcript(bytes)
        #expect(whole.paths == ["/1", "/2"])
        #expect(whole.left == 0 && whole.refusal == nil)
        for first in 0...bytes.count {
            #expect(Transcript(bytes, cuts: [first]) == whole, "cut at \(first)")
            for second in first...min(first + 3, bytes.count) {
                #expect(Transcript(bytes, cuts: [first, second]) == whole, "cut at \(first) and \(second)")
            }
        }
        #expect(Transcript(bytes, cuts: Array(1..<bytes.count)) == whole, "byte by byte")
    }

    @Test func `have the bodies that came`() {
        #expect(Transcript(Array(Self.streams[2].utf8)).bodies == [Array("hello".utf8)])
        #expect(Transcript(Array(Self.streams[3].utf8)).bodies == [Array("\r\n".utf8)])
        #expect(Transcript(Array(Self.streams[4].utf8)).bodies == [Array("hello0123456789\r".utf8)])
    }

    @Test func `come one after the other: the next is not looked at before the last is answered`() throws {
        let bytes = Array((Self.streams[0]).utf8)
        var (connection, offset) = (ServerConnection(), 0)
        guard case .head = try connection.next(in: bytes.span, &offset) else { throw Missing() }
        #expect(connection.isReadingBody)
        guard case .end = try connection.next(in: bytes.span, &offset) else { throw Missing() }
        for _ in 0..<2 {
            guard case .waiting = try connection.next(in: bytes.span, &offset) else { throw Missing() }
            #expect(offset == bytes.count / 2)
        }
        connection.answered()
        #expect(connection.isIdle)
        guard case .head = try connection.next(in: bytes.span, &offset) else { throw Missing() }
        #expect(offset == bytes.count)
    }

    @Test func `are idle until the first byte of the next`() throws {
        var (connection, offset) = (ServerConnection(), 0)
        #expect(connection.isIdle)
        _ = try connection.next(in: Array("\r\n".utf8).span, &offset)
        #expect(connection.isIdle && offset == 2)
        offset = 0
        _ = try connection.next(in: Array("G".utf8).span, &offset)
        #expect(!connection.isIdle && connection.isReadingHead && offset == 0)
    }

    @Test func `have two empty lines before them at most`() {
        #expect(Transcript(Array("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)).refusal?.status == 400)
    }

    @Test(
        arguments: [
            "", "5\r\nhel", "5\r\nhello\r", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n\r", "0\r\n\r",
            "0;a",
            "0\r\na: b\r\n", "fffffffffffffff", "000000000000000",
        ])
    func `do not end before their body does`(_ body: String) {
        let transcript = Transcript(chunked(body))
        #expect(transcript.refusal == nil && !transcript.entries.contains(.end))
    }

    @Test(
        arguments: [
            "g\r\n", "\r\n", ";\r\n", " 5\r\n", "5 \r\n", "5\t;a\r\n", "+5\r\n", "-5\r\n", "0x5\r\n", "5\nhello\r\n",
            "5\rhello",
            "5\r\r\n", "5\r\nhello0\r\n", "5\r\nhello\n", "5\r\nhello\r0", "5\r\nhelloo\r\n", "5;a\nb\r\n", "5;a\0\r\n",
            "5;a\rb\r\n", "1000000000000000\r\n", "0000000000000000\r\n", "ffffffffffffffffffff\r\n", "5,5\r\n",
            "5.\r\n",
            "0\r\n a: b\r\n\r\n", "0\r\na: b\n\r\n", "0\r\na: \0\r\n\r\n", "0\r\n:\r\n\r\n", "0\r\na: b\r\n c\r\n\r\n",
            "0\r\n\n",
            "0\n\r\n", "0\r\n\r\r", "\u{665}\r\n",
        ])
    func `with a body that is no sequence of chunks are refused`(_ body: String) {
        #expect(Transcript(chunked(body)).refusal?.status == 400)
        let bytes = chunked(body)
        for cut in 0...bytes.count { #expect(Transcript(bytes, cuts: [cut]).refusal?.status == 400, "cut at \(cut)") }
    }

    @Test func `have extensions and trailers of bounded length`() {
        func filled(_ count: Int) -> String { String(repeating: "x", count: count) }
        let most = HTTPLimits.chunkLineBytes - 1  // And its CR.
        #expect(
            Transcript(chunked("1;\(filled(most))\r\na\r\n1;\(filled(most))\r\nb\r\n0\r\n\r\n")).bodies == [
                [0x61, 0x62]
            ])
        #expect(Transcript(chunked("1;\(filled(most + 1))\r\n")).refusal?.status == 400)
        let line = "a: \(filled(1000))\r\n"
        #expect(Transcript(chunked("0\r\n\(line)\(line)\(line)\(line)\r\n")).entries.last == .end)
        #expect(Transcript(chunked("0\r\n\(line)\(line)\(line)\(line)\(line)\r\n")).refusal?.status == 400)
    }

    private struct Missing: Error {}
}
