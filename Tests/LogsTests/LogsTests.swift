import Glibc
import Logging
import Logs
import Testing

/// A file that goes away with the test.
private final class TemporaryFile {
    let path = "/tmp/martlet-log-\(getpid())-\(UInt64.random(in: .min ... .max))"

    var text: String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    deinit { unlink(path) }
}

@Suite struct `A log line` {
    private func line(_ fields: [(name: String, value: String)] = []) -> String {
        LogLine.text(unixSeconds: 1_700_000_000, "session taken over", fields)
    }

    @Test func `is the time, the message and the fields, as Mosquitto writes it`() {
        #expect(line() == "1700000000: session taken over")
        #expect(
            line([("client", "kitchen"), ("from", "[::1]:50000")])
                == "1700000000: session taken over (client=kitchen, from=[::1]:50000)")
    }

    @Test(arguments: [
        ("a\nb", "a\\x0ab"), ("a\r\n1700000000: b", "\"a\\x0d\\x0a1700000000: b\""), ("\u{1B}[2J", "\\x1b[2J"),
        ("\0\u{7F}", "\\x00\\x7f"), ("a\u{85}b", "a\\xc2\\x85b"), ("a\u{2028}b", "a\\xe2\\x80\\xa8b"),
        ("a\u{202E}b", "a\\xe2\\x80\\xaeb"), ("\\x0a", "\\\\x0a"), ("", "\"\""), ("a, user=root)", "\"a, user=root)\""),
        ("a\"b", "\"a\\\"b\""), ("küche", "küche"), ("厨房", "厨房"),
    ])
    func `cannot be forged by a value`(_ value: String, _ expected: String) {
        #expect(line([("client", value)]) == "1700000000: session taken over (client=\(expected))")
    }

    @Test func `stays one line whatever the message and the names are`() {
        #expect(LogLine.text(unixSeconds: 0, "a\nb", [("c\nd", "e")]) == "0: a\\x0ab (c\\x0ad=e)")
    }
}

@Suite struct `The log handler` {
    /// What a logger with this label and filter writes, without the times.
    private func lines(
        label: String = "martlet", _ filter: MosquittoLogHandler.Filter, _ body: (inout Logger) -> Void
    ) throws -> [String] {
        let file = TemporaryFile()
        let writer = try LogWriter(appendingTo: file.path)
        var logger = Logger(label: label) { MosquittoLogHandler(label: $0, writers: [writer], filter: filter) }
        body(&logger)
        writer.flush()
        return file.text.split(separator: "\n").map { line in
            let parts = line.split(separator: ": ", maxSplits: 1)
            #expect(parts.count == 2 && Int(parts[0]).map { $0 > 1_700_000_000 } == true)
            return String(parts[parts.count - 1])
        }
    }

    @Test func `writes the levels that are wanted, in between also`() throws {
        let lines = try lines(.init(levels: [.debug, .error])) { logger in
            for level in Logger.Level.allCases { logger.log(level: level, "\(level)") }
        }
        #expect(lines == ["debug", "error"])
    }

    @Test func `writes nothing where nothing is wanted`() throws {
        #expect(try lines(.init(levels: [])) { $0.critical("c") } == [])
    }

    @Test func `has loggers that are a type of their own`() throws {
        let filter = MosquittoLogHandler.Filter(
            levels: [.info], silentLabels: ["unsubscribe"], openLabels: ["subscribe"])
        #expect(try lines(label: "subscribe", filter) { $0.debug("s") } == ["s"])
        #expect(try lines(label: "unsubscribe", filter) { $0.info("u") } == [])
        #expect(try lines(label: "martlet", filter) { $0.info("i") } == ["i"])
    }

    @Test func `writes fields sorted by name, the call's before the logger's`() throws {
        let lines = try lines(.init(levels: [.info])) { logger in
            logger[metadataKey: "shard"] = "1"
            logger[metadataKey: "client"] = "old"
            logger.info("accepted", metadata: ["client": "a\nb", "address": "::1"])
        }
        #expect(lines == ["accepted (address=::1, client=a\\x0ab, shard=1)"])
    }
}

@Suite struct `The log writer` {
    @Test func `makes a file that only its owner reads, and appends to it`() throws {
        let file = TemporaryFile()
        for line in ["one", "two"] {
            let writer = try LogWriter(appendingTo: file.path)
            writer.write(line)
            writer.flush()
        }
        var status = stat()
        #expect(stat(file.path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(file.text == "one\ntwo\n")
    }

    @Test func `names the file that it cannot open`() {
        let error = #expect(throws: LogFileError.self) { try LogWriter(appendingTo: "/nowhere/m.log") }
        #expect(error?.description == "log_dest file /nowhere/m.log: No such file or directory")
    }

    @Test func `never makes its caller wait, and says how many lines a stopped reader lost`() throws {
        var ends: [CInt] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let writer = LogWriter(descriptor: ends[1])
        let line = String(repeating: "x", count: 1023)
        let count = 2000
        for _ in 0..<count { writer.write(line) }  // The pipe takes 64 KiB, the backlog 1 MiB, and nobody reads.

        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        var written = 0
        var reports: [Int] = []
        while written + reports.reduce(0, +) < count {
            let got = read(ends[0], &chunk, chunk.count)
            try #require(got > 0)
            text += chunk.prefix(got)
            let end = text.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
            for bytes in text[..<end].split(separator: UInt8(ascii: "\n")) {
                let read = String(decoding: bytes, as: UTF8.self)
                if read == line { written += 1 } else { reports.append(try lostLines(read)) }
            }
            text.removeSubrange(..<end)
        }
        #expect(written >= LogWriter.Limits.backlogBytes / 1024)
        #expect(reports.count == 1)
    }

    private func lostLines(_ line: String) throws -> Int {
        let report = try #require(try #/\d+: log lines lost \(count=(\d+)\)/#.wholeMatch(in: line))
        return try #require(Int(report.output.1))
    }

    @Test func `flushes for a second at most`() throws {
        var ends: [CInt] = [0, 0]
        try #require(pipe(&ends) == 0)
        let writer = LogWriter(descriptor: ends[1])
        for _ in 0..<100 { writer.write(String(repeating: "x", count: 1023)) }
        let took = ContinuousClock().measure { writer.flush() }
        #expect(took >= .milliseconds(900) && took < .seconds(5))
        var chunk = [UInt8](repeating: 0, count: 200 << 10)
        var drained = 0
        while drained < 100 << 10 { drained += read(ends[0], &chunk, chunk.count) }
        writer.flush()
        for end in ends { close(end) }
    }
}
