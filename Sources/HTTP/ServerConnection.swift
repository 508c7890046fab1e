/// One connection's requests, one after the other, from the bytes that come (RFC 9112, 9.3.2): what is next follows when the
/// last is answered. Decides; whoever calls reads, answers and keeps the time.
package struct ServerConnection: Sendable {
    /// What has come.
    package enum Event: Sendable {
        case head(RequestHead)
        /// A part of the body of the request at hand.
        case body([UInt8])
        /// All of that has come.
        case end
        /// More has to come.
        case nothing
        /// The answer has to go first.
        case waiting
    }

    private enum State: Sendable {
        case head
        case length(Int)
        case chunked(ChunkedBody)
        /// All of the body is here: `end` is next.
        case ending
        case answering
    }

    private var state = State.head
    private var searched = 0
    /// Empty lines before a request, which some clients send behind an earlier body (RFC 9112, 2.2).
    private var emptyLines = 0

    package init() {}

    /// Between requests: nothing of the next has come, as far as `next` was told.
    package var isIdle: Bool { if case .head = state { searched == 0 } else { false } }
    package var isReadingHead: Bool { if case .head = state { true } else { false } }
    package var isReadingBody: Bool {
        switch state {
        case .length, .chunked, .ending: true
        case .head, .answering: false
        }
    }

    /// What `bytes` has from `offset` on; steps past what it took. Called until it returns `nothing` or `waiting`.
    package mutating func next(in bytes: Span<UInt8>, _ offset: inout Int) throws(RequestRefusal) -> Event {
        switch state {
        case .head: return try nextHead(in: bytes, &offset)
        case .length(let left):
            guard offset < bytes.count else { return .nothing }
            let count = min(left, bytes.count - offset)
            defer { offset += count }
            state = count == left ? .ending : .length(left - count)
            return .body(bytes.extracting(offset..<(offset + count)).copied())
        case .chunked(var body):
            let data = try body.next(in: bytes, &offset)
            state = body.isOver ? .ending : .chunked(body)
            if let data { return .body(bytes.extracting(data).copied()) }
            return body.isOver ? try next(in: bytes, &offset) : .nothing
        case .ending:
            state = .answering
            return .end
        case .answering: return .waiting
        }
    }

    private mutating func nextHead(in bytes: Span<UInt8>, _ offset: inout Int) throws(RequestRefusal) -> Event {
        while emptyLines < 2, bytes.count - offset >= 2, bytes[offset] == 13, bytes[offset + 1] == 10 {
            offset += 2
            emptyLines += 1
        }
        guard offset < bytes.count else { return .nothing }
        var place = offset + searched
        guard let end = try RequestHead.end(in: bytes, from: offset, searched: &place) else {
            searched = max(place - offset, 1)
            return .nothing
        }
        let head = try RequestHead(parsing: bytes.extracting(offset..<end))
        (offset, searched, emptyLines) = (end, 0, 0)
        state =
            switch head.framing {
            case .none: .ending
            case .length(let length): .length(length)
            case .chunked: .chunked(ChunkedBody())
            }
        return .head(head)
    }

    /// The request at hand is answered, and all of it has come.
    package mutating func answered() {
        guard case .answering = state else { preconditionFailure("answered before its end has come") }
        state = .head
    }
}
