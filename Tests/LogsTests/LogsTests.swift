import Foundation
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
    private func line(_ fields: [LogField] = []) -> String {
        LogStyle().line(.notice, "session taken over", fields, at: LogTime(seconds: 1_700_000_000, milliseconds: 7))
    }

    @Test func `is the time, the message and the fields, as Mosquitto writes it`() {
        #expect(line() == "1700000000: session taken over")
        #expect(
            line([LogField("client", "kitchen"), LogField("from", "[::1]:50000")])
                == "1700000000: session taken over (client=kitchen, from=[::1]:50000)")
    }

    @Test(arguments: [
        ("a\nb", "a\\x0ab"), ("a\r\n1700000000: b", "\"a\\x0d\\x0a1700000000: b\""), ("\u{1B}[2J", "\\x1b[2J"),
        ("\0\u{7F}", "\\x00\\x7f"), ("a\u{85}b", "a\\xc2\\x85b"), ("a\u{2028}b", "a\\xe2\\x80\\xa8b"),
        ("a\u{202E}b", "a\\xe2\\x80\\xaeb"), ("\\x0a", "\\\\x0a"), ("", "\"\""), ("a, user=root)", "\"a, user=root)\""),
        ("a\"b", "\"a\\\"b\""), ("küche", "küche"), ("厨房", "厨房"),
    ])
    func `cannot be forged by a value`(_ value: String, _ expected: String) {
        #expect(line([LogField("client", value)]) == "1700000000: session taken over (client=\(expected))")
    }

    @Test func `stays one line whatever the message and the names are`() {
        #expect(LogLine.text("a\nb", [LogField("c\nd", "e")]) == "a\\x0ab (c\\x0ad=e)")
    }

    @Test(arguments: [
        (LogStyle.Timestamp.none, "m"), (.seconds, "1700000000: m"), (.format("day%n%%"), "day %: m"),
        (.format(""), "Time error: m"),
    ])
    func `has the time that is wanted, on the same line`(_ timestamp: LogStyle.Timestamp, _ expected: String) {
        let style = LogStyle(timestamp: timestamp)
        #expect(style.line(.error, "m", [], at: LogTime(seconds: 1_700_000_000, milliseconds: 0)) == expected)
    }

    private let kitchen = [
        LogField("address", "192.0.2.7"), LogField("client", "kitchen"), LogField("port", .literal("40000")),
    ]

    @Test func `about a client that comes has Mosquitto's words`() {
        let life = [
            LogField("cleanSession", .literal("true")), LogField("keepAlive", .literal("60")),
            LogField("protocol", "MQTT 3.1.1"),
        ]
        #expect(
            LogLine.text("client connected", kitchen + life)
                == "New client connected from 192.0.2.7:40000 as kitchen (p2, c1, k60).")
        #expect(
            LogLine.text("client connected", kitchen + life + [LogField("userName", "o'n\ne")])
                == "New client connected from 192.0.2.7:40000 as kitchen (p2, c1, k60, u'o\\'n\\x0ae').")
        let local = [
            LogField("address", "/run/m.sock"), LogField("client", "a"), LogField("cleanSession", .literal("false")),
            LogField("keepAlive", .literal("0")), LogField("protocol", "MQTT 3.1"),
        ]
        #expect(
            LogLine.text("client connected", local) == "New client connected from /run/m.sock as a (p1, c0, k0).")
    }

    @Test func `about a client that goes has Mosquitto's words`() {
        #expect(
            LogLine.text("client disconnected", kitchen) == "Client kitchen [192.0.2.7:40000] disconnected.")
        let unknown = [kitchen[0], kitchen[2], LogField("reason", "not authorised")]
        #expect(
            LogLine.text("client disconnected", unknown)
                == "Client <unknown> [192.0.2.7:40000] disconnected: not authorised.")
    }

    @Test func `about a client is not forged by its identifier`() {
        let forger = [LogField("client", "x [1.2.3.4:5] disconnected: not authorised."), kitchen[0], kitchen[2]]
        #expect(
            LogLine.text("client disconnected", forger)
                == "Client \"x [1.2.3.4:5] disconnected: not authorised.\" [192.0.2.7:40000] disconnected.")
    }

    @Test func `about a subscription is as Mosquitto's`() {
        let fields = [LogField("client", "kitchen"), LogField("filter", "a/b c\n"), LogField("qos", .literal("1"))]
        #expect(LogLine.text("subscribed", fields) == "kitchen 1 a/b c\\x0a")
        #expect(LogLine.text("unsubscribed", fields) == "kitchen a/b c\\x0a")
    }
}

