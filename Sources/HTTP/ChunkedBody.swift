/// Reads a body in chunks (RFC 9112, 7.1). Nothing but what the grammar allows; extensions and trailers are thrown away.
struct ChunkedBody: Equatable, Sendable {
    private enum State: Equatable {
        case size
        /// Behind the digits, until the line ends.
        case extensions
        case sizeFeed
        case data
        case dataReturn, dataFeed
        /// At the beginning of a line of the trailer section, within one, and at its end.
        case trailer, trailerLine, trailerFeed, lastFeed
        case over
    }

    private var state = State.size
    private var size = 0
    private var digits = 0
    /// Of the line of a chunk's size, or of the trailers, so far.
    private var lineBytes = 0

    var isOver: Bool { state == .over }

    /// Takes what it can from `offset` on and steps past it: up to the end of the body, or of one chunk's data in `bytes`, which
    /// it returns.
    mutating func next(in bytes: Span<UInt8>, _ offset: inout Int) throws(RequestRefusal) -> Range<Int>? {
        while offset < bytes.count, state != .over {
            if state == .data {
                let count = min(size, bytes.count - offset)
                defer { offset += count }
                size -= count
                if size == 0 { state = .dataReturn }
                return offset..<(offset + count)
            }
            try take(bytes[offset])
            offset += 1
        }
        return nil
    }

    private mutating func take(_ byte: UInt8) throws(RequestRefusal) {
        switch state {
        case .size: try takeSize(byte)
        case .extensions:
            try count(upTo: HTTPLimits.chunkLineBytes)
            if byte == 13 { state = .sizeFeed } else { try checkText(byte) }
        case .sizeFeed:
            try expect(byte, 10)
            state = size == 0 ? .trailer : .data
            (digits, lineBytes) = (0, 0)
        case .dataReturn:
            try expect(byte, 13)
            state = .dataFeed
        case .dataFeed:
            try expect(byte, 10)
            state = .size
        case .trailer:
            try count(upTo: HTTPLimits.trailerBytes)
            if byte == 13 {
                state = .lastFeed
            } else {
                guard byte.isTokenCharacter else { throw .malformed("this is no trailer") }
                state = .trailerLine
            }
        case .trailerLine:
            try count(upTo: HTTPLimits.trailerBytes)
            if byte == 13 { state = .trailerFeed } else { try checkText(byte) }
        case .trailerFeed:
            try expect(byte, 10)
            state = .trailer
        case .lastFeed:
            try expect(byte, 10)
            state = .over
        case .data, .over: preconditionFailure("next() sees to it")
        }
    }

    private mutating func takeSize(_ byte: UInt8) throws(RequestRefusal) {
        if let digit = byte.hexadecimalValue {
            digits += 1
            guard digits <= 15 else { throw .malformed("a chunk is too large") }
            size = size << 4 | digit
            return
        }
        guard digits > 0 else { throw .malformed("a chunk begins with its size") }
        switch byte {
        case 13: state = .sizeFeed
        case UInt8(ascii: ";"): state = .extensions
        default: throw .malformed("a chunk's size is hexadecimal")
        }
    }

    private mutating func count(upTo limit: Int) throws(RequestRefusal) {
        lineBytes += 1
        guard lineBytes <= limit else { throw .malformed("a body in chunks says too much besides its data") }
    }

    private func checkText(_ byte: UInt8) throws(RequestRefusal) {
        guard byte >= 32 && byte != 127 || byte == 9 else { throw .malformed("a line ends with CR LF") }
    }

    private func expect(_ byte: UInt8, _ wanted: UInt8) throws(RequestRefusal) {
        guard byte == wanted else { throw .malformed("a chunk ends with CR LF") }
    }
}

extension UInt8 {
    fileprivate var hexadecimalValue: Int? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(self - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): Int(self - UInt8(ascii: "a")) + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): Int(self - UInt8(ascii: "A")) + 10
        default: nil
        }
    }
}
