import Access
import Cryptography
import Testing

@Suite struct `Cryptography` {
    @Test func `hashes as FIPS 180-4 says`() {
        #expect(
            hexadecimal(sha256(Array("abc".utf8)))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            hexadecimal(sha256([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(
            hexadecimal(sha512(Array("abc".utf8)))
                == "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
    }

    @Test(arguments: [
        (
            [UInt8](repeating: 0x0B, count: 20), "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        ),
        (
            Array("Jefe".utf8), "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        ),
        (
            [UInt8](repeating: 0xAA, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
    ])
    func `authenticates as RFC 4231 says`(_ key: [UInt8], _ text: String, _ digest: String) {
        #expect(hexadecimal(hmacSHA256(key: key, Array(text.utf8))) == digest)
    }

    @Test(arguments: [
        (1, "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"),
        (2, "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c"),
        (4096, "d197b1b33db0143e018b12f3d1d1479e6cdebdcc97c5c0f87f6902e072f457b5"),
    ])
    func `derives keys with PBKDF2 as others do`(_ iterations: Int, _ key: String) throws {
        let derived = try pbkdf2SHA512(
            password: Array("password".utf8), salt: Array("salt".utf8), iterations: iterations, bytes: 32)
        #expect(hexadecimal(derived) == key)
    }

    @Test(arguments: [
        ("", "", ScryptCost(logN: 4, blockSize: 1, parallelization: 1), "77d6576238657b203b19ca42c18a0497"),
        (
            "password", "NaCl", ScryptCost(logN: 10, blockSize: 8, parallelization: 16),
            "fdbabe1c9d3472007856e7190d01e9fe"
        ),
        (
            "pleaseletmein", "SodiumChloride", ScryptCost(logN: 14, blockSize: 8, parallelization: 1),
            "7023bdcb3afd7348461c06cd81fd38eb"
        ),
    ])
    func `derives keys with scrypt as RFC 7914 says`(
        _ password: String, _ salt: String, _ cost: ScryptCost, _ key: String
    ) throws {
        let derived = try scrypt(password: Array(password.utf8), salt: Array(salt.utf8), cost: cost, bytes: 64)
        #expect(hexadecimal(derived).hasPrefix(key))
    }

    @Test func `names what OpenSSL refuses and leaves nothing in its queue`() throws {
        let impossible = ScryptCost(logN: 0, blockSize: 8, parallelization: 1)
        for _ in 0..<2 {
            let error = #expect(throws: CryptographyError.self) {
                try scrypt(password: [], salt: [], cost: impossible)
            }
            #expect(error?.function == "EVP_PBE_scrypt")
        }
    }

    @Test func `compares whole values`() {
        #expect(areEqualInConstantTime([1, 2, 3], [1, 2, 3]))
        #expect(areEqualInConstantTime([], []))
        #expect(!areEqualInConstantTime([1, 2, 3], [1, 2, 4]))
        #expect(!areEqualInConstantTime([1, 2, 3], [1, 2]))
    }

    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy"),
    ])
    func `writes and reads base64 as RFC 4648 says`(_ text: String, _ encoded: String) {
        #expect(Base64.standard.encode(Array(text.utf8)) == encoded)
        #expect(Base64.standard.decode(encoded.utf8) == Array(text.utf8))
        let bare = String(encoded.filter { $0 != "=" })
        #expect(Base64.unpadded.encode(Array(text.utf8)) == bare)
        #expect(Base64.url.decode(bare.utf8) == Array(text.utf8))
    }

    @Test(arguments: ["Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "====", "=", "Z=g=", "Zm9-", "ä==="])
    func `reads no second spelling of base64`(_ text: String) {
        #expect(Base64.standard.decode(text.utf8) == nil)
    }

    @Test func `keeps the alphabets of base64 apart`() {
        #expect(Base64.standard.encode([0xFB, 0xFF]) == "+/8=")
        #expect(Base64.url.encode([0xFB, 0xFF]) == "-_8")
        #expect(Base64.url.decode("+/8".utf8) == nil && Base64.unpadded.decode("-_8".utf8) == nil)
    }

    @Test func `reads hexadecimal of either case and nothing else`() {
        #expect(bytes(hexadecimal: "00aAFf".utf8) == [0, 0xAA, 0xFF])
        #expect(bytes(hexadecimal: "".utf8) == [])
        for text in ["0", "0g", "0x00", " 00", "+1"] { #expect(bytes(hexadecimal: text.utf8) == nil) }
    }
}
