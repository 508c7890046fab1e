import Testing

@testable import Conformance

/// The suite's own WebSocket, against servers that do right or wrong in one way.
@Suite struct `A WebSocket of the suite` {
    private let server = ScriptedWebSocket()

    private func opened(_ server: ScriptedWebSocket) throws -> WebSocketStream {
        try WebSocketStream.open(server, host: "broker.example:8080")
    }

    /// Its file alone: reading all of them takes a debug build seconds.
    private func chapter6() throws -> [Case] {
        let file = try #require(Suite.embeddedFiles.first { $0.name == "6-websocket.cases" })
        return try Case.cases(in: file.text, file: file.name)
    }

    private var soon: ContinuousClock.Instant { .now + .seconds(5) }

    @Test func `asks as RFC 6455 wants it, for the subprotocol mqtt`() throws {
        _ = try opened(server)
        #expect(server.request.first == "GET /mqtt HTTP/1.1")
        for field in [
            "Host: broker.example:8080", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        ] {
            #expect(server.request.contains(field))
        }
        #expect(server.key.count == 24)
        #expect(WebSocketStream.accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")  // 1.3
        let other = ScriptedWebSocket()
        _ = try opened(other)
        #expect(other.key != server.key)
    }

    @Test(arguments: [
        ("HTTP/1.1 403 Forbidden", "the upgrade was refused (HTTP/1.1 403 Forbidden)"),
        ("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}", "without Upgrade: websocket"),
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}", "without Connection: Upgrade"),
        ("{101}\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "not what the key asks for"),
        ("{101}\r\nSec-WebSocket-Protocol: mqtt", "not what the key asks for"),
        ("{101}\r\nSec-WebSocket-Accept: {accept}", "mqtt was not selected"),
        ("{101}\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: foo", "foo was not offered"),
        (
            "{101}\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\nsec-websocket-extensions: x",
            "an extension that was not offered"
        ),
    ])
    func `refuses an answer that is not right`(_ answer: String, _ reason: String) throws {
        let server = ScriptedWebSocket(answer: answer)
        let refusal = #expect(throws: WebSocketStream.Refusal.self) { try opened(server) }
        #expect(refusal.map { "\($0)".contains(reason) } == true, "\(String(describing: refusal))")
        let stream = WebSocketStream.offering("mqtt", ScriptedWebSocket(answer: answer), host: "h")
        stream.send([0xc0, 0])
        #expect(stream.receive(until: soon) == .closed)
    }

    @Test(arguments: [0, 1, 125, 126, 127, 65_535, 65_536, 90_000])
    func `sends and reads frames of every length, whatever they are cut into`(_ count: Int) throws {
        let server = ScriptedWebSocket(pieceBytes: count > 200 ? 1000 : 1)
        let stream = try opened(server)
        let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        stream.send(payload)
        #expect(server.frames.map(\.first) == [0x82])
        #expect(server.frames.first?.payload == payload)
        server.push(0x82, payload)
        server.push(0x82, [7])
        var got: [UInt8] = []
        while got.count <= count, case .bytes(let bytes) = stream.receive(until: soon) { got += bytes }
        #expect(got == payload + [7], "\(count)")
    }

    @Test func `reads a message in fragments, and answers a ping and a Close`() throws {
        let stream = try opened(server)
        server.push(0x02, [1])
        server.push(0x89, [9, 9])
        server.push(0x00, [])
        server.push(0x80, [2])
        server.push(0x88, [3, 0xe8])
        #expect(stream.receive(until: soon) == .bytes([1]))
        #expect(stream.receive(until: soon) == .bytes([2]))
        #expect(stream.receive(until: soon) == .timedOut)  // The connection below is open still.
        server.isClosed = true
        #expect(stream.receive(until: soon) == .closed)
        #expect(server.frames.map(\.first) == [0x8a, 0x88])
        #expect(server.frames.map(\.payload) == [[9, 9], [3, 0xe8]])
        stream.send([1])
        #expect(server.frames.count == 2, "nothing follows a Close")
    }

    @Test(
        arguments: [
            ([0x81, 0x01, 0x61], "a data frame that is not binary"),
            ([0x83, 0x00], "a data frame that is not binary"),
            ([0x80, 0x00], "a data frame that is not binary"),
            ([0x02, 0x00, 0x82, 0x00], "a data frame that is not binary"),
            ([0xc2, 0x00], "reserved bits"),
            ([0x82, 0x80, 0, 0, 0, 0], "a mask"),
            ([0x82, 0x7e, 0, 125], "a length of too many bytes"),
            ([0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "a length of too many bytes"),
            ([0x82, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0], "a frame of more than"),
            ([0x89, 0x7e, 0, 126], "cut or long"), ([0x09, 0x00], "cut or long"),
            ([0x8b, 0x00], "nobody knows"), ([0x88, 0x01, 0x03], "half a code"),
        ] as [([UInt8], String)])
    func `shows what a server may not send`(_ bytes: [UInt8], _ reason: String) throws {
        let stream = try opened(server)
        server.push(bytes + (reason == "cut or long" ? [UInt8](repeating: 0, count: 126) : []))
        for _ in 1...2 {
            guard case .illegal(let text) = stream.receive(until: soon) else {
                Issue.record("it passes")
                return
            }
            #expect(text.contains(reason))
        }
    }

    /// What each of these servers does wrong, and the case of the suite that has to see it.
    @Test(
        arguments: [
            (.acceptsText, "websocket-text-frame-first"), (.acceptsText, "websocket-text-frame-empty"),
            (.assumesAlignment, "websocket-empty"), (.answersInText, "websocket-subprotocol"),
            (.serves(""), "websocket-no-subprotocol"), (.serves(""), "websocket-other-subprotocol"),
            (.serves("Sec-WebSocket-Protocol: {offered}"), "websocket-subprotocol-among-others"),
            (.serves(""), "websocket-subprotocol"), (.closesAtEmpty, "websocket-empty"),
        ] as [(ScriptedWebSocket.Fault, String)])
    func `lets a case fail where the server does wrong, and pass where it does right`(
        _ fault: ScriptedWebSocket.Fault, _ name: String
    ) throws {
        let script = try #require(try chapter6().first { $0.name == name })
        func outcome(_ fault: ScriptedWebSocket.Fault?) -> Outcome {
            var options = Suite.Options()
            options.webSocket = { .offering($0, ScriptedWebSocket(fault), host: "h") }
            return Suite.run(script, options) { try WebSocketStream.open(ScriptedWebSocket(fault), host: "h") }.outcome
        }
        guard case .passed = outcome(nil) else {
            Issue.record("\(outcome(nil))")
            return
        }
        guard case .failed(let failure) = outcome(fault) else {
            Issue.record("\(name) does not see \(fault)")
            return
        }
        #expect(failure.evidence.isObserved || failure.evidence == .unreachable, "\(failure)")
    }

    @Test func `is wanted by the cases of chapter 6, which wait over anything else`() throws {
        let cases = try chapter6()
        #expect(cases.count > 15)
        let results = Suite.run(cases, Suite.Options()) { ScriptedBroker(politeAnswer) }
        for result in results {
            guard case .waits("websocket") = result.outcome else {
                Issue.record("\(result.script.name): \(result.outcome)")
                continue
            }
        }
        let ids = Set(cases.flatMap(\.proves))
        #expect(ids.isSuperset(of: (1...4).map { "MQTT-6.0.0-\($0)" }))
    }
}
