import Conformance
import Testing

/// A broker at the other end of a stream, made of one function: the packets that answer a packet.
final class ScriptedBroker: ByteStream {
    typealias Answer = @Sendable (Frame) -> Reply

    enum Reply {
        case frames([Frame])
        case bytes([UInt8])
        case close
    }

    private let answer: Answer
    private var unread: [UInt8] = []
    private var ready: [UInt8] = []
    private var isClosed = false

    /// Sends a PINGRESP and a message whenever it is listened to.
    private let talksForEver: Bool

    init(talksForEver: Bool = false, _ answer: @escaping Answer) {
        self.talksForEver = talksForEver
        self.answer = answer
    }

    func send(_ bytes: [UInt8]) {
        unread += bytes
        while case .frame(let frame, let byteCount) = Frame.cut(unread) {
            unread.removeFirst(byteCount)
            switch answer(frame) {
            case .frames(let frames): ready += frames.flatMap { $0.bytes() }
            case .bytes(let bytes): ready += bytes
            case .close: isClosed = true
            }
        }
    }

    func receive(until deadline: ContinuousClock.Instant) -> Received {
        if !ready.isEmpty {
            defer { ready = [] }
            return .bytes(ready)
        }
        if talksForEver { return .bytes([0xd0, 0, 0x30, 3, 0, 1, 0x61]) }
        if isClosed { return .closed }
        // Nothing can come without something being sent; the time until then need not pass.
        return .timedOut
    }

    func finish() { isClosed = true }
    func reset() { isClosed = true }
}

/// Accepts everybody, acknowledges everything, routes nothing.
func politeAnswer(_ frame: Frame) -> ScriptedBroker.Reply {
    let identifier = Array(frame.body.prefix(2))
    switch frame.kind {
    case .connect: return .frames([Frame(.connack, [0, 0])])
    case .subscribe: return .frames([Frame(.suback, identifier + [0])])
    case .unsubscribe: return .frames([Frame(.unsuback, identifier)])
    case .pingreq: return .frames([Frame(.pingresp)])
    case .publish where frame.firstByte & 6 == 2:
        let topicBytes = 2 + Int(frame.body[0]) << 8 + Int(frame.body[1])
        return .frames([Frame(.puback, Array(frame.body[topicBytes..<topicBytes + 2]))])
    case .disconnect: return .close
    default: return .frames([])
    }
}

/// What becomes of these lines at that broker.
func outcome(_ lines: String, head: String = "", _ answer: @escaping ScriptedBroker.Answer = politeAnswer) throws
    -> Outcome
{
    try result(lines, head: head, answer).outcome
}

func result(
    _ lines: String, head: String = "", capabilities: Set<String> = [], talksForEver: Bool = false,
    _ answer: @escaping ScriptedBroker.Answer = politeAnswer
) throws -> CaseResult {
    let text = "case it: It is tried\n  proves MQTT-4.8.0-1\n\(head)\n\(lines)\n"
    let script = try #require(try Case.cases(in: text, file: "it.cases").first)
    var options = Suite.Options()
    options.capabilities = capabilities
    return Suite.run(script, options, connect: { ScriptedBroker(talksForEver: talksForEver, answer) })
}
