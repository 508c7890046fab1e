/// Lines of a case, read: `A > PUBLISH "~/a" "x" qos 1 id 7` becomes a `Step`.
enum Script {
    enum Step {
        case send(String, [UInt8], Manner)
        case expect(String, [Pattern], Repetition)
        case connect(String, [UInt8], sessionPresent: Bool)
        case subscribe(String, [(filter: [UInt8], qos: UInt8)])
        case unsubscribe(String, [[UInt8]])
        case publish(String, Packet.Publication)
        case receive(String, PublicationPattern)
        case ping(String)
        case collect(String)
        case collected(String, ClosedRange<Int>, PublicationPattern)
        case disconnect(String)
        case close(String)
        case reset(String)
        case wait(Duration)
        case distinct([String])
        case restart(Suite.Restart)
        /// A WebSocket, of which the upgrade offers these subprotocols.
        case offer(String, String?)
    }

    enum Manner: Equatable {
        case atOnce, held, bytewise
        /// In a frame of WebSocket that begins with this byte.
        case frame(UInt8)
    }

    enum Repetition: Equatable { case once, optional, oneOrMore, anyOrder }

    enum Pattern {
        case connack(code: UInt8, isPresent: Bool)
        case publish(PublicationPattern)
        case reply(Packet.Kind, NumberPattern)
        case suback(NumberPattern, [ClosedRange<Int>])
        case pingresp
        case closed(within: ClosedRange<Duration>?)
        case nothing
        case bytes([UInt8])
    }

    struct PublicationPattern {
        var topic: TextPattern
        var payload: TextPattern
        var qos: ClosedRange<Int> = 0...0
        var identifier = NumberPattern.any
        /// Nil: either way.
        var isDuplicate: Bool? = false
        var isRetained: Bool? = false
    }

    enum TextPattern {
        case any
        case exactly([UInt8])
        case beginning([UInt8])

        var isAny: Bool { if case .any = self { true } else { false } }
    }

    enum NumberPattern {
        case any
        case exactly(Int)
        case variable(String)
    }

    /// What names stand for while a case runs.
    struct Scope {
        /// Replaces `~`.
        let home: String
        /// Nil when a line is only checked: then every variable is 1.
        let variables: [String: Int]?
    }

    struct Mistake: Error { let reason: String }

    static func step(_ text: String, _ scope: Scope) throws(Mistake) -> Step {
        var reader = LineReader(try tokens(of: text, home: scope.home), scope)
        return try reader.step()
    }
}

// MARK: - Tokens

extension Script {
    enum Token: Equatable {
        case word(String)
        case text([UInt8])
        case comma
    }

    static func tokens(of line: String, home: String) throws(Mistake) -> [Token] {
        var tokens: [Token] = []
        var rest = Substring(line)
        while let first = rest.first {
            switch first {
            case " ", "\t": rest.removeFirst()
            case ",":
                rest.removeFirst()
                tokens.append(.comma)
            case "\"":
                rest.removeFirst()
                tokens.append(.text(try text(&rest, home)))
            default:
                let word = rest.prefix { $0 != " " && $0 != "," && $0 != "\"" && $0 != "\t" }
                tokens.append(.word(String(word)))
                rest.removeFirst(word.count)
            }
        }
        return tokens
    }

    /// The rest of a string, up to its closing quote.
    private static func text(_ rest: inout Substring, _ home: String) throws(Mistake) -> [UInt8] {
        var bytes: [UInt8] = []
        while let character = rest.popFirst() {
            switch character {
            case "\"": return bytes
            case "~": bytes += home.utf8
            case "\\":
                guard let escaped = rest.popFirst() else { throw Mistake(reason: "a string ends with \\") }
                switch escaped {
                case "n": bytes.append(10)
                case "r": bytes.append(13)
                case "t": bytes.append(9)
                case "0": bytes.append(0)
                case "~", "\"", "\\": bytes += String(escaped).utf8
                case "x":
                    guard let byte = UInt8(rest.prefix(2), radix: 16), rest.count >= 2 else {
                        throw Mistake(reason: "\\x wants two hexadecimal digits")
                    }
                    bytes.append(byte)
                    rest.removeFirst(2)
                case "u":
                    let digits = rest.dropFirst().prefix { $0 != "}" }
                    guard rest.first == "{", let value = UInt32(digits, radix: 16), let scalar = UnicodeScalar(value)
                    else { throw Mistake(reason: "\\u{FEFF} wants a Unicode scalar") }
                    bytes += String(scalar).utf8
                    rest.removeFirst(digits.count + 2)
                default: throw Mistake(reason: "\\\(escaped) is unknown in a string")
                }
            default: bytes += String(character).utf8
            }
        }
        throw Mistake(reason: "a string has no end")
    }
}