@Suite struct `A log line in JSON` {
    private func parsed(_ message: String, _ fields: [LogField]) throws -> [String: Any] {
        let line = LogLine.json(.warning, message, fields, at: LogTime(seconds: 1_700_000_000, milliseconds: 7))
        #expect(!line.utf8.contains { $0 < 0x20 })
        let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
        return try #require(object as? [String: Any])
    }

    @Test func `has time, level, message, and the fields as they are`() {
        let fields = [
            LogField("client", "kitchen"), LogField("port", .literal("5")), LogField("clean", .literal("true")),
        ]
        #expect(
            LogLine.json(.notice, "client connected", fields, at: LogTime(seconds: 1_700_000_000, milliseconds: 7))
                == "{\"time\":\"2023-11-14T22:13:20.007Z\",\"level\":\"notice\",\"message\":\"client connected\","
                + "\"client\":\"kitchen\",\"port\":5,\"clean\":true}")
    }

    @Test func `has each name once`() throws {
        let all = try parsed("m", [LogField("message", "a"), LogField("time", "b"), LogField("time", "c")])
        #expect(all["message"] as? String == "m")
        #expect(all["message_"] as? String == "a")
        #expect(all["time_"] as? String == "b")
        #expect(all["time__"] as? String == "c")
    }

    @Test func `is valid whatever the bytes were`() throws {
        var random = SplitMix(state: 42)
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            let scalars = (0..<8).compactMap { _ in Unicode.Scalar(UInt32.random(in: 0...0x10FFFF, using: &random)) }
            let value = String(decoding: bytes, as: UTF8.self) + String(String.UnicodeScalarView(scalars))
            let all = try parsed("m", [LogField("client", value)])
            #expect((all["client"] as? String)?.unicodeScalars.elementsEqual(value.unicodeScalars) == true)
        }
    }
}

/// A generator with a seed, so that a failure comes again.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }
}

@Suite struct `The log handler` {
    /// What a logger with this label writes, without the times.
    private func lines(
        label: String = "martlet", _ kinds: LogKinds, tellsConnections: Bool = true, _ body: (inout Logger, Log) -> Void
    ) throws -> [String] {
        let file = TemporaryFile()
        let writer = try LogWriter(appendingTo: file.path)
        let log = Log(Log.Settings(kinds: kinds, tellsConnections: tellsConnections), [writer])
        var logger = Logger(label: label) { MosquittoLogHandler(label: $0, log: log) }
        body(&logger, log)
        log.flush()
        return file.text.split(separator: "\n").map { line in
            let parts = line.split(separator: ": ", maxSplits: 1)
            #expect(parts.count == 2 && Int(parts[0]).map { $0 > 1_700_000_000 } == true)
            return String(parts[parts.count - 1])
        }
    }

    @Test func `writes the kinds that are wanted, in between also`() throws {
        let lines = try lines([.debug, .error]) { logger, _ in
            for level in Logger.Level.allCases { logger.log(level: level, "\(level)") }
        }
        #expect(lines == ["trace", "debug", "error", "critical"])
    }

    @Test func `writes nothing where nothing is wanted`() throws {
        #expect(try lines([]) { logger, _ in logger.critical("c") } == [])
    }

    @Test func `has loggers that are a kind of their own`() throws {
        #expect(try lines(label: "subscribe", [.notice, .subscribe]) { logger, _ in logger.debug("s") } == ["s"])
        #expect(try lines(label: "unsubscribe", [.notice, .subscribe]) { logger, _ in logger.notice("u") } == [])
        #expect(try lines(label: "martlet", [.notice, .subscribe]) { logger, _ in logger.notice("n") } == ["n"])
    }

