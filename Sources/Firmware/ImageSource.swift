internal import Glibc

/// Bytes by their place: what is looked at, in memory or on the disk.
package protocol ImageSource: ~Copyable {
    /// Bytes in all.
    var count: Int { get }

    /// The bytes of a range within `0..<count`; whoever asks keeps to `Limits.readBytes`. Throws where the machine
    /// refuses, or fewer are left.
    borrowing func read(_ range: Range<Int>) throws(ReadFailure) -> [UInt8]
}

/// What bounds the memory of an analysis.
package enum Limits {
    /// The most that is read at once, bytes.
    package static let readBytes = 1 << 16
    /// The longest file that an Ed25519 signature may be about, bytes: OpenSSL wants the whole in memory.
    package static let ed25519Bytes = 32 << 20
    /// The longest detached signature, bytes.
    package static let signatureBytes = 256
    /// The longest file with a public key, bytes.
    package static let keyBytes = 1 << 14
}

/// Why a file could not be read to its end.
package enum ReadFailure: Error, Equatable, CustomStringConvertible {
    /// An `errno`, and the C function that gave it.
    case system(CInt, during: String)
    case notAFile
    /// It has become shorter meanwhile.
    case shortened

    package var description: String {
        switch self {
        case .system(let code, _): unsafe String(cString: strerror(code))
        case .notAFile: "not a file"
        case .shortened: "it has become shorter while it was read"
        }
    }
}

/// Bytes in memory.
package struct ImageBytes: ImageSource, Sendable {
    private let bytes: [UInt8]

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    package var count: Int { bytes.count }

    package func read(_ range: Range<Int>) throws(ReadFailure) -> [UInt8] {
        guard range.upperBound <= bytes.count else { throw .shortened }
        return Array(bytes[range])
    }
}

/// A plain file, open for reading. Its length is what it had when it was opened.
package struct ImageFile: ImageSource, ~Copyable, Sendable {
    private let descriptor: CInt
    package let count: Int

    /// Throws for what can't be opened, and for what is no plain file. The corresponding C functions are `open` and
    /// `fstat`; O_NONBLOCK, for a pipe would wait for its writer.
    package init(_ path: String) throws(ReadFailure) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .system(errno, during: "open") }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw .notAFile
        }
        self.descriptor = descriptor
        count = Int(status.st_size)
    }

    deinit { close(descriptor) }

    package borrowing func read(_ range: Range<Int>) throws(ReadFailure) -> [UInt8] {
        try readFile(descriptor, range)
    }
}

/// All bytes of a range of an open file. The corresponding C function is `pread`.
func readFile(_ descriptor: CInt, _ range: Range<Int>) throws(ReadFailure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    var filled = 0
    while filled < bytes.count {
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe pread(
                descriptor, buffer.baseAddress?.advanced(by: filled), buffer.count - filled, range.lowerBound + filled)
        }
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw .system(errno, during: "pread") }
        guard count > 0 else { throw .shortened }
        filled += count
    }
    return bytes
}

extension ImageSource where Self: ~Copyable {
    /// What lies there of a range that may reach beyond the end.
    func readUpTo(_ count: Int, at offset: Int) throws(ReadFailure) -> [UInt8] {
        guard offset < self.count else { return [] }
        return try read(offset..<min(self.count, offset + count))
    }
}

/// Numbers, least significant byte first, from bytes whose count has been seen to.
extension [UInt8] {
    func uint16(at offset: Int) -> UInt16 { UInt16(self[offset]) | UInt16(self[offset + 1]) << 8 }

    func uint32(at offset: Int) -> UInt32 { UInt32(uint16(at: offset)) | UInt32(uint16(at: offset + 2)) << 16 }

    /// Whether these bytes lie there; false beyond the end.
    func has(_ bytes: [UInt8], at offset: Int = 0) -> Bool {
        count - offset >= bytes.count && self[offset..<(offset + bytes.count)].elementsEqual(bytes)
    }
}
