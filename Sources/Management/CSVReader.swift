/// Records of comma-separated values (RFC 4180), from bytes that come in parts. Keeps one record, and the part at hand.
package struct CSVReader: Sendable {
    package enum Limits {
        /// Of a record, quotes and commas not counted.
        package static let recordBytes = 8 << 10
        package static let fields = 32
    }

    package struct Record: Sendable, Equatable {
        /// Where it begins, from 1.
        package let line: Int
        package let fields: [String]
        /// What it can't be used for; the next may be sound.
        package let problem: String?
    }

    /// Where the next record would begin nobody knows any more.
    package struct Malformed: Error, Equatable, Sendable {
        package let line: Int
        package let reason: String
    }

    private enum Place: Sendable {
        case recordStart, fieldStart, plain, quoted
        /// Behind a quotation mark in a quoted field: its end, or the first half of one that is meant.
        case afterQuote
        /// Only a line feed may follow.
        case carriageReturn
    }

    private static let mark: [UInt8] = [0xEF, 0xBB, 0xBF]

    private var part: [UInt8] = []
    private var next = 0
    private var place = Place.recordStart
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var line = 1
    private var began = 1
    /// Of the byte order mark that some programs begin a file with; nil: it is no longer looked for.
    private var markBytes: Int? = 0

    package init() {}

    /// More bytes, when `record()` has no more to give.
    package mutating func push(_ bytes: [UInt8]) {
        precondition(next == part.count, "there are records left")
        (part, next) = (bytes, 0)
    }

    /// Nil: it goes on in the part to come.
    package mutating func record() throws(Malformed) -> Record? {
        while next < part.count {
            let byte = part[next]
            next += 1
            if try take(byte), let record = finishedRecord() { return record }
        }
        return nil
    }

    /// What is left when nothing more comes; nil: nothing.
    package mutating func last() throws(Malformed) -> Record? {
        switch place {
        case .quoted: throw Malformed(line: began, reason: "a quotation mark is never closed")
        case .recordStart:
            guard let count = markBytes, count > 0 else { return nil }
            try skipMark(at: count)  // Half of one is text.
        case .carriageReturn: throw loneReturn
        case .fieldStart, .plain, .afterQuote: break
        }
        endField()
        return finishedRecord()
    }

    private var loneReturn: Malformed { Malformed(line: line, reason: "a carriage return without a line feed") }

    /// True: the record is whole.
    private mutating func take(_ byte: UInt8) throws(Malformed) -> Bool {
        if let count = markBytes {
            guard byte != Self.mark[count] else {
                markBytes = count == 2 ? nil : count + 1
                return false
            }
            try skipMark(at: count)
        }
        switch (place, byte) {
        case (.carriageReturn, UInt8(ascii: "\n")): return endRecord()
        case (.carriageReturn, _): throw loneReturn
        case (.quoted, UInt8(ascii: "\"")): place = .afterQuote
        case (.quoted, _):
            if byte == UInt8(ascii: "\n") { line += 1 }
            try keep(byte)
        case (.afterQuote, UInt8(ascii: "\"")):
            place = .quoted
            try keep(byte)
        case (_, UInt8(ascii: "\n")): return endRecord()
        case (_, UInt8(ascii: "\r")): place = .carriageReturn
        case (_, UInt8(ascii: ",")):
            endField()
            place = .fieldStart
        case (.afterQuote, _): throw Malformed(line: line, reason: "text behind a closing quotation mark")
        case (.recordStart, UInt8(ascii: "\"")), (.fieldStart, UInt8(ascii: "\"")): place = .quoted
        case (.plain, UInt8(ascii: "\"")):
            throw Malformed(line: line, reason: "a quotation mark in a field that does not begin with one")
        default:
            place = .plain
            try keep(byte)
        }
        return false
    }

    /// What has looked like a byte order mark is none: it is text.
    private mutating func skipMark(at count: Int) throws(Malformed) {
        markBytes = nil
        for byte in Self.mark.prefix(count) {
            place = .plain
            try keep(byte)
        }
    }

    private mutating func keep(_ byte: UInt8) throws(Malformed) {
        guard bytes.count < Limits.recordBytes else {
            throw Malformed(line: began, reason: "a record has more than \(Limits.recordBytes) bytes")
        }
        bytes.append(byte)
    }

    /// One too many is enough to know it.
    private mutating func endField() {
        if ends.count <= Limits.fields { ends.append(bytes.count) }
    }

    private mutating func endRecord() -> Bool {
        endField()
        line += 1
        place = .recordStart
        return true
    }

    /// Nil: it was an empty line.
    private mutating func finishedRecord() -> Record? {
        defer {
            bytes.removeAll(keepingCapacity: true)
            ends.removeAll(keepingCapacity: true)
            (began, place) = (line, .recordStart)
        }
        if ends.count == 1, bytes.isEmpty { return nil }
        guard ends.count <= Limits.fields else {
            return Record(line: began, fields: [], problem: "more than \(Limits.fields) fields")
        }
        var fields: [String] = []
        var start = 0
        for end in ends {
            guard let text = String(validating: bytes[start..<end], as: UTF8.self) else {
                return Record(line: began, fields: [], problem: "this is not UTF-8")
            }
            fields.append(text)
            start = end
        }
        return Record(line: began, fields: fields, problem: nil)
    }
}
