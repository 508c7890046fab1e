import COpenSSL
import CZlib
import Cryptography
import FirmwareImages

/// A pair of keys, and signatures by it as espsecure makes them. It shares no code with what checks them.
final class SigningKey: Sendable {
    enum Kind: String, CaseIterable, Sendable {
        case rsa3072 = "RSA-3072"
        case p192 = "ECDSA P-192"
        case p256 = "ECDSA P-256"
        case p384 = "ECDSA P-384"
        case ed25519 = "Ed25519"

        static let secureBoot: [Kind] = [.rsa3072, .p192, .p256, .p384]

        /// Of a coordinate.
        var bytes: Int {
            switch self {
            case .p192: 24
            case .p256, .ed25519: 32
            case .p384: 48
            case .rsa3072: 384
            }
        }
    }

    let kind: Kind
    private nonisolated(unsafe) let object: OpaquePointer

    /// Two of each, made once.
    static let first = Dictionary(uniqueKeysWithValues: Kind.allCases.map { ($0, SigningKey($0)) })
    static let second = Dictionary(uniqueKeysWithValues: Kind.allCases.map { ($0, SigningKey($0)) })

    init(_ kind: Kind) {
        self.kind = kind
        switch kind {
        case .rsa3072: object = generate_rsa_key(3072)
        case .p192: object = generate_ec_key("P-192")
        case .p256: object = generate_ec_key("P-256")
        case .p384: object = generate_ec_key("P-384")
        case .ed25519: object = SigningKey.generate(EVP_PKEY_ED25519)
        }
    }

    /// Another kind, for what is refused.
    static func pem(rsaBits: UInt32) -> [UInt8] { pem(generate_rsa_key(rsaBits)) }
    static func pem(curve: String) -> [UInt8] { pem(generate_ec_key(curve)) }

    private static func pem(_ key: OpaquePointer?) -> [UInt8] {
        defer { EVP_PKEY_free(key) }
        return publicPEM(key)
    }

    private static func generate(_ type: CInt) -> OpaquePointer {
        let context = EVP_PKEY_CTX_new_id(type, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_keygen(context, &key) == 1, let key else {
            preconditionFailure("no key")
        }
        return key
    }

    deinit { EVP_PKEY_free(object) }

    var publicPEM: [UInt8] { Self.publicPEM(object) }

    private static func publicPEM(_ key: OpaquePointer?) -> [UInt8] { written { PEM_write_bio_PUBKEY($0, key) } }

    var privatePEM: [UInt8] {
        Self.written { PEM_write_bio_PKCS8PrivateKey($0, object, nil, nil, 0, nil, nil) }
    }

    private static func written(_ write: (OpaquePointer?) -> CInt) -> [UInt8] {
        let file = BIO_new(BIO_s_mem())
        defer { BIO_free_all(file) }
        precondition(write(file) == 1)
        var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(file))
        BIO_read(file, &bytes, CInt(bytes.count))
        return bytes
    }

    // MARK: - Signatures

