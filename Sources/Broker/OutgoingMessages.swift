import DequeModule
import MQTT

/// The QoS 1 and 2 messages of one session, in the order in which they go out: first those in flight, then those that
/// wait. The order never changes [MQTT-4.6.0-6], so a message is found by its identifier's distance from the oldest.
struct OutgoingMessages: Sendable {
    struct Item: Sendable {
        enum State: UInt8 {
            case waiting
            /// PUBLISH is out; PUBACK or PUBREC is awaited.
            case published
            /// PUBREC has come and PUBREL is out; PUBCOMP is awaited. The message itself is gone.
            case released
            /// Over; stays until all before it are over too.
            case done
        }

        var message: ApplicationMessage?
        /// The message's number in `HeldMessages`, and whether it was retained: together they need no more space.
        private let heldAndRetained: UInt32
        var packetIdentifier: PacketIdentifier = 0
        var state = State.waiting
        let qos: QoS

        var isWaitingAtMostOnce: Bool { state == .waiting && qos == .atMostOnce }
        var held: HeldMessages.Number { heldAndRetained >> 1 }
        var isRetained: Bool { heldAndRetained & 1 != 0 }

        init(message: ApplicationMessage, held: HeldMessages.Number, qos: QoS, isRetained: Bool) {
            self.message = message
            heldAndRetained = held << 1 | (isRetained ? 1 : 0)
            self.qos = qos
        }
    }

    /// What came of a new message.
    enum Admission: Equatable { case waits, isDropped }

    private(set) var items = Deque<Item>()
    /// How many at the front have been sent once.
    private var sent: Int32 = 0
    private(set) var inFlight: Int32 = 0
    private var inFlightBytes = 0
    private var waitingBytes = 0
    /// Where re-sending after a reconnect has come to; at `sent` there is nothing to re-send.
    private var resent: Int32 = 0
    private var latestIdentifier: PacketIdentifier = 0
    /// The most items since the queue was last empty.
    private var most: Int32 = 0

    var waiting: Int { items.count - Int(sent) }

    /// Puts a message behind all others, if the limits let it. `number` is the one that it has in `held`, or will get.
    mutating func append(
        _ message: ApplicationMessage, qos: QoS, isRetained: Bool, limits: Limits, held: inout HeldMessages,
        as number: inout HeldMessages.Number
    ) -> Admission {
        let bytes = message.payloadCount
        if limits.queuedMessages > 0, waiting >= limits.queuedMessages { return .isDropped }
        if limits.queuedBytes > 0, waiting > 0, waitingBytes + bytes > limits.queuedBytes { return .isDropped }
        held.hold(&number, bytes: bytes)
        items.append(Item(message: message, held: number, qos: qos, isRetained: isRetained))
        most = max(most, Int32(items.count))
        waitingBytes += bytes
        return .waits
    }

    /// Whether a message that comes now can go out at once.
    func hasRoom(_ limits: Limits) -> Bool {
        guard resent == sent, waiting == 0 else { return false }
        return windowIsOpen(limits, bytes: 0)
    }

    /// How many messages can surely go out at once; at least one, once `hasRoom`.
    func room(_ limits: Limits) -> Int {
        limits.inFlightBytes > 0 ? 1 : max(limits.inFlightCeiling - Int(inFlight), 1)
    }

    private func windowIsOpen(_ limits: Limits, bytes: Int) -> Bool {
        guard Int(inFlight) < limits.inFlightCeiling else { return false }
        if limits.inFlightBytes > 0, inFlight > 0, inFlightBytes + bytes > limits.inFlightBytes { return false }
        // Identifiers go round; the oldest unfinished one must not be met again [MQTT-2.3.1-4].
        return sent == 0 || items[0].packetIdentifier != Self.identifier(after: latestIdentifier)
    }

    private static func identifier(after identifier: PacketIdentifier) -> PacketIdentifier {
        identifier == .max ? 1 : identifier + 1
    }

