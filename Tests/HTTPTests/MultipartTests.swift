import HTTP
import Seeded
import Testing

/// What a reader makes of a form.
struct Form: Equatable {
    struct Part: Equatable {
        var name: String
        var fileName: String?
        var contentType: String?
        var bytes: [UInt8] = []
    }

    var parts: [Part] = []
    /// Nil: it is a form.
    var failure: String?

    /// `cuts`: where the body is cut, in order.
    init(_ body: [UInt8], boundary: String, cuts: [Int] = []) {
        do throws(MultipartReader.Malformed) {
            var reader = try MultipartReader(boundary: boundary)
            var (start, isOpen, isOver) = (0, false, false)
            for end in cuts + [body.count] {
                reader.push(Array(body[start..<end]))
                start = end
                while let event = try reader.event() {
                    precondition(!isOver, "something comes behind the end")
                    switch event {
                    case .part(let part):
                        precondition(!isOpen, "a part in a part")
                        isOpen = true
                        parts.append(
                            Part(name: part.name, fileName: part.fileName, contentType: part.contentType))
                    case .bytes(let bytes):
                        precondition(isOpen && !bytes.isEmpty, "bytes of no part, or none")
                        parts[parts.count - 1].bytes += bytes
                    case .partEnd:
                        precondition(isOpen, "the end of no part")
                        isOpen = false
                    case .end:
                        precondition(!isOpen, "a part without an end")
                        isOver = true
                    }
                }
            }
            try reader.finish()
        } catch {
            failure = error.reason
        }
    }

    init(_ text: String, cuts: [Int] = []) { self.init(Array(text.utf8), boundary: "b", cuts: cuts) }
}

private func crlf(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")
}

/// One part with this above its bytes.
private func form(_ fields: String) -> String { "--b\r\n\(fields)\r\n\r\nx\r\n--b--\r\n" }

/// The same, with another text in the place of one.
private func form(_ fields: String, _ text: String, as other: String) -> String {
    form(fields).replacing(text, with: other)
}

private func many(_ text: String, _ count: Int) -> String { String(repeating: text, count: count) }

private let disposition = "Content-Disposition: form-data; name=\"a\""

@Suite struct `A form in parts` {
    private static let curl = crlf(
        """
        --------------------------d74496d66958873e
        Content-Disposition: form-data; name="notes"

        first one
        --------------------------d74496d66958873e
        Content-Disposition: form-data; name="file"; filename="firmware.bin"
        Content-Type: application/octet-stream

        \u{0}\u{1}
        \u{2}
        --------------------------d74496d66958873e--

        """)
    private static let chrome = crlf(
        """
        ------WebKitFormBoundary7MA4YWxkTrZu0gW
        Content-Disposition: form-data; name="version"

        1.2.3
        ------WebKitFormBoundary7MA4YWxkTrZu0gW
        Content-Disposition: form-data; name="file"; filename="Lüfter %22A%22.bin"
        Content-Type: application/octet-stream


        ------WebKitFormBoundary7MA4YWxkTrZu0gW--

        """)
    private static let firefox = crlf(
        """
        -----------------------------9051914041544843365972754266
        Content-Disposition: form-data; name="text"

        -----------------------------905191404154484336597275426
        -----------------------------9051914041544843365972754266
        Content-Disposition: form-data; name="file"; filename=""
        Content-Type: application/octet-stream


        -----------------------------9051914041544843365972754266--

        """)

