import Access
import Testing

/// A policy, a question and the answer: `R` or `W` where it is allowed, `r` or `w` where not. That Mosquitto 2.0.11
/// answers the same was tried on it, but for the rows of `stricterThanMosquitto`.
struct PolicyRow: CustomTestStringConvertible, Sendable {
    let policy: String
    /// Nil: no user name.
    let user: String?
    let client: String
    let answer: String

    init(_ policy: String, _ user: String?, _ answer: String) { self.init(policy, user, "c", answer) }

    init(_ policy: String, _ user: String?, _ client: String, _ answer: String) {
        self.policy = policy
        self.user = user
        self.client = client
        self.answer = answer
    }

    var testDescription: String {
        "\(user ?? "-") as \(client): \(answer) by \(policy.replacing("\n", with: "; ").replacing("\r", with: "\\r"))"
    }

    var asks: (direction: Policy.Direction, topic: [UInt8], isAllowed: Bool) {
        let letter = answer.prefix(1)
        return (
            letter.lowercased() == "r" ? .read : .write, Array(answer.dropFirst(2).utf8), letter.uppercased() == letter
        )
    }
}

@Suite struct `An acl_file` {
    static let asMosquitto: [PolicyRow] = [
        // Nothing that is not allowed is allowed (CVE-2018-12550: an empty file once allowed everything).
        PolicyRow("", nil, "r x"), PolicyRow("", "bob", "w x"), PolicyRow("# only this\n\n  \n", nil, "r x"),
        PolicyRow("user bob\ntopic x", nil, "r x"), PolicyRow("user bob\n", "bob", "r x"),
        // Whom a line is for.
        PolicyRow("topic x\nuser bob\ntopic y\n", nil, "R x"), PolicyRow("topic x\nuser bob\ntopic y\n", nil, "r y"),
        PolicyRow("topic x\nuser bob\ntopic y\n", "bob", "r x"), PolicyRow("topic x\nuser bob\ntopic y", "bob", "R y"),
        PolicyRow("topic x\nuser bob\ntopic y\n", "al", "r x"), PolicyRow("topic x\n", "", "r x"),
        PolicyRow("user a\ntopic x\nuser b\ntopic y\nuser a\ntopic z\n", "a", "R x"),
        PolicyRow("user a\ntopic x\nuser b\ntopic y\nuser a\ntopic z\n", "a", "R z"),
        PolicyRow("user a\ntopic x\nuser b\ntopic y\nuser a\ntopic z\n", "b", "r z"),
        PolicyRow("user a\ntopic x\nuser a\ntopic deny x\n", "a", "r x"),
        PolicyRow("user  my name  \ntopic x\n", "my name", "R x"),
        PolicyRow("user bob # c\ntopic x\n", "bob", "r x"), PolicyRow("user bob # c\ntopic x\n", "bob # c", "R x"),
        PolicyRow("user Bob\ntopic x\n", "bob", "r x"),
        // Access.
        PolicyRow("topic read x", nil, "R x"), PolicyRow("topic read x", nil, "w x"),
        PolicyRow("topic write x", nil, "r x"), PolicyRow("topic write x", nil, "W x"),
        PolicyRow("topic readwrite x", nil, "R x"), PolicyRow("topic readwrite x", nil, "W x"),
        PolicyRow("topic x", nil, "R x"), PolicyRow("topic x", nil, "W x"),
        PolicyRow("topic read a\ntopic write a", nil, "W a"),
        // Denials first, wherever they stand, but only among their own: topics come before patterns.
        PolicyRow("topic readwrite a/#\ntopic deny a/b", nil, "r a/b"),
        PolicyRow("topic readwrite a/#\ntopic deny a/b", nil, "w a/b"),
        PolicyRow("topic readwrite a/#\ntopic deny a/b", nil, "R a/c"),
        PolicyRow("topic deny +/b\ntopic a/b", nil, "r a/b"),
        PolicyRow("topic a/b\npattern deny a/#\npattern readwrite #", nil, "R a/b"),
        PolicyRow("topic a/b\npattern deny a/#\npattern readwrite #", nil, "r a/c"),
        PolicyRow("topic a/b\npattern deny a/#\npattern readwrite #", nil, "W z"),
        PolicyRow("topic deny a/b\npattern readwrite #", nil, "r a/b"),
        PolicyRow("pattern read a/#\npattern deny a/%c", nil, "r a/c"),
        PolicyRow("pattern read a/#\npattern deny a/%c", nil, "R a/d"),
        // Patterns: for all, with names in place of %u and %c, also inside a level.
        PolicyRow("pattern %c/y\npattern %u/x", nil, "R c/y"), PolicyRow("pattern %u/x", nil, "r /x"),
        PolicyRow("pattern %u/x", nil, "r %u/x"), PolicyRow("pattern %u/x", "bob", "R bob/x"),
        PolicyRow("pattern %u/x", "bob", "r al/x"), PolicyRow("pattern %u/x", "", "R /x"),
        PolicyRow("pattern read sensor-%c/x", nil, "R sensor-c/x"),
        PolicyRow("pattern read sensor-%c/x", nil, "r sensor-d/x"),
        PolicyRow("pattern read sensor-%c/x", nil, "r sensor-cc/x"),
        PolicyRow("pattern read %u-%c/%c", "u", "a", "R u-a/a"),
        PolicyRow("pattern read %u-%c/%c", "u", "a", "r u-b/a"),
        PolicyRow("pattern read %u%c", "ab", "c", "R abc"), PolicyRow("pattern read %u%c", "a", "bc", "R abc"),
        PolicyRow("pattern %%u/x", "bob", "R %bob/x"), PolicyRow("pattern %o/%u", "bob", "R %o/bob"),
        PolicyRow("pattern 100%/%c", nil, "R 100%/c"), PolicyRow("pattern %c/%", nil, "R c/%"),
        PolicyRow("user bob\npattern read x", "al", "R x"), PolicyRow("user bob\npattern read x", nil, "R x"),
        PolicyRow("user bob\ntopic %u/x", "bob", "r bob/x"), PolicyRow("user bob\ntopic %u/x", "bob", "R %u/x"),
        PolicyRow("pattern deny a/%u\npattern read a/#", nil, "R a/b"),
        // Wildcards; # matches the level above it too, and neither reaches what begins with $ [MQTT-4.7.2-1].
        PolicyRow("topic a/#", nil, "R a"), PolicyRow("topic a/#", nil, "R a/b/c"), PolicyRow("topic a/#", nil, "r ab"),
        PolicyRow("topic b/+", nil, "r b"), PolicyRow("topic b/+", nil, "R b/"), PolicyRow("topic b/+", nil, "r b/c/d"),
        PolicyRow("topic +/+/c", nil, "R a/b/c"), PolicyRow("topic +/b\ntopic a/c", nil, "R a/b"),
        PolicyRow("topic a/+\ntopic +/b\ntopic a/b/c", nil, "R a/b/c"),
        PolicyRow("topic #", nil, "R a/b/c"), PolicyRow("topic #", nil, "r $foo/x"), PolicyRow("topic #", nil, "R /x"),
        PolicyRow("topic +/x", nil, "r $foo/x"), PolicyRow("pattern #", nil, "r $foo/x"),
        PolicyRow("topic $foo/#", nil, "R $foo/x"), PolicyRow("topic $foo/#", nil, "W $foo"),
        PolicyRow("topic a/#", nil, "R a/$x"), PolicyRow("topic read $SYS/#", nil, "R $SYS/broker/uptime"),
        PolicyRow("topic deny #\ntopic read $foo/#", nil, "R $foo/x"),
        // Names with wildcards get nothing of any pattern (CVE-2017-7650), and keep their own lines.
        PolicyRow("pattern devices/%u/x", "+", "r devices/a/x"),
        PolicyRow("pattern devices/%u/x", "#", "r devices/a/x"),
        PolicyRow("pattern devices/%c/x", nil, "+", "r devices/a/x"),
        PolicyRow("pattern devices/%c/#", nil, "a/#", "r devices/a/x"),
        PolicyRow("pattern devices/%u/x", "+", "r devices/+/x"), PolicyRow("user +\ntopic t\npattern p", "+", "R t"),
        PolicyRow("user +\ntopic t\npattern p", "+", "r p"), PolicyRow("user x\ntopic t\npattern p", "x", "#", "r p"),
        PolicyRow("pattern read %c/x\n", "a+b", "r c/x"),
        // How words are cut.
        PolicyRow("user bob\r\ntopic read x\r\n\r\n", "bob", "R x"), PolicyRow("topic read a b\n", nil, "R a b"),
        PolicyRow("topic read\n", nil, "W read"), PolicyRow("topic read \n", nil, "W read"),
        PolicyRow("topic deny\n", nil, "R deny"), PolicyRow("topic   read    a/b   \n", nil, "R a/b"),
        PolicyRow("   topic read a/b\n", nil, "R a/b"), PolicyRow("topic read \ta/b\n", nil, "R a/b"),
        PolicyRow("topic read\ta/b\n", nil, "R read\ta/b"), PolicyRow("#topic a\n \n\t\ntopic b", nil, "r a"),
        PolicyRow("#topic a\n \n\t\ntopic b", nil, "R b"), PolicyRow("topic read é/ü\n", nil, "R é/ü"),
        PolicyRow("topic /\n", nil, "R /"), PolicyRow("topic /\n", nil, "r a/"), PolicyRow("topic //a\n", nil, "R //a"),
    ]

