/// Whether what came is what a line expects, and how a line that was not met is told.
extension CaseRun {
    func matches(_ arrival: Client.Arrival, _ pattern: Script.Pattern) -> Bool {
        switch (arrival, pattern) {
        case (.closed, .closed(within: nil)): return true
        case (.packet(.connack(let flags, let code), _), .connack(let wanted, let isPresent)):
            return code == wanted && flags == (isPresent ? 1 : 0)
        case (.packet(.publish(let publication), _), .publish(let wanted)):
            guard matches(publication, wanted) else { return false }
            latestQoS = publication.qos
            latestIdentifier = publication.identifier
            return true
        case (.packet(.reply(let kind, let identifier), _), .reply(let wanted, let number)):
            return kind == wanted && matches(Int(identifier), number)
        case (.packet(.suback(let identifier, let codes), _), .suback(let number, let wanted)):
            return codes.count == wanted.count && zip(codes, wanted).allSatisfy { $1.contains(Int($0)) }
                && matches(Int(identifier), number)
        case (.packet(.pingresp, _), .pingresp): return true
        case (.packet(_, let frame), .bytes(let bytes)): return frame.bytes() == bytes
        default: return false
        }
    }

    func matches(_ publication: Packet.Publication, _ pattern: Script.PublicationPattern) -> Bool {
        pattern.topic.matches(publication.topic) && pattern.payload.matches(publication.payload)
            && pattern.qos.contains(Int(publication.qos))
            && (publication.qos == 0 || publication.identifier != 0)  // [MQTT-2.3.1-1]
            && pattern.isDuplicate.map { $0 == publication.isDuplicate } ?? true
            && pattern.isRetained.map { $0 == publication.isRetained } ?? true
            && matches(Int(publication.identifier), pattern.identifier)
    }

    func matches(_ number: Int, _ pattern: Script.NumberPattern) -> Bool {
        switch pattern {
        case .any: return true
        case .exactly(let wanted): return number == wanted
        case .variable(let name):
            if let bound = variables[name] { return bound == number }
            variables[name] = number
            return true
        }
    }

    func failure(_ evidence: Failure.Evidence, expected: String, came: String) -> Failure {
        Failure(line: line.number, source: line.text, expected: expected, came: came, evidence: evidence)
    }

    func failure(_ arrival: Client.Arrival, expected patterns: [Script.Pattern]) -> Failure {
        let expected = patterns.map { describe($0) }.joined(separator: " or ")
        switch arrival {
        case .packet(let packet, let frame):
            return failure(.unexpected, expected: expected, came: "\(packet)   [\(hexadecimal(frame.bytes()))]")
        case .closed: return failure(.unexpected, expected: expected, came: "the broker closed the connection")
        case .garbage(let bytes):
            return failure(.unexpected, expected: expected, came: "bytes that are no packet: \(hexadecimal(bytes))")
        case .illegal(let reason): return failure(.unexpected, expected: expected, came: reason)
        case .silence:
            return failure(
                .silence, expected: expected, came: "nothing, though the broker answered what was sent later")
        case .timedOut: return failure(.timeLimit, expected: expected, came: "nothing at all")
        }
    }

    private func describe(_ pattern: Script.Pattern) -> String {
        switch pattern {
        case .connack(let code, let isPresent): "\(Packet.connack(flags: isPresent ? 1 : 0, code: code))"
        case .publish(let pattern):
            "PUBLISH \(pattern.topic) \(pattern.payload)"
                + (pattern.qos == 0...0 ? "" : " qos \(pattern.qos.text) id \(describe(pattern.identifier))")
                + (pattern.isDuplicate.map { $0 ? " dup" : "" } ?? " dup?")
                + (pattern.isRetained.map { $0 ? " retain" : "" } ?? " retain?")
        case .reply(let kind, let identifier): "\(kind.name) \(describe(identifier))"
        case .suback(let identifier, let codes):
            "SUBACK \(describe(identifier)) " + codes.map(\.code).joined(separator: " ")
        case .pingresp: "PINGRESP"
        case .closed(let range): "closed" + (range.map { " within \($0.lowerBound)..\($0.upperBound)" } ?? "")
        case .nothing: "nothing but PINGRESP and UNSUBACK"
        case .bytes(let bytes): "bytes \(hexadecimal(bytes))"
        }
    }

    private func describe(_ pattern: Script.NumberPattern) -> String {
        switch pattern {
        case .any, .variable(" received"): "*"
        case .exactly(let number): "\(number)"
        case .variable(let name): variables[name].map { "\($0)" } ?? ":\(name)"
        }
    }
}

extension Script.TextPattern: CustomStringConvertible {
    fileprivate func matches(_ bytes: [UInt8]) -> Bool {
        switch self {
        case .any: true
        case .exactly(let wanted): bytes == wanted
        case .beginning(let wanted): bytes.starts(with: wanted)
        }
    }

    var description: String {
        switch self {
        case .any: "*"
        case .exactly(let bytes): quoted(bytes)
        case .beginning(let bytes): quoted(bytes) + "..."
        }
    }
}

extension ClosedRange<Int> {
    /// A return code, as a case writes it.
    var code: String {
        lowerBound == upperBound && lowerBound > 2 ? "0x" + hexadecimal(UInt8(lowerBound)) : text
    }

    var text: String { lowerBound == upperBound ? "\(lowerBound)" : "\(lowerBound)..\(upperBound)" }
}
