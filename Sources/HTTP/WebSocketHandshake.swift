internal import Cryptography
package import HTTPTypes

/// How a connection becomes a WebSocket (RFC 6455, 4.2), for MQTT (MQTT chapter 6).
package struct WebSocketHandshake: Sendable {
    /// What answers the request.
    package let response: HTTPResponse

    /// Nil: the request does not ask for one. Throws why it can't be had.
    package init?(_ head: RequestHead) throws(RequestRefusal) {
        guard head.upgrades.contains("websocket") else { return nil }
        let fields = head.request.headerFields
        guard head.request.method == .get, head.framing == .none else {
            throw .malformed("a WebSocket begins with a GET that has no body")
        }
        guard fields[values: .secWebSocketVersion] == ["13"] else {
            throw RequestRefusal(426, "version 13 of WebSocket is spoken here")
        }
        guard let key = fields[values: .secWebSocketKey].first, fields[values: .secWebSocketKey].count == 1,
            Base64.standard.decode(key.utf8)?.count == 16
        else { throw .malformed("Sec-WebSocket-Key is 16 bytes in Base64") }
        // [MQTT-6.0.0-3], [MQTT-6.0.0-4]. The second is how clients of MQTT 3.1 call it.
        let offered = fields[.secWebSocketProtocol].map(tokens) ?? []
        guard let chosen = offered.first(where: { $0 == "mqtt" || $0 == "mqttv3.1" }) else {
            throw .malformed("MQTT over WebSocket needs the subprotocol 'mqtt'")
        }
        let accept = Base64.standard.encode(sha1(Array((key + Self.identifier).utf8)))
        response = HTTPResponse(
            status: .switchingProtocols,
            headerFields: [
                .upgrade: "websocket", .connection: "Upgrade", .secWebSocketAccept: accept,
                .secWebSocketProtocol: chosen,
            ])
    }

    /// RFC 6455, 1.3.
    private static let identifier = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
}
