import Access
import Cryptography
import Seeded
import Testing

@Suite struct `A password file` {
    private static let hash = `A password hash`.pbkdf2Line
    private static let other = `A password hash`.sha512Line

    private static func parse(_ text: String) throws -> PasswordFile {
        try PasswordFile.parse(Array(text.utf8), file: "users")
    }

    private static func name(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test(arguments: [
        "alice:HASH\n", "alice:HASH", "alice:HASH\r\n", "# users\n\n  \t\nalice:HASH\n\n", "  alice:HASH\n",
        "alice : HASH \t\n", "bob:OTHER\nalice:HASH\n", "#alice:OTHER\nalice:HASH\n", "alice:OTHER\nalice:HASH\n",
    ])
    func `is read as Mosquitto reads it`(_ text: String) throws {
        let file = try Self.parse(text.replacing("HASH", with: Self.hash).replacing("OTHER", with: Self.other))
        #expect(file[Self.name("alice")]?.text == Self.hash)
        #expect(file[Self.name("zed")] == nil && file[[]] == nil && file[Self.name("#alice")] == nil)
    }

    @Test func `that is empty has nobody`() throws {
        #expect(try Self.parse("").count == 0)
        #expect(try Self.parse("# nobody\n\n").count == 0)
    }

    /// CVE-2018-12551: in Mosquitto before 1.5.6 such a line made a user who needed no password.
    @Test(arguments: [
        ("alice", "no ':'"), ("alice:", "not hashed"), ("alice:secret", "not hashed"), (":HASH", "empty"),
        (" :HASH", "empty"), ("alice:$7$", "malformed"), ("alice:$7$101$", "malformed"), ("alice:HASH:x", "second ':'"),
        ("alice:HASH$", "malformed"), ("alice:HASH x", "malformed"), (" # x:y", "not hashed"), ("x\0y:HASH", "NUL"),
        ("alice:$argon2id$v=19$m=1,t=1,p=1$YWJj$YWJj", "argon2id"), ("::", "empty"), ("alice::HASH", "second ':'"),
        ("alice:HASH\rbob:HASH", "second ':'"),
    ])
    func `with a line that is wrong makes nobody a user, and says where`(_ line: String, _ reason: String) throws {
        let text = "# users\nbob:HASH\n\(line)\n".replacing("HASH", with: Self.hash)
        let error = #expect(throws: AccessFileError.self) { try Self.parse(text) }
        #expect(error?.line == 3 && error?.reason.contains(reason) == true, "\(error.map(\.description) ?? "")")
        #expect(error?.description.hasPrefix("users:3: ") == true)
    }

    @Test func `that begins with a byte order mark is refused rather than read as another name`() {
        let error = #expect(throws: AccessFileError.self) { try Self.parse("\u{FEFF}alice:\(Self.hash)\n") }
        #expect(error?.line == 1)
    }

    @Test func `warns of a second line for the same user, and of a name that nobody can send`() throws {
        let file = try Self.parse("a:\(Self.other)\n\na:\(Self.hash)\n")
        #expect(file.warnings.map(\.line) == [3])
        let bytes = [0xFF, UInt8(ascii: ":")] + Array(Self.hash.utf8)
        #expect(try PasswordFile.parse(bytes, file: "users").warnings.count == 1)
    }

    @Test(arguments: ["+", "#x", "a/b", "$SYS", "ä", "a b", "a#"])
    func `has names as they come`(_ name: String) throws {
        let text = "\(name):\(Self.hash)\n"
        guard !name.hasPrefix("#") else { return #expect(try Self.parse(text).count == 0) }
        #expect(try Self.parse(text)[Self.name(name)] != nil)
    }
}

@Suite struct `Changing a password file` {
    private static let hash = (try? PasswordHash(parsing: `A password hash`.pbkdf2Line.utf8))!

    private static func set(_ name: String, in text: String) -> String {
        let bytes = PasswordFile.setting(Array(name.utf8), to: hash, in: Array(text.utf8))
        return String(decoding: bytes, as: UTF8.self).replacing(hash.text, with: "NEW")
    }

    @Test(arguments: [
        ("", "alice:NEW\n"), ("bob:x\n", "bob:x\nalice:NEW\n"), ("bob:x", "bob:x\nalice:NEW\n"),
        ("bob:x\r\n", "bob:x\r\nalice:NEW\r\n"), ("# c\n\nalice:x\nbob:y\n", "# c\n\nalice:NEW\nbob:y\n"),
        ("alice:x\r\nbob:y", "alice:NEW\r\nbob:y"), ("alice:x", "alice:NEW"),
        ("alice:x\nbob:y\nalice:z\n", "alice:NEW\nbob:y\n"), ("#alice:x\n", "#alice:x\nalice:NEW\n"),
        ("broken\nalice2:x\n", "broken\nalice2:x\nalice:NEW\n"),
    ])
    func `sets one user and keeps every other byte`(_ before: String, _ after: String) {
        #expect(Self.set("alice", in: before) == after)
    }

    @Test func `removes all lines of a user, and says if there was none`() {
        let text = Array("a:1\n# c\nb:2\r\na:3\n".utf8)
        #expect(PasswordFile.removing([UInt8(ascii: "a")], from: text) == Array("# c\nb:2\r\n".utf8))
        #expect(PasswordFile.removing([UInt8(ascii: "z")], from: text) == nil)
    }

    @Test func `hashes plain text and leaves what is hashed`() throws {
        let text = "# c\na:one\r\nb:\(Self.hash.text)\nc:$two\n"
        #expect(throws: AccessFileError.self) {
            try PasswordFile.hashingPlainText(in: Array(text.utf8), file: "f") { _ in Self.hash }
        }
        var seen: [String] = []
        let result = try PasswordFile.hashingPlainText(in: Array(text.replacing("$two", with: "two").utf8), file: "f") {
            seen.append(String(decoding: $0, as: UTF8.self))
            return Self.hash
        }
        #expect(seen == ["one", "two"] && result.count == 2)
        #expect(
            String(decoding: result.bytes, as: UTF8.self)
                == "# c\na:HASH\r\nb:HASH\nc:HASH\n".replacing("HASH", with: Self.hash.text))
    }