    @Test func `is read as curl sends it`() {
        let form = Form(Array(Self.curl.utf8), boundary: "------------------------d74496d66958873e")
        #expect(form.failure == nil)
        #expect(
            form.parts == [
                .init(name: "notes", bytes: Array("first one".utf8)),
                .init(
                    name: "file", fileName: "firmware.bin", contentType: "application/octet-stream",
                    bytes: [0, 1, 13, 10, 2]),
            ])
    }

    @Test func `is read as browsers send it`() {
        let chrome = Form(Array(Self.chrome.utf8), boundary: "----WebKitFormBoundary7MA4YWxkTrZu0gW")
        #expect(chrome.failure == nil)
        #expect(
            chrome.parts == [
                .init(name: "version", bytes: Array("1.2.3".utf8)),
                .init(name: "file", fileName: "Lüfter %22A%22.bin", contentType: "application/octet-stream"),
            ])
        let firefox = Form(
            Array(Self.firefox.utf8), boundary: "---------------------------9051914041544843365972754266")
        #expect(firefox.failure == nil)
        #expect(firefox.parts.map(\.bytes.count) == [56, 0] && firefox.parts.last?.fileName == "")
        // A FormData with nothing in it.
        #expect(Form("--b--\r\n") == Form("--b--") && Form("--b--").failure == nil && Form("--b--").parts.isEmpty)
    }

    @Test(
        arguments: [
            ("multipart/form-data; boundary=b", true), ("Multipart/Form-Data;boundary=\"b\"", true),
            ("multipart/form-data ; charset=utf-8 ; BOUNDARY=b ;", true),
            ("multipart/form-data;; boundary=\"\\b\"", nil),
            ("multipart/form-data; boundary=\"b c'()+_,-./:=?\"", true), ("multipart/form-data", nil),
            ("multipart/form-data; boundary=", nil), ("multipart/form-data; boundary=\"\"", nil),
            ("multipart/form-data; boundary=\"b ", nil), ("multipart/form-data; boundary=\"b \"", nil),
            ("multipart/form-data; boundary=b; boundary=c", nil), ("multipart/form-data; boundary=b c", nil),
            ("multipart/form-data; boundary=b;x", nil), ("multipart/form-data boundary=b", nil),
            ("multipart/form-data; boundary=b!", nil), ("multipart/form-data; boundary=\"ü\"", nil),
            ("multipart/form-data; boundary=\(String(repeating: "b", count: 70))", true),
            ("multipart/form-data; boundary=\(String(repeating: "b", count: 71))", nil),
            ("multipart/mixed; boundary=b", false), ("text/plain", false), ("", false),
            ("multipart/form-datax; boundary=b", false),
        ] as [(String, Bool?)])
    func `is known by its media type, which names the boundary`(_ type: String, _ isForm: Bool?) {
        let result = Result { try MultipartReader(contentType: type) != nil }
        #expect((try? result.get()) == isForm)
    }

    @Test(arguments: [
        // As boundaries, but for something.
        "\r\n-", "\r\n--", "\r\n--a", "--b", "x--b\r\n", "\n--b\r\n", "\r--b\r\n", "\r\n-b", "\r\n -b", "\r\r\n",
        "\r\n\r",
        "\r\n--B--", "\r\n", "\r", "\n", "", "\r\n--\r\n--a\r\n", "\r\r\n-", "\r\n\r\n-\r\n--",
    ])
    func `has whatever bytes, but for its boundary`(_ content: String) {
        // What stands first on a line has to be something else.
        let content = "x" + content
        let text = "--b\r\n\(disposition)\r\n\r\n\(content)\r\n--b\r\n\(disposition)\r\n\r\n\(content)\r\n--b--"
        let form = Form(text)
        #expect(form.failure == nil)
        #expect(form.parts.map(\.bytes) == [Array(content.utf8), Array(content.utf8)])
    }

    @Test func `may have empty parts, in both ways (RFC 2046, 5.1.1)`() {
        for text in ["--b\r\n\(disposition)\r\n\r\n\r\n--b--", "--b\r\n\(disposition)\r\n\r\n--b--"] {
            #expect(Form(text).failure == nil && Form(text).parts == [.init(name: "a")])
        }
    }

    @Test func `may have something before and behind it, and blanks behind a boundary`() {
        let part = "\(disposition)\r\n\r\nx"
        for text in [
            "\r\n--b\r\n\(part)\r\n--b--", "preamble\r\n--b\r\n\(part)\r\n--b--epilogue",
            "--a\r\n--b \t\r\n\(part)\r\n--b-- \t\r\nepilogue\r\n--b\r\n",
        ] {
            #expect(Form(text).failure == nil && Form(text).parts == [.init(name: "a", bytes: [120])], "\(text)")
        }
    }

    @Test(
        arguments: [
            ("content-disposition:form-data;name=a", .init(name: "a", bytes: [120])),
            (
                "Content-Disposition: form-data; name=\"a\\\"b\\\\c\"; filename=\"C:\\dir\\x.bin\"",
                .init(name: "a\"b\\c", fileName: "C:\\dir\\x.bin", bytes: [120])
            ),
            (
                "X: y\r\nContent-Type:  text/plain;x=y\t\r\n\(disposition)",
                .init(name: "a", contentType: "text/plain;x=y", bytes: [120])
            ),
            ("\(disposition)\r\nContent-Transfer-Encoding: Binary", .init(name: "a", bytes: [120])),
            (
                "Content-Disposition: form-data; filename=\"; name=x\"; name=\"\"",
                .init(name: "", fileName: "; name=x", bytes: [120])
            ),
        ] as [(String, Form.Part)])
    func `says of each part what it is`(_ fields: String, _ part: Form.Part) {
        #expect(Form(form(fields)).failure == nil && Form(form(fields)).parts == [part])
    }

    private static let refusals: [(String, String)] = [
        ("", "ends before"), ("--b", "ends before"), ("--b\r\n", "ends before"), ("--b-", "ends before"),
        (form(disposition, "--b--\r\n", as: "--b\r\n"), "ends before"),
        (form(disposition, "\r\n--b--", as: "--b--"), "ends before"),
        (form(disposition, "\r\n", as: "\n"), "goes on"),
        ("--bx\r\n", "goes on"), ("--b x\r\n", "goes on"), ("--b-x\r\n", "goes on"),
        (form(disposition, "x\r\n", as: "\r\n--bx\r\n"), "goes on"),
        (form("X: y"), "Content-Disposition"),
        (form("Content-Disposition: attachment; name=a"), "Content-Disposition"),
        (form("Content-Disposition: form-data; name=\"a"), "Content-Disposition"),
        (form("Content-Disposition: form-data; name=a; name=a"), "Content-Disposition"),
        (form("Content-Disposition: form-data"), "no name"),
        (form("\(disposition); filename*=UTF-8''x"), "filename*"),
        (form("\(disposition)\r\n\(disposition)"), "two content-disposition"),
        (form("\(disposition)\r\nContent-Transfer-Encoding: base64"), "encoded"),
        (form("\(disposition)\r\n continued"), "no field"), (form("\(disposition)\r\n: x"), "no field"),
        (form("\(disposition)\r\nX : y"), "no field"), (form("\(disposition)\nX: y"), "control"),
        (form("\(disposition)\u{0}"), "control"), (form("\(disposition)\rX: y"), "CR LF"),
        (form("\(disposition)\r\nX: \(many("y", 4096))"), "about itself"),
        (many("x", 1500) + "\r\n" + form(disposition), "around"),
        (form(disposition) + many("x", 1500), "around"),
        (many("--b\r\n\(disposition)\r\n\r\nx\r\n", 33) + "--b--", "more than 32 parts"),
        ("--b" + many(" ", 5000) + "\r\n", "too long"),
    ]

    @Test(arguments: refusals)
    func `is refused with a reason`(_ text: String, _ reason: String) {
        for cuts in [[], Array(1..<max(text.utf8.count, 1))] {
            let failure = Form(text, cuts: cuts).failure ?? "it is a form"
            #expect(failure.contains(reason), "\(failure)")
        }
        var bytes = Array(form(disposition).utf8)
        bytes.insert(0xFF, at: 10)
        #expect(Form(bytes, boundary: "b").failure != nil)
    }

    @Test func `is the same wherever it is cut`() {
        for (text, boundary) in [
            (Self.curl, "------------------------d74496d66958873e"),
            (Self.chrome, "----WebKitFormBoundary7MA4YWxkTrZu0gW"),
            ("preamble\r\n--b \r\n\(disposition)\r\n\r\n\r\n-\r\n--\r\n--a\r\n--b--\r\nepilogue", "b"),
        ] {
            let bytes = Array(text.utf8)
            let whole = Form(bytes, boundary: boundary)
            #expect(whole.failure == nil)
            #expect(Form(bytes, boundary: boundary, cuts: Array(1..<bytes.count)) == whole)
            for cut in 0...bytes.count {
                #expect(Form(bytes, boundary: boundary, cuts: [cut]) == whole, "cut at \(cut)")
                let beginning = Form(Array(bytes[..<cut]), boundary: boundary)
                #expect(beginning.failure != nil || beginning == whole, "ended at \(cut)")
            }
        }
    }

    @Test func `keeps nothing of a part but what may be its end`() throws {
        var reader = try MultipartReader(boundary: "b")
        reader.push(Array("--b\r\n\(disposition)\r\n\r\n".utf8))
        while try reader.event() != nil {}
        var taken = 0
        for count in 1...200 {
            reader.push([UInt8](repeating: 13, count: count * 100) + Array("\r\n--".utf8))
            taken += count * 100 + 4
            var given = 0
            while case .bytes(let bytes) = try reader.event() { given += bytes.count }
            taken -= given
            #expect(taken < 5)
        }
    }
}

