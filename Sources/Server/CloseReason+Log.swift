package import Broker
import MQTT

extension CloseReason: CustomStringConvertible {
    /// What stands in the log behind "disconnected", in Mosquitto's words where it has some.
    package var description: String {
        switch self {
        case .disconnected: "disconnect"
        case .lost(let why): why
        case .malformed(let error): "malformed packet: \(error)"
        case .protocolViolation(let what): "protocol error: \(what)"
        case .packetTooLarge(let bytes): "oversize packet: \(bytes) bytes are over max_packet_size"
        case .keepAliveExpired: "exceeded timeout"
        case .connectTimeout: "no CONNECT in time"
        case .takenOver: "session taken over"
        case .memoryShortage: "memory_limit is reached, and too much waits for it"
        case .refused(let code): code.reason
        case .notAuthorized: "no longer authorised"
        case .sessionRemoved: "its session was removed by an administrator"
        case .endedByAdministrator: "disconnected by an administrator"
        case .serverStops: "the server stops"
        }
    }

    /// The peer did something wrong, which is told also where nobody wants to read who comes and goes.
    var isMistake: Bool {
        switch self {
        case .malformed, .protocolViolation, .packetTooLarge, .refused, .memoryShortage: true
        default: false
        }
    }
}

extension ConnectReturnCode {
    /// Table 3.1 for the log. Programs that ban addresses look for Mosquitto's "not authorised."
    var reason: String {
        switch self {
        case .accepted: "accepted"
        case .unacceptableProtocolVersion: "unacceptable protocol version, return code 1 [MQTT-3.1.2-2]"
        case .identifierRejected: "client identifier rejected, return code 2 [MQTT-3.1.3-8]"
        case .serverUnavailable: "server unavailable, return code 3"
        case .badUserNameOrPassword: "not authorised: bad user name or password, return code 4"
        case .notAuthorized: "not authorised"
        }
    }
}