    @Test(arguments: ["", "a:b", " a", "a ", "#a", "a\nb", "a\0", "\u{7F}"])
    func `refuses a name that no line can have`(_ name: String) {
        #expect(throws: PasswordFile.NameProblem.self) { try PasswordFile.check(name: Array(name.utf8)) }
    }

    @Test func `takes the names that a line can have`() {
        for name in ["a", "ä", "a b", "+", "a#"] {
            #expect(throws: Never.self) { try PasswordFile.check(name: Array(name.utf8)) }
        }
        #expect(throws: PasswordFile.NameProblem.notUTF8) { try PasswordFile.check(name: [0xFF]) }
    }
}

@Suite struct `A file of pre-shared keys` {
    private static func parse(_ text: String) throws -> PreSharedKeys {
        try PreSharedKeys.parse(Array(text.utf8), file: "keys")
    }

    @Test func `has a key for each identity`() throws {
        let keys = try Self.parse("# keys\r\n\nsensor-1:0a1B\r\n pump : ff00 \nodd:abc\n")
        #expect(keys[Array("sensor-1".utf8)] == [0x0A, 0x1B])
        #expect(keys[Array("pump".utf8)] == [0xFF, 0])
        #expect(keys[Array("odd".utf8)] == [0x0A, 0xBC])
        #expect(keys[Array("other".utf8)] == nil && keys.count == 3)
        #expect(try Self.parse("").count == 0)
    }

