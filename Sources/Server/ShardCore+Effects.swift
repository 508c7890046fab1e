import Broker
import CLinux
import Glibc
import MQTT
import Transport

/// What the broker has decided, done.
extension ShardCore {
    /// Does what the broker has decided.
    @inline(__always)
    mutating func apply() {
        // First the log, which names connections that may be closed below.
        let noted = outbox.events.count
        var unsent = 0
        for event in outbox.events { note(event) }
        for index in 0..<outbox.records.count {
            let record = outbox.records[index]
            let number = record.connection
            switch record.kind {
            case .publish: publish(record)
            case .acknowledge:
                if let type = ControlPacketType(rawValue: record.detail) {
                    table[number].output.append(pool: &pool) { Acknowledgement(type, record.packet).encode(into: &$0) }
                }
                markDirty(number)
            case .acknowledgeConnect:
                let code = ConnectReturnCode(rawValue: record.detail) ?? .serverUnavailable
                let acknowledgement = ConnectAcknowledgement(sessionPresent: record.packet == 1, returnCode: code)
                table[number].output.append(pool: &pool) { acknowledgement.encode(into: &$0) }
                markDirty(number)
            case .acknowledgeSubscribe:
                let acknowledgement = outbox.subscribeAcknowledgements[Int(record.index)]
                table[number].output.append(pool: &pool) { acknowledgement.encode(into: &$0) }
                markDirty(number)
            case .respondToPing:
                table[number].output.append(pool: &pool) { ControlPacket.pingResponse.encode(into: &$0) }
                markDirty(number)
            case .close:
                close(number, isGraceful: record.detail != 0)
                unsent += 1
            case .move:
                moved = (number, Int(record.index))
                unsent += 1
            case .verify:
                verify(number, outbox.passwordChecks[Int(record.index)])
                unsent += 1
            }
        }
        state.countSent(packets: outbox.records.count - unsent)
        // Doing them can add to the events: a connection is full.
        for event in outbox.events.dropFirst(noted) { note(event) }
        outbox.clear()
        if state.shards > 1 { postMail(above: Self.mailBytes) }
    }

    @inline(__always)
    mutating func publish(_ record: EffectRecord) {
        let number = record.connection
        let qos = QoS(rawValue: record.detail >> 1 & 0b11) ?? .atMostOnce
        let (isDuplicate, isRetained) = (record.detail & 0b1000 != 0, record.detail & 1 != 0)
        if let message = outbox.messages.longMessage(Int(record.index)) {
            var payloadStart = 0
            table[number].output.append(pool: &pool) { bytes in
                payloadStart = Publish.encodeHead(
                    of: message.bytes.span, qos: qos, packetIdentifier: record.packet, isDuplicate: isDuplicate,
                    isRetained: isRetained, into: &bytes
                )
            }
            table[number].output.append(shared: message.bytes, from: payloadStart)
        } else {
            outbox.messages.withBytes(of: Int(record.index)) { message in
                table[number].output.append(pool: &pool) { bytes in
                    Publish.encode(
                        message, qos: qos, packetIdentifier: record.packet, isDuplicate: isDuplicate,
                        isRetained: isRetained, into: &bytes
                    )
                }
            }
        }
        markDirty(number)
        if table[number].output.count > Self.flushBytes { flushEarly(number) }
        collectedBytes += outbox.messages.byteCount(of: Int(record.index))
        if collectedBytes > Self.turnBytes {
            collectedBytes = 0
            for number in dirty { write(number) }
        }
    }

    @inline(__always)
    mutating func markDirty(_ number: ConnectionNumber) {
        guard !table[number].isDirty else { return }
        table[number].isDirty = true
        dirty.append(number)
    }

    /// Much has come together for one connection: what the kernel takes now need not be kept.
    mutating func flushEarly(_ number: ConnectionNumber) {
        write(number)
        if table[number].outputBytes > fullBytes, !table[number].isFull { fill(number) }
    }

    mutating func fill(_ number: ConnectionNumber) {
        table[number].isFull = true
        state.setFull(number, true, isNamed: table[number].outputBytes > Limits.outputBytes, into: &outbox)
    }

    mutating func flush(_ number: ConnectionNumber) {
        guard table[number].stream != nil else { return }
        table[number].isDirty = false
        guard write(number) else { return }
        if table[number].isFull, table[number].outputBytes <= fullBytes / 2 {
            drained.append(number)
        } else if table[number].isBlocked, fullBytes == 0, !table[number].isFull {
            fill(number)
        }
        if table[number].input.isEmpty { updateWatch(number) } else { resume(number) }
    }

    /// Writes what the kernel takes, unless it has just said that it takes no more. False when the connection turned out
    /// to be gone.
    @discardableResult
    mutating func write(_ number: ConnectionNumber) -> Bool {
        guard let stream = table[number].stream else { return false }
        guard !table[number].isBlocked else { return true }
        // An acknowledgement says that the message is on its way to all sessions [MQTT-4.5.0-1].
        if state.shards > 1 { postMail(above: 0) }
        defer { table[number].isBlocked = table[number].hasOutput }
        switch flushOutput(number, to: stream) {
        case .bytes(let count):
            state.countSent(bytes: count)
            if count > 0, table[number].watched & EPOLLIN.rawValue == 0 { state.noteProgress(number, now: now) }
        case .wouldBlock: break
        case .failed:
            // The end comes to light when it is read, which the event loop now reports; until then nothing is kept.
            table[number].discardOutput()
            shutdown(stream.rawDescriptor, CInt(SHUT_RDWR))
            return false
        }
        return true
    }

    /// Closes a connection; `isGraceful` where its last packet must arrive. Over TLS it always says that it ends
    /// (RFC 8446 6.1): to its peer anything else is a connection that somebody has cut. A WebSocket's Close frame must not be
    /// overtaken by a reset either.
    mutating func close(_ number: ConnectionNumber, isGraceful: Bool) {
        guard let stream = table[number].stream else { return }
        sayGoodbye(number)
        if table[number].hasOutput { write(number) }
        if isGraceful || stream.isSecure || table[number].webSocket != nil { stream.finish() }
        // The slot held the only reference, so the descriptor is closed here, and leaves the epoll with that (epoll(7)). A
        // loop that has handed it over may hold another for a moment: then it would be announced here without end.
        if table[number].hasMoved { loop.unwatch(stream.rawDescriptor) }
        table.remove(number)
        reception.hurry(now: now)
    }
}
