internal import Dispatch
import Glibc
import Locks
import Transport

/// One peer of `control.sock`: lines in, lines out. It blocks a queue of its own, never who awaits it. One call at a time.
final class ControlConnection: Sendable {
    enum Received: Sendable {
        /// Without its line feed.
        case line([UInt8])
        case tooLong
        /// The peer has gone, or was too slow.
        case over
    }

    private let descriptor: Descriptor
    private let patience: Double
    private let queue = DispatchQueue(label: "control connection")
    /// What came behind the last line.
    private let unread = Lock<[UInt8]>([])

    init(_ descriptor: consuming Descriptor, patience: Double) {
        self.descriptor = descriptor
        self.patience = patience
    }

    /// Whoever waits for it waits no longer. The corresponding C function is `shutdown`.
    func end() { shutdown(descriptor.rawValue, CInt(SHUT_RDWR)) }

    func nextLine(atMost limit: Int) async -> Received {
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: self.read(atMost: limit)) }
        }
    }

    /// A line; false where the peer does not take it.
    func send(_ line: [UInt8]) async -> Bool {
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: self.write(line + [UInt8(ascii: "\n")])) }
        }
    }

    /// The corresponding C function is `read`.
    private func read(atMost limit: Int) -> Received {
        let end = now() + patience
        var bytes = unread.withLock { unread in
            defer { unread = [] }
            return unread
        }
        var searched = 0
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            if let feed = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                guard feed <= limit else { return .tooLong }
                let rest = Array(bytes[(feed + 1)...])
                unread.withLock { $0 = rest }
                return .line(Array(bytes[..<feed]))
            }
            guard bytes.count <= limit else { return .tooLong }
            searched = bytes.count
            guard wait(for: POLLIN, until: end) else { return .over }
            let count = unsafe Glibc.read(descriptor.rawValue, &chunk, chunk.count)
            if count < 0, errno == EAGAIN || errno == EINTR { continue }
            guard count > 0 else { return .over }
            bytes += chunk.prefix(count)
        }
    }

    /// The corresponding C function is `send`.
    private func write(_ bytes: [UInt8]) -> Bool {
        let end = now() + patience
        var sent = 0
        while sent < bytes.count {
            guard wait(for: POLLOUT, until: end) else { return false }
            let count = unsafe bytes.span.extracting(sent...).withUnsafeBufferPointer {
                unsafe Glibc.send(descriptor.rawValue, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            if count < 0, errno == EAGAIN || errno == EINTR { continue }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    /// The corresponding C function is `poll`.
    private func wait(for event: CInt, until end: Double) -> Bool {
        while true {
            let left = end - now()
            guard left > 0 else { return false }
            var request = pollfd(fd: descriptor.rawValue, events: Int16(event), revents: 0)
            let count = unsafe poll(&request, 1, CInt(left * 1000) + 1)
            if count > 0 { return true }
            guard count == 0 || errno == EINTR else { return false }
        }
    }

    /// Seconds on the monotonic clock.
    private func now() -> Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e9 }
}
