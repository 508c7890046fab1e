package import HTTPTypes

/// A request as its handler gets it.
package struct Request: Sendable {
    package let head: RequestHead
    package let body: BodyPipe
    package let peer: Peer

    package init(head: RequestHead, body: BodyPipe, peer: Peer) {
        self.head = head
        self.body = body
        self.peer = peer
    }

    package var method: HTTPRequest.Method { head.request.method }
    package var fields: HTTPFields { head.request.headerFields }
    /// As it was sent, without the query.
    package var rawPath: Substring { head.path }
    package var query: Substring {
        let target = head.request.path ?? "/"
        return target.utf8.firstIndex(of: UInt8(ascii: "?")).map { target[target.utf8.index(after: $0)...] } ?? ""
    }
}

/// Where a request comes from, and came in.
package struct Peer: Sendable {
    /// What somebody has proved to own, and an authority of the listener vouches for.
    package struct Certificate: Sendable {
        /// The subject's only CN, UTF-8. Nil: it has none that could be a name.
        package let commonName: [UInt8]?
        /// Upper-case hexadecimal, without leading zeros.
        package let serial: String
        /// Its extended key usage names clientAuth.
        package let isForClients: Bool

        package init(commonName: [UInt8]?, serial: String, isForClients: Bool) {
            self.commonName = commonName
            self.serial = serial
            self.isForClients = isForClients
        }
    }

    /// 4 or 16 bytes; none: by a unix socket.
    package let address: [UInt8]
    package let host: String
    package let isSecure: Bool
    /// Of the configuration, by number.
    package let listener: Int
    /// It came in where only this machine does.
    package let isLoopback: Bool
    /// The port that was connected to.
    package let port: UInt16
    package let certificate: Certificate?

    package init(
        address: [UInt8], host: String, isSecure: Bool, listener: Int, isLoopback: Bool, port: UInt16,
        certificate: Certificate? = nil
    ) {
        self.address = address
        self.host = host
        self.isSecure = isSecure
        self.listener = listener
        self.isLoopback = isLoopback
        self.port = port
        self.certificate = certificate
    }
}

/// Takes a body of unknown length, a part at a time; waits while the client is slower than the handler. Throws `BodyError`.
package protocol BodyWriter: Sendable {
    func write(_ bytes: [UInt8]) async throws
}

/// An open file. It is closed when nobody holds it any more.
package protocol ServedFile: AnyObject, Sendable {
    var descriptor: CInt { get }
}

/// A part of an open file, as a body. The file has to stay as it is while it is sent: of one that gets shorter only a part
/// comes, and then the connection ends, for its length was promised.
package struct FileBody: Sendable {
    package let file: any ServedFile
    /// What of it has not been taken yet.
    package private(set) var range: Range<Int>

    package init(_ file: any ServedFile, _ range: Range<Int>) {
        precondition(range.lowerBound >= 0, "files have no bytes before their beginning")
        self.file = file
        self.range = range
    }

    package mutating func take(_ count: Int) { range = (range.lowerBound + count)..<range.upperBound }
}

/// What answers a request.
package struct Response: Sendable {
    package enum Body: Sendable {
        case bytes([UInt8])
        /// Written as it is made. `length`: bytes, if they are known before; then all of them have to come.
        case stream(length: Int?, @Sendable (any BodyWriter) async throws -> Void)
        /// Goes from the disk to the client as fast as that takes it, without anybody who writes it.
        case file(FileBody)
    }

    package var head: HTTPResponse
    package var body: Body

    package init(_ status: HTTPResponse.Status, _ fields: HTTPFields = [:], body: Body = .bytes([])) {
        head = HTTPResponse(status: status, headerFields: fields)
        self.body = body
    }
}

/// Answers requests, away from the connections.
package typealias RequestHandler = @Sendable (Request) async -> Response
