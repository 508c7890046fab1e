import Access
import Cryptography
import Seeded
import Testing

private let key = TokenKey(id: "first", secret: [UInt8](repeating: 7, count: 32))
private let other = TokenKey(id: "second", secret: [UInt8](repeating: 9, count: 32))
private let token = WebToken(
    id: "01a2048e-8d00-7245-bd61-a2b13248a4af", subject: "01a2048e-0000-7245-bd61-a2b13248a4af", email: "ann@x",
    role: .user, issued: 1_000_000, expires: 1_003_600)

/// A text of these parts, signed as HS256 says.
private func signed(_ header: String, _ claims: String, _ secret: [UInt8] = [UInt8](repeating: 7, count: 32)) -> String
{
    let text = Base64.url.encode(Array(header.utf8)) + "." + Base64.url.encode(Array(claims.utf8))
    return text + "." + Base64.url.encode(hmacSHA256(key: secret, Array(text.utf8)))
}

private let header = #"{"alg":"HS256","kid":"first"}"#
private let members =
    #""iss":"martlet","aud":"martlet","jti":"j","sub":"s","email":"ann@x","role":"user","iat":1000000,"exp":1003600"#

@Suite struct `Web tokens` {
    private func failure(_ text: String, _ keys: [TokenKey] = [key]) -> WebToken.Failure? {
        do throws(WebToken.Failure) {
            _ = try WebToken(verifying: text, with: keys)
            return nil
        } catch { return error }
    }

    @Test func `are what was signed`() throws {
        #expect(try WebToken(verifying: token.signed(with: key), with: [other, key]) == token)
        #expect(try WebToken(verifying: token.signed(with: other), with: [other, key]) == token)
        #expect(failure(token.signed(with: other)) == .unknownKey)
        let impostor = TokenKey(id: "first", secret: [UInt8](repeating: 8, count: 32))
        #expect(failure(token.signed(with: impostor)) == .badSignature)
        #expect(failure(token.signed(with: key), []) == .unknownKey)
    }

