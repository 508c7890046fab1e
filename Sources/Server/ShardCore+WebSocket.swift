import Broker
import HTTP
import Transport

/// What lies between a connection's bytes and MQTT where it is a WebSocket. Of one shard.
final class WebSocketChannel {
    var reader: WebSocketReader
    /// Frames that the kernel has not taken.
    var wire: OutputBuffer
    /// A Close frame has left or will not: nothing may follow.
    private var hasSaidGoodbye = false

    init(_ reader: WebSocketReader, _ wire: OutputBuffer) {
        self.reader = reader
        self.wire = wire
    }

    /// The first time it is `frame` that ends what we say.
    func close(with frame: [UInt8], pool: inout BufferPool) {
        guard !hasSaidGoodbye else { return }
        hasSaidGoodbye = true
        wire.append(pool: &pool) { $0 += frame }
    }

    /// All that there is for the client, in one frame.
    func frame(_ output: inout OutputBuffer, pool: inout BufferPool) {
        guard !hasSaidGoodbye, !output.isEmpty else { return }
        let count = output.count
        wire.append(pool: &pool) { WebSocketWriter.header(of: count, into: &$0) }
        wire.append(&output, pool: &pool)
    }
}

extension ShardCore {
    /// Behind what came before them: pings are answered, a Close ends the connection, and so does what is no frame.
    mutating func answerControls(_ number: ConnectionNumber) {
        guard state.isOpen(number), let channel = table[number].webSocket else { return }
        for control in channel.reader.takeControls() {
            switch control {
            case .ping(let data):
                channel.wire.append(pool: &pool) { $0 += WebSocketWriter.pong(data) }
                markDirty(number)
            case .close(let data):
                channel.frame(&table[number].output, pool: &pool)
                channel.close(with: WebSocketWriter.close(answering: data), pool: &pool)
                return lose(number, "connection closed by client")
            }
        }
        guard let failure = channel.reader.failure else { return }
        channel.frame(&table[number].output, pool: &pool)
        channel.close(with: WebSocketWriter.close(failure.code), pool: &pool)
        end(number, .protocolViolation("\(failure)"))
        apply()
    }

    /// The last that a client reads where the server ends the connection.
    mutating func sayGoodbye(_ number: ConnectionNumber) {
        guard let channel = table[number].webSocket else { return }
        channel.frame(&table[number].output, pool: &pool)
        channel.close(with: WebSocketWriter.close(1000), pool: &pool)
    }

    mutating func flushOutput(_ number: ConnectionNumber, to stream: Stream) -> Stream.WriteResult {
        guard let channel = table[number].webSocket else { return table[number].output.flush(to: stream, pool: &pool) }
        // What waits for the kernel is in frames already; the rest makes one when that has gone.
        if channel.wire.isEmpty { channel.frame(&table[number].output, pool: &pool) }
        return channel.wire.flush(to: stream, pool: &pool)
    }
}
