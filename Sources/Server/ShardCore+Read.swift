import Broker
import CLinux
import Glibc
import HTTP
import MQTT
import Transport

/// Readiness into bytes, bytes into packets.
extension ShardCore {
    @inline(__always)
    mutating func ready(_ number: ConnectionNumber, _ events: UInt32) {
        if events & EPOLLOUT.rawValue != 0 {
            table[number].isBlocked = false
            flush(number)
            resumeDrained()
            guard state.isOpen(number) else { return }
            if let stream = table[number].stream, stream.readNeedsWrite, isRead(number) { return read(number) }
        }
        if events & EPOLLRDHUP.rawValue != 0, table[number].waits.contains(.packet) {
            return lose(number, "closed by the peer")
        }
        if events & (EPOLLIN.rawValue | EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
            if isRead(number) {
                read(number)
            } else if events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
                readLast(number)
            } else {
                updateWatch(number)  // It was read when it was last looked at.
            }
        }
    }

    /// A connection that is not read is shut both ways: nothing more can be sent, but what it said still counts, such as
    /// a DISCONNECT [MQTT-3.14.4-3].
    mutating func readLast(_ number: ConnectionNumber) {
        table[number].waits = []
        state.endPauses(number, now: now)
        table[number].discardOutput()
        resume(number)
        if state.isOpen(number), isRead(number) { read(number) }
    }

    mutating func lose(_ number: ConnectionNumber, _ why: String) {
        end(number, .lost(why))
        apply()
    }

    /// A session that ends may begin on another shard at once: what its client has published goes before.
    mutating func end(_ number: ConnectionNumber, _ reason: CloseReason) {
        if state.shards > 1 { postMail(above: 0) }
        state.end(number, reason, now: now, into: &outbox)
    }

    /// Whether the connection is read now, or waits for something of ours.
    @inline(__always)
    func isRead(_ number: ConnectionNumber) -> Bool {
        table[number].waits.isEmpty && table[number].outputBytes <= Limits.outputBytes + Limits.replyBytes
            && state.waitingAcknowledgements(number) < Limits.waitingAcknowledgements
    }

    @inline(__always)
    mutating func read(_ number: ConnectionNumber) {
        guard let stream = table[number].stream else { return }
        var buffer: [UInt8] = []
        swap(&buffer, &scratch)
        defer { swap(&buffer, &scratch) }
        // The beginning of a packet moves in front of what comes, so that packets are whole in one place; a long one is
        // collected where it is.
        var kept = table[number].input.count
        if kept > 0, kept <= Self.movedBytes {
            for index in 0..<kept { buffer[index] = table[number].input[index] }
            table[number].input = []
        } else if kept > 0 {
            kept = 0
        }
        switch stream.read(into: &buffer, from: kept) {
        case .bytes(let some):
            state.countReceived(bytes: some)
            var count = some
            if let channel = table[number].webSocket { count = channel.reader.take(&buffer, in: kept..<(kept + some)) }
            defer { if table[number].webSocket != nil { answerControls(number) } }
            if table[number].input.isEmpty {
                let used = handle(buffer.span.extracting(0..<(kept + count)), from: number)
                guard let used, used < kept + count else { return }
                table[number].input.append(copying: buffer.span.extracting(used..<(kept + count)))
            } else {
                table[number].input.append(copying: buffer.span.extracting(0..<count))
                handleInput(number)
            }
        case .wouldBlock:
            if kept > 0 { table[number].input = Array(buffer[..<kept]) }
            if stream.isSecure { updateWatch(number) }
        case .end: lose(number, "connection closed by client")
        case .failed(let error): lose(number, "\(error)")
        }
    }

    /// Handles the packets that a connection's own buffer holds.
    mutating func handleInput(_ number: ConnectionNumber) {
        var input: [UInt8] = []
        swap(&input, &table[number].input)
        guard let used = handle(input.span, from: number) else { return }
        if used == 0 {
            swap(&input, &table[number].input)
        } else if used < input.count {
            table[number].input = Array(input[used...])
        }
    }

    /// Handles the packets in `bytes`, in order. Returns how many bytes they had, or nil once the connection is gone.
    @inline(__always)
    mutating func handle(_ bytes: Span<UInt8>, from number: ConnectionNumber) -> Int? {
        var offset = 0
        outbox.hold = []  // What a will or the server itself has met is nobody's fault here.
        do throws(CloseReason) {
            if let awaited = table[number].awaitedHeader {
                guard let header = try Self.proxyHeader(bytes, awaited) else { return 0 }
                offset = header.length
                table[number].awaitedHeader = nil
                if let client = header.client, let stream = table[number].stream {
                    stream.speaks(for: client)
                    state.setProof(number, Self.proof(stream))
                }
            }
            while isRead(number), let header = try Self.header(bytes, at: offset) {
                let start = offset + header.length
                guard bytes.count - start >= header.remainingLength else {
                    try state.announce(header, from: number)
                    break
                }
                // DISCONNECT and CONNECT: as for `end`.
                if state.shards > 1, header.byte == 0xE0 || header.byte == 0x10 { postMail(above: 0) }
                let body = bytes.extracting(start..<(start + header.remainingLength))
                try state.receive(header, body, from: number, now: now, into: &outbox)
                guard state.isOpen(number) else {
                    apply()
                    if let moved {
                        depart(moved.number, to: moved.shard, unread: bytes.extracting(offset..<bytes.count))
                    }
                    return nil
                }
                offset = start + header.remainingLength
                // Together, for each round of effects has a price; but not without bound.
                if outbox.records.count > Self.effectsPerRound || outbox.messages.byteCount > Self.bytesPerRound {
                    apply()
                }
                if !outbox.hold.isEmpty, hold(number).contains(.packet) { offset = start - header.length }
            }
        } catch {
            end(number, error)
        }
        apply()
        guard state.isOpen(number) else { return nil }
        updateWatch(number)
        return offset
    }

    @inline(__always)
    static func header(_ bytes: Span<UInt8>, at offset: Int) throws(CloseReason) -> FixedHeader? {
        do throws(MalformedPacket) {
            return try FixedHeader(bytes, at: offset)
        } catch {
            throw .malformed(error)
        }
    }

    mutating func depart(_ number: ConnectionNumber, to shard: Int, unread: Span<UInt8>) {
        moved = nil
        guard let stream = table[number].stream else { return }
        loop.unwatch(stream.rawDescriptor)
        let channel = table[number].webSocket
        let connection = MovingConnection(
            stream: stream, unread: unread.copied(), listener: table[number].listener, isPlaced: true,
            webSocket: channel?.reader, wire: channel?.wire ?? OutputBuffer()
        )
        table.remove(number)
        peers[shard].post { $0.adopt(connection) }
    }

    /// Reads a connection again that was not read: first what it had sent already.
    mutating func resume(_ number: ConnectionNumber) {
        guard state.isOpen(number) else { return }
        if isRead(number), !table[number].input.isEmpty { handleInput(number) }
        if state.isOpen(number) { updateWatch(number) }
    }

    /// Reads what TLS has received already, once a turn each, as if the event loop had said so.
    mutating func readUnannounced() {
        var tokens: [UInt64] = []
        swap(&tokens, &unannounced)
        for token in tokens {
            guard let number = table.number(of: token) else { continue }
            table[number].isUnannounced = false
            if isRead(number), table[number].stream?.hasPending == true { read(number) }
        }
    }

    /// Watches for what can be done: reading unless the connection waits, writing while there is output.
    @inline(__always)
    mutating func updateWatch(_ number: ConnectionNumber) {
        guard let stream = table[number].stream else { return }
        let isRead = isRead(number)
        if state.isUnread(number) == isRead { state.setUnread(number, !isRead, now: now) }
        var wanted: UInt32 = 0
        if isRead, stream.readNeedsWrite {
            wanted = EPOLLOUT.rawValue  // What has come can't be read before, and would wake the loop for ever.
        } else if isRead {
            wanted = EPOLLIN.rawValue
            if stream.hasPending, !table[number].isUnannounced {
                table[number].isUnannounced = true
                unannounced.append(table.token(of: number))
            }
        }
        if !table[number].isDirty, table[number].hasOutput { wanted |= EPOLLOUT.rawValue }
        if table[number].waits.contains(.packet) { wanted |= EPOLLRDHUP.rawValue }
        guard wanted != table[number].watched else { return }
        loop.change(stream.rawDescriptor, as: table.token(of: number), for: wanted)
        table[number].watched = wanted
    }
}
