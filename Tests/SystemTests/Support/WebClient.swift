/// HTTP/1.1 as a test writes it: whatever bytes it likes, and answers taken apart.
final class WebClient {
    struct Answer {
        let status: Int
        /// With the line of the status and the empty line at the end.
        let head: String

        /// All values of a field.
        func values(_ name: String) -> [String] {
            head.split(separator: "\r\n").dropFirst().compactMap { line in
                let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                guard parts.count == 2, parts[0].lowercased() == name.lowercased() else { return nil }
                return String(parts[1].drop { $0 == " " })
            }
        }

        subscript(_ name: String) -> String? { values(name).first }

        var length: Int { self["Content-Length"].flatMap { Int($0) } ?? 0 }
    }

    let stream: SocketStream

    init(port: UInt16, receiveBufferBytes: Int32? = nil) throws {
        stream = try SocketStream(port: port, receiveBufferBytes: receiveBufferBytes)
    }

    func send(_ bytes: [UInt8]) throws { try stream.send(bytes) }
    func send(_ text: String) throws { try stream.send(Array(text.utf8)) }
    func finish() { stream.finish() }
    func reset() { stream.reset() }
    var hasInput: Bool { stream.hasInput }

    func isClosed(within seconds: Double = 10, andSays count: Int? = nil) -> Bool {
        stream.isClosed(within: seconds, andSays: count)
    }

    func receive(_ count: Int, within seconds: Double = 10) throws -> [UInt8] {
        try stream.receive(count, within: seconds)
    }

    /// The head of the next answer.
    func answer(within seconds: Double = 10) throws -> Answer {
        var bytes: [UInt8] = []
        while !bytes.ends(with: "\r\n\r\n") { bytes += try receive(1, within: seconds) }
        let head = String(decoding: bytes, as: UTF8.self)
        let words = head.split(separator: " ")
        guard words.first == "HTTP/1.1", let status = Int(words[1]) else { throw Unexpected("no answer: \(head)") }
        return Answer(status: status, head: head)
    }

    /// The next answer, and its body unless it was asked for without.
    func wholeAnswer(toHead isHead: Bool = false, within seconds: Double = 10) throws -> (Answer, body: [UInt8]) {
        let answer = try answer(within: seconds)
        if isHead || answer.status == 204 || answer.status == 304 { return (answer, []) }
        guard answer["Transfer-Encoding"] == "chunked" else {
            return (answer, try receive(answer.length, within: seconds))
        }
        var body: [UInt8] = []
        while true {
            var line: [UInt8] = []
            while !line.ends(with: "\r\n") { line += try receive(1, within: seconds) }
            guard let count = Int(String(decoding: line.dropLast(2), as: UTF8.self), radix: 16) else {
                throw Unexpected("no chunk: \(line)")
            }
            body += try receive(count, within: seconds)
            guard try receive(2) == [0x0D, 0x0A] else { throw Unexpected("a chunk does not end") }
            if count == 0 { return (answer, body) }
        }
    }
}

extension [UInt8] {
    func ends(with text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }
}
