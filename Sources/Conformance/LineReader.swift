/// Reads one line's tokens from left to right.
struct LineReader {
    typealias Mistake = Script.Mistake

    private var tokens: ArraySlice<Script.Token>
    private let scope: Script.Scope

    init(_ tokens: [Script.Token], _ scope: Script.Scope) {
        self.tokens = tokens[...]
        self.scope = scope
    }

    // MARK: Tokens

    private var isAtEnd: Bool { tokens.isEmpty }

    private mutating func word() throws(Mistake) -> String {
        guard case .word(let word)? = tokens.first else { throw Mistake(reason: "a word is missing at \(position)") }
        tokens.removeFirst()
        return word
    }

    /// Takes this word if it comes next.
    private mutating func takes(_ wanted: String) -> Bool {
        guard case .word(wanted)? = tokens.first else { return false }
        tokens.removeFirst()
        return true
    }

    private mutating func takesComma() -> Bool {
        guard tokens.first == .comma else { return false }
        tokens.removeFirst()
        return true
    }

    private var position: String {
        switch tokens.first {
        case .word(let word)?: "`\(word)`"
        case .text(let bytes)?: quoted(bytes)
        case .comma?: "a comma"
        case nil: "the end of the line"
        }
    }

    private func end() throws(Mistake) {
        guard isAtEnd else { throw Mistake(reason: "\(position) is not understood here") }
    }

    /// `7`, `0x82`, or a variable that has a value.
    private mutating func number(_ range: ClosedRange<Int>) throws(Mistake) -> Int {
        let text = try word()
        let value: Int?
        if text.hasPrefix(":") {
            guard let variables = scope.variables else { return 1 }
            value = variables[String(text.dropFirst())]
        } else {
            value = text.hasPrefix("0x") ? Int(text.dropFirst(2), radix: 16) : Int(text)
        }
        guard let value, range.contains(value) else { throw Mistake(reason: "\(text) is no number in \(range)") }
        return value
    }

    private mutating func byte() throws(Mistake) -> UInt8 { UInt8(try number(0...255)) }
    private mutating func identifier() throws(Mistake) -> UInt16 { UInt16(try number(0...65_535)) }

    /// `0..1` or `1`
    private mutating func range() throws(Mistake) -> ClosedRange<Int> {
        let text = try word()
        let ends = text.split(separator: ".", omittingEmptySubsequences: true)
        func value(_ text: Substring?) -> Int? {
            guard let text else { return nil }
            return text.hasPrefix("0x") ? Int(text.dropFirst(2), radix: 16) : Int(text)
        }
        guard let low = value(ends.first), let high = value(ends.last), low <= high, ends.count <= 2 else {
            throw Mistake(reason: "\(text) is no number and no range")
        }
        return low...high
    }

    private mutating func text() throws(Mistake) -> [UInt8] {
        var bytes: [UInt8] = []
        repeat {
            guard case .text(let part)? = tokens.first else {
                throw Mistake(reason: "a string is missing at \(position)")
            }
            tokens.removeFirst()
            if tokens.first == .word("*"), case .word(let count)? = tokens.dropFirst().first, let count = Int(count) {
                tokens.removeFirst(2)
                bytes += try repeated(part, count)
            } else {
                bytes += part
            }
        } while takes("+")
        return bytes
    }

    private func repeated(_ part: [UInt8], _ count: Int) throws(Mistake) -> [UInt8] {
        guard (0...Wire.maximumRemainingLength).contains(count), count * part.count <= Wire.maximumRemainingLength
        else {
            throw Mistake(reason: "\(count) times is more than fits into a packet")
        }
        return Array(repeatElement(part, count: count).joined())
    }

    /// What stands behind two bytes of length (1.5.3).
    private mutating func shortText() throws(Mistake) -> [UInt8] {
        let bytes = try text()
        guard bytes.count <= 65_535 else { throw Mistake(reason: "\(bytes.count) bytes are too many for a string") }
        return bytes
    }