    @Test(arguments: [
        ("a", "no ':'"), ("a:", "not hexadecimal"), (":00", "empty"), ("a:0g", "not hexadecimal"),
        ("a:0x12", "not hexadecimal"),
        ("a:12:34", "second ':'"), ("a:12 34", "not hexadecimal"),
        (String(repeating: "x", count: 257) + ":00", "longer than 256"),
        ("a:" + String(repeating: "11", count: 513), "longer than 512"),
    ])
    func `with a line that is wrong is refused whole, and shows no key`(_ line: String, _ reason: String) {
        let error = #expect(throws: AccessFileError.self) { try Self.parse("ok:1234\n\(line)\n") }
        #expect(error?.line == 2 && error?.reason.contains(reason) == true, "\(error.map(\.description) ?? "")")
    }

    @Test func `gives the later line of an identity, with a warning`() throws {
        let keys = try Self.parse("a:11\na:22\n")
        #expect(keys[[UInt8(ascii: "a")]] == [0x22] && keys.warnings.map(\.line) == [2])
    }
}

@Suite struct `The parsers of credentials` {
    private static let corpus = [
        "# users\nalice:\(`A password hash`.pbkdf2Line)\r\nbob:\(`A password hash`.sha512Line)\n\n",
        "carol:\(`A password hash`.scryptLine)\ndave : \(`A password hash`.pbkdf2Line) \n",
        "sensor-1:0a1b2c\npump:ff00\n# x\n", "a:$argon2id$v=19$m=1,t=1,p=1$YWJj$YWJj\nplain:text\n",
    ].map { Array($0.utf8) }

    @Test func `never trap, name a line inside the file, and make no user of what is not a hash`() {
        let seed: UInt64 = 0x6D61_7274_6C65_7435
        var random = SeededGenerator(seed: seed)
        var accepted = 0
        let telling = Array("\0\r\n\t #:$=,+/09afz".utf8) + [0x7F, 0x80, 0xC3, 0xEF, 0xFF]
        for iteration in 0..<5_000 {
            var bytes = random.element(of: Self.corpus)
            for _ in 0...random.below(4) {
                let place = random.below(bytes.count + 1)
                switch random.below(5) {
                case 0 where place < bytes.count: bytes[place] = random.element(of: telling)
                case 1 where place < bytes.count: bytes.remove(at: place)
                case 2: bytes.insert(contentsOf: random.element(of: Self.corpus).prefix(random.below(60)), at: place)
                case 3: bytes.removeLast(bytes.count - place)
                default: bytes.insert(random.element(of: telling), at: place)
                }
            }
            let lines = bytes.count { $0 == 0x0A } + 1
            do throws(AccessFileError) {
                let file = try PasswordFile.parse(bytes, file: "f")
                #expect(file.count <= lines, "seed \(seed), iteration \(iteration)")
                accepted += file.count > 0 ? 1 : 0
                // Whoever is in the file has a hash that says what the file said.
                let text = String(decoding: bytes, as: UTF8.self)
                for line in CredentialLines(bytes) where !line.isPassedOver {
                    guard case .success((let name, _)) = line.fields else { continue }
                    #expect(file[name].map { text.contains($0.text) } == true, "seed \(seed), iteration \(iteration)")
                }
            } catch {
                #expect((1...lines).contains(error.line ?? 0), "\(error), seed \(seed), iteration \(iteration)")
            }
            do throws(AccessFileError) {
                let keys = try PreSharedKeys.parse(bytes, file: "f")
                #expect(keys.count <= lines)
            } catch {
                #expect((1...lines).contains(error.line ?? 0), "\(error), seed \(seed), iteration \(iteration)")
            }
            // Editing keeps the lines of others, whatever they are.
            let name = Array("zoe".utf8)
            if let hash = try? PasswordHash(parsing: `A password hash`.sha512Line.utf8) {
                let edited = PasswordFile.setting(name, to: hash, in: bytes)
                if !bytes.contains(UInt8(ascii: "z")) {
                    #expect(edited.starts(with: bytes), "seed \(seed), iteration \(iteration)")
                }
                #expect(PasswordFile.removing(name, from: edited) != nil, "seed \(seed), iteration \(iteration)")
            }
        }
        #expect((1..<5_000).contains(accepted))
    }
}
