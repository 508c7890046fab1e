package import Broker
import Logging
import MQTT

extension CloseReason: CustomStringConvertible {
    /// One sentence for the log.
    package var description: String {
        switch self {
        case .disconnected: "disconnect"
        case .lost(let why): why
        case .malformed(let error): "malformed packet: \(error)"
        case .protocolViolation(let what): "protocol violation: \(what)"
        case .packetTooLarge(let bytes): "a packet of \(bytes) bytes is over max_packet_size"
        case .keepAliveExpired: "keep-alive exceeded [MQTT-3.1.2-24]"
        case .connectTimeout: "no CONNECT in time"
        case .takenOver: "taken over by a new connection [MQTT-3.1.4-2]"
        case .memoryShortage: "memory_limit is reached, and it reads too slowly"
        case .refused(let code): "refused with return code \(code.rawValue)"
        case .serverStops: "the server stops"
        }
    }

    /// A peer's mistake is worth a line; an ordinary end only for those who look.
    var level: Logger.Level {
        switch self {
        case .malformed, .protocolViolation, .packetTooLarge, .refused, .memoryShortage: .notice
        default: .debug
        }
    }
}
