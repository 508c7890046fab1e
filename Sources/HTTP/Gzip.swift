internal import CZlib

/// Compresses as `Content-Encoding: gzip` has it (RFC 1952), piece by piece.
@safe package struct Gzip: ~Copyable {
    /// zlib's 1...9; this one costs a third of 9 and is nearly as good for text.
    private static let level: CInt = 5
    private static let chunkBytes = 16 << 10

    private let stream: UnsafeMutablePointer<z_stream>

    /// The corresponding C function is `deflateInit2`.
    package init() {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        let result = unsafe begin_gzip(stream, Self.level)
        precondition(result == Z_OK, "no memory to compress with")
    }

    deinit {
        unsafe deflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// What of the output is there after `bytes`. `isFlushed`: all that went in can be read by the other side.
    package mutating func compress(_ bytes: [UInt8], isFlushed: Bool = false) -> [UInt8] {
        run(bytes, isFlushed ? Z_SYNC_FLUSH : Z_NO_FLUSH)
    }

    /// The rest. Nothing may follow.
    package mutating func finish() -> [UInt8] { run([], Z_FINISH) }

    package static func compressed(_ bytes: [UInt8]) -> [UInt8] {
        var gzip = Gzip()
        return gzip.compress(bytes) + gzip.finish()
    }

    /// The corresponding C function is `deflate`.
    private mutating func run(_ bytes: [UInt8], _ flush: CInt) -> [UInt8] {
        var result: [UInt8] = []
        var input = bytes
        unsafe input.withUnsafeMutableBufferPointer { input in
            unsafe stream.pointee.next_in = input.baseAddress
            unsafe stream.pointee.avail_in = UInt32(input.count)
            var chunk = [UInt8](repeating: 0, count: Self.chunkBytes)
            var isFull = true
            while isFull {
                let count = unsafe chunk.withUnsafeMutableBufferPointer { output in
                    unsafe stream.pointee.next_out = output.baseAddress
                    unsafe stream.pointee.avail_out = UInt32(output.count)
                    unsafe deflate(stream, flush)
                    return unsafe output.count - Int(stream.pointee.avail_out)
                }
                result += chunk[..<count]
                isFull = count == chunk.count
            }
        }
        return result
    }
}