    private mutating func textPattern() throws(Mistake) -> Script.TextPattern {
        if takes("*") { return .any }
        let bytes = try text()
        return takes("...") ? .beginning(bytes) : .exactly(bytes)
    }

    private mutating func numberPattern() throws(Mistake) -> Script.NumberPattern {
        if case .word(let word)? = tokens.first, word.hasPrefix(":") {
            tokens.removeFirst()
            return .variable(String(word.dropFirst()))
        }
        if takes("*") { return .any }
        return .exactly(try number(0...65_535))
    }

    // MARK: Steps

    mutating func step() throws(Mistake) -> Script.Step {
        let name = try word()
        switch name {
        case "wait":
            let text = try word()
            guard let duration = Duration(seconds: text) else { throw Mistake(reason: "\(text) is no time") }
            try end()
            return .wait(duration)
        case "distinct":
            var names: [String] = []
            while !isAtEnd { names.append(String(try word().drop { $0 == ":" })) }
            return .distinct(names)
        case "broker":
            let verb = try word()
            guard let restart = Suite.Restart(rawValue: verb) else {
                throw Mistake(reason: "the broker can't `\(verb)`")
            }
            try end()
            return .restart(restart)
        default: break
        }
        guard name.first?.isUppercase == true else { throw Mistake(reason: "`\(name)` is no step and no connection") }
        let verb = try word()
        let step = try step(verb, of: name)
        try end()
        return step
    }

    private mutating func step(_ verb: String, of name: String) throws(Mistake) -> Script.Step {
        switch verb {
        case ">>": return .send(name, try outgoing(from: name), .held)
        case ">":
            var manner = takes("bytewise") ? Script.Manner.bytewise : .atOnce
            if takes("frame") { manner = .frame(try byte()) }
            return .send(name, try outgoing(from: name), manner)
        case "offers": return .offer(name, takes("nothing") ? nil : String(decoding: try text(), as: UTF8.self))
        case "<": return .expect(name, try patterns(), .once)
        case "<?": return .expect(name, try patterns(), .optional)
        case "<+": return .expect(name, try patterns(), .oneOrMore)
        case "<*": return .expect(name, try patterns(), .anyOrder)
        case "connects": return .connect(name, try connect(from: name, isPersistent: false), sessionPresent: false)
        case "resumes": return .connect(name, try connect(from: name, isPersistent: true), sessionPresent: true)
        case "subscribes": return .subscribe(name, try subscriptions())
        case "unsubscribes": return .unsubscribe(name, try filters())
        case "publishes":
            let (publication, _) = try publication()
            return .publish(name, publication)
        case "receives": return .receive(name, try publicationPattern())
        case "pings": return .ping(name)
        case "collects": return .collect(name)
        case "collected":
            let count: ClosedRange<Int>
            if takes("no") {
                count = 0...0
                _ = takes("of")
            } else {
                count = try range()
                guard takes("of") else { throw Mistake(reason: "`collected N of PUBLISH` is wanted") }
            }
            guard takes("PUBLISH") else { throw Mistake(reason: "PUBLISH is wanted at \(position)") }
            return .collected(name, count, try publicationPattern())
        case "disconnects": return .disconnect(name)
        case "closes": return .close(name)
        case "resets": return .reset(name)
        default: throw Mistake(reason: "\(name) can't `\(verb)`")
        }
    }

    // MARK: What is sent