// MARK: -

/// Mutated forms. Goal: whatever comes, reading ends with events or a reason, never with a trap; the cuts change nothing; and
/// what comes of it is what a reader finds that has all of it before it and looks for boundaries with no wit at all. Method: each
/// batch is a seed, which decides everything and stands in the message of a failure; it runs in a process of its own.
@Suite struct `Fuzzing forms` {
    static let mutations = 4_000

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `never traps, and finds what a plain reader finds`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var (generator, taken) = (SeededGenerator(seed: seed), 0)
            for index in 0..<`Fuzzing forms`.mutations {
                let bytes = FormMutation.next(&generator)
                let whole = Form(bytes, boundary: "b")
                let cuts = (0..<generator.below(8)).map { _ in generator.below(bytes.count + 1) }.sorted()
                guard Form(bytes, boundary: "b", cuts: cuts) == whole else {
                    Issue.record("seed \(seed), mutation \(index): cut at \(cuts) it differs: \(bytes)")
                    return
                }
                guard plainParts(bytes, boundary: "b") == (whole.failure == nil ? whole.parts : nil) else {
                    Issue.record("seed \(seed), mutation \(index): the plain reader differs: \(bytes)")
                    return
                }
                if whole.failure == nil { taken += 1 }
            }
            #expect(taken > `Fuzzing forms`.mutations / 20, "seed \(seed): only \(taken) are forms")
        }
    }

    @Test(arguments: 1...2 as ClosedRange<UInt64>)
    func `never traps over what names a boundary`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var generator = SeededGenerator(seed: seed)
            for _ in 0..<`Fuzzing forms`.mutations {
                let type = FormMutation.next(&generator, of: FormMutation.types)
                _ = try? MultipartReader(contentType: String(decoding: type, as: UTF8.self))
            }
        }
    }
}

