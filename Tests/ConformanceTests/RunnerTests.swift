import Conformance
import Testing

/// The runner against brokers that are one function, so that what it says of them can be known beforehand.
@Suite struct `A case` {
    private func failure(
        _ lines: String, head: String = "", talksForEver: Bool = false,
        _ answer: @escaping ScriptedBroker.Answer = politeAnswer
    ) throws -> Failure? {
        switch try result(lines, head: head, talksForEver: talksForEver, answer).outcome {
        case .failed(let failure), .differs(let failure): failure
        case .passed, .waits: nil
        }
    }

    @Test func `passes when what it expects comes`() throws {
        let lines = """
            A connects
            A publishes "~/a" "x" qos 1
            A > PUBLISH "~/a" "x" qos 1 id 7
            A < PUBACK 7
            A < nothing
            A disconnects
            """
        #expect(try failure(lines) == nil)
    }

    @Test func `fails when another packet comes, and shows it decoded and in hexadecimal`() throws {
        let failure = try #require(
            try failure("A connects\nA > SUBSCRIBE 1 \"~/a\" 1\nA < SUBACK 1 1"), "SUBACK with another code passed")
        #expect(failure.evidence == .unexpected)
        #expect(failure.expected == "SUBACK 1 1")
        #expect(failure.came == "SUBACK 1 0   [90 03 00 01 00]")
        #expect(failure.source == "A < SUBACK 1 1")
        #expect(failure.transcript.contains { $0.contains("A < SUBACK 1 0") })
    }

    @Test func `that was long shows its end`() throws {
        let lines = "A connects\nrepeat 1000 as i\n  A pings\nend\nA > SUBSCRIBE 1 \"~/a\" 1\nA < SUBACK 1 1"
        let failure = try #require(try failure(lines))
        #expect(failure.transcript.last?.contains("A < SUBACK 1 0") == true, "\(failure.transcript.suffix(3))")
        #expect((100...1000).contains(failure.transcript.count))
    }

    @Test(arguments: ["PINGRESP", "PUBACK 1", "CONNACK 0", "PUBLISH * *", "closed", "UNSUBACK 2", "SUBACK 1 0 0"])
    func `fails when the broker answers what is sent later, but not this`(_ expected: String) throws {
        let answer: ScriptedBroker.Answer = { frame in
            // Deaf to PUBLISH.
            frame.kind == .publish ? .frames([]) : politeAnswer(frame)
        }
        let lines = "A connects\nA > PUBLISH \"~/a\" \"\" qos 1 id 1\nA < \(expected)"
        let failure = try #require(try failure(lines, answer))
        #expect(failure.evidence == .silence, "\(expected): \(failure.came)")
        #expect(failure.evidence.isObserved)
    }

    @Test func `runs into its time limit only where nothing at all is answered`() throws {
        let answer: ScriptedBroker.Answer = { $0.kind == .connect ? politeAnswer($0) : .frames([]) }
        let failure = try #require(try failure("A connects\nA pings", answer))
        #expect(failure.evidence == .timeLimit)
        #expect(!failure.evidence.isObserved)
    }

    @Test(arguments: ["A < SUBACK 1 0", "A < closed", "A < closed within 0s..9s", "A disconnects", "A closes"])
    func `runs into its time limit also where the broker never stops talking`(_ line: String) throws {
        let start = ContinuousClock.now
        let failure = try failure("A connects\n\(line)", head: "  within 1s", talksForEver: true)
        #expect(failure != nil)
        #expect(start.duration(to: .now) < .seconds(20))
    }

    @Test func `does not take bytes that are no packet for the end of a connection`() throws {
        let answer: ScriptedBroker.Answer = {
            $0.kind == .disconnect ? .bytes(Array(repeating: 0xff, count: 10)) : politeAnswer($0)
        }
        #expect(try failure("A connects\nA disconnects", answer)?.evidence == .unexpected)
    }

    @Test func `takes a silent refusal before CONNACK for one only if a CONNECT is not served either`() throws {
        let deaf: ScriptedBroker.Answer = { $0.kind == .pingreq ? .frames([]) : politeAnswer($0) }
        let failure = try #require(try failure("A > PINGREQ\nA < closed", deaf))
        #expect(failure.came.hasPrefix("CONNACK 0"))
    }

    @Test func `passes with one of several alternatives`() throws {
        let lines = "A connects\nA > SUBSCRIBE 1 \"~/a\" 1\nA < closed or SUBACK 1 0x80 or SUBACK 1 0..1"
        #expect(try failure(lines) == nil)
    }

    @Test func `takes what may come, and what comes again`() throws {
        let answer: ScriptedBroker.Answer = { frame in
            guard frame.kind == .publish, case .frames(let frames) = politeAnswer(frame) else {
                return politeAnswer(frame)
            }
            let copy = Frame(firstByte: 0x30, body: [0, 1, 0x61, 0x78])
            return .frames([copy, copy, copy] + frames)
        }
        let send = "A connects\nA > PUBLISH \"a\" \"x\" qos 1 id 1\n"
        #expect(try failure(send + "A <? SUBACK 1 0\nA <+ PUBLISH \"a\" \"x\"\nA < PUBACK 1", answer) == nil)
        #expect(try failure(send + "A <? PUBLISH \"a\" \"x\"\nA < PUBACK 1", answer) != nil, "three are not one")
        #expect(try failure(send + "A <+ PUBLISH \"a\" \"y\"\nA < PUBACK 1", answer) != nil)
    }

    @Test func `takes neighbouring lines in any order, each once`() throws {
        let send = "A connects\nA >> PINGREQ\nA > SUBSCRIBE 1 \"a\" 0\n"
        #expect(try failure(send + "A  <*  SUBACK 1 0\nA <* PINGRESP\nA < nothing") == nil)
        #expect(try failure(send + "A <* SUBACK 1 0\nA <* SUBACK 1 0\nA <* PINGRESP") != nil)
    }

    @Test func `binds a variable once and compares it afterwards`() throws {
        let send = "A connects\nA > PUBLISH \"a\" \"x\" qos 1 id 5\nA < PUBACK :p\n"
        #expect(try failure(send + "A > PUBLISH \"a\" \"x\" qos 1 id :p\nA < PUBACK 5") == nil)
        #expect(try failure(send + "A > PUBLISH \"a\" \"x\" qos 1 id 6\nA < PUBACK :p") != nil)
        #expect(
            try failure(send + "A > PUBLISH \"a\" \"x\" qos 1 id 5\nA < PUBACK :q\ndistinct :p :q")?.evidence
                == .unexpected)
    }

    @Test func `is run once per combination of its parameters, and says which failed`() throws {
        let head = "  each Q in 0 | 1\n  each N in 1 | 2"
        let result = try result("A connects\nA > SUBSCRIBE {N} \"~/a\" {Q}\nA < SUBACK {N} 0", head: head)
        #expect(result.runs == 4)
        guard case .passed = result.outcome else {
            Issue.record("\(result.explanation)")
            return
        }
        let other = try failing(head)
        #expect(other.failedValues == ["Q=1 N=1", "Q=1 N=2"] && other.runs == 4)
    }

    private func failing(_ head: String) throws -> CaseResult {
        try result("A connects\nA > SUBSCRIBE {N} \"~/a\" 0\nA < SUBACK {N} {Q}", head: head)
    }

    @Test func `repeats lines and counts`() throws {
        let lines =
            "A connects\nrepeat 3 as i\nA > PUBLISH \"a\" \"{i}\" qos 1 id {i}\nA < PUBACK {i}\nend\nA < nothing"
        #expect(try failure(lines) == nil)
    }

    @Test func `of an open choice differs, it does not fail`() throws {
        guard case .differs = try outcome("A connects\nA < closed", head: "  choice") else {
            Issue.record("it fails")
            return
        }
    }

    @Test func `waits for a capability`() throws {
        guard case .waits("acl") = try outcome("A connects", head: "  needs acl") else {
            Issue.record("it runs")
            return
        }
        let result = try result("A connects", head: "  needs acl", capabilities: ["acl"])
        guard case .passed = result.outcome else {
            Issue.record("\(result.explanation)")
            return
        }
    }

    @Test(
        arguments: [
            [0x21, 2, 0, 0], [0x20, 3, 0, 0, 0], [0x20, 2, 2, 0], [0x36, 5, 0, 1, 0x61, 0, 1], [0xf0, 0], [0x10, 0],
            [0x20, 0x82, 0x80, 0x80, 0x80, 0],
        ] as [[UInt8]])
    func `takes no packet of wrong form for the right one`(_ bytes: [UInt8]) throws {
        #expect(try failure("A connects") { _ in .bytes(bytes) }?.evidence == .unexpected)
    }

    @Test func `shows a packet as a case would write it`() {
        let cases: [([UInt8], String)] = [
            ([0x20, 2, 1, 0], "CONNACK 0 present"),
            ([0x3b, 7, 0, 1, 0x61, 0, 9, 0x78, 0x00], "PUBLISH \"a\" \"x\\x00\" qos 1 id 9 dup retain"),
            ([0x62, 2, 1, 0], "PUBREL 256"), ([0x90, 5, 0, 1, 0, 2, 0x80], "SUBACK 1 0 2 0x80"),
            ([0xd0, 0], "PINGRESP"),
        ]
        for (bytes, text) in cases {
            guard case .frame(let frame, let byteCount) = Frame.cut(bytes) else {
                Issue.record("\(text) is not whole")
                continue
            }
            #expect(frame.packet.description == text)
            #expect(byteCount == bytes.count && frame.bytes() == bytes)
        }
    }
}

