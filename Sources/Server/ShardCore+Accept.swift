import Broker
import CLinux
import Glibc
import Logging
import Transport

/// Connections that come: from a listener, or from another shard.
extension ShardCore {
    mutating func add(_ listener: Listener) {
        listeners.append(listener)
        watch(listeners.count - 1)
    }

    mutating func watch(_ index: Int) {
        do {
            let token = Self.listenerTokens + UInt64(index)
            try loop.watch(listeners[index].socket.rawDescriptor, as: token, for: EPOLLIN.rawValue)
        } catch {
            pause(index, because: error)
        }
    }

    mutating func accept(from index: Int) {
        guard !isStopping else { return }
        let listener = listeners[index]
        let most = state.rules[Int(listener.number)].connections
        for _ in 0..<max(Self.acceptsPerTurn / listeners.count, Self.fewestAccepts) {
            switch listener.socket.accept(atMost: most, ofAll: state.limits.connections) {
            case .stream(let stream):
                open(stream, listener: listener.number, awaiting: listener.awaitedHeader)
            case .refused(let isListenerFull):
                state.countRefusedConnection()
                log.warning(
                    "connection refused, as many as allowed are open",
                    metadata: [
                        "listener": "\(listener.socket.address)",
                        "limit": "\(isListenerFull ? "max_connections" : "global_max_connections")",
                    ]
                )
            case .nobody:
                isShortNamed = false
                return
            case .gone: continue
            case .exhausted(let error):
                loop.unwatch(listener.socket.rawDescriptor)
                return pause(index, because: error)
            }
        }
    }

    /// A listener that can't accept would wake the loop for ever: it rests until a connection closes, or a second.
    mutating func pause(_ index: Int, because error: SystemError) {
        if !isShortNamed {
            isShortNamed = true
            log.warning("no new connections for now", metadata: ["reason": "\(error)"])
        }
        pausedListeners.append(index)
        resumeListeners = now + 1000
    }

    mutating func listenAgain() {
        guard resumeListeners != nil else { return }
        resumeListeners = nil
        let indices = pausedListeners
        pausedListeners = []
        for index in indices { watch(index) }
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
        state.open(number, listener: listener, isPlaced: isPlaced, now: now)
        return number
    }

    /// A connection that comes from another shard, with the bytes that were read there.
    mutating func adopt(_ connection: MovingConnection) {
        updateTime()
        guard !isStopping,
            let number = open(connection.stream, listener: connection.listener, isPlaced: true)
        else { return }
        table[number].input = connection.unread
        resume(number)
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
