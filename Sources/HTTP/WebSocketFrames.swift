/// Why a WebSocket ends; the code that its Close frame says (RFC 6455, 7.4.1).
package struct WebSocketFailure: Error, Equatable, Sendable, CustomStringConvertible {
    package let code: UInt16
    package let reason: String

    static func violation(_ reason: String) -> WebSocketFailure { WebSocketFailure(code: 1002, reason: reason) }

    package var description: String { "WebSocket: \(reason)" }
}

/// Takes a client's frames apart (RFC 6455, 5): what they carry is one stream, cut anywhere [MQTT-6.0.0-2].
package struct WebSocketReader: Sendable {
    /// What came among the data.
    package enum Control: Equatable, Sendable {
        case ping([UInt8])
        case close([UInt8])
    }

    private static let controlBytes = 125

    /// The header of the frame at hand as far as it has come, at most 14 bytes.
    private var header: [UInt8] = []
    private var left: UInt64 = 0
    private var mask: UInt32 = 0
    private var isInFrame = false
    private var opcode: UInt8 = 0
    /// A message is under way whose last frame has not come.
    private var isInMessage = false
    private var control: [UInt8] = []
    private var isClosed = false
    /// What came among the data and was not taken yet.
    private var controls: [Control] = []
    /// What it broke; nothing counts any more.
    package private(set) var failure: WebSocketFailure?

    package init() {}

    package mutating func takeControls() -> [Control] {
        guard !controls.isEmpty else { return [] }
        defer { controls = [] }
        return controls
    }

    /// Takes what has come into `bytes[range]` apart, in place: what it carries lies from the beginning of the range on, and so
    /// many bytes it is. Behind a Close nothing counts.
    package mutating func take(_ bytes: inout [UInt8], in range: Range<Int>) -> Int {
        var (from, to) = (range.lowerBound, range.lowerBound)
        while from < range.upperBound, !isClosed, failure == nil {
            guard isInFrame else {
                header.append(bytes[from])
                from += 1
                do throws(WebSocketFailure) { try beginFrame() } catch { failure = error }
                if isInFrame, left == 0 { endFrame() }
                continue
            }
            let count = Int(min(left, UInt64(range.upperBound - from)))
            if opcode & 8 != 0 {
                for index in from..<(from + count) { control.append(bytes[index] ^ nextMask()) }
            } else {
                unmask(&bytes, from, count, to)
                to += count
            }
            from += count
            left -= UInt64(count)
            if left == 0 { endFrame() }
        }
        return to - range.lowerBound
    }

    @inline(__always)
    private mutating func nextMask() -> UInt8 {
        let byte = UInt8(truncatingIfNeeded: mask)
        mask = mask >> 8 | mask << 24
        return byte
    }

    /// Moves `count` bytes from `from` to `to`, which does not lie behind it.
    private mutating func unmask(_ bytes: inout [UInt8], _ from: Int, _ count: Int, _ to: Int) {
        var span = bytes.mutableSpan
        for index in 0..<count { span[to + index] = span[from + index] ^ nextMask() }
    }

    /// Once the header is whole. Throws as soon as it can't become one.
    private mutating func beginFrame() throws(WebSocketFailure) {
        let first = header[0]
        if header.count == 1 { return try check(first) }
        guard header[1] & 0x80 != 0 else { throw .violation("a client masks its frames") }
        let short = Int(header[1] & 0x7F)
        let lengthBytes = short == 126 ? 2 : short == 127 ? 8 : 0
        if header.count == 2, first & 8 != 0, short > Self.controlBytes {
            throw .violation("a control frame has at most 125 bytes")
        }
        guard header.count == 2 + lengthBytes + 4 else { return }
        let length =
            lengthBytes == 0 ? UInt64(short) : header[2..<(2 + lengthBytes)].reduce(0) { $0 << 8 | UInt64($1) }
        let isShortest = lengthBytes == 0 || length > (lengthBytes == 2 ? 125 : 0xFFFF)
        guard isShortest, length >> 63 == 0 else { throw .violation("a frame's length is not in its shortest form") }
        mask = header.suffix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
        (opcode, left, isInFrame) = (first & 0x0F, length, true)
        header.removeAll(keepingCapacity: true)
        if opcode & 8 == 0 { isInMessage = first & 0x80 == 0 }
    }

    private func check(_ first: UInt8) throws(WebSocketFailure) {
        guard first & 0x70 == 0 else { throw .violation("a reserved bit is set, and no extension was agreed on") }
        switch first & 0x0F {
        case 0: guard isInMessage else { throw .violation("a continuation of nothing") }
        case 1: throw WebSocketFailure(code: 1003, reason: "MQTT goes in binary frames")  // [MQTT-6.0.0-1]
        case 2: guard !isInMessage else { throw .violation("a message begins within another") }
        case 8, 9, 10: guard first & 0x80 != 0 else { throw .violation("a control frame is not fragmented") }
        default: throw .violation("a frame of a kind that there is not")
        }
    }

    private mutating func endFrame() {
        isInFrame = false
        guard opcode & 8 != 0 else { return }
        defer { control = [] }
        switch opcode {
        case 8:
            isClosed = true
            controls.append(.close(control))
        case 9: controls.append(.ping(control))
        default: break  // A pong nobody asked for (RFC 6455, 5.5.3).
        }
    }
}

/// The server's frames: whole, unmasked, binary.
package enum WebSocketWriter {
    /// What stands before so many bytes of data.
    package static func header(of count: Int, into bytes: inout [UInt8]) {
        bytes.append(0x82)
        switch count {
        case ..<126: bytes.append(UInt8(count))
        case ...0xFFFF: bytes += [126, UInt8(count >> 8), UInt8(count & 0xFF)]
        default: bytes += [127] + (0..<8).map { UInt8(truncatingIfNeeded: count >> (56 - 8 * $0)) }
        }
    }

    package static func pong(_ data: [UInt8]) -> [UInt8] { [0x8A, UInt8(data.count)] + data }

    /// With the code that the other side's Close frame said, if it did.
    package static func close(answering data: [UInt8]) -> [UInt8] {
        guard !data.isEmpty else { return [0x88, 0] }
        guard data.count >= 2 else { return close(1002) }
        let code = UInt16(data[0]) << 8 | UInt16(data[1])
        return close(maySay(code) ? code : 1002)
    }

    /// RFC 6455, 7.4.2, and the registry of its codes.
    private static func maySay(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }

    package static func close(_ code: UInt16) -> [UInt8] { [0x88, 2, UInt8(code >> 8), UInt8(code & 0xFF)] }
}