    @Test func `writes fields sorted by name, the call's before the logger's`() throws {
        let lines = try lines([.information]) { logger, _ in
            logger[metadataKey: "shard"] = "1"
            logger[metadataKey: "client"] = "old"
            logger.info("accepted", metadata: ["client": "a\nb", "address": "::1"])
        }
        #expect(lines == ["accepted (address=::1, client=a\\x0ab, shard=1)"])
    }

    @Test func `takes up other settings while it is used`() throws {
        let lines = try lines([.error]) { logger, log in
            logger.notice("before")
            #expect(logger.logLevel > .notice)
            log.adopt(Log.Settings(kinds: [.notice]))
            #expect(logger.logLevel <= .notice)
            logger.notice("after")
            logger.error("not wanted now")
        }
        #expect(lines == ["after"])
    }

    @Test func `counts what the network repeats, and no line of a client that had a session`() throws {
        let lines = try lines(label: "network", [.notice]) { logger, _ in
            for port in 1...10 {
                let peer: Logger.Metadata = ["address": "::1", "port": .stringConvertible(port)]
                logger.notice("client disconnected", metadata: peer.merging(["reason": "why"]) { $1 })
                if port < 3 { logger.notice("client disconnected", metadata: peer.merging(["client": "a"]) { $1 }) }
            }
        }
        #expect(
            lines.dropLast() == [
                "Client <unknown> [::1:1] disconnected: why.", "Client a [::1:1] disconnected.",
                "Client a [::1:2] disconnected.",
            ])
        #expect(lines.last?.hasPrefix("Client <unknown> [::1:10] disconnected: why. (repeated=9, seconds=") == true)
    }

    @Test func `tells mistakes where nobody wants to read who comes and goes`() throws {
        let lines = try lines(label: "network", [.notice], tellsConnections: false) { logger, _ in
            logger.notice("client connected", metadata: ["client": "a"])
            logger.notice("client disconnected", metadata: ["client": "a", "address": "h"])
            logger.notice(
                "client disconnected", metadata: ["address": "h", "reason": "r", "mistake": .stringConvertible(true)])
        }
        #expect(lines == ["Client <unknown> [h] disconnected: r."])
    }
}

@Suite struct `Repeated lines` {
    private func admit(
        _ lines: inout RepeatedLines, port: Int = 1, client: String = "a", reason: String = "r", at now: Int64
    ) -> (isWritten: Bool, told: [RepeatedLine]) {
        let fields = [
            LogField("client", client), LogField("port", .literal("\(port)")), LogField("peer", "[::1]:\(port)"),
            LogField("reason", reason),
        ]
        return lines.admit(.notice, "m", fields, now: now)
    }

    @Test func `are written once and then told in growing intervals, for ever`() {
        var lines = RepeatedLines()
        var told: [(at: Int64, count: Int, seconds: Int64)] = []
        var written = 0
        for now in stride(from: Int64(0), to: 4 * 3600, by: 10) {
            let (isWritten, due) = admit(&lines, port: Int(now), at: now)
            if isWritten { written += 1 }
            told += due.map { (now, $0.count, $0.seconds) }
        }
        #expect(written == 1)
        #expect(told.map(\.at) == [60, 660, 4260, 7860, 11460])
        #expect(told.map(\.count) == [5, 60, 360, 360, 360])
        #expect(told.map(\.seconds) == [60, 600, 3600, 3600, 3600])
    }

    @Test func `every two minutes are repetitions too`() {
        var lines = RepeatedLines()
        var written = 0
        for now in stride(from: Int64(0), to: 86_400, by: 120) where admit(&lines, at: now).isWritten { written += 1 }
        #expect(written == 1)
    }