private enum FormMutation {
    static let types = [
        "multipart/form-data; boundary=b", "multipart/form-data; boundary=\"b\\\" c\"; charset=\"utf-8\"",
        "Multipart/Form-Data ;BOUNDARY=----WebKitFormBoundary7MA4YWxkTrZu0gW",
    ].map { Array($0.utf8) }
    private static let corpus =
        [
            form(disposition), "--b--", "--b--\r\n", "preamble\r\n--b\r\n\(disposition)\r\n\r\n--b--",
            "--b\r\n\(disposition); filename=\"x.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n\0\r\n-\r\n--\r\n--b--",
            "--b\r\n\(disposition)\r\n\r\nx\r\n--b \t\r\n\(disposition)\r\n\r\n\r\n--b\r\n\(disposition)\r\n\r\n--b--epilogue",
            "--b\r\nContent-Disposition: form-data; name=\"a\\\"b\\\\\"; filename=C\r\nX: y\r\n\r\n\r\r\n\r\n--b--",
        ].map { Array($0.utf8) }
    private static let spliced = [
        "\r\n", "\r\n--", "\r\n--b", "\r\n--b--", "\r\n--b\r\n", "--b", "\r\n\r\n", "\r\n--b\r\n\(disposition)\r\n\r\n",
        "; name=x",
        "; filename=\"\"", "Content-Type: a/b\r\n",
    ].map { Array($0.utf8) }
    private static let interesting: [UInt8] = [0, 9, 10, 13, 32, 0x7F, 0x80, 0xFF] + Array("-b:;=\"\\a*".utf8)

    static func next(_ generator: inout SeededGenerator) -> [UInt8] { next(&generator, of: corpus) }

    static func next(_ generator: inout SeededGenerator, of corpus: [[UInt8]]) -> [UInt8] {
        var bytes = generator.element(of: corpus)
        for _ in 0..<generator.below(4) {
            let index = generator.below(bytes.count + 1)
            switch generator.below(6) {
            case 0 where index < bytes.count: bytes[index] ^= 1 << generator.below(8)
            case 1 where index < bytes.count: bytes[index] = generator.element(of: interesting)
            case 2: bytes.insert(generator.element(of: interesting), at: index)
            case 3: bytes.insert(contentsOf: generator.element(of: spliced), at: index)
            case 4: bytes.removeSubrange(index..<min(bytes.count, index + 1 + generator.below(4)))
            default: bytes.replaceSubrange(index..., with: generator.element(of: corpus))
            }
        }
        return bytes
    }
}

// MARK: - The plain reader