    static let stricterThanMosquitto: [PolicyRow] = [
        // A name fills one level; Mosquitto lets a/b reach what a/b/... spells.
        PolicyRow("pattern %u/#", "a/b", "r a/b/x"), PolicyRow("pattern %u/#", "a/b", "r a/x"),
        PolicyRow("pattern devices/%c/+", nil, "a/command", "r devices/a/command/x"),
        PolicyRow("pattern x/y", nil, "a/b", "R x/y"), PolicyRow("pattern %u/x", "u", "a/b", "R u/x"),
        // So what is denied by such a name could be missed: then the patterns give it nothing.
        PolicyRow("pattern deny a/%c\npattern read #", nil, "c/d", "r a/c/d"),
        PolicyRow("pattern deny a/%c\npattern read #", nil, "c/d", "r x"),
        PolicyRow("pattern deny a/%c\npattern read #", nil, "cd", "R x"),
        // A name never reaches the server's own tree; in Mosquitto a user $SYS reads it.
        PolicyRow("pattern read %u/#", "$SYS", "r $SYS/broker/uptime"), PolicyRow("pattern read %u/#", "$f", "r $f/x"),
        PolicyRow("pattern read %c%u/#", "$SYS", "", "r $SYS/broker/uptime"),
        PolicyRow("pattern read %u/#", "$SYS", "r SYS/x"), PolicyRow("pattern read a/%u", "$SYS", "R a/$SYS"),
        PolicyRow("pattern deny %u/x\npattern read $f/#", "$f", "r $f/x"),
        PolicyRow("pattern read $SYS/%u", "u", "R $SYS/u"),
        // NUL cannot come over MQTT, but in a certificate.
        PolicyRow("pattern read %u/x", "a\0b", "r a/x"), PolicyRow("pattern read y", "a\0b", "r y"),
        // Management goes by role.
        PolicyRow("topic readwrite $SYS/#", nil, "r $SYS/devices/A"), PolicyRow("topic $SYS/#", nil, "R $SYS/broker/x"),
        PolicyRow("topic $SYS/devices/A", nil, "r $SYS/devices/A"), PolicyRow("topic $SYS/#", nil, "r $SYS/activity"),
        PolicyRow("topic $SYS/rollouts/#", nil, "r $SYS/rollouts/1"), PolicyRow("topic $SYS/#", nil, "R $SYS/devicesx"),
        PolicyRow("topic $CONTROL/#", nil, "w $CONTROL/fleet/v1"), PolicyRow("topic $CONTROL/#", nil, "r $CONTROL"),
        // Blanks before a comment, tabs before a keyword, and the mark that editors put first: Mosquitto refuses them.
        PolicyRow("  # c\n\t# d\ntopic a\n", nil, "R a"), PolicyRow("\ttopic read a/b\n", nil, "R a/b"),
        PolicyRow("\u{FEFF}topic a\n", nil, "R a"),
    ]

