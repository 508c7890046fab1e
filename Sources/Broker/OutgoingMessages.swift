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
        /// The message's number in `HeldMessages`, and what is known of it: together they need no more space.
        private var heldAndFlags: UInt32
        var packetIdentifier: PacketIdentifier = 0
        var state = State.waiting
        let qos: QoS
        /// Its place in the queue on the disk; 0: it is in memory only.
        let sequence: UInt64
        /// The latest change of its row.
        var change = ChangePlace.none

        private static let retained: UInt32 = 1
        private static let shared: UInt32 = 2
        private static let waits: UInt32 = 4

        var isWaitingAtMostOnce: Bool { state == .waiting && qos == .atMostOnce }
        var held: HeldMessages.Number { heldAndFlags >> 3 }
        var isRetained: Bool { heldAndFlags & Self.retained != 0 }
        /// Its message lies on the disk beside the queue.
        var isShared: Bool { heldAndFlags & Self.shared != 0 }
        /// At QoS 2 nothing is said of it before it is on the disk.
        var waits: Bool { heldAndFlags & Self.waits != 0 }
        var isOnDisk: Bool { sequence != 0 }

        init(
            message: ApplicationMessage?, held: HeldMessages.Number, qos: QoS, isRetained: Bool, sequence: UInt64 = 0,
            isShared: Bool = false, waits: Bool = false
        ) {
            self.message = message
            heldAndFlags =
                held << 3 | (isRetained ? Self.retained : 0) | (isShared ? Self.shared : 0) | (waits ? Self.waits : 0)
            self.qos = qos
            self.sequence = sequence
        }

        mutating func hold(_ number: HeldMessages.Number) { heldAndFlags = number << 3 | heldAndFlags & 7 }

        /// What is to be changed on the disk, for an item that is there.
        func row(_ kind: Changes.QueueRow.Kind, _ session: StoredSession) -> Changes.QueueRow {
            Changes.QueueRow(
                kind: kind, qos: qos, isRetained: isRetained, isReleased: state == .released,
                packetIdentifier: packetIdentifier, session: session, sequence: sequence, isShared: isShared, shared: 0,
                isSpilled: false, message: nil, handover: 0)
        }
    }

    /// What came of a new message.
    enum Admission: Equatable { case waits, isDropped }

    /// Of a message that shall be in a queue on the disk too.
    struct Keeping: Sendable {
        var durability = Durability.memory
        /// 0: the message lies in its row.
        var shared: SharedMessage = 0
        var handover: HandoverNumber = 0
    }

    private(set) var items = Deque<Item>()
    /// How many at the front have been sent once.
    private var sent: Int32 = 0
    /// How many at the front have their Packet Identifier: what has one and is not sent waits for the disk, or for room.
    private var numbered: Int32 = 0
    private(set) var inFlight: Int32 = 0
    private var inFlightBytes = 0
    private(set) var waitingBytes = 0
    /// Where re-sending after a reconnect has come to; at `sent` there is nothing to re-send.
    private var resent: Int32 = 0
    private var latestIdentifier: PacketIdentifier = 0
    /// The most items since the queue was last empty.
    private var most: Int32 = 0
    /// Whose queue on the disk this is; 0: it is in memory only.
    private(set) var session: StoredSession = 0
    /// The place of the next message in the queue.
    private(set) var nextSequence: UInt64 = 1
    /// What lies on the disk behind all that is here.
    var spill = Spill()

    init() {}

    /// The queue of a session that is on the disk too.
    init(session: StoredSession, spill: Spill = Spill(), nextSequence: UInt64 = 1) {
        self.session = session
        self.spill = spill
        self.nextSequence = nextSequence
    }

    var waiting: Int { items.count - Int(sent) }

    /// Puts a message behind all others, if the limits let it. `number` is the one that it has in `held`, or will get.
    mutating func append(
        _ message: ApplicationMessage, qos: QoS, isRetained: Bool, keeping: Keeping = Keeping(), limits: Limits,
        held: inout HeldMessages, as number: inout HeldMessages.Number, ledger: inout Ledger?
    ) -> Admission {
        let bytes = message.payloadCount
        let (all, allBytes) = (waiting + spill.waiting, waitingBytes + spill.waitingBytes)
        if limits.queuedMessages > 0, all >= limits.queuedMessages { return .isDropped }
        if limits.queuedBytes > 0, all > 0, allBytes + bytes > limits.queuedBytes { return .isDropped }
        let isSpilled = session != 0 && (spill.count > 0 || isLong)
        var item = Item(
            message: message, held: 0, qos: qos, isRetained: isRetained,
            sequence: session != 0 && (isSpilled || keeping.durability > .memory) ? nextSequence : 0,
            isShared: keeping.shared != 0, waits: keeping.durability == .acknowledged)
        if item.isOnDisk {
            nextSequence += 1
            item.change =
                ledger?.insert(
                    message, session: session, sequence: item.sequence, qos: qos, isRetained: isRetained,
                    shared: keeping.shared, handover: keeping.handover, isSpilled: isSpilled) ?? .none
        }
        if isSpilled {
            ledger?.spilledMessages += 1
            spill.add(
                item.sequence, bytes: bytes, in: item.change.round, committed: ledger?.committed ?? 0)
            return .waits
        }
        held.hold(&number, bytes: bytes)
        item.hold(number)
        add(item, bytes: bytes)
        return .waits
    }

    private mutating func add(_ item: Item, bytes: Int) {
        items.append(item)
        most = max(most, Int32(items.count))
        waitingBytes += bytes
        if item.isOnDisk { spill.readThrough = item.sequence }
    }

    /// One that was read from the disk. What is in flight there is at the front.
    mutating func restore(_ item: Item, _ row: QueuedMessage) {
        var item = item
        let bytes = item.message?.payloadCount ?? 0
        let isInFlight = row.packetIdentifier != 0 && waiting == 0
        if !isInFlight, item.message == nil { return }
        add(item, bytes: bytes)
        guard isInFlight else { return }
        item.packetIdentifier = row.packetIdentifier
        item.state = row.isReleased ? .released : .published
        items[items.count - 1] = item
        waitingBytes -= bytes
        inFlightBytes += bytes
        inFlight += 1
        sent += 1
        numbered += 1
        latestIdentifier = row.packetIdentifier
    }

    private var isLong: Bool { waiting >= Limits.waitingInMemory || waitingBytes >= Limits.waitingBytesInMemory }

    /// Whether a message that comes now can go out at once; without its `bytes`, whether a short one can.
    func hasRoom(_ limits: Limits, bytes: Int = 0) -> Bool {
        guard resent == sent, waiting == 0, spill.count == 0 else { return false }
        return windowIsOpen(limits, bytes: bytes)
    }

    /// How many messages can surely go out at once; at least one, once `hasRoom`.
    func room(_ limits: Limits) -> Int {
        limits.inFlightBytes > 0 ? 1 : max(limits.inFlightCeiling - Int(inFlight), 1)
    }

    private func windowIsOpen(_ limits: Limits, bytes: Int) -> Bool {
        guard Int(inFlight) < limits.inFlightCeiling else { return false }
        if limits.inFlightBytes > 0, inFlight > 0, inFlightBytes + bytes > limits.inFlightBytes { return false }
        // Identifiers go round; the oldest unfinished one must not be met again [MQTT-2.3.1-4].
        return numbered == 0 || items[0].packetIdentifier != Self.identifier(after: latestIdentifier)
    }

    private static func identifier(after identifier: PacketIdentifier) -> PacketIdentifier {
        identifier == .max ? 1 : identifier + 1
    }

    /// What has to go out next, if the window lets it: first what is to be re-sent, then what waits.
    mutating func next(
        _ limits: Limits, held: inout HeldMessages, ledger: inout Ledger?
    ) -> (item: Item, isDuplicate: Bool)? {
        while resent < sent {
            let item = items[Int(resent)]
            resent += 1
            if item.state != .done { return (item, true) }
        }
        guard waiting > 0 else { return nil }
        if numbered == sent { number(limits, &ledger) }
        guard numbered > sent, nextAwaits(ledger) == nil else { return nil }
        let index = Int(sent)
        sent += 1
        resent = sent
        guard items[index].qos == .atMostOnce else {
            items[index].state = .published
            return (items[index], false)
        }
        var item = items[index]
        if item.isOnDisk { ledger?.delete(&item, session) }
        waitingBytes -= item.message?.payloadCount ?? 0
        items[index].message = nil
        items[index].state = .done
        held.release(item.held)
        trim()
        item.packetIdentifier = 0
        return (item, false)
    }

    /// The commit after which the next message may go out: at QoS 2 its identifier has to be on the disk, or another message
    /// would get it after a crash, and be taken for this one. Nil: none.
    func nextAwaits(_ ledger: borrowing Ledger?) -> CommitTicket? {
        guard numbered > sent, items[Int(sent)].waits, items[Int(sent)].qos == .exactlyOnce else { return nil }
        return ledger?.pending(items[Int(sent)].change)
    }

    /// Gives Packet Identifiers to those that wait and may have one: to all at once where they have to get to the disk, so
    /// that one commit serves all.
    private mutating func number(_ limits: Limits, _ ledger: inout Ledger?) {
        while Int(numbered) < items.count {
            let index = Int(numbered)
            if items[index].qos == .atMostOnce {
                items[index].packetIdentifier = latestIdentifier
            } else {
                let bytes = items[index].message?.payloadCount ?? 0
                guard windowIsOpen(limits, bytes: bytes) else { return }
                latestIdentifier = Self.identifier(after: latestIdentifier)
                items[index].packetIdentifier = latestIdentifier
                if items[index].isOnDisk { ledger?.setIdentifier(latestIdentifier, of: &items[index], session) }
                waitingBytes -= bytes
                inFlightBytes += bytes
                inFlight += 1
            }
            numbered += 1
            if session == 0 { return }
        }
    }

    /// A PUBACK [MQTT-4.3.2-1]; false when nothing awaits it.
    mutating func acknowledge(
        _ identifier: PacketIdentifier, held: inout HeldMessages, ledger: inout Ledger?
    ) -> Bool {
        guard let index = index(of: identifier), items[index].qos == .atLeastOnce else { return false }
        held.release(items[index].held)
        finish(index, &ledger)
        return true
    }

    /// What `next` has given must not go out after all: its identifier is free again.
    mutating func withdraw(_ item: Item, held: inout HeldMessages, ledger: inout Ledger?) {
        guard item.qos != .atMostOnce, let index = index(of: item.packetIdentifier) else { return }
        held.release(item.held)
        finish(index, &ledger)
    }

    /// A PUBREC: from now on only PUBREL is sent [MQTT-4.3.3-1]. Returns the commit that it has to wait for, nil for none.
    mutating func received(
        _ identifier: PacketIdentifier, held: inout HeldMessages, ledger: inout Ledger?
    ) -> CommitTicket? {
        guard let index = index(of: identifier), items[index].qos == .exactlyOnce else { return nil }
        if items[index].state == .published {
            inFlightBytes -= items[index].message?.payloadCount ?? 0
            items[index].message = nil
            items[index].state = .released
            held.release(items[index].held)
            if items[index].isOnDisk { ledger?.release(&items[index], session) }
        }
        return release(items[index], &ledger)
    }

    /// The commit that the PUBREL of a message has to wait for: else a crash would bring the message again.
    func release(_ item: Item, _ ledger: inout Ledger?) -> CommitTicket? {
        guard item.waits, let ticket = ledger?.pending(item.change) else { return nil }
        ledger?.urge(ticket)
        return ticket
    }

    /// A PUBCOMP; false when nothing awaits it.
    mutating func complete(_ identifier: PacketIdentifier, ledger: inout Ledger?) -> Bool {
        guard let index = index(of: identifier), items[index].state == .released else { return false }
        finish(index, &ledger)
        return true
    }

    /// After a reconnect everything in flight goes out again, in order [MQTT-4.4.0-1].
    mutating func rewind() { resent = 0 }

    /// Bytes of all messages that it holds.
    var byteCount: Int { waitingBytes + inFlightBytes }

    /// Drops the QoS 0 messages that wait. Returns how many there were.
    mutating func removeWaitingAtMostOnce(held: inout HeldMessages, ledger: inout Ledger?) -> Int {
        let before = items.count
        guard items.contains(where: { $0.isWaitingAtMostOnce }) else { return 0 }
        for index in items.indices where items[index].isWaitingAtMostOnce {
            waitingBytes -= items[index].message?.payloadCount ?? 0
            held.release(items[index].held)
            if items[index].isOnDisk { ledger?.delete(&items[index], session) }
        }
        numbered -= Int32(items.prefix(Int(numbered)).count { $0.isWaitingAtMostOnce })
        items.removeAll { $0.isWaitingAtMostOnce }
        if items.count < before / 2 { items = Deque(items) }
        return before - items.count
    }

    /// Its session ends: it holds nothing any more.
    func releaseAll(held: inout HeldMessages) {
        for item in items where item.message != nil { held.release(item.held) }
    }

    private mutating func finish(_ index: Int, _ ledger: inout Ledger?) {
        if items[index].isOnDisk { ledger?.delete(&items[index], session) }
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
            numbered -= 1
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
