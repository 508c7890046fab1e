import HTTP
import HTTPTypes
import Testing

private func handshake(_ change: (inout [String: String]) -> Void = { _ in }, line: String = "GET /mqtt HTTP/1.1")
    throws(RequestRefusal) -> WebSocketHandshake?
{
    var fields = [
        "Host": "a", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "mqtt",
    ]
    change(&fields)
    let lines = fields.sorted { $0.key < $1.key }.flatMap { field in
        field.value.split(separator: "|").map { "\(field.key): \($0)\r\n" }
    }
    return try WebSocketHandshake(try head("\(line)\r\n\(lines.joined())\r\n"))
}

@Suite struct `A WebSocket's handshake` {
    @Test func `answers the key (RFC 6455, 1.3)`() throws {
        let response = try #require(try handshake()).response
        #expect(response.status.code == 101)
        #expect(response.headerFields[.secWebSocketAccept] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        #expect(response.headerFields[.upgrade] == "websocket")
        #expect(response.headerFields[.connection] == "Upgrade")
        #expect(response.headerFields[.secWebSocketProtocol] == "mqtt")
        #expect(response.headerFields[.secWebSocketExtensions] == nil)
    }

    @Test(
        arguments: [
            ("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("x, mqtt", "mqtt"), ("mqttv3.1,mqtt", "mqttv3.1"),
            ("x|mqtt", "mqtt"),
        ])
    func `chooses one of the client's subprotocols [MQTT-6.0.0-4]`(_ offered: String, _ chosen: String) throws {
        let response = try #require(try handshake { $0["Sec-WebSocket-Protocol"] = offered }).response
        #expect(response.headerFields[.secWebSocketProtocol] == chosen)
    }

    @Test(
        arguments: [
            ("Sec-WebSocket-Protocol", nil, 400), ("Sec-WebSocket-Protocol", "mqtts, x", 400),
            ("Sec-WebSocket-Key", nil, 400),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==|dGhlIHNhbXBsZSBub25jZQ==", 400),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j", 400), ("Sec-WebSocket-Key", "!", 400),
            ("Sec-WebSocket-Version", nil, 426), ("Sec-WebSocket-Version", "8", 426),
            ("Sec-WebSocket-Version", "13, 8", 426), ("Sec-WebSocket-Version", "13|13", 426),
            ("Content-Length", "1", 400), ("Transfer-Encoding", "chunked", 400),
        ] as [(String, String?, Int)])
    func `that can't be answered is refused [MQTT-6.0.0-3]`(_ name: String, _ value: String?, _ status: Int) {
        do throws(RequestRefusal) {
            _ = try handshake { $0[name] = value }
            Issue.record("accepted")
        } catch { #expect(error.status == status) }
    }

    @Test func `is a GET`() {
        do throws(RequestRefusal) {
            _ = try handshake(line: "POST /mqtt HTTP/1.1")
            Issue.record("accepted")
        } catch { #expect(error.status == 400) }
    }

    @Test func `is none where nobody asks for it`() throws {
        #expect(try handshake { $0["Upgrade"] = nil } == nil)
        #expect(try handshake { $0["Connection"] = "keep-alive" } == nil)
        #expect(try handshake { $0["Upgrade"] = "h2c" } == nil)
        #expect(try handshake(line: "GET /mqtt HTTP/1.0") == nil)
    }
}

/// A client's frame. `mask`: nil leaves it plain.
func frame(_ first: UInt8, _ data: [UInt8], mask: [UInt8]? = [0x37, 0xFA, 0x21, 0x3D], lengthBytes: Int? = nil)
    -> [UInt8]
{
    let size = lengthBytes ?? (data.count < 126 ? 0 : data.count < 65_536 ? 2 : 8)
    let bit: UInt8 = mask == nil ? 0 : 0x80
    let length = (0..<size).map { UInt8(truncatingIfNeeded: UInt64(data.count) >> UInt64(8 * (size - 1 - $0))) }
    let masked = mask.map { mask in data.enumerated().map { $1 ^ mask[$0 % 4] } } ?? data
    return [first, bit | (size == 0 ? UInt8(data.count) : size == 2 ? 126 : 127)] + length + (mask ?? []) + masked
}

/// What a reader makes of a stream.
struct Reading: Equatable {
    var data: [UInt8] = []
    var controls: [WebSocketReader.Control] = []
    var failure: WebSocketFailure?

    init(_ bytes: [UInt8], cuts: [Int] = []) {
        var (reader, start) = (WebSocketReader(), 0)
        for end in cuts + [bytes.count] {
            // Not at the beginning of the buffer, as where a packet has begun before.
            var buffer = [0xAA, 0xBB] + bytes[start..<end] + [0xCC]
            let count = reader.take(&buffer, in: 2..<(2 + end - start))
            precondition(
                buffer[0] == 0xAA && buffer[1] == 0xBB && buffer[buffer.count - 1] == 0xCC && count <= end - start)
            data += buffer[2..<(2 + count)]
            controls += reader.takeControls()
            start = end
        }
        failure = reader.failure
    }
}

@Suite struct `A WebSocket's frames` {
    static let hello = Array("Hello".utf8)
    static let long = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }

    @Test func `carry one stream, whatever their number and size (RFC 6455, 5.7)`() {
        // The example of a masked text, as binary.
        #expect(Reading([0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]).data == Self.hello)
        #expect(Reading(frame(0x02, Array("Hel".utf8)) + frame(0x80, Array("lo".utf8))).data == Self.hello)
        for count in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let data = Array(Self.long[..<count])
            #expect(Reading(frame(0x82, data)).data == data)
            #expect(Reading(frame(0x82, data, mask: [0, 0, 0, 0])).data == data)
        }
        let bytes = Self.long[..<300].flatMap { frame(0x82, [$0]) }
        #expect(Reading(bytes).data == Array(Self.long[..<300]))
    }

