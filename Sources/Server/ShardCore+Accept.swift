import Access
import Broker
import CLinux
import Glibc
import HTTP
import Logging
import Transport

/// Connections that come: from a listener, from the lobby, or from another shard.
extension ShardCore {
    mutating func accept(from index: Int) {
        guard !isStopping else { return }
        let listener = reception[index]
        let most = state.rules[Int(listener.number)].connections
        for _ in 0..<reception.share {
            switch reception.accept(from: index, atMost: most, ofAll: state.limits.connections, now: now) {
            case .stream(let stream): open(stream, listener: listener.number, awaiting: listener.awaitedHeader)
            case .refused: state.countRefusedConnection()
            case .over: return
            }
        }
    }

    @discardableResult
    mutating func open(
        _ stream: Stream, listener: ListenerNumber, awaiting header: AwaitedHeader? = nil, isPlaced: Bool = false
    ) -> ConnectionNumber? {
        let number = table.add(stream, listener: listener)
        table[number].awaitedHeader = header
        do {
            try loop.watch(stream.rawDescriptor, as: table.token(of: number), for: EPOLLIN.rawValue)
        } catch {
            log.warning("a connection can't be watched", metadata: ["peer": "\(stream.peer)", "reason": "\(error)"])
            table.remove(number)
            return nil
        }
        table[number].watched = EPOLLIN.rawValue
        state.open(number, listener: listener, isPlaced: isPlaced, proof: Self.proof(stream), now: now)
        return number
    }

    /// What the connection itself says of who is at its other end.
    static func proof(_ stream: Stream) -> ConnectionProof {
        let certificate = stream.clientCertificate.map {
            ClientCertificate(
                commonName: $0.commonName, subject: $0.subject, serial: $0.serial, fingerprint: $0.fingerprint,
                isForClients: $0.isForClients)
        }
        return ConnectionProof(
            source: SignInThrottle.Source(address: stream.peer.bytes), certificate: certificate,
            keyIdentity: stream.keyIdentity)
    }

    /// A connection that comes from the lobby, or from another shard with the bytes that were read there.
    mutating func adopt(_ connection: MovingConnection) {
        updateTime()
        // Bytes of a reset connection count no more than those that the kernel drops then. Late as they come, they could take
        // a session from the connection that its client has made since.
        guard !isStopping, !connection.stream.isReset,
            let number = open(connection.stream, listener: connection.listener, isPlaced: connection.isPlaced)
        else { return }
        table[number].hasMoved = true
        if let reader = connection.webSocket {
            table[number].webSocket = WebSocketChannel(reader, connection.wire)
            if !connection.wire.isEmpty { markDirty(number) }
        }
        // Who was on the way while the others were reviewed.
        guard isCertificateAccepted(number) else {
            end(number, .notAuthorized)
            return apply()
        }
        table[number].input = connection.unread
        if let channel = table[number].webSocket, !connection.frames.isEmpty {
            var bytes = connection.frames
            let count = channel.reader.take(&bytes, in: bytes.indices)
            table[number].input += bytes[..<count]
        }
        resume(number)
        answerControls(number)
    }
}

// MARK: - Behind a proxy

/// What a connection has to begin with where clients come through a proxy.
struct AwaitedHeader: Sendable {
    let version: ProxyHeader.Version
    /// The client has to have come over TLS.
    let needsTLS: Bool
}

extension ShardCore {
    /// The header that a proxy sends first, or nil while more of it has to come. Who can't send one may not name a client,
    /// and who names none in a way that we understand may not go on either.
    static func proxyHeader(
        _ bytes: Span<UInt8>, _ awaited: AwaitedHeader
    ) throws(CloseReason) -> ProxyHeader? {
        let header: ProxyHeader?
        do throws(MalformedProxyHeader) {
            header = try ProxyHeader(bytes, awaited.version)
        } catch {
            throw .protocolViolation("PROXY header: \(error)")
        }
        if awaited.needsTLS, let header, header.tls?.isUsed != true {
            throw .protocolViolation("PROXY header: the client has not come over TLS")
        }
        return header
    }
}