    /// What has to go out next, if the window lets it: first what is to be re-sent, then what waits.
    mutating func next(_ limits: Limits, held: inout HeldMessages) -> (item: Item, isDuplicate: Bool)? {
        while resent < sent {
            let item = items[Int(resent)]
            resent += 1
            if item.state != .done { return (item, true) }
        }
        guard waiting > 0 else { return nil }
        let index = Int(sent)
        let bytes = items[index].message?.payloadCount ?? 0
        if items[index].qos == .atMostOnce {
            var item = items[index]
            waitingBytes -= bytes
            items[index].message = nil
            items[index].state = .done
            held.release(item.held)
            items[index].packetIdentifier = latestIdentifier
            sent += 1
            resent = sent
            trim()
            item.packetIdentifier = 0
            return (item, false)
        }
        guard windowIsOpen(limits, bytes: bytes) else { return nil }
        latestIdentifier = Self.identifier(after: latestIdentifier)
        items[index].packetIdentifier = latestIdentifier
        items[index].state = .published
        waitingBytes -= bytes
        inFlightBytes += bytes
        inFlight += 1
        sent += 1
        resent = sent
        return (items[index], false)
    }

    /// A PUBACK [MQTT-4.3.2-1]; false when nothing awaits it.
    mutating func acknowledge(_ identifier: PacketIdentifier, held: inout HeldMessages) -> Bool {
        guard let index = index(of: identifier), items[index].qos == .atLeastOnce else { return false }
        held.release(items[index].held)
        finish(index)
        return true
    }

    /// What `next` has given must not go out after all: its identifier is free again.
    mutating func withdraw(_ item: Item, held: inout HeldMessages) {
        guard item.qos != .atMostOnce, let index = index(of: item.packetIdentifier) else { return }
        held.release(item.held)
        finish(index)
    }

    /// A PUBREC: from now on only PUBREL is sent [MQTT-4.3.3-1]; false when nothing awaits it.
    mutating func received(_ identifier: PacketIdentifier, held: inout HeldMessages) -> Bool {
        guard let index = index(of: identifier), items[index].qos == .exactlyOnce else { return false }
        if items[index].state == .published {
            inFlightBytes -= items[index].message?.payloadCount ?? 0
            items[index].message = nil
            items[index].state = .released
            held.release(items[index].held)
        }
        return true
    }

    /// A PUBCOMP; false when nothing awaits it.
    mutating func complete(_ identifier: PacketIdentifier) -> Bool {
        guard let index = index(of: identifier), items[index].state == .released else { return false }
        finish(index)
        return true
    }

    /// After a reconnect everything in flight goes out again, in order [MQTT-4.4.0-1].
    mutating func rewind() { resent = 0 }

    /// Bytes of all messages that it holds.
    var byteCount: Int { waitingBytes + inFlightBytes }

    /// Drops the QoS 0 messages that wait. Returns how many there were.
    mutating func removeWaitingAtMostOnce(held: inout HeldMessages) -> Int {
        let before = items.count
        guard items.contains(where: { $0.isWaitingAtMostOnce }) else { return 0 }
        for item in items where item.isWaitingAtMostOnce {
            waitingBytes -= item.message?.payloadCount ?? 0
            held.release(item.held)
        }
        items.removeAll { $0.isWaitingAtMostOnce }
        if items.count < before / 2 { items = Deque(items) }
        return before - items.count
    }

    /// Its session ends: it holds nothing any more.
    func releaseAll(held: inout HeldMessages) {
        for item in items where item.message != nil { held.release(item.held) }
    }

    private mutating func finish(_ index: Int) {
        inFlightBytes -= items[index].message?.payloadCount ?? 0
        items[index].message = nil
        items[index].state = .done
        inFlight -= 1
        trim()
    }

    private mutating func trim() {
        while sent > 0, items[0].state == .done {
            items.removeFirst()
            sent -= 1
            if resent > 0 { resent -= 1 }
        }
        if items.isEmpty, most > 64 {  // What a peak took goes back.
            items = Deque()
            most = 0
        }
    }

    /// Binary search: identifiers ascend from the oldest on, once round at most.
    private func index(of identifier: PacketIdentifier) -> Int? {
        guard sent > 0 else { return nil }
        let base = items[0].packetIdentifier
        if base == identifier { return 0 }
        func distance(_ identifier: PacketIdentifier) -> Int {
            identifier >= base ? Int(identifier) - Int(base) : Int(identifier) + 65_535 - Int(base)
        }
        let wanted = distance(identifier)
        var (low, high) = (0, Int(sent))
        while low < high {
            let middle = (low + high) / 2
            if distance(items[middle].packetIdentifier) < wanted { low = middle + 1 } else { high = middle }
        }
        while low < Int(sent), items[low].packetIdentifier == identifier {
            if items[low].state != .done { return low }
            low += 1
        }
        return nil
    }
}