@Suite struct `A file of cases` {
    private func refusal(_ text: String) -> String? {
        do throws(SuiteError) {
            _ = try Case.cases(in: text, file: "x.cases")
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test func `is refused with file and line where it can't be read`() {
        let good = "case a: A sentence\n  proves MQTT-1.5.3-1\n"
        let mistakes: [(String, Int)] = [
            ("A connects\n", 1), ("case a\n", 1), (good + "A dances\n", 3), (good + "a connects\n", 3),
            (good + "A > PUBLISH \"~/a\n", 3), (good + "A < SUBACK x\n", 3), (good + "repeat 3 as i\nA pings\n", 1),
            (good + "end\n", 3), (good + "A pings\n  alone\n", 4), (good + "A > packet 100\n", 3),
            (good + "A > CONNECT colour \"red\"\n", 3), (good + "A < closed within 3s\n", 3),
            (good + "wait long\n", 3), (good + "A > PUBLISH \"\\q\" \"\"\n", 3), (good + "A < SUBACK 1 0 extra\n", 3),
            (good + "  each X in 1 | b\nA > PUBACK {X}\n", 4), (good + "  each X in 1 |\nA pings\n", 3), (good, 1),
            (good + "  needs wings\nA pings\n", 3), (good + "A > PINGREQ cut 1\n", 3), (good + "wait infs\n", 3),
            (good + "A > UNSUBSCRIBE 1 \"a\" * 70000\n", 3), (good + "A > PUBLISH \"a\" * -1 \"\"\n", 3),
            (good + "A > bytes -1 * 2f\n", 3), (good + "A > PUBLISH \"a\" \"b\" * 999999999\n", 3),
            ("case a: Proves nothing\nA connects\n", 1),
        ]
        for (text, line) in mistakes {
            let said = refusal(text)
            #expect(said?.hasPrefix("x.cases:\(line): ") == true, "\(text) gave \(said ?? "nothing")")
        }
        #expect(refusal(good + "A connects\r\n# comment\r\nA > PUBLISH \"#\" \"\" # behind\r\n") == nil)
    }

    @Test func `has strings with every kind of byte`() throws {
        let line = #"A > packet 10 "~" "\~" "\"\\\n\r\t\0\x7f\u{FEFF}" "ab" * 2 + "c" string "é" 2 * 0f 01"#
        let expected: [UInt8] =
            Array("~\"\\\n\r\t\0\u{7f}\u{FEFF}ababc".utf8) + [0, 2, 0xc3, 0xa9, 0x0f, 0x0f, 0x01]
        let answer: ScriptedBroker.Answer = { frame in
            // `~` is six letters and digits.
            let isHome = frame.body.prefix(6).allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) }
            return isHome && Array(frame.body.dropFirst(6)) == expected ? politeAnswer(frame) : .close
        }
        guard case .passed = try outcome("\(line)\nA < CONNACK 0", answer) else {
            Issue.record("other bytes were sent")
            return
        }
    }