    @Test func `say the same wherever the stream is cut`() {
        let bytes =
            frame(0x02, Array("Hel".utf8)) + frame(0x89, Self.hello) + frame(0x00, []) + frame(0x8A, [1, 2, 3])
            + frame(0x80, Array("lo".utf8), mask: [1, 2, 3, 4])
            + frame(0x82, Array(Self.long[..<200]), mask: [9, 8, 7, 6])
            + frame(0x89, []) + frame(0x88, [0x03, 0xE8] + Self.hello) + frame(0x82, [1])
        let whole = Reading(bytes)
        #expect(whole.data == Self.hello + Self.long[..<200])
        #expect(whole.controls == [.ping(Self.hello), .ping([]), .close([0x03, 0xE8] + Self.hello)])
        #expect(whole.failure == nil)
        for first in 0...bytes.count {
            #expect(Reading(bytes, cuts: [first]) == whole, "cut at \(first)")
            for second in [first + 1, first + 5] where second <= bytes.count {
                #expect(Reading(bytes, cuts: [first, second]) == whole, "cut at \(first) and \(second)")
            }
        }
        #expect(Reading(bytes, cuts: Array(1..<bytes.count)) == whole, "byte by byte")
    }

    @Test(
        arguments: [
            ("text", 1003, frame(0x81, hello)), ("text in parts", 1003, frame(0x01, hello)),
            ("not masked", 1002, frame(0x82, hello, mask: nil)),
            ("a ping, not masked", 1002, frame(0x89, [], mask: nil)),
            ("RSV1", 1002, frame(0xC2, hello)), ("RSV2", 1002, frame(0xA2, hello)), ("RSV3", 1002, frame(0x92, hello)),
            ("a continuation of nothing", 1002, frame(0x80, hello)), ("another kind, 3", 1002, frame(0x83, hello)),
            ("another kind, 7", 1002, frame(0x87, hello)), ("another control, 11", 1002, frame(0x8B, [])),
            ("another control, 15", 1002, frame(0x8F, [])), ("a ping in parts", 1002, frame(0x09, [])),
            ("a close in parts", 1002, frame(0x08, [])), ("a long ping", 1002, frame(0x89, Array(long[..<126]))),
            ("a long close", 1002, frame(0x88, Array(long[..<70_000]))),
            ("a message within another", 1002, frame(0x02, hello) + frame(0x82, hello)),
            ("a continuation behind the last", 1002, frame(0x02, []) + frame(0x80, []) + frame(0x80, [])),
            ("125 in two bytes", 1002, frame(0x82, Array(long[..<125]), lengthBytes: 2)),
            ("65535 in eight bytes", 1002, frame(0x82, Array(long[..<65_535]), lengthBytes: 8)),
            ("a negative length", 1002, [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
        ] as [(String, UInt16, [UInt8])])
    func `that are none end it, with what to say of that (RFC 6455, 7.4.1)`(
        _ mistake: String, _ code: UInt16, _ bytes: [UInt8]
    ) {
        let good = frame(0x82, Self.hello)
        let reading = Reading(good + bytes + good)
        #expect(reading.failure?.code == code, "\(mistake)")
        let cuts = Array(1..<min(good.count + 20, good.count + bytes.count))
        #expect(Reading(good + bytes + good, cuts: cuts).failure == reading.failure, "\(mistake), byte by byte")
        #expect(reading.data.starts(with: Self.hello) && reading.data.count <= 2 * Self.hello.count)
    }

    @Test func `may be of any length that a stream never reaches`() {
        let header: [UInt8] = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]
        let reading = Reading(header + Self.hello, cuts: [3, 14, 15])
        #expect(reading.data == Self.hello && reading.failure == nil)
    }

    // MARK: The server's

    @Test func `of the server are whole, binary and not masked`() {
        for count in [1, 125, 126, 65_535, 65_536, 1 << 20] {
            var bytes: [UInt8] = []
            WebSocketWriter.header(of: count, into: &bytes)
            #expect(bytes == Array(frame(0x82, [UInt8](repeating: 0, count: count), mask: nil).dropLast(count)))
        }
        #expect(WebSocketWriter.pong(Self.hello) == frame(0x8A, Self.hello, mask: nil))
        #expect(WebSocketWriter.close(1003) == [0x88, 2, 0x03, 0xEB])
    }

    @Test(
        arguments: [
            ([], []), ([0x03, 0xE8], [0x03, 0xE8]), ([0x03, 0xE8, 0x61], [0x03, 0xE8]), ([0x0F, 0xA0], [0x0F, 0xA0]),
            ([0x03], [0x03, 0xEA]),
            // 999, 1004, 1005, 1006, 1015, 2999 and 5000 are nobody's to say.
            ([0x03, 0xE7], [0x03, 0xEA]), ([0x03, 0xEC], [0x03, 0xEA]), ([0x03, 0xED], [0x03, 0xEA]),
            ([0x03, 0xEE], [0x03, 0xEA]), ([0x03, 0xF7], [0x03, 0xEA]), ([0x0B, 0xB7], [0x03, 0xEA]),
            ([0x13, 0x88], [0x03, 0xEA]), ([0, 0], [0x03, 0xEA]),
        ] as [([UInt8], [UInt8])])
    func `that close are answered with their code (RFC 6455, 5.5.1)`(_ data: [UInt8], _ answer: [UInt8]) {
        #expect(WebSocketWriter.close(answering: data) == [0x88, UInt8(answer.count)] + answer)
    }
}
