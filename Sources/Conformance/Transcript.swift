/// What went over the connections of a case, for whoever wants to know why it failed, and for tidying up.
final class Transcript {
    struct Login: Hashable {
        var userName: [UInt8]?
        var password: [UInt8]?
    }

    /// The latest: it is the end that says why a case failed.
    var lines: [String] { Array(noted.suffix(Self.lineCount)) }
    private var noted: [String] = []
    private let start = ContinuousClock.now
    /// What was made to last on the broker: sessions, with who made them, and retained messages, by their topics.
    private(set) var lastingSessions: [[UInt8]: Login] = [:]
    private(set) var retainedTopics: Set<[UInt8]> = []
    private(set) var logins: Set<Login> = []
    private static let lineCount = 400

    func note(_ name: String, _ text: String) {
        if noted.count >= 2 * Self.lineCount { noted.removeFirst(Self.lineCount) }
        let milliseconds = Int(start.duration(to: .now) / .milliseconds(1))
        noted.append("\(milliseconds) ms  \(name) \(text)")
    }

    func note(_ name: String, sent bytes: [UInt8]) {
        remember(bytes)
        note(name, "> \(hexadecimal(bytes))")
    }

    func note(_ name: String, received packet: Packet, _ frame: Frame) {
        note(name, "< \(packet)   [\(hexadecimal(frame.bytes(), atMost: 32))]")
    }

    /// Packets that break a rule leave nothing behind.
    private func remember(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while case .frame(let frame, let byteCount) = Frame.cut(rest) {
            rest.removeFirst(byteCount)
            switch ClientPacket.read(frame, version: frame.kind == .connect ? nil : 4).packet {
            case .connect(let connect):
                let login = Login(userName: connect.userName, password: connect.password)
                logins.insert(login)
                if !connect.cleanSession { lastingSessions[connect.clientIdentifier] = login }
                if let topic = connect.retainedWill { retainedTopics.insert(topic) }
            case .publish(let publication) where publication.isRetained: retainedTopics.insert(publication.topic)
            default: continue
            }
        }
    }
}
