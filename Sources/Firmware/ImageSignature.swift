internal import CZlib
internal import Cryptography

/// A signature that lies behind an image.
package struct ImageSignature: Sendable, Equatable {
    package enum Scheme: String, Sendable {
        /// ESP32 only: 68 bytes behind the image, which do not tell the key (secure-boot-v1.rst).
        case secureBootV1 = "secure_boot_v1"
        /// A sector with up to three blocks, each with its key (secure-boot-v2.rst).
        case secureBootV2 = "secure_boot_v2"
    }

    package enum State: Sendable, Equatable {
        case trusted
        /// The signature is right, or, in the first scheme, by none of the keys that are known.
        case unknownKey
        /// Why.
        case broken(String)
    }

    package struct Block: Sendable, Equatable {
        /// `RSA-3072`; nil where that can't be told.
        package let kind: String?
        /// What is burnt into devices that take it; nil where that can't be told.
        package let keyDigest: [UInt8]?
        package let state: State
    }

    package let scheme: Scheme
    /// One to three.
    package let blocks: [Block]

    /// Broken where one of them is: a sound one beside it may be for another image. Trusted where one of them is.
    package var state: State {
        let broken = blocks.first { if case .broken = $0.state { true } else { false } }
        return broken?.state ?? (blocks.contains { $0.state == .trusted } ? .trusted : .unknownKey)
    }
}

/// Where a signature lies, and its bytes. What is signed is everything before.
struct SignaturePlace {
    let scheme: ImageSignature.Scheme
    let start: Int
    let bytes: [UInt8]

    static let sectorBytes = 4096
    private static let trailerBytes = 68

    var end: Int { start + bytes.count }

    /// One of its blocks is by P-384, which goes with SHA-384.
    var wantsSHA384: Bool {
        scheme == .secureBootV2 && blocks.contains { $0.has([SignatureBlock.magic, 3, 1]) }
    }

    /// Nil where the image is not signed, or the signature is cut off, which is added to `findings`. The sector is the
    /// next behind the image.
    init?(
        _ source: borrowing some ImageSource & ~Copyable, behind image: Int, of chip: Chip?,
        _ findings: inout [Finding]
    ) throws(ReadFailure) {
        let trailer = try source.readUpTo(Self.trailerBytes, at: image)
        let isTrailer =
            chip == .esp32 && trailer.count == Self.trailerBytes && trailer.has([0, 0, 0, 0])
            && source.count - image < Self.sectorBytes && trailer.contains { $0 != 0 }
        if isTrailer {
            (scheme, start, bytes) = (.secureBootV1, image, trailer)
            return
        }
        let start = (image + Self.sectorBytes - 1) / Self.sectorBytes * Self.sectorBytes
        let sector = try source.readUpTo(Self.sectorBytes, at: start)
        guard sector.first == SignatureBlock.magic else { return nil }
        guard sector.count == Self.sectorBytes else {
            let missing = bytesText(Self.sectorBytes - sector.count)
            findings.append(.error(.truncated, "it is cut off in its signature: \(missing) missing"))
            return nil
        }
        (scheme, self.start, bytes) = (.secureBootV2, start, sector)
    }

    /// As many as there are in front of erased flash; at most three.
    private var blocks: [[UInt8]] {
        let all = (0..<3).map { Array(bytes[($0 * SignatureBlock.bytes)...].prefix(SignatureBlock.bytes)) }
        return Array(all.prefix { $0[0] != 0xFF })
    }

