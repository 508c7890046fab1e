/// Where everything lies in an image, found by following its headers. No length is believed before the file has it.
package struct ImageLayout: Sendable, Equatable {
    package let header: ImageHeader
    /// Those that lie in the file whole.
    package private(set) var segments: [Segment] = []
    /// Nil where the segments are broken or cut off.
    package private(set) var ending: Ending?

    /// What lies behind the last segment: zeros and the checksum up to a multiple of 16 bytes, then the hash.
    package struct Ending: Sendable, Equatable {
        package let checksum: Int
        /// Of the appended SHA-256.
        package let hash: Int?
        /// Behind all that.
        package let end: Int
    }

    static let hashBytes = 32
    /// Where the checksum begins to count.
    static let checksumSeed: UInt8 = 0xEF

    /// The file begins with the magic byte. What is wrong is added to `findings`, at most one.
    init?(_ source: borrowing some ImageSource & ~Copyable, _ findings: inout [Finding]) throws(ReadFailure) {
        guard source.count >= ImageHeader.bytes else {
            findings.append(Self.truncated(by: ImageHeader.bytes - source.count, isLeast: true, in: "its header"))
            return nil
        }
        header = ImageHeader(try source.read(0..<ImageHeader.bytes))
        if let problem = try follow(source) { findings.append(problem) }
    }

    /// Goes from segment to segment, as far as that is possible. Returns what has stopped it.
    private mutating func follow(_ source: borrowing some ImageSource & ~Copyable) throws(ReadFailure) -> Finding? {
        guard ImageHeader.segments.contains(header.segmentCount) else {
            return .error(.segmentCount, "it has \(header.segmentCount) segments: a sound image has 1 to 16")
        }
        var offset = ImageHeader.bytes
        for number in 0..<header.segmentCount {
            let isLast = number == header.segmentCount - 1
            let name = "segment \(number)"
            let start = offset + Segment.headerBytes
            guard start <= source.count else {
                return Self.truncated(by: start - source.count, isLeast: true, in: name)
            }
            let fields = try source.read(offset..<start)
            let length = Int(fields.uint32(at: 4))
            guard length.isMultiple(of: 4), length < Segment.bound else {
                return .error(.segmentLength, "\(name) has \(length) bytes: it takes a multiple of 4 below 16 MB")
            }
            guard length <= source.count - start else {
                let end = isLast ? ending(behind: start + length).end : start + length
                return Self.truncated(by: end - source.count, isLeast: !isLast, in: name)
            }
            let address = fields.uint32(at: 0)
            let isMapped = header.chip?.maps(address) ?? false
            segments.append(Segment(address: address, data: start..<(start + length), isMapped: isMapped))
            offset = start + length
        }
        let ending = ending(behind: offset)
        guard ending.end <= source.count else {
            let part = source.count <= ending.checksum ? "its checksum" : "its SHA-256"
            return Self.truncated(by: ending.end - source.count, isLeast: false, in: part)
        }
        self.ending = ending
        return nil
    }

    private func ending(behind offset: Int) -> Ending {
        let checksum = offset | 15
        let hash = header.hashFlag == 1 ? checksum + 1 : nil
        return Ending(checksum: checksum, hash: hash, end: checksum + 1 + (hash == nil ? 0 : Self.hashBytes))
    }

    private static func truncated(by count: Int, isLeast: Bool, in part: String) -> Finding {
        .error(.truncated, "it is cut off in \(part): \(isLeast ? "at least " : "")\(bytesText(count)) missing")
    }
}

/// `1 byte`, `2 bytes`.
func bytesText(_ count: Int) -> String { "\(count) byte\(count == 1 ? "" : "s")" }