    private mutating func outgoing(from name: String) throws(Mistake) -> [UInt8] {
        if takes("bytes") { return try items() }
        var frame: Frame
        let packet = try word()
        switch packet {
        case "CONNECT": frame = Frame(.connect, try connectBody(from: name, isPersistent: false))
        case "CONNACK":
            let code = try byte()
            frame = Frame(.connack, [takes("present") ? 1 : 0, code])
        case "PUBLISH": (_, frame) = try publication()
        case "PUBACK": frame = Frame(.puback, try identifierBytes())
        case "PUBREC": frame = Frame(.pubrec, try identifierBytes())
        case "PUBREL": frame = Frame(.pubrel, try identifierBytes())
        case "PUBCOMP": frame = Frame(.pubcomp, try identifierBytes())
        case "UNSUBACK": frame = Frame(.unsuback, try identifierBytes())
        case "SUBSCRIBE":
            let identifier = try identifierBytes()
            frame = Frame(.subscribe, identifier + Wire.body(of: try subscriptions()))
        case "SUBACK":
            var body = try identifierBytes()
            while !isAtEnd, !isModifier { body.append(try byte()) }
            frame = Frame(.suback, body)
        case "UNSUBSCRIBE":
            let identifier = try identifierBytes()
            frame = Frame(.unsubscribe, identifier + (try filters()).flatMap { Wire.string($0) })
        case "PINGREQ": frame = Frame(.pingreq)
        case "PINGRESP": frame = Frame(.pingresp)
        case "DISCONNECT": frame = Frame(.disconnect)
        case "packet":
            let text = try word()
            guard let firstByte = UInt8(text.hasPrefix("0x") ? text.dropFirst(2) : text[...], radix: 16) else {
                throw Mistake(reason: "`\(text)` is no byte")
            }
            frame = Frame(firstByte: firstByte, body: try items())
        default: throw Mistake(reason: "`\(packet)` can't be sent")
        }
        return try modified(&frame)
    }

    private var isModifier: Bool {
        guard case .word(let word)? = tokens.first else { return false }
        return ["header", "pad", "cut", "remaining", "first"].contains(word)
    }

    private mutating func modified(_ frame: inout Frame) throws(Mistake) -> [UInt8] {
        var remainingLength: Int?
        var byteCount: Int?
        while isModifier {
            switch try word() {
            case "header": frame.firstByte = try byte()
            case "pad": frame.body += try items()
            case "cut":
                let count = try number(1...Wire.maximumRemainingLength)
                guard count <= frame.body.count else { throw Mistake(reason: "there are no \(count) bytes to cut") }
                frame.body.removeLast(count)
            case "remaining": remainingLength = try number(0...Wire.maximumRemainingLength)
            default: byteCount = try number(0...Int.max)
            }
        }
        let bytes = frame.bytes(remainingLength: remainingLength)
        return byteCount.map { Array(bytes.prefix($0)) } ?? bytes
    }

    /// `00 04 "MQTT" string "~A" 100 * 2f`
    private mutating func items() throws(Mistake) -> [UInt8] {
        var bytes: [UInt8] = []
        while !isAtEnd, !isModifier, tokens.first != .word("or") {
            if case .text? = tokens.first {
                bytes += try text()
            } else if takes("string") {
                bytes += Wire.string(try shortText())
            } else {
                let first = try word()
                if takes("*") {
                    guard let count = Int(first), let byte = UInt8(try word(), radix: 16) else {
                        throw Mistake(reason: "`100 * 2f` is wanted")
                    }
                    bytes += try repeated([byte], count)
                } else {
                    guard first.count == 2, let byte = UInt8(first, radix: 16) else {
                        throw Mistake(reason: "`\(first)` is no byte")
                    }
                    bytes.append(byte)
                }
            }
        }
        return bytes
    }

    private mutating func identifierBytes() throws(Mistake) -> [UInt8] { Wire.uint16(try identifier()) }

    private mutating func connect(from name: String, isPersistent: Bool) throws(Mistake) -> [UInt8] {
        Frame(.connect, try connectBody(from: name, isPersistent: isPersistent)).bytes()
    }

    private mutating func connectBody(from name: String, isPersistent: Bool) throws(Mistake) -> [UInt8] {
        var connect = Wire.Connect(clientIdentifier: Array("\(scope.home)\(name)".utf8))
        connect.cleanSession = !isPersistent
        while !isAtEnd, !isModifier {
            let field = try word()
            switch field {
            case "id": connect.clientIdentifier = try shortText()
            case "clean": connect.cleanSession = true
            case "persistent": connect.cleanSession = false
            case "keep-alive": connect.keepAlive = try identifier()
            case "will": connect.will = (try shortText(), try shortText())
            case "will-qos": connect.willQoS = try byte()
            case "will-retain": connect.isWillRetained = true
            case "user": connect.userName = try shortText()
            case "password": connect.password = try shortText()
            case "name": connect.protocolName = try shortText()
            case "level": connect.protocolLevel = try byte()
            case "flags": connect.flags = try byte()
            default: throw Mistake(reason: "CONNECT has no `\(field)`")
            }
        }
        return connect.body
    }

