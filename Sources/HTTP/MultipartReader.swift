/// The parts of a form (RFC 7578; RFC 2046, 5.1), from bytes that come in pieces. Keeps the piece at hand, and of the earlier
/// ones what may be the beginning of a boundary, or the fields of one part. What it is told is refused where the grammar does
/// not allow it: a form that two readers take apart differently is a way past one of them.
package struct MultipartReader: Sendable {
    package enum Limits {
        /// RFC 2046, 5.1.1.
        package static let boundaryBytes = 70
        /// Of the fields of one part, and of the line before them.
        package static let headerBytes = 4 << 10
        package static let parts = 32
        /// Before the first part and behind the last, which nobody reads.
        package static let ignoredBytes = 1 << 10
    }

    /// What stands above a part's bytes. All of it is the sender's word.
    package struct Part: Equatable, Sendable {
        package let name: String
        /// Nil: it is no file. As it was sent, whatever it has in it of a path.
        package let fileName: String?
        /// As it was sent; nil is text (RFC 7578, 4.4).
        package let contentType: String?
    }

    package enum Event: Equatable, Sendable {
        case part(Part)
        /// Of the part at hand; never none.
        case bytes([UInt8])
        case partEnd
        /// No more parts come.
        case end
    }

    /// Why it is no form; one sentence.
    package struct Malformed: Error, Equatable, Sendable, CustomStringConvertible {
        package let reason: String
        package var description: String { reason }

        fileprivate init(_ reason: String) { self.reason = reason }
    }

    private enum State: Sendable {
        case preamble
        /// Behind a boundary, on its line.
        case boundaryLine
        case fields
        /// Behind the empty line, which may be the line break of the next boundary too (RFC 2046, 5.1.1: `body-part`).
        case contentStart
        case content
        case epilogue
    }

    /// What begins a part, and ends the one before: a line break, two hyphens and the boundary.
    private let delimiter: [UInt8]
    private var state = State.preamble
    /// What was pushed and is not taken. A boundary that nothing stands before has its line break from here.
    private var input: [UInt8] = [13, 10]
    private var next = 0
    private var ignored = 0
    private var parts = 0

    /// Nil: it is something else than `multipart/form-data`. Throws where the boundary is missing, or is none.
    package init?(contentType: String) throws(Malformed) {
        let type = contentType.prefix { $0 != ";" && $0 != " " && $0 != "\t" }
        guard type.lowercased() == "multipart/form-data" else { return nil }
        guard let parameters = HeaderParameters(contentType) else {
            throw Malformed("the parameters of Content-Type can't be read")
        }
        guard let boundary = parameters["boundary"] else { throw Malformed("Content-Type names no boundary") }
        try self.init(boundary: boundary)
    }

    /// Throws where the characters, or their number, are not those of RFC 2046, 5.1.1.
    package init(boundary: String) throws(Malformed) {
        guard (1...Limits.boundaryBytes).contains(boundary.utf8.count) else {
            throw Malformed("a boundary has 1 to \(Limits.boundaryBytes) characters")
        }
        guard boundary.utf8.allSatisfy(\.isBoundaryCharacter), boundary.utf8.last != 32 else {
            throw Malformed("the boundary has characters that none may have")
        }
        delimiter = Array("\r\n--\(boundary)".utf8)
    }

    /// More bytes, when `event()` has no more to give.
    package mutating func push(_ bytes: [UInt8]) {
        precondition(input.count - next <= delimiter.count + Limits.headerBytes, "there are events left")
        if next == input.count {
            input = bytes
        } else {
            input.removeFirst(next)
            input += bytes
        }
        next = 0
    }

    /// Nil: more has to come.
    package mutating func event() throws(Malformed) -> Event? {
        while true {
            switch state {
            case .preamble:
                let (count, isDelimiter) = untilDelimiter()
                try ignore(isDelimiter ? count - delimiter.count : count)
                guard isDelimiter else { return nil }
                state = .boundaryLine
            case .boundaryLine:
                guard let isLast = try boundaryLine() else { return nil }
                state = isLast ? .epilogue : .fields
                if isLast { return .end }
            case .fields:
                guard let part = try fields() else { return nil }
                state = .contentStart
                return .part(part)
            case .contentStart:
                let boundary = delimiter.dropFirst(2)
                let candidate = input[next...].prefix(boundary.count)
                guard boundary.starts(with: candidate) else {
                    state = .content
                    continue
                }
                guard candidate.count == boundary.count else { return nil }
                next += boundary.count
                state = .boundaryLine
                return .partEnd
            case .content:
                let start = next
                let (count, isDelimiter) = untilDelimiter()
                let content = isDelimiter ? count - delimiter.count : count
                if content > 0 {
                    next = start + content
                    return .bytes(Array(input[start..<next]))
                }
                guard isDelimiter else { return nil }
                state = .boundaryLine
                return .partEnd
            case .epilogue:
                try ignore(input.count - next)
                next = input.count
                return nil
            }
        }
    }

    /// The body is over, and `event()` has no more to give. Throws where that is too early.
    package func finish() throws(Malformed) {
        guard case .epilogue = state else { throw Malformed("the form ends before its last boundary") }
    }

    private mutating func ignore(_ count: Int) throws(Malformed) {
        ignored += count
        // The line break that nobody has sent may be among them.
        guard ignored <= Limits.ignoredBytes + 2 else { throw Malformed("too much stands around the parts") }
    }

    /// Steps past what is no delimiter, or past the next one, and says how many bytes that was. What may be the beginning of
    /// one is left for later. Only its first byte is a carriage return: where it goes wrong, the next may begin.
    private mutating func untilDelimiter() -> (count: Int, isDelimiter: Bool) {
        let start = next
        while next < input.count {
            guard let place = input[next...].firstIndex(of: 13) else {
                next = input.count
                break
            }
            next = place
            let candidate = input[place...].prefix(delimiter.count)
            if delimiter.starts(with: candidate) {
                guard candidate.count == delimiter.count else { break }
                next += delimiter.count
                return (next - start, true)
            }
            next += 1
        }
        return (next - start, false)
    }

    /// Steps past what stands behind a boundary on its line: two hyphens, if it is the last one, or nothing but blanks. Nil:
    /// it goes on in what is to come.
    private mutating func boundaryLine() throws(Malformed) -> Bool? {
        let rest = input[next...]
        guard rest.count >= 2 else { return nil }
        if rest.starts(with: [UInt8(ascii: "-"), UInt8(ascii: "-")]) {
            next += 2
            return true
        }
        let blanks = rest.prefix(while: \.isBlank).count
        guard blanks <= Limits.headerBytes else { throw Malformed("a boundary's line is too long") }
        let lineBreak = rest.dropFirst(blanks).prefix(2)
        guard [13, 10].starts(with: lineBreak) else {
            throw Malformed("a line begins with the boundary, and goes on")
        }
        guard lineBreak.count == 2 else { return nil }
        next += blanks + 2
        return false
    }

    // MARK: Fields

    /// Steps past the fields of a part, and the empty line that ends them. Nil: they go on in what is to come.
    private mutating func fields() throws(Malformed) -> Part? {
        var lineStart = next
        var lines: [ArraySlice<UInt8>] = []
        while let end = input[lineStart...].firstIndex(of: 13), end + 1 < input.count {
            guard end + 2 - next <= Limits.headerBytes else { break }
            guard input[end + 1] == 10 else { throw Malformed("a line ends with CR LF") }
            let line = input[lineStart..<end]
            lineStart = end + 2
            guard !line.isEmpty else {
                next = lineStart
                return try part(of: lines)
            }
            lines.append(line)
        }
        guard input.count - next <= Limits.headerBytes else {
            throw Malformed("a part says more than \(Limits.headerBytes) bytes about itself")
        }
        return nil
    }

    private mutating func part(of lines: [ArraySlice<UInt8>]) throws(Malformed) -> Part {
        parts += 1
        guard parts <= Limits.parts else { throw Malformed("there are more than \(Limits.parts) parts") }
        var values: [String: String] = [:]
        for line in lines {
            let (name, value) = try Self.field(line)
            guard values.updateValue(value, forKey: name) == nil else { throw Malformed("a part has two \(name)") }
        }
        // RFC 7578, 4.7: bytes are sent as they are. Who encodes them all the same would have them stored like that.
        let encoding = values["content-transfer-encoding"]?.lowercased() ?? "binary"
        guard ["binary", "8bit", "7bit"].contains(encoding) else { throw Malformed("a part's bytes are encoded") }
        guard let disposition = values["content-disposition"].flatMap({ HeaderParameters($0) }),
            disposition.value == "form-data"
        else { throw Malformed("a part has no Content-Disposition: form-data that can be read") }
        guard let name = disposition["name"] else { throw Malformed("a part has no name") }
        // RFC 7578, 4.2 forbids it; who heeds it sees another name than who does not.
        guard disposition["filename*"] == nil else { throw Malformed("a file's name is given as filename*") }
        return Part(name: name, fileName: disposition["filename"], contentType: values["content-type"])
    }

    private static func field(_ line: ArraySlice<UInt8>) throws(Malformed) -> (name: String, value: String) {
        guard line.allSatisfy({ $0 >= 32 && $0 != 127 || $0 == 9 }) else {
            throw Malformed("a part's fields have control characters")
        }
        let name = line.prefix(while: \.isTokenCharacter)
        var value = line.dropFirst(name.count)
        guard !name.isEmpty, value.popFirst() == UInt8(ascii: ":") else {
            throw Malformed("a line above a part is no field")
        }
        value = value.drop(while: \.isBlank)
        while value.last?.isBlank == true { value.removeLast() }
        guard let text = String(validating: value, as: UTF8.self) else {
            throw Malformed("a part's fields are no UTF-8")
        }
        return (String(decoding: name, as: UTF8.self).lowercased(), text)
    }
}

extension UInt8 {
    /// RFC 2046, 5.1.1.
    fileprivate var isBoundaryCharacter: Bool {
        isDigit || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) || "'()+_,-./:=? ".utf8.contains(self)
    }
}
