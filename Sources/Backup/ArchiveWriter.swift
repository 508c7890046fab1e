internal import Cryptography
internal import Glibc

/// A backup as it is written, one file after the other.
struct ArchiveWriter: ~Copyable {
    private static let chunkBytes = 1 << 18

    private let output: OpenFile
    private(set) var files: [Manifest.File] = []
    private(set) var bytes = 0
    private var buffer = [UInt8](repeating: 0, count: chunkBytes)

    init(to output: OpenFile) { self.output = output }

    /// The size that the file has now; what is appended meanwhile is not taken along.
    mutating func add(_ name: String, from file: OpenFile, _ tell: (Int) throws -> Void) throws {
        let status = try file.status()
        let size = Int(status.st_size)
        try begin(name, size: size, mode: status.st_mode & 0o777, modified: status.st_mtim.tv_sec)
        var digest = RunningDigest()
        var left = size
        while left > 0 {
            let count = try file.read(into: &buffer, atMost: min(left, Self.chunkBytes))
            guard count > 0 else { throw BackupError.refused("\(file.path): it became shorter while it was read") }
            let part = buffer.span.extracting(..<count)
            digest.update(part)
            try output.write(part)
            left -= count
            try tell(size - left)
        }
        try end(size)
        files.append(Manifest.File(name: name, sha256: hexadecimal(digest.finish())))
    }

    /// What it has, and its end.
    mutating func finish(martlet: String, created: String, modified: Int) throws(BackupError) {
        let text = Array(Manifest(martlet: martlet, created: created, files: files).text.utf8)
        try begin(Manifest.fileName, size: text.count, mode: 0o600, modified: modified)
        try output.write(text.span)
        try end(text.count)
        let zeros = [UInt8](repeating: 0, count: 2 * TarHeader.blockBytes)
        try output.write(zeros.span)
        bytes += zeros.count
    }

    private mutating func begin(_ name: String, size: Int, mode: mode_t, modified: Int) throws(BackupError) {
        let header = TarHeader(name: "\(Contents.folder)/\(name)", size: size, mode: mode, modified: modified)
        guard let block = header.bytes else { throw .refused("\(name): the name is too long for a backup") }
        try output.write(block.span)
        bytes += block.count
    }

    private mutating func end(_ size: Int) throws(BackupError) {
        let padding = [UInt8](repeating: 0, count: TarHeader.padding(after: size))
        try output.write(padding.span)
        bytes += size + padding.count
    }
}
