import Broker
import CLinux
import Glibc
import HTTP
import HTTPTypes
import Logging
import Transport

/// What the loop for HTTP owns: connections, their bytes both ways, and how long each may take.
struct HTTPCore: ~Copyable {
    enum Times {
        /// Milliseconds between requests.
        static let idle: Int64 = 60_000
        /// In which an answer has to move.
        static let writing: Int64 = 60_000
        /// A body has this long, and a second more for each `bodyBytesPerSecond`.
        static let body: Int64 = 30_000
        static let bodyBytesPerSecond = 512
        /// For a peer that still sends, to see the answer.
        static let lingering: Int64 = 2_000
        static let tick: Int64 = 500
    }

    static let scratchBytes = 64 << 10
    /// Of requests that wait behind the one at hand.
    static let pipelinedBytes = 16 << 10
    /// Output at which whoever writes an answer waits, and at which it goes on.
    static let fullBytes = 128 << 10
    static let roomBytes = 32 << 10
    /// Of files, that one connection is sent in a turn: who takes them fast does not hold up the others.
    static let fileBytesPerTurn = 256 << 10
    /// Reads of one connection in a turn.
    static let readsPerTurn = 4

    var handler: RequestHandler?
    private let handlers = HandlerExecutor()
    private(set) var figures = HTTPFigures()
    private let loop: EventLoop
    private let log: Logger
    private var limits: Limits
    private var rules: [ListenerRules]
    private var sites: [HTTPSite]
    private var reception: Reception
    private var front: HTTPFront?
    private var shards: [Shard] = []
    private var nextShard = 0
    private var connections: [HTTPConnection?] = []
    private var incarnations: [UInt32] = []
    private var free: [Int] = []
    private var scratch = [UInt8](repeating: 0, count: HTTPCore.scratchBytes)
    private var pool = BufferPool()
    private var dirty: [HTTPConnection] = []
    private var unannounced: [HTTPConnection] = []
    private var ticksAt: Instant?
    private var isStopping = false
    private var date = (second: Int64(-1), text: "")
    private var now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000)

    init(_ limits: Limits, _ rules: [ListenerRules], _ sites: [HTTPSite], loop: EventLoop, log: Logger) {
        self.limits = limits
        self.rules = rules
        self.sites = sites
        self.loop = loop
        self.log = log
        reception = Reception(loop: loop, log: log)
    }

    mutating func begin(_ front: HTTPFront, with shards: [Shard]) {
        self.front = front
        self.shards = shards
    }

    mutating func add(_ listener: Listener) {
        updateTime()
        reception.add(listener, now: now)
    }

    mutating func adopt(_ limits: Limits, _ rules: [ListenerRules], _ sites: [HTTPSite]) {
        self.limits = limits
        self.rules = rules
        self.sites = sites
    }

    private mutating func updateTime() { now = Instant(milliseconds: monotonicNanoseconds() / 1_000_000) }

    // MARK: - Turns

    mutating func turn(_ events: Span<readiness>) -> EventLoop.Wish {
        updateTime()
        for index in events.indices {
            let token = events[index].token
            if token >= EventLoop.reservedTokens { continue }
            if token >= Reception.tokens {
                accept(from: Int(token - Reception.tokens))
            } else if let connection = connection(of: token) {
                ready(connection, events[index].events)
            }
        }
        var again: [HTTPConnection] = []
        swap(&again, &unannounced)
        for connection in again where connection.isUnannounced {
            connection.isUnannounced = false
            read(connection)
        }
        flushAll()
        endOverdue()
        reception.resumeIfDue(now: now)
        let deadline = [ticksAt, reception.resumesAt].compactMap(\.self).min()
        return EventLoop.Wish(isBusy: !unannounced.isEmpty, deadline: deadline.map { $0.milliseconds * 1_000_000 })
    }

    private mutating func flushAll() {
        while !dirty.isEmpty {
            var some: [HTTPConnection] = []
            swap(&some, &dirty)
            for connection in some where connection.isDirty {
                connection.isDirty = false
                flush(connection)
            }
        }
    }

    private mutating func endOverdue() {
        guard figures.connections > 0 else {
            ticksAt = nil
            return
        }
        guard let due = ticksAt else {
            ticksAt = now + Times.tick
            return
        }
        guard due <= now else { return }
        ticksAt = now + Times.tick
        for connection in connections.compactMap(\.self) {
            if let deadline = connection.deadline, deadline <= now { overdue(connection) }
        }
        flushAll()
    }

    private mutating func overdue(_ connection: HTTPConnection) {
        switch connection.phase {
        case .reading where !connection.protocolState.isIdle && connection.awaitedHeader == nil,
            .handling where connection.protocolState.isReadingBody:
            refuse(connection, RequestRefusal(408, "the request takes too long"))
        case .reading, .handling, .answering, .closing, .lingering, .upgrading: close(connection)
        }
    }

    // MARK: - Connections

    private mutating func accept(from index: Int) {
        guard !isStopping else { return }
        let listener = reception[index]
        let most = rules[Int(listener.number)].connections
        for _ in 0..<reception.share {
            switch reception.accept(from: index, atMost: most, ofAll: limits.connections, now: now) {
            case .stream(let stream): open(stream, listener)
            case .refused: figures.connectionsRefused += 1
            case .over: return
            }
        }
    }

    mutating func adopt(_ moved: MovingConnection) {
        updateTime()
        guard !isStopping, let origin = moved.origin else { return }
        open(moved.stream, origin, isThroughProxy: true)
        flushAll()
    }

    private mutating func open(_ stream: Stream, _ listener: Listener, isThroughProxy: Bool = false) {
        let index = free.popLast() ?? connections.count
        if index == connections.count {
            connections.append(nil)
            incarnations.append(0)
        }
        let token = UInt64(incarnations[index]) << 32 | UInt64(index)
        let connection = HTTPConnection(stream, listener, token: token)
        if !isThroughProxy { connection.awaitedHeader = listener.awaitedHeader }
        figures.connections += 1
        figures.connectionsOpened += 1
        connections[index] = connection
        do throws(SystemError) {
            try loop.watch(stream.rawDescriptor, as: token, for: EPOLLIN.rawValue)
        } catch {
            log.warning("a connection can't be watched", metadata: ["peer": "\(stream.peer)", "reason": "\(error)"])
            return remove(connection)
        }
        connection.watched = EPOLLIN.rawValue
        connection.deadline = now + limits.connectTimeout
        if ticksAt == nil { ticksAt = now + Times.tick }
        if stream.isSecure { read(connection) }  // What has come with the handshake is not announced again.
    }

    private func connection(of token: UInt64) -> HTTPConnection? {
        let index = Int(UInt32(truncatingIfNeeded: token))
        guard index < connections.count, incarnations[index] == UInt32(token >> 32) else { return nil }
        return connections[index]
    }

    private mutating func close(_ connection: HTTPConnection, isGraceful: Bool = false) {
        guard self.connection(of: connection.token) != nil else { return }
        if isGraceful || connection.stream.isSecure { connection.stream.finish() }
        loop.unwatch(connection.stream.rawDescriptor)
        remove(connection)
    }

    private mutating func remove(_ connection: HTTPConnection) {
        let index = Int(UInt32(truncatingIfNeeded: connection.token))
        connections[index] = nil
        incarnations[index] = (incarnations[index] &+ 1) & 0x7FFF_FFFF
        free.append(index)
        figures.connections -= 1
        connection.isDirty = false
        connection.isUnannounced = false
        connection.body?.fail(.connectionLost)
        connection.body = nil
        connection.writer?.resume(throwing: BodyError.connectionLost)
        connection.writer = nil
        connection.task?.cancel()
        connection.task = nil
        connection.file = nil
        reception.hurry(now: now)
    }

    // MARK: - Reading

    private mutating func ready(_ connection: HTTPConnection, _ events: UInt32) {
        if events & EPOLLOUT.rawValue != 0 {
            connection.isBlocked = false
            flush(connection)
            guard self.connection(of: connection.token) != nil else { return }
            if connection.stream.readNeedsWrite { return read(connection) }
        }
        if events & EPOLLIN.rawValue != 0 {
            read(connection)
        } else if events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
            close(connection)
        }
    }

    /// Whether more is wanted of it.
    private func isRead(_ connection: HTTPConnection) -> Bool {
        guard !connection.isHalfClosed else { return false }
        switch connection.phase {
        case .closing, .upgrading: return false
        case .lingering: return true
        case .reading, .handling, .answering:
            return !connection.isPaused && !connection.awaitsRoom && connection.input.count < Self.pipelinedBytes
        }
    }

    private mutating func read(_ connection: HTTPConnection) {
        for _ in 0..<Self.readsPerTurn {
            guard self.connection(of: connection.token) != nil, isRead(connection) else { break }
            switch connection.stream.read(into: &scratch, from: 0) {
            case .bytes(let count):
                figures.bytesReceived += UInt64(count)
                if case .lingering = connection.phase { continue }
                if connection.input.isEmpty {
                    var buffer: [UInt8] = []
                    swap(&buffer, &scratch)
                    let used = take(connection, buffer.span.extracting(0..<count))
                    if used < count { connection.input = Array(buffer[used..<count]) }
                    swap(&buffer, &scratch)
                } else {
                    connection.input += scratch[..<count]
                    takeInput(connection)
                }
                if !connection.stream.isSecure, count < scratch.count {
                    updateWatch(connection)
                    return
                }
            case .wouldBlock:
                updateWatch(connection)
                return
            case .end: return end(connection)
            case .failed: return close(connection)
            }
        }
        updateWatch(connection)
    }

    /// The peer sends nothing more; what it asked for before is answered.
    private mutating func end(_ connection: HTTPConnection) {
        connection.isHalfClosed = true
        switch connection.phase {
        case .lingering, .upgrading: close(connection)
        case .reading, .handling, .answering, .closing:
            endIfCutOff(connection)
            updateWatch(connection)
        }
    }

    /// Where the peer has sent its last byte, what is not whole by now never will be.
    private mutating func endIfCutOff(_ connection: HTTPConnection) {
        guard connection.isHalfClosed, self.connection(of: connection.token) != nil, !connection.awaitsRoom,
            !connection.isPaused
        else { return }
        switch connection.phase {
        case .reading:
            connection.input = []
            guard !connection.output.isEmpty else { return close(connection, isGraceful: true) }
            connection.phase = .closing
            markDirty(connection)
        case .handling where connection.protocolState.isReadingBody,
            .answering where connection.protocolState.isReadingBody:
            close(connection)
        case .handling, .answering, .closing, .lingering, .upgrading: break
        }
    }

    private mutating func takeInput(_ connection: HTTPConnection) {
        var input: [UInt8] = []
        swap(&input, &connection.input)
        let used = take(connection, input.span)
        guard self.connection(of: connection.token) != nil else { return }
        connection.input = used == 0 ? input : Array(input[used...])
        endIfCutOff(connection)
    }

    /// Takes what is there for the connection, as far as it goes.
    private mutating func take(_ connection: HTTPConnection, _ bytes: Span<UInt8>) -> Int {
        var offset = 0
        do throws(RequestRefusal) {
            if let awaited = connection.awaitedHeader {
                guard let header = try Self.proxyHeader(bytes, awaited) else { return 0 }
                offset = header.length
                connection.awaitedHeader = nil
                if let client = header.client { connection.stream.speaks(for: client) }
            }
            while true {
                switch connection.phase {
                case .closing, .lingering, .upgrading: return offset
                case .reading where connection.output.count >= Self.fullBytes:
                    connection.awaitsRoom = true
                    return offset
                case .reading, .handling, .answering: break
                }
                guard !connection.isPaused else { return offset }
                switch try connection.protocolState.next(in: bytes, &offset) {
                case .head(let head): try begin(head, connection)
                case .body(let part):
                    connection.bodyBytes += part.count
                    connection.body?.push(part)
                    noteBody(connection)
                case .end:
                    connection.body?.finish()
                    connection.deadline = connection.hasSentAll ? nil : now + Times.writing
                    if case .reading = connection.phase { connection.protocolState.answered() }
                case .nothing:
                    if connection.protocolState.isReadingHead, offset < bytes.count,
                        connection.isBetweenRequests || connection.deadline == nil
                    {
                        connection.isBetweenRequests = false
                        connection.deadline = now + limits.connectTimeout
                    }
                    return offset
                case .waiting: return offset
                }
            }
        } catch {
            refuse(connection, error)
            return bytes.count
        }
    }

    private static func proxyHeader(
        _ bytes: Span<UInt8>, _ awaited: AwaitedHeader
    ) throws(RequestRefusal) -> ProxyHeader? {
        do throws(CloseReason) {
            return try ShardCore.proxyHeader(bytes, awaited)
        } catch {
            throw RequestRefusal(400, "\(error)")
        }
    }

    private mutating func noteBody(_ connection: HTTPConnection) {
        guard let began = connection.bodyBegan else { return }
        if connection.isPaused {
            connection.pausedSince = connection.pausedSince ?? now
            connection.deadline = connection.hasSentAll ? nil : now + Times.writing
        } else {
            // As much as it may have in all, and no more of that in silence than at the start.
            let end = began + Times.body + Int64(connection.bodyBytes / Times.bodyBytesPerSecond) * 1000
            connection.deadline = min(end, now + Times.body)
        }
    }

    // MARK: - Requests

    private mutating func begin(_ head: RequestHead, _ connection: HTTPConnection) throws(RequestRefusal) {
        figures.requests += 1
        connection.asked = HTTPConnection.Asked(
            isHead: head.request.method == .head, isVersion10: head.isVersion10,
            keepsAlive: head.keepsAlive && !isStopping, expectsContinue: head.expectsContinue,
            method: head.request.method.rawValue, path: String(head.path))
        connection.deadline = nil
        connection.isBetweenRequests = false
        let site = sites[Int(connection.listener.number)]
        if let upgrade = try webSocket(head, connection, site) { return self.upgrade(connection, upgrade) }
        guard !site.isOnlyWebSocket else { throw RequestRefusal(426, "MQTT over WebSocket is all there is here") }
        connection.phase = .handling
        let peer = connection.peer
        guard let handler, let front else {
            return answer(HTTPResponse(status: .serviceUnavailable), [], for: connection.token)
        }
        let token = connection.token
        let body: BodyPipe
        if head.framing == .none {
            body = .empty
        } else {
            body = BodyPipe(
                onAsked: { front.post { $0.bodyIsAsked(for: token) } },
                onRoom: { front.post { $0.bodyHasRoom(for: token) } })
            connection.body = body
            connection.bodyBegan = now
            connection.bodyBytes = 0
            // Who waits to be asked has all the time that the handler takes until then.
            if !head.expectsContinue { noteBody(connection) }
        }
        let request = Request(head: head, body: body, peer: peer)
        let hasBody = head.request.method != .head
        connection.task = Task(executorPreference: handlers) {
            let response = await handler(request)
            await HTTPAnswer(front: front, token: token).send(response, withBody: hasBody)
        }
    }

    /// The handler wants the body: who waits for that is told to send it (RFC 9110, 10.1.1).
    mutating func bodyIsAsked(for token: UInt64) {
        updateTime()
        guard let connection = connection(of: token), case .handling = connection.phase,
            connection.protocolState.isReadingBody, connection.asked?.expectsContinue == true
        else { return }
        if connection.bodyBytes == 0 {
            connection.output.append(pool: &pool) { $0 += continueResponse }
            markDirty(connection)
        }
        connection.bodyBegan = now
        noteBody(connection)
        flushAll()
    }

    mutating func bodyHasRoom(for token: UInt64) {
        guard let connection = connection(of: token), connection.pausedSince != nil, !connection.isPaused else {
            return
        }
        updateTime()
        if let since = connection.pausedSince, let began = connection.bodyBegan {
            connection.bodyBegan = began + (now - since)
        }
        connection.pausedSince = nil
        noteBody(connection)
        takeInput(connection)
        if self.connection(of: token) != nil { read(connection) }
        flushAll()
    }

    // MARK: - Answers

    mutating func answer(_ response: HTTPResponse, _ body: [UInt8], for token: UInt64) {
        updateTime()
        guard let connection = connection(of: token), case .handling = connection.phase, let asked = connection.asked
        else { return }
        let framing: ResponseFraming = response.mayHaveBody ? .length(body.count) : .none
        begin(response, framing, connection)
        if response.mayHaveBody, !asked.isHead { write(body, connection) }
        completeAnswer(connection)
        flushAll()
    }

    /// The loop sends the file itself, whenever the client takes more of it: nobody else waits for that, and nothing of it is in
    /// memory but, over TLS, one record. Reading it may wait for a disk, and all of HTTP with it, for as long as one seek takes:
    /// the kernel reads ahead, and a fleet that updates asks for the same few files, which are in memory from the first
    /// download on. MQTT is on other loops, and does not notice.
    mutating func answer(_ response: HTTPResponse, _ file: FileBody, for token: UInt64) {
        updateTime()
        guard let connection = connection(of: token), case .handling = connection.phase, let asked = connection.asked
        else { return }
        begin(response, response.mayHaveBody ? .length(file.range.count) : .none, connection)
        if response.mayHaveBody, !asked.isHead, !file.range.isEmpty {
            connection.file = file
        } else {
            completeAnswer(connection)
        }
        flushAll()
    }

    mutating func beginAnswer(_ response: HTTPResponse, length: Int?, for token: UInt64) -> Bool {
        updateTime()
        guard let connection = connection(of: token), case .handling = connection.phase, let asked = connection.asked
        else { return false }
        let framing: ResponseFraming =
            !response.mayHaveBody ? .none : length.map { .length($0) } ?? (asked.isVersion10 ? .untilClose : .chunked)
        if framing == .untilClose { connection.asked?.keepsAlive = false }
        begin(response, framing, connection)
        flushAll()
        return true
    }

    private mutating func begin(_ response: HTTPResponse, _ framing: ResponseFraming, _ connection: HTTPConnection) {
        guard let asked = connection.asked else { return }
        // What of the request is not here by now nobody will read; behind the peer's last byte there may be requests yet.
        let isLast = connection.isHalfClosed && connection.input.isEmpty
        if connection.protocolState.isReadingBody || isLast || isStopping {
            connection.asked?.keepsAlive = false
        }
        connection.deadline = nil
        let keepsAlive = connection.asked?.keepsAlive ?? false
        let date = dateText()
        connection.output.append(pool: &pool) { bytes in
            response.encode(framing, isVersion10: asked.isVersion10, keepsAlive: keepsAlive, date: date, into: &bytes)
        }
        connection.phase = .answering(framing, sent: 0)
        figures.countResponse(response.status.code)
        log.debug(
            "request",
            metadata: [
                "address": "\(connection.stream.peer.host)", "method": "\(asked.method)", "path": "\(asked.path)",
                "status": .stringConvertible(response.status.code),
            ])
        markDirty(connection)
    }

    mutating func append(
        _ bytes: [UInt8], for token: UInt64, _ continuation: CheckedContinuation<Void, any Error>
    ) {
        updateTime()
        guard let connection = connection(of: token), case .answering(let framing, let sent) = connection.phase else {
            return continuation.resume(throwing: BodyError.connectionLost)
        }
        if case .length(let length) = framing, sent + bytes.count > length {
            preconditionFailure("an answer is longer than it said")
        }
        // Behind 204 or 304 it would be taken for the next answer.
        guard framing != .none else { return continuation.resume() }
        connection.phase = .answering(framing, sent: sent + bytes.count)
        if framing == .chunked {
            connection.output.append(pool: &pool) { encodeChunk(bytes, into: &$0) }
        } else {
            write(bytes, connection)
        }
        markDirty(connection)
        flushAll()
        guard self.connection(of: token) != nil, connection.output.count >= Self.fullBytes else {
            return continuation.resume()
        }
        connection.writer = continuation
    }

    private mutating func write(_ bytes: [UInt8], _ connection: HTTPConnection) {
        if bytes.count > 4096 {
            connection.output.append(shared: bytes, from: 0)
        } else {
            connection.output.append(pool: &pool) { $0 += bytes }
        }
        markDirty(connection)
    }

    mutating func endAnswer(for token: UInt64, isWhole: Bool) {
        updateTime()
        guard let connection = connection(of: token), case .answering(let framing, let sent) = connection.phase,
            let asked = connection.asked
        else { return }
        if case .length(let length) = framing, sent < length, !asked.isHead { return close(connection) }
        // Half an answer must not look like a whole one.
        guard isWhole || framing == .none else { return close(connection) }
        if framing == .chunked, !asked.isHead { connection.output.append(pool: &pool) { $0 += lastChunk } }
        completeAnswer(connection)
        markDirty(connection)
        flushAll()
    }

    /// All of the answer is in the output, or has left.
    private mutating func completeAnswer(_ connection: HTTPConnection) {
        connection.task = nil
        connection.body?.fail(.connectionLost)
        connection.body = nil
        connection.bodyBegan = nil
        connection.pausedSince = nil
        guard connection.asked?.keepsAlive == true else {
            connection.phase = .closing
            return
        }
        connection.asked = nil
        connection.phase = .reading
        connection.isBetweenRequests = true
        connection.protocolState.answered()
        connection.deadline = now + Times.idle
        if connection.input.isEmpty {
            endIfCutOff(connection)
        } else {
            takeInput(connection)
        }
    }

    /// Answers what can't be a request, or took too long; the connection ends with that.
    private mutating func refuse(_ connection: HTTPConnection, _ refusal: RequestRefusal) {
        figures.malformed += 1
        connection.isRefused = true
        log.info(
            "request refused",
            metadata: ["address": "\(connection.stream.peer.host)", "reason": "\(refusal.reason)"])
        connection.task?.cancel()
        connection.task = nil
        connection.body?.fail(.malformed(refusal))
        connection.body = nil
        if case .answering = connection.phase { return close(connection) }
        let asked = connection.asked
        var response = HTTPResponse(status: refusal.responseStatus)
        response.headerFields[.contentType] = "application/problem+json"
        if refusal.status == 426 {
            response.headerFields[.upgrade] = "websocket"
            response.headerFields[.connection] = "Upgrade"  // RFC 9110, 7.8.
            response.headerFields[.secWebSocketVersion] = "13"
        }
        let body = problemDocument(response.status, code: "malformed_request", detail: refusal.reason)
        connection.output.append(pool: &pool) { [date = dateText()] bytes in
            response.encode(
                .length(body.count), isVersion10: asked?.isVersion10 ?? false, keepsAlive: false, date: date,
                into: &bytes)
            if asked?.isHead != true { bytes += body }
        }
        figures.countResponse(refusal.status)
        connection.phase = .closing
        connection.deadline = now + Times.writing
        markDirty(connection)
    }

    private mutating func dateText() -> String {
        let second = Int64(time(nil))
        if date.second != second { date = (second, httpDate(second)) }
        return date.text
    }

    // MARK: - Writing

    private mutating func markDirty(_ connection: HTTPConnection) {
        guard !connection.isDirty else { return }
        connection.isDirty = true
        dirty.append(connection)
    }

    private mutating func flush(_ connection: HTTPConnection) {
        guard self.connection(of: connection.token) != nil else { return }
        var hasMoved = false
        if !connection.isBlocked {
            guard let count = send(connection) else { return close(connection) }
            figures.bytesSent += UInt64(count)
            hasMoved = count > 0
            let isFileOver = connection.file?.range.isEmpty ?? false
            if isFileOver { connection.file = nil }
            connection.isBlocked = !connection.hasSentAll
            if isFileOver {
                completeAnswer(connection)
                guard self.connection(of: connection.token) != nil else { return }
            }
        }
        if connection.output.count <= Self.roomBytes, let writer = connection.writer {
            connection.writer = nil
            writer.resume()
        }
        if connection.awaitsRoom, connection.output.count <= Self.roomBytes {
            connection.awaitsRoom = false
            takeInput(connection)
            guard self.connection(of: connection.token) != nil else { return }
        }
        if connection.hasSentAll {
            switch connection.phase {
            case .closing: return linger(connection)
            case .upgrading: return depart(connection)
            case .answering:
                connection.deadline = nil
                // Its handler may wait for what of the body has not come.
                if connection.protocolState.isReadingBody { noteBody(connection) }
            case .handling: if !connection.protocolState.isReadingBody { connection.deadline = nil }
            case .reading, .lingering: break
            }
        } else if hasMoved || connection.deadline == nil {
            connection.deadline = now + Times.writing
        }
        updateWatch(connection)
    }

    /// Sends what is in the output, and then as much as a turn may of the file behind it, until the client takes no more. Returns
    /// how many bytes; nil: the connection can't go on.
    private mutating func send(_ connection: HTTPConnection) -> Int? {
        var (total, ofFile) = (0, 0)
        while true {
            if !connection.output.isEmpty {
                switch connection.output.flush(to: connection.stream, pool: &pool) {
                case .bytes(let count): total += count
                case .wouldBlock: return total
                case .failed: return nil
                }
            }
            guard connection.output.isEmpty, var file = connection.file, !file.range.isEmpty,
                ofFile < Self.fileBytesPerTurn
            else { return total }
            let isCopied = connection.stream.isSecure || connection.isFileCopied
            let part = file.range.prefix(isCopied ? OutputBuffer.recordBytes : Self.fileBytesPerTurn - ofFile)
            let count: Int
            do throws(SystemError) {
                if isCopied {
                    count = try connection.output.append(fromFile: file.file.descriptor, part, pool: &pool)
                } else {
                    switch connection.stream.write(fromFile: file.file.descriptor, part) {
                    case .bytes(let some): count = some
                    case .wouldBlock: return total
                    case .failed(.system(let error)) where error.code == EINVAL:
                        connection.isFileCopied = true
                        continue
                    case .failed(.system(let error)): throw error
                    case .failed: return nil
                    }
                    total += count
                }
            } catch {
                guard error.code != EPIPE, error.code != ECONNRESET else { return nil }
                return noteUnsent(connection, "\(error)")
            }
            guard count > 0 else { return noteUnsent(connection, "it has become shorter meanwhile") }
            ofFile += count
            file.take(count)
            connection.file = file
        }
    }

    private func noteUnsent(_ connection: HTTPConnection, _ reason: String) -> Int? {
        log.warning(
            "a file can't be sent", metadata: ["path": "\(connection.asked?.path ?? "")", "reason": "\(reason)"])
        return nil
    }

    private mutating func linger(_ connection: HTTPConnection) {
        let mayStillSend =
            connection.isRefused || connection.protocolState.isReadingBody || !connection.input.isEmpty
        guard !connection.isHalfClosed, mayStillSend else {
            return close(connection, isGraceful: true)
        }
        connection.stream.finish()
        connection.input = []
        connection.phase = .lingering
        connection.deadline = now + Times.lingering
        updateWatch(connection)
    }

    private mutating func updateWatch(_ connection: HTTPConnection) {
        guard self.connection(of: connection.token) != nil else { return }
        var wanted: UInt32 = 0
        if isRead(connection) {
            wanted = (connection.stream.readNeedsWrite ? EPOLLOUT : EPOLLIN).rawValue
            if connection.stream.hasPending, !connection.isUnannounced {
                connection.isUnannounced = true
                unannounced.append(connection)
            }
        }
        if !connection.hasSentAll { wanted |= EPOLLOUT.rawValue }
        guard wanted != connection.watched else { return }
        connection.watched = wanted
        loop.change(connection.stream.rawDescriptor, as: connection.token, for: wanted)
    }

    // MARK: - WebSocket

    /// Nil: it is none.
    private func webSocket(
        _ head: RequestHead, _ connection: HTTPConnection, _ site: HTTPSite
    ) throws(RequestRefusal) -> WebSocketHandshake? {
        let path = head.path
        guard site.isOnlyWebSocket || path == "/mqtt", let handshake = try WebSocketHandshake(head) else { return nil }
        if let origin = head.request.headerFields[.origin],
            !site.admits(origin: origin, host: head.request.authority, isSecure: connection.stream.isSecure)
        {
            throw RequestRefusal(403, "pages of this origin may not connect")
        }
        return handshake
    }

    private mutating func upgrade(_ connection: HTTPConnection, _ handshake: WebSocketHandshake) {
        connection.output.append(pool: &pool) { bytes in
            handshake.response.encode(.none, isVersion10: false, keepsAlive: true, date: nil, into: &bytes)
        }
        figures.countResponse(handshake.response.status.code)
        connection.phase = .upgrading
        connection.deadline = now + limits.connectTimeout
        markDirty(connection)
    }

    /// To a shard, which reads what has come behind the request.
    private mutating func depart(_ connection: HTTPConnection) {
        let moved = MovingConnection(
            stream: connection.stream, unread: [], listener: connection.listener.number, isPlaced: false,
            webSocket: WebSocketReader(), frames: connection.input)
        loop.unwatch(connection.stream.rawDescriptor)
        remove(connection)
        figures.webSockets += 1
        shards[nextShard].post { $0.adopt(moved) }
        nextShard = (nextShard + 1) % shards.count
    }

    // MARK: - The end

    /// Whether somebody waits for an answer.
    var isAnswering: Bool {
        connections.contains { connection in
            switch connection?.phase {
            case .handling, .answering, .closing: true
            case .reading, .lingering, .upgrading, nil: false
            }
        }
    }

    mutating func beginEnd() {
        updateTime()
        isStopping = true
        reception.stop()
        for connection in connections.compactMap(\.self) {
            if case .reading = connection.phase { close(connection, isGraceful: true) }
        }
    }

    mutating func closeAll() {
        for connection in connections.compactMap(\.self) { close(connection) }
    }
}