    private mutating func subscriptions() throws(Mistake) -> [(filter: [UInt8], qos: UInt8)] {
        var subscriptions: [(filter: [UInt8], qos: UInt8)] = []
        guard case .text? = tokens.first else { return [] }
        repeat { subscriptions.append((try shortText(), try byte())) } while takesComma()
        return subscriptions
    }

    private mutating func filters() throws(Mistake) -> [[UInt8]] {
        var filters: [[UInt8]] = []
        guard case .text? = tokens.first else { return [] }
        repeat { filters.append(try shortText()) } while takesComma()
        return filters
    }

    private mutating func publication() throws(Mistake) -> (Packet.Publication, Frame) {
        var publication = Packet.Publication(topic: try shortText(), payload: try text())
        while !isAtEnd, !isModifier {
            let field = try word()
            switch field {
            case "qos": publication.qos = UInt8(try number(0...3))
            case "id": publication.identifier = try identifier()
            case "dup": publication.isDuplicate = true
            case "retain": publication.isRetained = true
            default: throw Mistake(reason: "PUBLISH has no `\(field)`")
            }
        }
        return (publication, Wire.frame(of: publication))
    }

    // MARK: What is expected

    private mutating func patterns() throws(Mistake) -> [Script.Pattern] {
        var patterns = [try pattern()]
        while takes("or") { patterns.append(try pattern()) }
        return patterns
    }

    private mutating func pattern() throws(Mistake) -> Script.Pattern {
        let packet = try word()
        switch packet {
        case "CONNACK":
            let code = try byte()
            return .connack(code: code, isPresent: takes("present"))
        case "PUBLISH": return .publish(try publicationPattern())
        case "PUBACK": return .reply(.puback, try numberPattern())
        case "PUBREC": return .reply(.pubrec, try numberPattern())
        case "PUBREL": return .reply(.pubrel, try numberPattern())
        case "PUBCOMP": return .reply(.pubcomp, try numberPattern())
        case "UNSUBACK": return .reply(.unsuback, try numberPattern())
        case "SUBACK":
            let identifier = try numberPattern()
            var codes: [ClosedRange<Int>] = []
            while !isAtEnd, tokens.first != .word("or") { codes.append(try range()) }
            return .suback(identifier, codes)
        case "PINGRESP": return .pingresp
        case "nothing": return .nothing
        case "bytes": return .bytes(try items())
        case "closed":
            guard takes("within") else { return .closed(within: nil) }
            let text = try word()
            guard let middle = text.firstRange(of: ".."), let low = Duration(seconds: text[..<middle.lowerBound]),
                let high = Duration(seconds: text[middle.upperBound...]), low <= high
            else { throw Mistake(reason: "`closed within 1.4s..4s` is wanted") }
            return .closed(within: low...high)
        default: throw Mistake(reason: "`\(packet)` can't be expected")
        }
    }

    private mutating func publicationPattern() throws(Mistake) -> Script.PublicationPattern {
        let topic = try textPattern()
        let isPayloadLeftOut = isAtEnd && topic.isAny
        var pattern = Script.PublicationPattern(topic: topic, payload: isPayloadLeftOut ? .any : try textPattern())
        while !isAtEnd, tokens.first != .word("or") {
            let field = try word()
            switch field {
            case "qos": pattern.qos = try range()
            case "id": pattern.identifier = try numberPattern()
            case "dup": pattern.isDuplicate = true
            case "dup?": pattern.isDuplicate = nil
            case "retain": pattern.isRetained = true
            case "retain?": pattern.isRetained = nil
            default: throw Mistake(reason: "PUBLISH has no `\(field)`")
            }
        }
        return pattern
    }
}