    @Test func `that stop are told without another, and are new after an hour of silence`() {
        var lines = RepeatedLines()
        for now in Int64(0)...5 { _ = admit(&lines, at: now) }
        #expect(lines.nextDue == 60)
        #expect(lines.due(now: 59).isEmpty)
        #expect(lines.due(now: 60).map(\.count) == [5])
        for now in [Int64(660), 4260] { #expect(lines.due(now: now).isEmpty) }
        #expect(lines.count == 0)
        #expect(lines.nextDue == nil)
        let (isWritten, told) = admit(&lines, at: 4300)
        #expect(isWritten && told.isEmpty)
    }

    @Test func `that differ in more than a port are others`() {
        var lines = RepeatedLines()
        #expect(admit(&lines, port: 1, at: 0).isWritten)
        #expect(!admit(&lines, port: 2, at: 0).isWritten)
        #expect(admit(&lines, client: "b", at: 0).isWritten)
        #expect(admit(&lines, reason: "s", at: 0).isWritten)
        #expect(lines.finish(now: 9).map(\.count) == [1])
        #expect(lines.finish(now: 9).isEmpty)
    }

    @Test func `of refused sign-ins are written a few times, for those who ban addresses`() {
        var lines = RepeatedLines()
        var written = 0
        for now in Int64(0)..<50 where admit(&lines, reason: "not authorised", at: now).isWritten { written += 1 }
        #expect(written == RepeatedLines.Limits.refusals)
    }

    @Test func `are remembered within a bound, and none is lost for it`() {
        var lines = RepeatedLines()
        var told = 0
        let clients = RepeatedLines.Limits.lines * 2
        for client in 0..<clients {
            for _ in 0..<2 { told += admit(&lines, client: "\(client)", at: 1).told.reduce(0) { $0 + $1.count } }
            #expect(lines.count <= RepeatedLines.Limits.lines)
        }
        #expect(told + lines.finish(now: 2).reduce(0) { $0 + $1.count } == clients)
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

    @Test func `writes what has come together in one go`() throws {
        var ends: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        defer { for end in ends { close(end) } }
        let writer = LogWriter(descriptor: ends[1])
        let count = 2000
        for number in 0..<count { writer.write("line \(number)") }
        var (text, records) = (Data(), 0)
        var chunk = [UInt8](repeating: 0, count: 1 << 17)
        while text.count(where: { $0 == UInt8(ascii: "\n") }) < count {
            let got = read(ends[0], &chunk, chunk.count)
            try #require(got > 0)
            text += chunk.prefix(got)
            records += 1
        }
        #expect(text == Data((0..<count).map { "line \($0)\n" }.joined().utf8))
        #expect(records < count / 2, "\(records) writes")
    }

    @Test func `goes on in a new file when somebody has moved the old one`() throws {
        let (file, moved) = (TemporaryFile(), TemporaryFile())
        let writer = try LogWriter(appendingTo: file.path)
        writer.write("one")
        writer.flush()
        try #require(rename(file.path, moved.path) == 0)
        writer.write("two")
        writer.flush()
        try writer.reopen()
        writer.write("three")
        writer.flush()
        #expect(moved.text == "one\ntwo\n")
        #expect(file.text == "three\n")
    }

    @Test func `stays with its file where it can't be opened again`() throws {
        let directory = "/tmp/martlet-log-\(getpid())-\(UInt64.random(in: .min ... .max))"
        let moved = TemporaryFile()
        try #require(mkdir(directory, 0o700) == 0)
        let writer = try LogWriter(appendingTo: "\(directory)/m.log")
        try #require(rename("\(directory)/m.log", moved.path) == 0 && rmdir(directory) == 0)
        #expect(throws: LogFileError.self) { try writer.reopen() }
        writer.write("still here")
        writer.flush()
        #expect(moved.text == "still here\n")
    }

    @Test func `sends the system's log what it expects, and waits for nobody`() throws {
        let path = TemporaryFile().path
        let writer = LogWriter(syslogFacility: 2, at: path)
        writer.write("nobody listens", .error)
        writer.flush()
        let receiver = try Receiver(path)
        writer.write("somebody listens", .warning)
        #expect(
            try receiver.next().wholeMatch(of: #/<148>\w{3} [ \d]\d [\d:]{8} martlet\[\d+\]: somebody listens/#) != nil)
        #expect(try receiver.next().hasSuffix(": log lines lost (count=1)"))
        let started = ContinuousClock.now
        for _ in 0..<5000 { writer.write("flood", .warning) }
        writer.flush()
        #expect(ContinuousClock.now - started < .seconds(5))
    }
}

/// A unix socket that datagrams come to.
private final class Receiver {
    private let path: String
    private let descriptor: Int32

    init(_ path: String) throws {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit {
        close(descriptor)
        unlink(path)
    }

    func next() throws -> String {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        try #require(count > 0)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
