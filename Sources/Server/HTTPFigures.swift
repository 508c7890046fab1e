/// What the loop for HTTP has counted.
package struct HTTPFigures: Sendable, Equatable {
    package var connections = 0
    package var connectionsOpened: UInt64 = 0
    package var connectionsRefused: UInt64 = 0
    package var requests: UInt64 = 0
    /// What was no request.
    package var malformed: UInt64 = 0
    /// By the first digit of the status, from 1 on.
    package var responses: [UInt64] = [0, 0, 0, 0, 0]
    /// Connections that have become a WebSocket.
    package var webSockets: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0

    mutating func countResponse(_ status: Int) { responses[min(max(status / 100, 1), 5) - 1] += 1 }
}
