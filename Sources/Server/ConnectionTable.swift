import Broker
import Glibc
import HTTP
import Transport

/// The connections of one shard as descriptors and bytes, by number. A number is used again; the token that the event
/// loop gets also says which use of it is meant, since a batch of events may name a slot that was closed earlier in it.
struct ConnectionTable {
    struct Slot {
        var stream: Stream?
        /// Bytes that have come and are not a whole packet yet, or wait because the connection is not read.
        var input: [UInt8] = []
        var output = OutputBuffer()
        var incarnation: UInt32 = 0
        /// What the event loop watches it for.
        var watched: UInt32 = 0
        /// The kernel takes no more of its output for now.
        var isBlocked = false
        /// Has output that this turn will flush.
        var isDirty = false
        /// Its output is at the bound, and the broker knows.
        var isFull = false
        /// What it waits for before it is read again.
        var waits: Waits = []
        var listener: ListenerNumber = 0
        /// Is one of the shard's `unannounced`.
        var isUnannounced = false
        /// It came from another event loop, which may not have let go of it yet.
        var hasMoved = false
        /// A proxy has to say first for whom it speaks.
        var awaitedHeader: AwaitedHeader?
        /// What lies between the bytes and MQTT; nil: nothing.
        var webSocket: WebSocketChannel?
        /// The device that has signed in by it.
        var device: String?

        /// Output that the kernel has not taken.
        var outputBytes: Int {
            @inline(__always) get { output.count + (webSocket?.wire.count ?? 0) }
        }
        var hasOutput: Bool {
            @inline(__always) get { !output.isEmpty || !(webSocket?.wire.isEmpty ?? true) }
        }

        mutating func discardOutput() {
            output = OutputBuffer()
            webSocket?.wire = OutputBuffer()
        }
    }

    /// Why a connection is not read, although its output has room.
    struct Waits: OptionSet {
        let rawValue: UInt8
        /// A packet of it could not be passed on: a shard's mailbox is full.
        static let mailbox = Waits(rawValue: 1)
        /// It published too fast.
        static let rest = Waits(rawValue: 2)
        /// The packet that its input begins with waits: a CONNECT to take over a session, a PUBLISH for its rate.
        static let packet = Waits(rawValue: 4)
    }

    private(set) var slots: [Slot] = []
    private var free: [ConnectionNumber] = []

    subscript(number: ConnectionNumber) -> Slot {
        @inline(__always) get { slots[Int(number)] }
        @inline(__always) _modify { yield &slots[Int(number)] }
    }

    mutating func add(_ stream: Stream, listener: ListenerNumber) -> ConnectionNumber {
        let number: ConnectionNumber
        if let used = free.popLast() {
            number = used
        } else {
            number = ConnectionNumber(slots.count)
            slots.append(Slot())
        }
        slots[Int(number)].stream = stream
        slots[Int(number)].listener = listener
        return number
    }

    mutating func remove(_ number: ConnectionNumber) {
        let incarnation = (slots[Int(number)].incarnation &+ 1) & 0x7FFF_FFFF
        slots[Int(number)] = Slot()
        slots[Int(number)].incarnation = incarnation
        free.append(number)
    }

    func token(of number: ConnectionNumber) -> UInt64 {
        UInt64(slots[Int(number)].incarnation) << 32 | UInt64(number)
    }

    /// The connection that a token means, if it is still there.
    @inline(__always)
    func number(of token: UInt64) -> ConnectionNumber? {
        let number = ConnectionNumber(truncatingIfNeeded: token)
        guard Int(number) < slots.count, slots[Int(number)].incarnation == UInt32(token >> 32),
            slots[Int(number)].stream != nil
        else { return nil }
        return number
    }
}

/// A connection on its way to a shard: to the one where its session lives, or from the lobby to any.
struct MovingConnection: Sendable {
    let stream: Stream
    /// What has been read and not handled, from its CONNECT on.
    let unread: [UInt8]
    let listener: ListenerNumber
    /// The shard is where its session lives.
    let isPlaced: Bool
    /// It is a WebSocket: how far its frames have been taken apart, and what is on its way.
    var webSocket: WebSocketReader?
    var wire = OutputBuffer()
    /// Frames that have been read, and not taken apart.
    var frames: [UInt8] = []
    /// From the lobby: where it came in.
    var origin: Listener?
}
