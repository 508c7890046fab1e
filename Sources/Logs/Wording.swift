/// Mosquitto's words for what Mosquitto says too: people search for them, count them, and ban addresses by them.
enum Wording {
    /// Nil for a message that is ours alone.
    static func text(_ message: String, _ fields: [LogField]) -> String? {
        func value(_ name: String) -> String? { fields.first { $0.name == name }?.text }
        switch message {
        case "client connected":
            let version = ["MQTT 3.1": "p1", "MQTT 3.1.1": "p2", "MQTT 5": "p5"][value("protocol") ?? ""] ?? "p0"
            let clean = value("cleanSession") == "true" ? "c1" : "c0"
            let user = value("userName").map { ", u'\(LogLine.bare($0, alsoEscaping: "'"))'" } ?? ""
            return "New client connected from \(peer(value)) as \(LogLine.quoted(value("client") ?? "")) "
                + "(\(version), \(clean), k\(value("keepAlive") ?? "0")\(user))."
        case "client disconnected":
            let client = value("client").map(LogLine.quoted) ?? "<unknown>"
            let reason = value("reason").map { ": \(LogLine.bare($0))" } ?? ""
            return "Client \(client) [\(peer(value))] disconnected\(reason)." + repetition(value)
        case "subscribed":
            return
                "\(LogLine.quoted(value("client") ?? "")) \(value("qos") ?? "0") \(LogLine.bare(value("filter") ?? ""))"
        case "unsubscribed":
            return "\(LogLine.quoted(value("client") ?? "")) \(LogLine.bare(value("filter") ?? ""))"
        default: return nil
        }
    }

    /// Without brackets around IPv6, as Mosquitto has it. Whoever comes over a unix socket has no port.
    private static func peer(_ value: (String) -> String?) -> String {
        let address = LogLine.bare(value("address") ?? "")
        return value("port").map { "\(address):\($0)" } ?? address
    }

    private static func repetition(_ value: (String) -> String?) -> String {
        guard let count = value(RepeatedLine.countName), let seconds = value(RepeatedLine.secondsName) else {
            return ""
        }
        return " (\(RepeatedLine.countName)=\(count), \(RepeatedLine.secondsName)=\(seconds))"
    }
}
