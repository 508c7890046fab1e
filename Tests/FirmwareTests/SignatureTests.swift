import Cryptography
import Firmware
import FirmwareImages
import Testing

private func trusting(_ keys: SigningKey...) throws -> Expectations {
    var expecting = Expectations()
    for key in keys { try expecting.keys.add(pem: key.publicPEM) }
    return expecting
}

private let image = ImageBuilder(chip: "ESP32-C6").bytes()

private func key(_ kind: SigningKey.Kind) throws -> SigningKey { try #require(SigningKey.first[kind]) }
private func otherKey(_ kind: SigningKey.Kind) throws -> SigningKey { try #require(SigningKey.second[kind]) }

@Suite struct `A signature of Secure Boot v2` {
    @Test(arguments: SigningKey.Kind.secureBoot)
    func `is trusted, or by a key that is not`(_ kind: SigningKey.Kind) throws {
        let signer = try key(kind)
        let bytes = signed(image, [signer])
        #expect(bytes.count == 8192)
        let trusted = try analysis(bytes, trusting(signer))
        #expect(trusted.findings.isEmpty, "\(trusted.findings)")
        #expect(trusted.signature?.scheme == .secureBootV2 && trusted.signature?.state == .trusted)
        #expect(trusted.signature?.blocks.map(\.kind) == [kind.rawValue])
        #expect(trusted.signature?.blocks.first?.keyDigest == signer.digest)

        let unknown = try analysis(bytes, trusting(try otherKey(kind)))
        #expect(unknown.summary == ["error unknown_key"] && unknown.signature?.state == .unknownKey)
        #expect(unknown.firstError?.text.contains(hexadecimal(signer.digest)) == true)
        let note = try analysis(bytes)
        #expect(note.summary == ["note unknown_key"] && note.isSound)

        var expecting = Expectations()
        try expecting.keys.add(digest: hexadecimal(signer.digest))
        #expect(try analysis(bytes, expecting).signature?.state == .trusted)
    }

    @Test func `may be in three blocks`() throws {
        let keys = [try key(.rsa3072), try key(.p256), try key(.p384)]
        let bytes = signed(ImageBuilder.large("ESP32-C6").bytes(), keys)
        for trusted in keys {
            let analysis = try analysis(bytes, trusting(trusted))
            #expect(analysis.findings.isEmpty && analysis.signature?.blocks.count == 3)
            #expect(analysis.signature?.blocks.count { $0.state == .trusted } == 1)
        }
        let unknown = try analysis(bytes, trusting(try otherKey(.p256)))
        #expect(unknown.summary == ["error unknown_key"])
    }

    @Test func `is wanted where there are keys`() throws {
        #expect(try analysis(image, trusting(try key(.p256))).summary == ["error unsigned"])
        var expecting = Expectations()
        try expecting.keys.add(digest: String(repeating: "Ab", count: 32))
        #expect(try analysis(image, expecting).summary == ["error unsigned"])
        #expect(try analysis(LookAlike.delta([]), expecting).summary.contains("error unsigned"))
    }

    private static let defects: [(String, SigningKey.Kind, @Sendable (inout [UInt8]) -> Void, String)] = [
        ("magic", .rsa3072, { $0[1216] = 0x55 }, "block 1 of its signature is broken: it does not begin as one"),
        ("version", .rsa3072, { $0[1] = 9 }, "version, 9.0, is not known"),
        ("hash", .p256, { $0[2] = 2 }, "version, 3.2, is not known"),
        ("long hash with a short curve", .p256, { $0[2] = 1 }, "don't go together"),
        ("curve", .p256, { $0[36] = 4 }, "don't go together"),
        ("long curve with a short hash", .p256, { $0[36] = 3 }, "don't go together"),
        ("digest", .p384, { $0[4] ^= 1 }, "something else than this image"),
        ("exponent", .rsa3072, { $0[420] ^= 2 }, "not by the key"),
        ("exponent of zero", .rsa3072, { $0.replaceSubrange(420..<424, with: [0, 0, 0, 0]) }, "not by the key"),
        ("square", .rsa3072, { $0[424] ^= 1 }, "numbers of its key"),
        ("inverse", .rsa3072, { $0[808] ^= 1 }, "numbers of its key"),
        ("an even modulus", .rsa3072, { $0[36] ^= 1 }, "numbers of its key"),
        ("no modulus", .rsa3072, { $0.replaceSubrange(36..<420, with: [UInt8](repeating: 0, count: 384)) }, "numbers"),
        ("signature", .rsa3072, { $0[812] ^= 1 }, "not by the key"),
        ("point", .p256, { $0[37] ^= 1 }, "not by the key"),
        ("signature", .p256, { $0[101] ^= 1 }, "not by the key"),
        ("no signature", .p384, { $0.replaceSubrange(149..<245, with: [UInt8](repeating: 0, count: 96)) }, "not by"),
        ("padding of a short curve", .p192, { $0[36 + 1 + 48] = 1 }, "numbers of its key"),
    ]

    @Test(arguments: defects.indices) func `with a defect says which`(_ index: Int) throws {
        let (name, kind, defect, reason) = Self.defects[index]
        let content = paddedToSector(image)
        let signer = try key(kind)
        var blocks = signer.block(for: content) + [UInt8](repeating: 0xFF, count: 1216)
        defect(&blocks)
        let repaired = [SigningKey.withCRC(Array(blocks.prefix(1216))), Array(blocks.suffix(1216))]
        let analysis = try analysis(sector(behind: content, repaired), trusting(signer))
        #expect(analysis.summary == ["error broken_signature"], "\(name): \(analysis.findings)")
        #expect(analysis.firstError?.text.contains(reason) == true, "\(name): \(analysis.findings)")
    }

    @Test func `is broken by any bit of its block, and of what it signs`() throws {
        let signer = try key(.p256)
        let sound = signed(image, [signer])
        for offset in [0, 200, 500, 4095, 4096 + 1, 4096 + 50, 4096 + 1195, 4096 + 1199] {
            var bytes = sound
            bytes[offset] ^= 1
            let analysis = try analysis(bytes, trusting(signer))
            #expect(!analysis.isSound && analysis.signature?.state != .trusted, "\(offset)")
        }
    }

    @Test func `that is cut off says how much is missing`() throws {
        let bytes = signed(image, [try key(.p256)])
        for count in [4097, 5000, 8191] {
            let analysis = try analysis(Array(bytes.prefix(count)))
            #expect(analysis.summary.first == "error truncated")
            let missing = "\(8192 - count) byte\(count == 8191 ? "" : "s") missing"
            #expect(analysis.firstError?.text == "it is cut off in its signature: \(missing)")
        }
        #expect(try analysis(Array(bytes.prefix(4096))).summary == ["note trailing_data"])
    }

    @Test func `has nothing behind it, and is only in the next sector`() throws {
        let signer = try key(.p256)
        let bytes = signed(image, [signer])
        #expect(try analysis(bytes + [1], trusting(signer)).summary == ["warning trailing_data"])
        let content = paddedToSector(image) + [UInt8](repeating: 0xFF, count: 4096)
        let further = sector(behind: content, [signer.block(for: content)])
        #expect(try analysis(further, trusting(signer)).summary == ["warning trailing_data", "error unsigned"])
    }

    @Test func `takes room`() throws {
        let signer = try key(.p256)
        var expecting = try trusting(signer)
        expecting.partitionBytes = 8191
        #expect(try analysis(signed(image, [signer]), expecting).summary == ["error too_large"])
    }
}

@Suite struct `A signature of Secure Boot v1` {
    private let image = ImageBuilder(chip: "ESP32").bytes()

    private func signed(_ key: SigningKey) -> [UInt8] {
        image + [0, 0, 0, 0] + key.numbers(of: key.signature(ofDigest: sha256(image)))
    }

    @Test func `is checked with every key of its kind`() throws {
        let bytes = signed(try key(.p256))
        let trusted = try analysis(bytes, trusting(try key(.p384), try otherKey(.p256), try key(.p256)))
        #expect(trusted.findings.isEmpty && trusted.signature?.scheme == .secureBootV1)
        #expect(trusted.signature?.state == .trusted)
        let unknown = try analysis(bytes, trusting(try otherKey(.p256)))
        #expect(unknown.summary == ["error unknown_key"])
        #expect(try analysis(bytes).summary == ["note unknown_key"])
    }

    @Test func `is for the ESP32 alone`() throws {
        let other = ImageBuilder(chip: "ESP32-C3").bytes()
        let bytes = other + signed(try key(.p256)).suffix(68)
        #expect(try analysis(bytes).summary == ["warning trailing_data"])
    }
}

@Suite struct `A detached signature` {
    private func expecting(_ signature: [UInt8], _ keys: SigningKey...) throws -> Expectations {
        var expecting = Expectations()
        for key in keys { try expecting.keys.add(pem: key.publicPEM) }
        expecting.detachedSignature = signature
        return expecting
    }

    @Test(arguments: [SigningKey.Kind.p256, .p384])
    func `by ECDSA is of the hash, in two forms`(_ kind: SigningKey.Kind) throws {
        let signer = try key(kind)
        let signature = signer.signature(ofDigest: sha256(image))
        for form in [signature, signer.numbers(of: signature)] {
            let analysis = try analysis(image, expecting(form, try otherKey(.ed25519), try otherKey(kind), signer))
            #expect(analysis.findings.isEmpty, "\(analysis.findings)")
            #expect(analysis.detachedSignature == .trusted(kind.rawValue))
            for (bytes, key) in [(image + [0xFF], signer), (image, try otherKey(kind))] {
                let broken = try self.analysis(bytes, expecting(form, key))
                #expect(broken.summary.contains("error broken_detached_signature"), "\(broken.findings)")
            }
        }
    }

    private func analysis(_ bytes: [UInt8], _ expecting: Expectations) throws -> ImageAnalysis {
        try ImageAnalysis(of: ImageBytes(bytes), expecting: expecting)
    }

    @Test func `by Ed25519 is of the bytes`() throws {
        let signer = try key(.ed25519)
        let large = ImageBuilder.large().bytes()
        let signature = signer.signature(of: large)
        let trusted = try analysis(large, expecting(signature, signer))
        #expect(trusted.findings.isEmpty && trusted.detachedSignature == .trusted("Ed25519"))
        let broken = try analysis(large, expecting(signature, try otherKey(.ed25519)))
        #expect(broken.summary == ["error broken_detached_signature"])
        var changed = signature
        changed[63] ^= 0x80
        #expect(try analysis(large, expecting(changed, signer)).summary == ["error broken_detached_signature"])
        #expect(try analysis(large, expecting([], signer)).summary == ["error broken_detached_signature"])
    }

    @Test func `makes up for a signature that is missing, not for one that is broken`() throws {
        let signer = try key(.p256)
        func expectations(for bytes: [UInt8]) throws -> Expectations {
            try expecting(signer.signature(ofDigest: sha256(bytes)), signer)
        }
        let unknown = signed(image, [try otherKey(.p256)])
        let analysis = try analysis(unknown, expectations(for: unknown))
        #expect(analysis.summary == ["warning unknown_key"] && analysis.isSound)
        var broken = unknown
        broken[4096 + 101] ^= 1
        #expect(try self.analysis(broken, expectations(for: broken)).summary == ["error broken_signature"])
        let patch = LookAlike.delta([1])
        #expect(try self.analysis(patch, expectations(for: patch)).isSound)
    }

    @Test func `can't be checked without keys`() throws {
        let signature = try key(.p256).signature(ofDigest: sha256(image))
        var expecting = try expecting(signature)
        let unchecked = try analysis(image, expecting)
        #expect(unchecked.summary == ["warning unknown_key"] && unchecked.detachedSignature == .unchecked)
        // A digest tells which key it has to be, but is none.
        try expecting.keys.add(digest: hexadecimal(try key(.p256).digest))
        #expect(try analysis(image, expecting).summary == ["warning unknown_key", "error unsigned"])
    }
}

@Suite struct `Trusted keys` {
    private func refusal(_ pem: [UInt8]) -> String? {
        do throws(TrustedKeys.Refusal) {
            var keys = TrustedKeys()
            try keys.add(pem: pem)
            return nil
        } catch {
            return error.description
        }
    }

    @Test func `are public ones, of the kinds that sign firmware`() throws {
        #expect(refusal(try key(.p256).privatePEM)?.hasPrefix("a private key") == true)
        #expect(refusal(Array("hello".utf8)) == "no public key in PEM")
        #expect(refusal([]) == "no public key in PEM")
        let pem = try key(.p256).publicPEM
        #expect(refusal(pem.dropLast(60) + Array("\n-----END PUBLIC KEY-----\n".utf8)) == "no public key in PEM")
        #expect(refusal(pem + pem.dropLast(30)) == "no public key in PEM")
        #expect(refusal(SigningKey.pem(rsaBits: 2048)) == "an RSA-2048 key: Secure Boot takes RSA-3072")
        #expect(refusal(SigningKey.pem(curve: "P-521"))?.hasPrefix("a key of another kind") == true)
    }

    @Test func `may be several in one file`() throws {
        var keys = TrustedKeys()
        #expect(keys.isEmpty)
        let pem = try SigningKey.Kind.allCases.flatMap { try key($0).publicPEM }
        try keys.add(pem: pem)
        #expect(keys.keys.map(\.kind) == SigningKey.Kind.allCases.map(\.rawValue))
        #expect(keys.digests == Set(try SigningKey.Kind.secureBoot.map { try key($0).digest }))
    }

    @Test(arguments: ["", "ab", String(repeating: "a", count: 63), String(repeating: "g", count: 64)])
    func `have digests of 32 bytes`(_ text: String) {
        var keys = TrustedKeys()
        #expect(throws: TrustedKeys.Refusal.self) { try keys.add(digest: text) }
    }
}