    @Test(arguments: asMosquitto + stricterThanMosquitto) func `decides`(_ row: PolicyRow) throws {
        let policy = try Policy.parse(Array(row.policy.utf8), file: "f.acl")
        let (user, client) = (row.user.map { Array($0.utf8) }, Array(row.client.utf8))
        let (direction, topic, isAllowed) = row.asks
        let rights = Rights(policy: policy, userName: user, client: client)
        let mayDo = direction == .read ? rights.mayRead(topic.span) : rights.mayWrite(topic.span)
        #expect(mayDo == isAllowed)
        let decision = policy.decision(userName: user, client: client, to: direction, topic)
        #expect(decision.isAllowed == isAllowed, "\(decision.explanation)")
    }

    @Test(arguments: [
        ("topic a\nfoo bar", 2, "unknown keyword 'foo'"), ("Topic a", 1, "unknown keyword 'Topic'"),
        ("topic\tread\ta", 1, "blanks, not tabs"), ("topic", 1, "topic without a topic"),
        ("pattern  ", 1, "pattern without a topic"), ("\n\nuser", 3, "user without a name"),
        ("user   \n", 1, "user without a name"), ("topic a b", 1, "'a' is not read, write, readwrite or deny"),
        ("topic rw a", 1, "'rw' is not read"), ("topic Read a", 1, "'Read' is not read"),
        ("topic a+/b", 1, "'a+/b': + stands alone"), ("topic +a/b", 1, "+ stands alone"),
        ("topic a/#/b", 1, "# stands alone in the last level"), ("topic a#", 1, "# stands alone"),
        ("topic read a # c", 1, "# stands alone"), ("pattern %u#", 1, "# stands alone"),
        ("pattern +%u", 1, "+ stands alone"), ("topic a\0b", 1, "NUL"),
        ("topic " + String(repeating: "/", count: 201), 1, "more than 201 levels"),
        ("topic " + String(repeating: "a", count: 65_536), 1, "longer than 65535"),
        ("user " + String(repeating: "a", count: 65_536), 1, "longer than 65535"),
    ])
    func `that is wrong names file, line and reason`(_ text: String, _ line: Int, _ reason: String) {
        let error = #expect(throws: AccessFileError.self) { try Policy.parse(Array(text.utf8), file: "f.acl") }
        #expect(error?.line == line)
        #expect(error?.description.hasPrefix("f.acl:\(line): ") == true)
        #expect(error?.reason.contains(reason) == true, "\(error?.reason ?? "")")
    }

