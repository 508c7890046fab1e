import Conformance
import Foundation
import Testing

/// The suite that is in the binary.
@Suite struct `The conformance suite` {
    private let suite: Suite

    init() throws { suite = try Self.embedded.get() }

    /// Read once: that takes a debug build some seconds.
    private static let embedded = Result { try Suite.embedded() }

    @Test func `has every statement of Appendix B, with the standard's own spelling`() {
        let numbered = suite.statements.filter { $0.id.hasPrefix("MQTT-") }
        #expect(numbered.count == 141)
        #expect(Set(numbered.map(\.id)).count == 141)
        let ids = Set(numbered.map(\.id))
        for irregular in ["MQTT-3.1.2.7", "MQTT-3-8.3-4", "MQTT-3.3.1-1"] { #expect(ids.contains(irregular)) }
        let sections: [String: Int] = Dictionary(grouping: numbered, by: \.section).mapValues(\.count)
        let expected = [
            "1.5": 3, "2.2": 2, "2.3": 7, "3.1": 42, "3.2": 7, "3.3": 18, "3.6": 1, "3.8": 11, "3.9": 2, "3.10": 9,
            "3.12": 1, "3.14": 4, "4.1": 2, "4.3": 5, "4.4": 1, "4.5": 2, "4.6": 6, "4.7": 8, "4.8": 2, "6.0": 4,
            "7.0": 2, "7.1": 2,
        ]
        #expect(sections == expected)
    }

    @Test func `has a case for each statement, or a reason why there is none`() {
        for statement in suite.statements {
            let cases = suite.cases.filter { $0.proves.contains(statement.id) }
            switch statement.exemption {
            case nil: #expect(!cases.isEmpty, "\(statement.id) has no case")
            case .notTestable(let reason)?, .notApplicable(let reason)?:
                #expect(cases.isEmpty, "\(statement.id) can't be proved, it says, but \(cases.map(\.name)) do")
                #expect(reason.split(separator: " ").count > 5, "\(statement.id): \(reason) is no reason")
            }
        }
    }

    @Test func `has no case that proves nothing known`() {
        let ids = Set(suite.statements.map(\.id))
        for script in suite.cases {
            #expect(!script.proves.isEmpty && script.proves.allSatisfy(ids.contains), "\(script.name)")
        }
    }

    @Test func `refuses a case that proves an unknown statement, and a name that is there twice`() throws {
        let statements = try Statement.catalogue("MQTT-1.5.3-1 B It is so.\n", file: "statements.txt")
        let stranger = try Case.cases(in: "case a: A\n  proves MQTT-9.9.9-9\nA pings\n", file: "a.cases")
        #expect(throws: SuiteError.self) { try Suite(statements: statements, cases: stranger) }
        let twice = try Case.cases(
            in: "case a: A\n  proves MQTT-1.5.3-1\nA pings\ncase a: A\n  proves MQTT-1.5.3-1\nA pings\n",
            file: "a.cases")
        #expect(throws: SuiteError.self) { try Suite(statements: statements, cases: twice) }
    }

    @Test func `has a case for each class of crashes that it covers`() {
        let classes = Set(
            suite.cases.compactMap { script in
                if case .beyond(let name) = script.kind { name } else { nil }
            })
        let wanted: Set = ["T1", "T2", "T3", "T4", "T5", "T7", "T8", "T9", "T10", "T16", "T17"]
        #expect(classes == wanted)
    }

    @Test func `is in the binary as it is in the repository`() throws {
        let directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "conformance")
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
            .filter { $0.hasSuffix(".cases") || ["statements.txt", "corpus.txt"].contains($0) }
        #expect(Set(Suite.embeddedFiles.map(\.name)) == Set(names), "ConformanceCases.c lists other files")
        for file in Suite.embeddedFiles {
            #expect(try String(contentsOf: directory.appending(path: file.name), encoding: .utf8) == file.text)
        }
    }

    @Test(arguments: [
        ("3.1.0-2", 1), ("[MQTT-3.1.0-2]", 1), ("3.8.3-4", 1), ("3.1.2-7", 1), ("ANNEX-3.1.4", 1), ("MQTT-3.1.0-2", 1),
        ("3.1", 20), ("3.1-connect.cases", 20),
    ])
    func `can be cut down to a statement, a section, a file`(_ name: String, _ count: Int) throws {
        let chosen = try suite.only([name])
        #expect(chosen.count >= count && chosen.count < suite.cases.count)
    }

    @Test func `says which name it does not know`() {
        #expect(throws: UnknownName.self) { try suite.only(["3.1", "nonsense"]) }
    }
}

@Suite struct `The catalogue of statements` {
    @Test(arguments: [
        "MQTT-1.5.3-1 X It is so.", "MQTT-1.5.3-1 B", "  not testable: because", "MQTT-1 B It is.\n  perhaps: not",
        "MQTT-1 B It is.\nMQTT-1 B It is.",
    ])
    func `is refused where it can't be read`(_ text: String) {
        #expect(throws: SuiteError.self) { try Statement.catalogue(text, file: "statements.txt") }
    }
}

@Suite struct `A report` {
    private func report() throws -> Report {
        let statements = try Statement.catalogue(
            """
            MQTT-3.1.0-1 C The first packet is CONNECT.
            MQTT-3.8.4-1 S SUBSCRIBE is answered.
            MQTT-6.0.0-1 S Binary frames.
            MQTT-7.1.2-1 C A client has a transport.
              not testable: it binds clients, and a broker cannot see what else one could do
            """, file: "statements.txt")
        let cases = try Case.cases(
            in: """
                case good: It is good
                  proves MQTT-3.1.0-1
                  A connects
                case bad: It is <bad> & "wrong"
                  proves MQTT-3.8.4-1
                  A connects
                  A > SUBSCRIBE 1 "\\x01~/a" 0
                  A < SUBACK 2 0
                case later: It comes later
                  proves MQTT-6.0.0-1
                  needs websocket
                  A connects
                """, file: "it.cases")
        let suite = try Suite(statements: statements, cases: cases)
        return Report(suite, Suite.run(cases, Suite.Options(), connect: { ScriptedBroker(politeAnswer) }))
    }

    @Test func `has a verdict for each statement`() throws {
        let report = try report()
        let reason = "it binds clients, and a broker cannot see what else one could do"
        #expect(
            report.lines.map(\.verdict) == [.passed, .failed, .waits("websocket"), .notTestable(reason: reason)])
        #expect(!report.isPassed)
        #expect(report.summary == "cases: 1 passed, 1 failed, 0 differ, 1 wait (2 runs)")
        #expect(report.text.contains("expected  SUBACK 2 0\n  came      SUBACK 1 0   [90 03 00 01 00] (unexpected)"))
        #expect(report.traceability.contains("| [MQTT-3.8.4-1] | S | failed | bad (failed) |"))
    }

    @Test func `is well-formed JSON and XML`() throws {
        let report = try report()
        let json = try #require(
            try JSONSerialization.jsonObject(with: Data(try report.json())) as? [String: [[String: Any]]])
        #expect(
            json["statements"]?.compactMap { $0["result"] as? String } == ["passed", "failed", "waits", "not testable"])
        #expect(json["cases"]?.compactMap { $0["result"] as? String } == ["passed", "failed", "waits"])
        #expect(json["cases"]?[1]["came"] as? String == "SUBACK 1 0   [90 03 00 01 00]")
        #expect(report.junit.contains("failures=\"1\" skipped=\"1\""))
        #expect(report.junit.contains("It is &lt;bad&gt; &amp; &quot;wrong&quot;"))
        #expect(!report.junit.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
    }
}
