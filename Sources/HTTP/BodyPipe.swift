internal import Locks

/// Why a body does not come to its end.
package enum BodyError: Error, Equatable, Sendable {
    /// The client has gone, or was too slow.
    case connectionLost
    case malformed(RequestRefusal)
    /// It is longer than its reader takes.
    case tooLong(limit: Int)
}

/// A request's body on its way from the connection to whoever handles the request. Its bound is what makes a fast sender
/// wait for a slow reader. From any thread; one reader.
package final class BodyPipe: Sendable {
    /// Bytes that wait here before the connection is no longer read.
    package static let bound = 128 << 10

    private static let joinedBytes = 4 << 10

    private struct State: Sendable {
        var chunks: [[UInt8]] = []
        var next = 0
        var bytes = 0
        var isOver = false
        var failure: BodyError?
        var reader: CheckedContinuation<[UInt8]?, any Error>?
        var isAsked = false

        /// Small chunks become one, for each array costs memory besides its bytes.
        mutating func append(_ chunk: [UInt8]) {
            bytes += chunk.count
            if next < chunks.count, chunks[chunks.count - 1].count + chunk.count <= BodyPipe.joinedBytes {
                chunks[chunks.count - 1] += chunk
            } else {
                chunks.append(chunk)
            }
        }

        mutating func take() -> [UInt8]? {
            guard next < chunks.count else { return nil }
            defer {
                next += 1
                if next == chunks.count { (chunks, next) = ([], 0) }
            }
            bytes -= chunks[next].count
            return chunks[next]
        }
    }

    private let state = Lock(State())
    private let onAsked: @Sendable () -> Void
    private let onRoom: @Sendable () -> Void

    /// `onAsked`: somebody wants the body, for the first time. `onRoom`: a reader has taken something.
    package init(onAsked: @escaping @Sendable () -> Void, onRoom: @escaping @Sendable () -> Void) {
        self.onAsked = onAsked
        self.onRoom = onRoom
    }

    /// Without a body.
    package static var empty: BodyPipe {
        let pipe = BodyPipe(onAsked: {}, onRoom: {})
        pipe.finish()
        return pipe
    }

    // MARK: The connection's side

    package func push(_ chunk: [UInt8]) {
        guard !chunk.isEmpty else { return }
        let reader = state.withLock { state -> CheckedContinuation<[UInt8]?, any Error>? in
            guard !state.isOver, state.failure == nil else { return nil }
            guard let reader = state.reader else {
                state.append(chunk)
                return nil
            }
            state.reader = nil
            return reader
        }
        reader?.resume(returning: chunk)
    }

    package var isFull: Bool { state.withLock { $0.bytes >= Self.bound } }
    package var isAsked: Bool { state.withLock { $0.isAsked } }

    package func finish() {
        state.withLock { state in
            state.isOver = true
            defer { state.reader = nil }
            return state.reader
        }?.resume(returning: nil)
    }

    package func fail(_ error: BodyError) {
        state.withLock { state in
            state.failure = state.failure ?? error
            (state.chunks, state.next, state.bytes) = ([], 0, 0)
            defer { state.reader = nil }
            return state.reader
        }?.resume(throwing: error)
    }

    // MARK: The reader's side

    /// The next part; nil at the end. Throws `BodyError`.
    package func next() async throws -> [UInt8]? {
        let isFirst = state.withLock { state in
            defer { state.isAsked = true }
            return !state.isAsked
        }
        if isFirst { onAsked() }
        defer { onRoom() }
        return try await withCheckedThrowingContinuation { continuation in
            let result = state.withLock { state -> Result<[UInt8]?, any Error>? in
                if let failure = state.failure { return .failure(failure) }
                if let chunk = state.take() { return .success(chunk) }
                if state.isOver { return .success(nil) }
                precondition(state.reader == nil, "a body has one reader")
                state.reader = continuation
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }

    /// All of it. Throws `BodyError`, `.tooLong` past `limit` bytes.
    package func collect(upTo limit: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let chunk = try await next() {
            bytes += chunk
            guard bytes.count <= limit else { throw BodyError.tooLong(limit: limit) }
        }
        return bytes
    }
}
