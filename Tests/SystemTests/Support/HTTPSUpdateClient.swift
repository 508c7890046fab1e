import Foundation

/// Fetches an image as ESP-IDF's esp_https_ota does, request by request, with its bounds: 256 bytes for an address, 512 for the head
/// of a request; no body in chunks, and what is told in `Content-Length` has to come.
final class HTTPSUpdateClient {
    enum Mode: CustomStringConvertible {
        /// One request for everything.
        case whole
        /// `ota_resumption`: from there on; the bytes before are known.
        case resumed(from: [UInt8])
        /// `partial_http_download`: its length by HEAD, then parts of so many bytes, by a connection each.
        case partial(bytes: Int)

        var description: String {
            switch self {
            case .whole: "whole"
            case .resumed(let known): "resumed from \(known.count)"
            case .partial(let bytes): "in parts of \(bytes)"
            }
        }
    }

    struct Answer {
        let head: WebClient.Answer
        let body: [UInt8]
    }

    static let longestAddress = 255
    /// esp_http_client's `buffer_size_tx`.
    static let headBytes = 512

    private let port: UInt16
    private let host: String
    private let path: String
    private let authority: Authority?
    private let certificate: String?

    /// `authority`: of the server's certificate, where the address is one of https. `certificate`: its own, of that authority.
    init(_ url: String, trusting authority: Authority? = nil, certificate: String? = nil) throws {
        guard url.utf8.count <= Self.longestAddress else { throw Unexpected("\(url.utf8.count) bytes: \(url)") }
        guard let parts = URLComponents(string: url), let port = parts.port.flatMap({ UInt16(exactly: $0) }),
            parts.host == "127.0.0.1", (parts.scheme == "https") == (authority != nil)
        else { throw Unexpected("no address: \(url)") }
        self.port = port
        self.authority = authority
        self.certificate = certificate
        host = "127.0.0.1:\(port)"
        path = String(url.dropFirst("\(parts.scheme ?? "")://\(host)".count))
    }

    /// What an update would be written from.
    func download(_ mode: Mode) throws -> [UInt8] {
        switch mode {
        case .whole:
            let answer = try ask("GET")
            guard answer.head.status == 200 else { throw Unexpected(answer.head.head) }
            return answer.body
        case .resumed(let known):
            let answer = try ask("GET", range: "\(known.count)-")
            let total = answer.head["Content-Range"]?.split(separator: "/").last.flatMap { Int($0) }
            // Anything else than 206: the server ignored the range.
            guard answer.head.status == 206, total == known.count + answer.body.count else {
                throw Unexpected(answer.head.head)
            }
            return known + answer.body
        case .partial(let most):
            let head = try ask("HEAD").head
            guard head.status == 200, head.length > 0 else { throw Unexpected(head.head) }
            var image: [UInt8] = []
            while image.count < head.length {
                let rest = head.length - image.count
                let range = rest > most ? "\(image.count)-\(image.count + most - 1)" : "\(image.count)-"
                // An image of one part is asked for without a range.
                let answer = try ask("GET", range: image.isEmpty && rest <= most ? nil : range)
                let wanted = image.isEmpty && rest <= most ? 200 : 206
                guard answer.head.status == wanted, answer.body.count == min(rest, most) else {
                    throw Unexpected(answer.head.head)
                }
                image += answer.body
            }
            return image
        }
    }

    /// One request over a connection of its own, with fields as esp_http_client writes them.
    func ask(_ method: String, range: String? = nil, fields: [String] = []) throws -> Answer {
        var lines = [
            "\(method) \(path) HTTP/1.1", "User-Agent: ESP32 HTTP Client/1.0", "Host: \(host)", "Content-Length: 0",
        ]
        if let range { lines.append("Range: bytes=\(range)") }
        let request = (lines + fields).joined(separator: "\r\n") + "\r\n\r\n"
        guard request.utf8.count <= Self.headBytes else { throw Unexpected("Out of buffer: \(request)") }
        let receive: (Int) throws -> [UInt8]
        if let authority {
            let client = try SecureClient(port: port, authority, certificate: certificate)
            client.send(Array(request.utf8))
            receive = { client.receive($0) }
        } else {
            let client = try WebClient(port: port)
            try client.send(request)
            receive = { try client.receive($0, within: 20) }
        }
        var bytes: [UInt8] = []
        while !bytes.ends(with: "\r\n\r\n") {
            guard let byte = try receive(1).first else { throw Unexpected("no answer to \(request)") }
            bytes.append(byte)
        }
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.hasPrefix("HTTP/1.1 "), let status = Int(text.dropFirst(9).prefix(3)) else {
            throw Unexpected("no answer: \(text)")
        }
        let head = WebClient.Answer(status: status, head: text)
        guard head["Transfer-Encoding"] == nil, head["Content-Encoding"] == nil else { throw Unexpected(text) }
        guard method != "HEAD", status != 304 else { return Answer(head: head, body: []) }
        guard head["Content-Length"] != nil else { throw Unexpected("without a length: \(text)") }
        let body = try receive(head.length)
        guard body.count == head.length else { throw Unexpected("\(body.count) bytes of \(head.length)") }
        return Answer(head: head, body: body)
    }
}
