import Broker
import Transport

/// A connection that holds memory which ending it would free, and how many bytes.
struct SlowReader: Sendable {
    let shard: Int
    let token: UInt64
    let bytes: Int
}

/// What `memory_limit` makes a shard do.
extension ShardCore {
    /// Less than this isn't worth a connection.
    private static let slowReaderBytes = 16 << 10

    mutating func shed(_ stage: Shedding) {
        updateTime()
        let earlier = state.shedding
        state.shed(stage)
        fullBytes = stage >= .queues ? 0 : Limits.outputBytes
        guard stage >= .queues, earlier < .queues else { return }
        for number in table.slots.indices where table.slots[number].isBlocked && !table.slots[number].isFull {
            fill(ConnectionNumber(number))
        }
        apply()
    }

    /// The slowest readers, the worst first.
    func slowReaders(atMost count: Int) -> [SlowReader] {
        var readers: [SlowReader] = []
        for index in table.slots.indices where table.slots[index].stream != nil {
            let number = ConnectionNumber(index)
            // Output that the network takes goes by itself; a packet that does not come to its end costs as much.
            let output = table[number].isBlocked ? table[number].outputBytes : 0
            let bytes = output + table[number].input.count + state.waitingBytes(for: number)
            guard bytes >= Self.slowReaderBytes else { continue }
            readers.append(SlowReader(shard: state.shard, token: table.token(of: number), bytes: bytes))
        }
        readers.sort { $0.bytes > $1.bytes }
        return Array(readers.prefix(count))
    }

    mutating func endSlowReaders(_ tokens: [UInt64]) {
        updateTime()
        for token in tokens {
            guard let number = table.number(of: token) else { continue }
            // What waits for it would only be tried once more.
            table[number].discardOutput()
            if state.shards > 1 { postMail(above: 0) }  // As for `end`.
            state.endSlowReader(number, now: now, into: &outbox)
            apply()
        }
    }

    /// Output that the kernel has not taken, in packets and bytes.
    var waitingOutput: (packets: Int, bytes: Int) {
        var (packets, bytes) = (0, 0)
        for slot in table.slots where slot.hasOutput {
            packets += slot.output.packetCount
            bytes += slot.outputBytes
        }
        return (packets, bytes)
    }
}
