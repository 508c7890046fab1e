import Glibc

/// Bytes on their way to one peer. Collects what a turn produces, so that it leaves in one write; a long message is
/// not copied but referred to.
package struct OutputBuffer: Sendable {
    /// A part that lies elsewhere, and the place in `bytes` that it goes before.
    private struct Shared: Sendable {
        let position: Int
        let bytes: [UInt8]
        var sent: Int
    }

    /// Of one record of TLS (RFC 8446 5.1).
    package static let recordBytes = 16 << 10

    private var bytes: [UInt8] = []
    /// How much of `bytes` has gone.
    private var sent = 0
    private var shared: [Shared] = []
    private var sharedCount = 0
    /// Packets appended, and bytes that have gone, since it was last empty.
    private var appended: Int32 = 0
    private var gone = 0

    package init() {}

    /// Bytes that the kernel has not taken.
    package var count: Int { bytes.count - sent + sharedCount }
    /// About how many packets they are: what has gone in part is taken to be made of packets of the same length.
    package var packetCount: Int {
        count == 0 ? 0 : max((Int(appended) * count + (count + gone) / 2) / (count + gone), 1)
    }
    package var isEmpty: Bool { bytes.count == sent && sharedCount == 0 }

    /// Lets `encode` append to the buffer, which comes out of `pool` when this one holds none.
    @inline(__always)
    package mutating func append(pool: inout BufferPool, _ encode: (inout [UInt8]) -> Void) {
        if bytes.capacity == 0 { bytes = pool.take() }
        encode(&bytes)
        appended &+= 1
    }

    /// Appends `bytes[offset...]` without copying them.
    package mutating func append(shared part: [UInt8], from offset: Int) {
        guard offset < part.count else { return }
        shared.append(Shared(position: bytes.count, bytes: part, sent: offset))
        sharedCount += part.count - offset
    }

    /// Appends a range of an open file, or what there is of it; returns how much that is. The corresponding C function is
    /// `pread`.
    package mutating func append(
        fromFile file: CInt, _ range: Range<Int>, pool: inout BufferPool
    ) throws(SystemError) -> Int {
        if bytes.capacity == 0 { bytes = pool.take() }
        let start = bytes.count
        bytes += repeatElement(0, count: range.count)
        var result = -1
        repeat {
            result = unsafe bytes.withUnsafeMutableBytes { buffer in
                let free = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[start...])
                return unsafe pread(file, free.baseAddress, free.count, off_t(range.lowerBound))
            }
        } while result < 0 && errno == EINTR
        let code = errno
        bytes.removeLast(range.count - max(result, 0))
        guard result >= 0 else { throw SystemError(code, during: "pread") }
        if result > 0 { appended &+= 1 }
        return result
    }

    /// Appends all that `other` holds, which is empty then.
    package mutating func append(_ other: inout OutputBuffer, pool: inout BufferPool) {
        if bytes.capacity == 0 { bytes = pool.take() }
        let shift = bytes.count - other.sent
        for part in other.shared {
            shared.append(Shared(position: part.position + shift, bytes: part.bytes, sent: part.sent))
        }
        sharedCount += other.sharedCount
        bytes += other.bytes[other.sent...]
        appended &+= other.appended
        other.bytes.removeAll(keepingCapacity: true)
        pool.give(&other.bytes)
        other = OutputBuffer()
    }

    /// Writes until all is gone, or the kernel takes no more. Gives its memory back to `pool` once it is empty.
    package mutating func flush(to stream: Stream, pool: inout BufferPool) -> Stream.WriteResult {
        var total = 0
        while !isEmpty {
            let result: Stream.WriteResult
            if stream.isSecure, !shared.isEmpty {
                result = writeRecord(to: stream, pool: &pool)
            } else if let first = shared.first, first.position == sent {
                result = stream.write(first.bytes.span.extracting(first.sent..<first.bytes.count))
            } else {
                result = stream.write(bytes.span.extracting(sent..<(shared.first?.position ?? bytes.count)))
            }
            guard case .bytes(let count) = result else {
                if total > 0, result == .wouldBlock { break }
                return result
            }
            total += count
            consume(count)
        }
        if isEmpty {
            bytes.removeAll(keepingCapacity: true)
            sent = 0
            appended = 0
            gone = 0
            pool.give(&bytes)
        } else if sent > 64 << 10 {
            for index in shared.indices {
                shared[index] = Shared(
                    position: shared[index].position - sent, bytes: shared[index].bytes, sent: shared[index].sent
                )
            }
            bytes.removeFirst(sent)
            sent = 0
        }
        return .bytes(total)
    }

    /// Parts that lie apart, in one record: each record is encrypted, and so copied, anyway. After a write that the kernel
    /// did not take, OpenSSL wants the same bytes again, and at least as many: here they are, for nothing gets shorter.
    private func writeRecord(to stream: Stream, pool: inout BufferPool) -> Stream.WriteResult {
        var record = pool.take()
        defer {
            record.removeAll(keepingCapacity: true)
            pool.give(&record)
        }
        var position = sent
        for part in shared {
            record += bytes[position..<min(part.position, position + Self.recordBytes - record.count)]
            guard record.count < Self.recordBytes else { return stream.write(record.span) }
            position = part.position
            record += part.bytes[part.sent..<min(part.bytes.count, part.sent + Self.recordBytes - record.count)]
        }
        record += bytes[position..<min(bytes.count, position + Self.recordBytes - record.count)]
        return stream.write(record.span)
    }

    /// Over several parts, where a record had them.
    private mutating func consume(_ count: Int) {
        gone += count
        var left = count
        while left > 0 {
            guard let first = shared.first, first.position == sent else {
                let step = min(left, (shared.first?.position ?? bytes.count) - sent)
                sent += step
                left -= step
                continue
            }
            let step = min(left, first.bytes.count - first.sent)
            sharedCount -= step
            shared[0].sent += step
            left -= step
            if shared[0].sent == first.bytes.count { shared.removeFirst() }
        }
    }
}

/// Buffers that nobody needs at the moment: a connection has one only while it holds something.
package struct BufferPool {
    /// To begin with: most connections are sent a few small packets in a turn. Those that get more make theirs grow, and the
    /// buffer given back last, which has grown already, is the next that is taken.
    private static let bufferBytes = 960
    private static let largestKept = 128 << 10
    private static let keptBytes = 1 << 20
    private var free: [[UInt8]] = []
    private var freeBytes = 0

    package init() {}

    mutating func take() -> [UInt8] {
        if let buffer = free.popLast() {
            freeBytes -= buffer.capacity
            return buffer
        }
        var buffer: [UInt8] = []
        buffer.reserveCapacity(Self.bufferBytes)
        return buffer
    }

    /// Takes the buffer, which is empty, and leaves one without memory.
    mutating func give(_ buffer: inout [UInt8]) {
        var given: [UInt8] = []
        swap(&given, &buffer)
        guard given.capacity > 0, given.capacity <= Self.largestKept, freeBytes + given.capacity <= Self.keptBytes
        else { return }
        freeBytes += given.capacity
        free.append(given)
    }
}