    @Test func `that is not UTF-8, or too long, is refused`() {
        let error = #expect(throws: AccessFileError.self) {
            try Policy.parse([0x0A] + "topic ".utf8 + [0xFF], file: "f")
        }
        #expect(error?.description == "f:2: this line is not UTF-8")
        let long = [UInt8](repeating: UInt8(ascii: "\n"), count: PolicyLimits.fileBytes + 1)
        #expect(throws: AccessFileError.self) { try Policy.parse(long, file: "f") }
    }

    @Test func `may have as many levels as a topic in Mosquitto's`() throws {
        let text = Array(String(repeating: "+/", count: 200).utf8) + [UInt8(ascii: "#")]
        let policy = try Policy.parse("topic ".utf8 + text, file: "f")
        let rights = Rights(policy: policy, userName: nil, client: [])
        #expect(rights.reads(String(repeating: "/", count: 65_535)))
        #expect(!rights.reads(String(repeating: "/", count: 198)))
    }

    @Test(arguments: [
        ("pattern read a/#", "pattern 'a/#' has neither %c nor %u: it counts for everybody"),
        ("topic read a/%c", "%c and %u are replaced in pattern lines only"),
        ("user bob # the builder", "the # and what follows it belong to the user's name"),
        ("topic read\ta", "the tab is part of the topic: blanks separate words"),
    ])
    func `is warned about what hardly anybody means`(_ text: String, _ reason: String) throws {
        let warnings = try Policy.parse(Array("topic x\n\(text)\n".utf8), file: "f").warnings
        #expect(warnings.map(\.description) == ["f:2: warning: \(reason)"])
    }

    @Test func `is warned about a limited number of times`() throws {
        let text = String(repeating: "pattern read a\n", count: 1000)
        let warnings = try Policy.parse(Array(text.utf8), file: "f").warnings
        #expect(warnings.count == PolicyLimits.warnings + 1)
        #expect(warnings.last?.reason == "and 980 more like these")
    }

    @Test func `says which line decides`() throws {
        let text = "# c\ntopic deny a/b\n  topic read a/#\r\nuser bob\ntopic x\npattern write %u/up\n"
        let policy = try Policy.parse(Array(text.utf8), file: "my.acl")
        func explanation(_ user: String?, _ client: String, _ direction: Policy.Direction, _ topic: String) -> String {
            policy.decision(
                userName: user.map { Array($0.utf8) }, client: Array(client.utf8), to: direction, Array(topic.utf8)
            ).explanation
        }
        #expect(explanation(nil, "c", .read, "a/b") == "denied by my.acl:2: topic deny a/b")
        #expect(explanation(nil, "c", .read, "a/c") == "allowed by my.acl:3: topic read a/#")
        #expect(explanation(nil, "c", .write, "a/c") == "denied: no line of my.acl allows it")
        #expect(explanation("bob", "c", .write, "bob/up") == "allowed by my.acl:6: pattern write %u/up")
        #expect(
            explanation("bob", "+", .write, "bob/up")
                == "denied: the client identifier contains +, # or NUL, so no pattern of my.acl counts")
        #expect(explanation("bob", "c", .read, "$SYS/devices/A").hasPrefix("denied: a management topic"))
    }
}

