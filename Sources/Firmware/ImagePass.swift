internal import Cryptography

/// One way through a file, in pieces that come one after the other and cross no cut.
struct ImagePass: ~Copyable {
    private let layout: ImageLayout?
    private let cuts: [Int]
    private var digest = RunningDigest()
    private(set) var checksum = ImageLayout.checksumSeed
    /// Of everything up to the appended hash; nil where there is none.
    private(set) var imageDigest: [UInt8]?
    /// Behind the image there is nothing but 0xFF.
    private(set) var isErasedBehind = true

    init(_ layout: ImageLayout?) {
        self.layout = layout
        var cuts = layout?.segments.flatMap { [$0.data.lowerBound, $0.data.upperBound] } ?? []
        if let ending = layout?.ending { cuts += [ending.checksum + 1, ending.end] }
        self.cuts = cuts
    }

    /// Where the next piece ends.
    func nextCut(behind offset: Int, notBeyond end: Int) -> Int { cuts.first { $0 > offset && $0 < end } ?? end }

    mutating func take(_ piece: [UInt8], at offset: Int) {
        digest.update(piece.span)
        if layout?.segments.contains(where: { $0.data.contains(offset) }) == true {
            checksum = piece.reduce(checksum, ^)
        }
        guard let ending = layout?.ending else { return }
        if offset + piece.count == ending.hash { imageDigest = digest.soFar() }
        if offset >= ending.end { isErasedBehind = isErasedBehind && piece.allSatisfy { $0 == 0xFF } }
    }

    /// The hash of the whole file.
    consuming func finish() -> [UInt8] { digest.finish() }
}