    @Test func `lies about its packets as told`() throws {
        let lines: [(String, [UInt8])] = [
            ("PUBACK 258", [0x40, 2, 1, 2]), ("PUBREL 1 header 0x60", [0x60, 2, 0, 1]),
            ("PINGREQ pad 00 01", [0xc0, 2, 0, 1]), ("PUBACK 1 cut 1", [0x40, 1, 0]),
            ("SUBSCRIBE 1 \"a\" 1, \"b\" 2", [0x82, 10, 0, 1, 0, 1, 0x61, 1, 0, 1, 0x62, 2]),
            ("PUBLISH \"a\" \"x\" qos 2 id 3 dup retain", [0x3d, 6, 0, 1, 0x61, 0, 3, 0x78]),
            ("PUBACK 1 remaining 1", [0x40, 1, 0, 1]), ("packet e1", [0xe1, 0]),
        ]
        for (line, bytes) in lines {
            let answer: ScriptedBroker.Answer = { frame in
                frame.bytes().elementsEqual(bytes.prefix(frame.bytes().count)) ? .frames([Frame(.pingresp)]) : .close
            }
            guard case .passed = try outcome("A > \(line)\nA < PINGRESP", answer) else {
                Issue.record("\(line) is sent otherwise")
                continue
            }
        }
    }
}
