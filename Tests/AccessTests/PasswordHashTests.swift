import Access
import Cryptography
import Testing

@Suite struct `A password hash` {
    /// What mosquitto_passwd 2.0.11 made of "secret".
    static let sha512Line =
        "$6$7e12Y60UmRXiiqLg$eF2/pG9Le4+VUfwSlg4CxybyPBAtbl0waR/WHWoQgzGcHDjll/+guIgbSHOc3c056ifIHMR/hfvN8mg7hy6sjA=="
    static let pbkdf2Line =
        "$7$101$9MfXyja8HuJK5Mi7$anw1Olz+4Rr1c/XEiYVyKDWGR41dl4s0yKKLsJy8artJRYBPSY/tW4XWQRbye9npDJUycY5xitgehBxpgu75QQ=="
    /// What Python's hashlib made of it.
    static let scryptLine = "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gEeb/KeWbm5g+kBQOFr1yJbkjBxxxDOkhSmrSXFFwOg"

    @Test(arguments: [sha512Line, pbkdf2Line, scryptLine])
    func `knows its password and no other, and is written as it was read`(_ text: String) throws {
        let hash = try PasswordHash(parsing: text.utf8)
        #expect(try hash.matches(Array("secret".utf8)))
        for wrong in ["", "secre", "Secret", "secret ", "secretsecret"] {
            #expect(try !hash.matches(Array(wrong.utf8)), "\(wrong)")
        }
        #expect(hash.text == text)
    }

    @Test(arguments: [PasswordHash.Scheme.sha512, .forFiles, .forPeople])
    func `is made with a salt of its own`(_ scheme: PasswordHash.Scheme) throws {
        let password = Array("pässword".utf8)
        let (one, other) = try (
            PasswordHash.making(of: password, scheme: scheme), PasswordHash.making(of: password, scheme: scheme)
        )
        #expect(one.text != other.text)
        #expect(try PasswordHash(parsing: one.text.utf8) == one)
        #expect(try one.matches(password) && other.matches(password))
    }

    @Test func `of a person has the cost that is promised`() {
        #expect(PasswordHash.Scheme.forPeople == .scrypt(ScryptCost(logN: 14, blockSize: 8, parallelization: 5)))
    }

    @Test(arguments: [
        ("", PasswordHashProblem.plainText), ("secret", .plainText), ("7$101$a$b", .plainText),
        ("$", .unknownScheme), ("$secret", .unknownScheme), ("$5$a$b", .unknownScheme), ("$y$j9T$x$y", .unknownScheme),
        ("$$7$101$a$b", .unknownScheme),
        ("$6$", .malformed), ("$6$abcd", .malformed), ("$6$YWJj$YWJj", .malformed), ("$6$$YWJj", .malformed),
        (sha512Line + "$", .malformed), (sha512Line + "=", .malformed), (String(sha512Line.dropLast()), .malformed),
        (pbkdf2Line.replacing("$101$", with: "$0$"), .malformed),
        (pbkdf2Line.replacing("$101$", with: "$0101$"), .malformed),
        (pbkdf2Line.replacing("$101$", with: "$-1$"), .malformed),
        (pbkdf2Line.replacing("$101$", with: "$101x$"), .malformed),
        (pbkdf2Line.replacing("$101$", with: "$$"), .malformed),
        (pbkdf2Line.replacing("$101$", with: "$1000001$"), .tooManyIterations),
        (pbkdf2Line.replacing("$101$", with: "$99999999999999999999$"), .malformed),
        (scryptLine.replacing("ln=4", with: "ln=20"), .tooCostly),
        (scryptLine.replacing("ln=4", with: "ln=21"), .tooCostly),
        (scryptLine.replacing("p=1", with: "p=999999999"), .tooCostly),
        (scryptLine.replacing("ln=4,r=8,p=1", with: "r=8,ln=4,p=1"), .malformed),
        (scryptLine.replacing("ln=4,r=8,p=1", with: "ln=4,r=8"), .malformed),
        (scryptLine.replacing("ln=4", with: "ln=0"), .malformed),
        ("$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaA", .argon2),
    ])
    func `is refused where it says anything else`(_ text: String, _ problem: PasswordHashProblem) {
        #expect(throws: problem) { try PasswordHash(parsing: text.utf8) }
    }

    @Test func `says what to do about argon2id, and shows no password in an error`() {
        #expect(PasswordHashProblem.argon2.description.contains("martlet passwd"))
        let error = #expect(throws: AccessFileError.self) {
            try PasswordFile.parse(Array("alice:hunter2\n".utf8), file: "users")
        }
        #expect(error?.description.contains("hunter2") == false)
    }
}
