import Management
import Seeded
import Testing

/// What came of a text, as one value to compare.
private enum Reading: Equatable {
    case records([CSVReader.Record])
    case malformed([CSVReader.Record], CSVReader.Malformed)
}

/// `cuts`: where the parts end.
private func read(_ bytes: [UInt8], cuts: [Int] = []) -> Reading {
    var reader = CSVReader()
    var records: [CSVReader.Record] = []
    var start = 0
    do throws(CSVReader.Malformed) {
        for end in cuts.sorted() + [bytes.count] {
            reader.push(Array(bytes[start..<max(start, end)]))
            start = max(start, end)
            while let record = try reader.record() { records.append(record) }
        }
        if let record = try reader.last() { records.append(record) }
        return .records(records)
    } catch {
        return .malformed(records, error)
    }
}

@Suite struct `Comma-separated values` {
    private func fields(_ text: String) -> [[String]]? {
        guard case .records(let records) = read(Array(text.utf8)) else { return nil }
        return records.map(\.fields)
    }

    @Test(
        arguments: [
            ("", []), ("a", [["a"]]), ("a\n", [["a"]]), ("a,b\r\nc,d\r\n", [["a", "b"], ["c", "d"]]),
            (",", [["", ""]]), ("\n\na\n\n", [["a"]]), ("\r\n", []), ("\"\"", []), ("a,\"\"", [["a", ""]]),
            ("\"a,b\",c", [["a,b", "c"]]), ("\"a\nb\r\n\",c", [["a\nb\r\n", "c"]]), ("\"a\"\"b\"", [["a\"b"]]),
            ("\"\"\"\"", [["\""]]), (" a , b ", [[" a ", " b "]]), ("\u{FEFF}a,b", [["a", "b"]]),
            ("\u{FEFF}\"a\"", [["a"]]), ("\u{FEFF}", []), ("a,\u{FEFF}", [["a", "\u{FEFF}"]]), ("ä;ö", [["ä;ö"]]),
            ("a,\n", [["a", ""]]),
        ] as [(String, [[String]])])
    func `are read as RFC 4180 has them`(_ text: String, _ expected: [[String]]) {
        #expect(fields(text) == expected)
    }

    @Test(arguments: [
        ("a\n\"b\nc", 2, "never closed"), ("a\"b", 1, "does not begin with one"), ("\"a\"b", 1, "behind a closing"),
        ("a\rb", 1, "carriage return"), ("a\r", 1, "carriage return"), ("\"a\n\n\" x", 3, "behind a closing"),
        ("x\n" + String(repeating: "a", count: 8_193), 2, "more than 8192 bytes"),
    ])
    func `end where nobody knows how to go on, and say at which line`(_ text: String, _ line: Int, _ reason: String) {
        guard case .malformed(_, let error) = read(Array(text.utf8)) else {
            Issue.record("it is read")
            return
        }
        #expect(error.line == line && error.reason.contains(reason), "\(error)")
    }

    @Test func `go on behind a record that can't be used`() throws {
        let many = Array(String(repeating: ",", count: 32).utf8)
        let bytes = Array("a\n".utf8) + [0xFF, 0x0A] + many + Array("\n\"x\ny\",z\nlast".utf8)
        guard case .records(let records) = read(bytes) else {
            Issue.record("it is not read")
            return
        }
        #expect(records.map(\.line) == [1, 2, 3, 4, 6])
        #expect(records.map { $0.problem != nil } == [false, true, true, false, false])
        #expect(records[3].fields == ["x\ny", "z"])
        // As many fields as may be, and a record as long as may be.
        #expect(fields(String(repeating: ",", count: 31))?.first?.count == 32)
        #expect(fields(String(repeating: "a", count: 8_192))?.first?.first?.utf8.count == 8_192)
    }

    /// A reader of whole texts, to compare with.
    private func naive(_ text: [UInt8]) -> [[String]]? {
        var rest = text[...]
        if rest.starts(with: [0xEF, 0xBB, 0xBF]) { rest = rest.dropFirst(3) }
        var records: [[[UInt8]]] = []
        while !rest.isEmpty {
            var record: [[UInt8]] = []
            fields: while true {
                var field: [UInt8] = []
                if rest.first == 0x22 {
                    rest = rest.dropFirst()
                    while true {
                        guard let byte = rest.popFirst() else { return nil }
                        if byte != 0x22 {
                            field.append(byte)
                        } else if rest.first == 0x22 {
                            field.append(0x22)
                            rest = rest.dropFirst()
                        } else {
                            break
                        }
                    }
                } else {
                    while let byte = rest.first, ![0x2C, 0x0A, 0x0D].contains(byte) {
                        guard byte != 0x22 else { return nil }
                        field.append(byte)
                        rest = rest.dropFirst()
                    }
                }
                record.append(field)
                switch rest.first {
                case nil: break fields
                case 0x2C: rest = rest.dropFirst()
                case 0x0A:
                    rest = rest.dropFirst()
                    break fields
                case 0x0D where rest.dropFirst().first == 0x0A:
                    rest = rest.dropFirst(2)
                    break fields
                default: return nil
                }
            }
            if record != [[]] { records.append(record) }
        }
        var texts: [[String]] = []
        for record in records {
            let fields = record.map { String(validating: $0, as: UTF8.self) }
            texts.append(fields.contains(nil) || fields.count > 32 ? [] : fields.compactMap(\.self))
        }
        return texts
    }

    @Test func `are the same in whatever parts they come, and as another reader has them`() {
        let seed: UInt64 = 20_261_122
        var random = SeededGenerator(seed: seed)
        let corpus = [
            "deviceId,claimCode,name\r\nA1,,\"Lamp, big\"\r\nA2,0123,\"say \"\"hi\"\"\"\r\n",
            "\u{FEFF}deviceId,tags\nA1,a;b;c\n\n\"A\n2\",\n", "a,b,c\n,,\n\"\",\"\",\"\"\n", "\"",
            "ä,ö\r\n\"ü\r\n\"\r\n",
        ]
        let alphabet: [UInt8] = [0x22, 0x2C, 0x0A, 0x0D, 0x61, 0xEF, 0xBB, 0xBF, 0xC3, 0xA4, 0x00]
        var sound = 0
        for _ in 0..<20_000 {
            var bytes = Array(random.element(of: corpus).utf8)
            for _ in 0..<random.below(6) {
                let at = random.below(bytes.count + 1)
                switch random.below(3) {
                case 0: bytes.insert(random.element(of: alphabet), at: at)
                case 1 where at < bytes.count: bytes[at] = random.element(of: alphabet)
                default: bytes.removeSubrange(at..<min(bytes.count, at + random.below(4)))
                }
            }
            let whole = read(bytes)
            let cuts = (0..<random.below(8)).map { _ in random.below(bytes.count + 1) }
            #expect(read(bytes, cuts: cuts) == whole, "seed \(seed): \(bytes), cut at \(cuts)")
            #expect(read(bytes, cuts: Array(0...bytes.count)) == whole, "seed \(seed): \(bytes)")
            switch whole {
            case .records(let records):
                sound += 1
                #expect(records.map(\.fields) == naive(bytes), "seed \(seed): \(bytes)")
                #expect(records.map(\.line) == records.map(\.line).sorted())
            case .malformed: #expect(naive(bytes) == nil, "seed \(seed): \(bytes)")
            }
        }
        #expect(sound > 2_000 && sound < 18_000)
    }
}