/// The parts of a whole form, of the few kilobytes that the mutations have; nil: it is none.
private func plainParts(_ body: [UInt8], boundary: String) -> [Form.Part]? {
    let data = [13, 10] + body
    let delimiter = Array("\r\n--\(boundary)".utf8)
    guard var place = find(delimiter, in: data, from: 0) else { return nil }
    var parts: [Form.Part] = []
    while true {
        place += delimiter.count
        if data[place...].starts(with: Array("--".utf8)) { return parts }
        while place < data.count, data[place] == 32 || data[place] == 9 { place += 1 }
        guard data[place...].starts(with: [13, 10]), let end = find([13, 10, 13, 10], in: data, from: place),
            var part = plainPart(place + 2 <= end ? Array(data[(place + 2)..<end]) : [])
        else { return nil }
        // The second line break may be the boundary's.
        guard let next = find(delimiter, in: data, from: end + 2) else { return nil }
        if next > end + 2 { part.bytes = Array(data[(end + 4)..<next]) }
        parts.append(part)
        place = next
    }
}

private func find(_ needle: [UInt8], in data: [UInt8], from start: Int) -> Int? {
    guard start + needle.count <= data.count else { return nil }
    return (start...(data.count - needle.count)).first { Array(data[$0..<($0 + needle.count)]) == needle }
}

private func plainPart(_ bytes: [UInt8]) -> Form.Part? {
    guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
    var fields: [String: String] = [:]
    for line in text.unicodeScalars.split(separator: "\r", omittingEmptySubsequences: false).enumerated() {
        // All but the first begin with the line feed.
        guard line.offset == 0 || line.element.first == "\n" else { return nil }
        let line = String(String.UnicodeScalarView(line.element.dropFirst(line.offset == 0 ? 0 : 1)))
        guard let colon = line.unicodeScalars.firstIndex(of: ":"), colon != line.startIndex,
            line.unicodeScalars.allSatisfy({ $0.value >= 32 && $0.value != 127 || $0.value == 9 })
        else { return nil }
        let name = line[..<colon]
        let value = line[line.unicodeScalars.index(after: colon)...]
        guard name.unicodeScalars.allSatisfy(isToken), fields[name.lowercased()] == nil else { return nil }
        fields[name.lowercased()] = trimmed(String(value))
    }
    if let encoding = fields["content-transfer-encoding"]?.lowercased(), !["binary", "7bit", "8bit"].contains(encoding)
    {
        return nil
    }
    guard let disposition = fields["content-disposition"] else { return nil }
    var pieces: [String] = []
    var (piece, isQuoted, isEscaped) = ("", false, false)
    for scalar in disposition.unicodeScalars {
        if isQuoted {
            if !isEscaped, scalar == "\"" { isQuoted = false }
            isEscaped = !isEscaped && scalar == "\\"
        } else if scalar == ";" {
            pieces.append(piece)
            piece = ""
            continue
        } else if scalar == "\"" {
            isQuoted = true
        }
        piece.unicodeScalars.append(scalar)
    }
    guard !isQuoted, trimmed(pieces.isEmpty ? piece : pieces[0]).lowercased() == "form-data" else { return nil }
    pieces.append(piece)
    var parameters: [String: String] = [:]
    for piece in pieces.dropFirst().map(trimmed) where !piece.isEmpty {
        guard let equals = piece.unicodeScalars.firstIndex(of: "="), equals != piece.startIndex else { return nil }
        let name = piece[..<equals]
        let value = piece.unicodeScalars[piece.unicodeScalars.index(after: equals)...]
        guard name.unicodeScalars.allSatisfy(isToken), parameters[name.lowercased()] == nil else { return nil }
        guard let plain = unquoted(Array(value)) else { return nil }
        parameters[name.lowercased()] = plain
    }
    guard let name = parameters["name"], parameters["filename*"] == nil else { return nil }
    return Form.Part(name: name, fileName: parameters["filename"], contentType: fields["content-type"])
}

private func unquoted(_ value: [Unicode.Scalar]) -> String? {
    guard value.first == "\"" else {
        return value.isEmpty || !value.allSatisfy(isToken) ? nil : String(String.UnicodeScalarView(value))
    }
    var (plain, index) = (String.UnicodeScalarView(), 1)
    while index < value.count {
        let next = index + 1 < value.count ? value[index + 1] : nil
        if value[index] == "\"" { return next == nil ? String(plain) : nil }
        if value[index] == "\\", next == "\"" || next == "\\" { index += 1 }
        plain.append(value[index])
        index += 1
    }
    return nil
}

private func isToken(_ scalar: Unicode.Scalar) -> Bool {
    scalar.isASCII
        && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil
            || "!#$%&'*+-.^_`|~".unicodeScalars.contains(scalar))
}

private func trimmed(_ text: String) -> String {
    var scalars = Substring(text).unicodeScalars
    while let first = scalars.first, first == " " || first == "\t" { scalars.removeFirst() }
    while let last = scalars.last, last == " " || last == "\t" { scalars.removeLast() }
    return String(scalars)
}