    /// `digest`, `longDigest`: SHA-256 of what is signed, and SHA-384 where that is wanted.
    func check(_ digest: [UInt8], _ longDigest: [UInt8], against keys: TrustedKeys) -> ImageSignature {
        switch scheme {
        case .secureBootV1:
            let signature = PublicKey.derSignature(Array(bytes[4...]))
            let signer = keys.keys.first { key in
                guard case .ecdsa(.p256, _, _) = key else { return false }
                return key.verifies(signature, ofDigest: digest)
            }
            let state: ImageSignature.State = signer == nil ? .unknownKey : .trusted
            let kind = "ECDSA \(PublicKey.Curve.p256.rawValue)"
            return ImageSignature(
                scheme: scheme, blocks: [.init(kind: kind, keyDigest: signer?.secureBootDigest, state: state)])
        case .secureBootV2:
            return ImageSignature(
                scheme: scheme,
                blocks: blocks.map { block in
                    do throws(SignatureBlock.Broken) {
                        let block = try SignatureBlock(block)
                        let state = try block.check(digest, longDigest, against: keys)
                        return .init(kind: block.key.kind, keyDigest: block.keyDigest, state: state)
                    } catch {
                        return .init(kind: nil, keyDigest: nil, state: .broken(error.reason))
                    }
                })
        }
    }
}

/// A block of 1216 bytes (secure-boot-v2.rst; espsecure writes them).
private struct SignatureBlock {
    static let bytes = 1216
    static let magic: UInt8 = 0xE7
    private static let checkedBytes = 1196

    /// Why devices would not take it.
    struct Broken: Error {
        let reason: String
    }

    let key: PublicKey
    let keyDigest: [UInt8]
    private let signedDigest: [UInt8]
    /// As OpenSSL takes it.
    private let signature: [UInt8]

    /// `block`: 1216 bytes.
    init(_ block: [UInt8]) throws(Broken) {
        guard block[0] == Self.magic else { throw Broken(reason: "it does not begin as one") }
        guard block.uint32(at: Self.checkedBytes) == checksum(block.prefix(Self.checkedBytes)) else {
            throw Broken(reason: "its CRC is wrong")
        }
        func number(_ start: Int, _ count: Int) -> [UInt8] { block[start..<(start + count)].reversed() }
        let keyBytes: Range<Int>
        switch (block[1], block[2]) {
        case (2, _):
            key = .rsa(modulus: number(36, 384), exponent: block.uint32(at: 420))
            keyBytes = 36..<812
            signedDigest = Array(block[4..<36])
            signature = number(812, 384)
        case (3, 0...1):
            // A digest of 32 or 48 bytes, then the key, which takes a byte and two numbers.
            let (digestBytes, halfBytes) = block[2] == 0 ? (32, 32) : (48, 48)
            let place = 4 + digestBytes
            guard let curve = PublicKey.Curve(secureBootNumber: block[place]), (curve == .p384) == (block[2] == 1)
            else {
                throw Broken(reason: "its hash and its curve don't go together")
            }
            key = .ecdsa(curve, x: number(place + 1, curve.bytes), y: number(place + 1 + curve.bytes, curve.bytes))
            keyBytes = place..<(place + 1 + 2 * halfBytes)
            signedDigest = Array(block[4..<place])
            signature = PublicKey.derSignature(
                number(keyBytes.upperBound, curve.bytes) + number(keyBytes.upperBound + curve.bytes, curve.bytes))
        default: throw Broken(reason: "its version, \(block[1]).\(block[2]), is not known here")
        }
        keyDigest = sha256(Array(block[keyBytes]))
        guard key.secureBootBytes == Array(block[keyBytes]) else {
            throw Broken(reason: "the numbers of its key don't go together")
        }
    }

    func check(
        _ digest: [UInt8], _ longDigest: [UInt8], against keys: TrustedKeys
    ) throws(Broken) -> ImageSignature.State {
        let computed = signedDigest.count == digest.count ? digest : longDigest
        guard signedDigest == computed else { throw Broken(reason: "it is for something else than this image") }
        guard key.verifies(signature, ofDigest: computed) else {
            throw Broken(reason: "it is not by the key that it names")
        }
        return keys.digests.contains(keyDigest) ? .trusted : .unknownKey
    }
}

/// The corresponding C function is `crc32`.
private func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    unsafe bytes.withUnsafeBufferPointer { buffer in
        UInt32(truncatingIfNeeded: unsafe crc32(0, buffer.baseAddress, CUnsignedInt(buffer.count)))
    }
}
