internal import Cryptography

/// One way through a file, in pieces that come one after the other and cross no cut.
struct ImagePass: ~Copyable {
    private let layout: ImageLayout?
    private let signature: SignaturePlace?
    private let wantsSHA384: Bool
    private let cuts: [Int]
    private var digest = RunningDigest()
    private var longDigest = RunningDigest(.sha384)
    private(set) var checksum = ImageLayout.checksumSeed
    /// Of everything up to the appended hash; nil where there is none.
    private(set) var imageDigest: [UInt8]?
    /// Of everything up to the signature; empty where there is none, the long one (SHA-384) also where nobody wants it.
    private(set) var signedDigest: [UInt8] = []
    private(set) var longSignedDigest: [UInt8] = []
    /// Behind the image, or its signature, there is nothing but 0xFF.
    private(set) var isErasedBehind = true

    init(_ layout: ImageLayout?, _ signature: SignaturePlace?) {
        self.layout = layout
        self.signature = signature
        wantsSHA384 = signature?.wantsSHA384 ?? false
        var cuts = layout?.segments.flatMap { [$0.data.lowerBound, $0.data.upperBound] } ?? []
        if let ending = layout?.ending { cuts += [ending.checksum + 1, ending.end] }
        if let signature { cuts += [signature.start, signature.end] }
        self.cuts = cuts.sorted()
    }

    /// Where the next piece ends.
    func nextCut(behind offset: Int, notBeyond end: Int) -> Int { cuts.first { $0 > offset && $0 < end } ?? end }

    mutating func take(_ piece: [UInt8], at offset: Int) {
        digest.update(piece.span)
        if layout?.segments.contains(where: { $0.data.contains(offset) }) == true {
            checksum = piece.reduce(checksum, ^)
        }
        guard let ending = layout?.ending else { return }
        let end = offset + piece.count
        if end == ending.hash { imageDigest = digest.soFar() }
        if let signature, end <= signature.start {
            if wantsSHA384 { longDigest.update(piece.span) }
            if end == signature.start {
                signedDigest = digest.soFar()
                if wantsSHA384 { longSignedDigest = longDigest.soFar() }
            }
        }
        if offset >= signature?.end ?? ending.end { isErasedBehind = isErasedBehind && piece.allSatisfy { $0 == 0xFF } }
    }

    /// The hash of the whole file.
    consuming func finish() -> [UInt8] { digest.finish() }
}
