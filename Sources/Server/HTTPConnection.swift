import Broker
import HTTP
import HTTPTypes
import Transport

/// One connection that speaks HTTP, on its event loop.
final class HTTPConnection {
    /// Of the request at hand, for its answer.
    struct Asked {
        let isHead: Bool
        let isVersion10: Bool
        var keepsAlive: Bool
        let expectsContinue: Bool
        let method: String
        let path: String
    }

    enum Phase {
        /// A request comes, or is awaited.
        case reading
        /// It is being handled; no answer has begun.
        case handling
        /// The answer is being written.
        case answering(ResponseFraming, sent: Int)
        /// All has been said: it ends when that has left.
        case closing
        /// That has left, and the peer may still send what nobody reads; closed at once, our answer could be lost to it.
        case lingering
        /// A WebSocket, once the answer has left.
        case upgrading
    }

    let stream: Stream
    let listener: Listener
    let token: UInt64
    var protocolState = ServerConnection()
    var phase = Phase.reading
    var asked: Asked?
    /// What has come and is not taken.
    var input: [UInt8] = []
    var output = OutputBuffer()
    /// What of the answer at hand comes from a file, behind the output.
    var file: FileBody?
    /// Where it lies the kernel can't send from: not every file system can.
    var isFileCopied = false
    var body: BodyPipe?
    var task: Task<Void, Never>?
    /// Waits for the output to have room.
    var writer: CheckedContinuation<Void, any Error>?
    var awaitedHeader: AwaitedHeader?
    var watched: UInt32 = 0
    var isBlocked = false
    var isDirty = false
    /// The peer sends nothing more.
    var isHalfClosed = false
    /// What it sends is no request, and may go on for long.
    var isRefused = false
    /// An answer is complete, and nothing of the next request has come.
    var isBetweenRequests = false
    /// Its answers wait for the peer to take them, and its requests for that.
    var awaitsRoom = false
    var isUnannounced = false
    /// When it has had its time for what it is doing; nil: it is our turn.
    var deadline: Instant?
    /// Of a body: since when it comes, and how much has; the time in which our side did not read does not count.
    var bodyBegan: Instant?
    var bodyBytes = 0
    var pausedSince: Instant?

    init(_ stream: Stream, _ listener: Listener, token: UInt64) {
        self.stream = stream
        self.listener = listener
        self.token = token
    }

    /// As a proxy has named it, if there is one; from the first request on it stays.
    private(set) lazy var peer = Peer(
        address: stream.peer.bytes, host: stream.peer.host, isSecure: stream.isSecure, listener: Int(listener.number),
        // Behind a proxy that names its clients nobody is on this machine for sure.
        isLoopback: listener.socket.address.isLoopback && listener.awaitedHeader == nil,
        port: listener.socket.address.port,
        certificate: stream.clientCertificate.map {
            Peer.Certificate(commonName: $0.commonName, serial: $0.serial, isForClients: $0.isForClients)
        })

    /// All that has been said has left.
    var hasSentAll: Bool { output.isEmpty && file == nil }
    var isPaused: Bool { body?.isFull ?? false }
}