    /// Of a digest: PSS, or DER of ECDSA.
    func signature(ofDigest digest: [UInt8]) -> [UInt8] {
        let context = EVP_PKEY_CTX_new(object, nil)
        defer { EVP_PKEY_CTX_free(context) }
        precondition(EVP_PKEY_sign_init(context) == 1)
        if kind == .rsa3072 {
            EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING)
            EVP_PKEY_CTX_set_signature_md(context, EVP_sha256())
            EVP_PKEY_CTX_set_rsa_pss_saltlen(context, 32)
        }
        var bytes = [UInt8](repeating: 0, count: 1024)
        var count = bytes.count
        precondition(EVP_PKEY_sign(context, &bytes, &count, digest, digest.count) == 1)
        return Array(bytes.prefix(count))
    }

    /// Of a message, by Ed25519.
    func signature(of message: [UInt8]) -> [UInt8] {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var bytes = [UInt8](repeating: 0, count: 64)
        var count = bytes.count
        precondition(EVP_DigestSignInit(context, nil, nil, nil, object) == 1)
        precondition(EVP_DigestSign(context, &bytes, &count, message, message.count) == 1)
        return bytes
    }

    /// The two numbers of an ECDSA signature, most significant byte first.
    func numbers(of signature: [UInt8]) -> [UInt8] {
        signature.withUnsafeBufferPointer { bytes in
            var position = bytes.baseAddress
            let numbers = d2i_ECDSA_SIG(nil, &position, bytes.count)
            defer { ECDSA_SIG_free(numbers) }
            return bigEndian(ECDSA_SIG_get0_r(numbers)) + bigEndian(ECDSA_SIG_get0_s(numbers))
        }
    }

    private func bigEndian(_ number: OpaquePointer?, _ count: Int? = nil) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count ?? kind.bytes)
        BN_bn2binpad(number, &bytes, CInt(bytes.count))
        return bytes
    }

    private func parameter(_ name: String, _ count: Int? = nil) -> [UInt8] {
        var value: OpaquePointer?
        EVP_PKEY_get_bn_param(object, name, &value)
        defer { BN_free(value) }
        return bigEndian(value, count)
    }

    // MARK: - Blocks of Secure Boot v2

    /// A block of 1216 bytes for everything before the sector.
    func block(for signed: [UInt8]) -> [UInt8] {
        var block: [UInt8]
        switch kind {
        case .rsa3072:
            let digest = sha256(signed)
            let modulus = parameter("n")
            block = [0xE7, 2, 0, 0] + digest + modulus.reversed() + parameter("e", 4).reversed()
            block += Self.square(modulus).reversed() + little(Self.inverse(modulus))
            block += signature(ofDigest: digest).reversed()
        case .p192, .p256:
            let digest = sha256(signed)
            let numbers = numbers(of: signature(ofDigest: digest))
            block = [0xE7, 3, 0, 0] + digest + [kind == .p192 ? 1 : 2]
            block += padded(parameter("qx").reversed() + parameter("qy").reversed(), 64)
            block += padded(numbers.prefix(kind.bytes).reversed() + numbers.suffix(kind.bytes).reversed(), 64)
        case .p384:
            var running = RunningDigest(.sha384)
            running.update(signed.span)
            let digest = running.finish()
            let numbers = numbers(of: signature(ofDigest: digest))
            block = [0xE7, 3, 1, 0] + digest + [3] + parameter("qx").reversed() + parameter("qy").reversed()
            block += numbers.prefix(48).reversed() + numbers.suffix(48).reversed()
        case .ed25519: preconditionFailure("no block has such a key")
        }
        return Self.withCRC(padded(block, 1216))
    }

    static func withCRC(_ block: [UInt8]) -> [UInt8] {
        let checked = block.prefix(1196)
        return checked + little(UInt32(crc32(0, Array(checked), 1196))) + [UInt8](repeating: 0, count: 16)
    }

    /// What eFuses would hold.
    var digest: [UInt8] {
        let block = block(for: [])
        switch kind {
        case .rsa3072: return sha256(Array(block[36..<812]))
        case .p384: return sha256(Array(block[52..<149]))
        default: return sha256(Array(block[36..<101]))
        }
    }

    /// 2 to the 6144 modulo the modulus, by doubling.
    private static func square(_ modulus: [UInt8]) -> [UInt8] {
        // As words, least significant first; one more, for what doubling carries over.
        func words(_ bytes: [UInt8]) -> [UInt32] {
            stride(from: bytes.count - 4, through: 0, by: -4).map { place in
                bytes[place..<(place + 4)].reduce(0) { $0 << 8 | UInt32($1) }
            } + [0]
        }
        let modulus = words(modulus)
        func reduced(_ number: [UInt32]) -> [UInt32] {
            var (difference, borrow) = (number, false)
            for index in number.indices {
                let (first, one) = number[index].subtractingReportingOverflow(modulus[index])
                let (second, two) = first.subtractingReportingOverflow(borrow ? 1 : 0)
                (difference[index], borrow) = (second, one || two)
            }
            return borrow ? number : difference
        }
        var number = [1] + [UInt32](repeating: 0, count: modulus.count - 1)
        for _ in 0..<6144 {
            var carry: UInt32 = 0
            for index in number.indices {
                (number[index], carry) = (number[index] << 1 | carry, number[index] >> 31)
            }
            number = reduced(number)
        }
        return number.dropLast().reversed().flatMap { little($0).reversed() }
    }

    /// What times the modulus is -1, modulo 2 to the 32, bit by bit.
    private static func inverse(_ modulus: [UInt8]) -> UInt32 {
        let word = modulus.suffix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        var result: UInt32 = 0
        for bit in 0..<32 where (result &* word &+ 1) >> UInt32(bit) & 1 == 1 { result |= 1 << UInt32(bit) }
        return result
    }
}

/// An image with the blocks in their sector behind it.
func signed(_ image: [UInt8], _ keys: [SigningKey]) -> [UInt8] {
    let content = paddedToSector(image)
    return sector(behind: content, keys.map { $0.block(for: content) })
}

func sector(behind content: [UInt8], _ blocks: [[UInt8]]) -> [UInt8] {
    let bytes = blocks.flatMap { $0 }
    return content + bytes + [UInt8](repeating: 0xFF, count: 4096 - bytes.count)
}
