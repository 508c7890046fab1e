/// A look at SQLite's log before SQLite reads it. SQLite ends at the first frame whose checksum is wrong, be it the end that a
/// crash has torn or a bit that has turned in the midst of what was committed long ago; this tells the one from the other.
/// See sqlite.org/fileformat.html, 4.
enum LogCheck {
    private static let headerBytes = 32
    private static let frameHeaderBytes = 24

    /// How many frames lie behind one that is damaged, and belong to later commits, which SQLite will not see; 0: none. A crash
    /// tears the last commit at most, for none begins before the one before it is on the disk.
    static func framesLost(in log: Span<UInt8>) -> Int {
        guard log.count >= headerBytes else { return 0 }
        let pageBytes = Int(word(log, 8))
        let isBigEndian = word(log, 0) & 1 == 1
        let salts = log.extracting(16..<24)
        guard word(log, 0) & ~1 == 0x377F_0682, pageBytes >= 512, pageBytes <= 65_536 else {
            return log.count > headerBytes ? log.count / (frameHeaderBytes + 4096) : 0
        }
        var sum = checksum(log.extracting(0..<24), from: (0, 0), isBigEndian)
        guard sum == (word(log, 24), word(log, 28)) else { return frames(log, pageBytes) }
        var start = headerBytes
        while start + frameHeaderBytes + pageBytes <= log.count {
            let frame = log.extracting(start..<(start + frameHeaderBytes + pageBytes))
            guard isSame(frame.extracting(8..<16), salts) else { break }
            sum = checksum(frame.extracting(0..<8), from: sum, isBigEndian)
            sum = checksum(frame.extracting(frameHeaderBytes..<frame.count), from: sum, isBigEndian)
            guard sum == (word(frame, 16), word(frame, 20)) else { break }
            start += frame.count
        }
        return framesOfLaterCommits(log, from: start, pageBytes, salts)
    }

    private static func frames(_ log: Span<UInt8>, _ pageBytes: Int) -> Int {
        (log.count - headerBytes) / (frameHeaderBytes + pageBytes)
    }

    /// Behind the first commit that ends behind `start`, which may be torn.
    private static func framesOfLaterCommits(
        _ log: Span<UInt8>, from start: Int, _ pageBytes: Int, _ salts: Span<UInt8>
    ) -> Int {
        var (start, commits, count) = (start, 0, 0)
        while start + frameHeaderBytes + pageBytes <= log.count {
            if isSame(log.extracting((start + 8)..<(start + 16)), salts) {
                if commits > 0 { count += 1 }
                if word(log, start + 4) != 0 { commits += 1 }  // The pages of the database after a commit.
            }
            start += frameHeaderBytes + pageBytes
        }
        return commits > 1 ? count : 0
    }

    private static func isSame(_ one: Span<UInt8>, _ other: Span<UInt8>) -> Bool {
        one.indices.allSatisfy { one[$0] == other[$0] }
    }

    private static func word(_ bytes: Span<UInt8>, _ at: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 << 8 | UInt32(bytes[at + $1]) }
    }

    private static func checksum(
        _ bytes: Span<UInt8>, from sum: (UInt32, UInt32), _ isBigEndian: Bool
    ) -> (UInt32, UInt32) {
        var (one, two) = sum
        for at in stride(from: 0, to: bytes.count, by: 8) {
            let (first, second) = (word(bytes, at), word(bytes, at + 4))
            one = one &+ (isBigEndian ? first : first.byteSwapped) &+ two
            two = two &+ (isBigEndian ? second : second.byteSwapped) &+ one
        }
        return (one, two)
    }
}