@Suite struct `A policy of our own` {
    private func rights(_ text: String, _ user: String?, _ client: String = "c", owned: [String] = []) throws -> Rights
    {
        let policy = try Policy.parse(Array(text.utf8), file: "p.acl", dialect: .martlet)
        return Rights(policy: policy, userName: user.map { Array($0.utf8) }, client: Array(client.utf8), owned: owned)
    }

    @Test func `counts for whoever has it, named or not`() throws {
        #expect(try rights("topic read a", "bob").reads("a"))
        #expect(try rights("topic read a", nil).reads("a"))
    }

    @Test func `keeps its other patterns for a name with wildcards`() throws {
        let text = "pattern read devices/%u/x\npattern read open"
        #expect(try rights("pattern readwrite #", nil, "a+b").writes("x"))
        #expect(try !rights(text, "+").reads("open"))
        #expect(try rights(text, "u", "#").reads("open"))
    }

    @Test func `reaches all devices of a person, and no others`() throws {
        let owned = (0..<100).map { "DEV\($0 * 2)" }.reversed() as [String]
        let rights = try rights("pattern read devices/%o/#\npattern deny devices/%o/secret", "u", owned: owned)
        for number in 0..<200 {
            #expect(rights.reads("devices/DEV\(number)/x") == number.isMultiple(of: 2))
            #expect(!rights.reads("devices/DEV\(number)/secret"))
        }
        #expect(!rights.reads("devices/DEV/x"))
        #expect(try !self.rights("pattern read devices/%o/#", "u").reads("devices//x"))
    }

    @Test(arguments: [
        "user bob", "topic devices/%o/x", "topic devices/%u/x", "pattern %o/%o", "pattern x-%o/y", "pattern %o%u",
    ])
    func `refuses what it has no meaning for`(_ text: String) {
        let error = #expect(throws: AccessFileError.self) {
            try Policy.parse(Array(text.utf8), file: "p.acl", dialect: .martlet)
        }
        #expect(error?.line == 1)
    }
}

extension Rights {
    func reads(_ topic: String) -> Bool { mayRead(Array(topic.utf8).span) }
    func writes(_ topic: String) -> Bool { mayWrite(Array(topic.utf8).span) }
    func coverage(of filter: String) -> Coverage { coverage(of: Array(filter.utf8).span) }
}