    /// RFC 7515, A.1, whose key and signature are given there.
    @Test func `are signed as RFC 7515 says`() throws {
        let secret = try #require(
            Base64.url.decode(
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow".utf8))
        let text =
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
            + "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        #expect(
            Base64.url.encode(hmacSHA256(key: secret, Array(text.utf8)))
                == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    }

    @Test(
        arguments: [
            (nil, header, "{\(members)}"), (nil, #"{"alg":"HS256","kid":"first","typ":"JWT"}"#, "{\(members)}"),
            (.wrongAlgorithm, #"{"alg":"none","kid":"first"}"#, "{\(members)}"),
            (.wrongAlgorithm, #"{"alg":"HS512","kid":"first"}"#, "{\(members)}"),
            (.wrongAlgorithm, #"{"kid":"first"}"#, "{\(members)}"),
            (.wrongAlgorithm, #"{"alg":"HS256","kid":"first","crit":[]}"#, "{\(members)}"),
            (.unknownKey, #"{"alg":"HS256"}"#, "{\(members)}"),
            (.unknownKey, #"{"alg":"HS256","kid":1}"#, "{\(members)}"),
            (.malformed, #"{"alg":"none","alg":"HS256","kid":"first"}"#, "{\(members)}"),
            (.malformed, header, #"{"exp":1,\#(members)}"#), (.malformed, header, "{\(members)"),
            (.malformed, header, ""), (.malformed, "", "{\(members)}"), (.wrongClaims, header, "{}"),
            (.wrongClaims, header, "[]"), (.wrongClaims, header, "{\(members),\"nbf\":\"x\"}"),
        ] as [(WebToken.Failure?, String, String)])
    func `count only with what they have to say, once`(_ expected: WebToken.Failure?, _ head: String, _ claims: String)
    {
        #expect(failure(signed(head, claims)) == expected)
    }

    @Test func `lack nothing`() {
        for name in ["iss", "aud", "jti", "sub", "email", "role", "iat", "exp"] {
            let without = members.split(separator: ",").filter { !$0.hasPrefix("\"\(name)\"") }.joined(separator: ",")
            #expect(failure(signed(header, "{\(without)}")) == .wrongClaims, "\(name)")
            let mistyped = members.split(separator: ",").map { $0.hasPrefix("\"\(name)\"") ? "\"\(name)\":{}" : $0 }
            #expect(failure(signed(header, "{\(mistyped.joined(separator: ","))}")) == .wrongClaims, "\(name)")
        }
    }

    @Test func `count from when they were made until they expire`() throws {
        #expect(token.isValid(at: token.issued) && token.isValid(at: token.expires - 1))
        #expect(!token.isValid(at: token.expires))
        #expect(token.isValid(at: token.issued - WebToken.clockSkew))
        #expect(!token.isValid(at: token.issued - WebToken.clockSkew - 1))
        let later = try WebToken(verifying: signed(header, "{\(members),\"nbf\":1000100}"), with: [key])
        #expect(later.isValid(at: 1_000_040) && !later.isValid(at: 1_000_039))
        for claim in ["\(Int64.max)", "\(Int64.min)"] {
            let extreme = try WebToken(
                verifying: signed(header, "{\(members.replacing("1003600", with: claim)),\"nbf\":\(claim)}"),
                with: [key])
            #expect(!extreme.isValid(at: 1_000_000))
        }
    }

    /// Goal: whatever is changed, one counts only as it was signed.
    @Test(arguments: [1, 2, 3] as [UInt64]) func `are refused when anything is changed`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let corpus = [
            token.signed(with: key), token.signed(with: other), signed(header, "{\(members),\"nbf\":5}"), "..", "a.b.c",
            signed(header, "{}"), signed("{}", "{}"),
        ].map { Array($0.utf8) }
        let pieces = [".", "=", "+", "/", "-", "_", "\0", "\u{E9}", "e30", "eyJ", "\n"].map { Array($0.utf8) }
        let valid = Set(corpus.map { String(decoding: $0, as: UTF8.self) })
        for iteration in 0..<4_000 {
            var text = generator.element(of: corpus)
            for _ in 0...generator.below(3) {
                let position = generator.below(text.count + 1)
                switch generator.below(5) {
                case 0 where position < text.count: text[position] ^= 1 << UInt8(generator.below(8))
                case 1: text.insert(contentsOf: generator.element(of: pieces), at: position)
                case 2: text.removeSubrange(position..<min(text.count, position + 1 + generator.below(8)))
                case 3:
                    text.replaceSubrange(position..., with: generator.element(of: corpus).suffix(generator.below(80)))
                default: text.append(contentsOf: text.prefix(generator.below(3_000)))
                }
            }
            let changed = String(decoding: text, as: UTF8.self)
            guard let counted = try? WebToken(verifying: changed, with: [key, other]) else { continue }
            #expect(valid.contains(changed), "\(changed) counts as \(counted): seed \(seed), iteration \(iteration)")
        }
    }
}

@Suite struct `Log-ins and passwords` {
    /// A name that nobody has takes the time of one that somebody has.
    @Test func `who does not exist costs as much to refuse`() throws {
        var accounts = Accounts()
        let hash = try PasswordHash.making(of: Array("right".utf8), scheme: .forPeople)
        accounts.people["ann@x"] = Accounts.Person(id: "1", email: "ann@x", passwordHash: hash.text)
        let costs = ["ann@x", "ANN@x", "nobody@x", ""].map { accounts.passwordCheck(of: $0, []).costMicroseconds }
        #expect(Set(costs) == [hash.costMicroseconds])
        var times: [[Duration]] = [[], []]
        for _ in 0..<5 {
            for (index, name) in ["ann@x", "nobody@x"].enumerated() {
                let check = accounts.passwordCheck(of: name, Array("wrong".utf8))
                times[index].append(ContinuousClock().measure { #expect(check.run() == nil) })
            }
        }
        let least = times.compactMap { $0.min() }
        #expect(least[0] < least[1] * 3 && least[1] < least[0] * 3, "\(least)")
    }
}
