import MQTT
import Seeded
import Testing

@testable import Broker

/// The queue beside a list that does the same in the plainest way.
private struct TwinQueues {
    struct Entry {
        let payload: String
        let qos: QoS
        var identifier: PacketIdentifier = 0
        var isReleased = false
        var isSent = false
        var isResent = true
    }

    let limits: Limits
    var queue = OutgoingMessages()
    var held = HeldMessages()
    var ledger: Ledger?
    var entries: [Entry] = []
    var latestIdentifier: PacketIdentifier = 0
    var payload = 0

    var inFlight: [Entry] { entries.filter { $0.isSent } }

    mutating func append(_ qos: QoS) -> String? {
        payload += 1
        let message = ApplicationMessage(topic: "t", payload: Array("\(payload)".utf8))
        let waiting = entries.count - inFlight.count
        var number: HeldMessages.Number = 0
        let admission = queue.append(
            message, qos: qos, isRetained: false, limits: limits, held: &held, as: &number, ledger: &ledger)
        let isDropped = limits.queuedMessages > 0 && waiting >= limits.queuedMessages
        guard (admission == .isDropped) == isDropped else { return "\(payload) is \(admission)" }
        if !isDropped { entries.append(Entry(payload: "\(payload)", qos: qos)) }
        return nil
    }

    mutating func next() -> String? {
        let next = queue.next(limits, held: &held, ledger: &ledger)
        if let index = entries.firstIndex(where: { $0.isSent && !$0.isResent }) {
            entries[index].isResent = true
            let expected = entries[index]
            guard let next, next.isDuplicate, next.item.packetIdentifier == expected.identifier,
                (next.item.message == nil) == expected.isReleased
            else { return "\(expected) is to be sent again, but \(String(describing: next)) is" }
            return nil
        }
        guard let index = entries.firstIndex(where: { !$0.isSent }), entries[index].qos == .atMostOnce || windowIsOpen
        else { return next == nil ? nil : "nothing is to be sent, but \(String(describing: next)) is" }
        guard let next, !next.isDuplicate, next.item.qos == entries[index].qos,
            next.item.message?.payload == Array(entries[index].payload.utf8)
        else { return "\(entries[index]) is to be sent, but \(String(describing: next)) is" }
        if entries[index].qos == .atMostOnce {
            entries.remove(at: index)
            return next.item.packetIdentifier == 0 ? nil : "QoS 0 with an identifier"
        }
        latestIdentifier = latestIdentifier == .max ? 1 : latestIdentifier + 1
        entries[index].identifier = latestIdentifier
        entries[index].isSent = true
        return next.item.packetIdentifier == latestIdentifier ? nil : "identifier \(next.item.packetIdentifier)"
    }

    private func wasReleased(_ identifier: PacketIdentifier) -> Bool {
        entries.contains { $0.isSent && $0.identifier == identifier && $0.isReleased }
    }

    private var windowIsOpen: Bool {
        inFlight.count < limits.inFlightCeiling
            && inFlight.first?.identifier != (latestIdentifier == .max ? 1 : latestIdentifier + 1)
    }

    mutating func acknowledge(_ identifier: PacketIdentifier, _ type: ControlPacketType) -> String? {
        let index = entries.firstIndex { $0.isSent && $0.identifier == identifier }
        var isExpected = false
        let answer: Bool
        switch type {
        case .publishAcknowledgement:
            answer = queue.acknowledge(identifier, held: &held, ledger: &ledger)
            if let index, entries[index].qos == .atLeastOnce {
                isExpected = true
                entries.remove(at: index)
            }
        case .publishReceived:
            let before = queue.items.count { $0.state == .released }
            #expect(queue.received(identifier, held: &held, ledger: &ledger) == nil, "nothing is on a disk")
            answer = queue.items.count { $0.state == .released } > before || wasReleased(identifier)
            if let index, entries[index].qos == .exactlyOnce {
                isExpected = true
                entries[index].isReleased = true
            }
        default:
            answer = queue.complete(identifier, ledger: &ledger)
            if let index, entries[index].isReleased {
                isExpected = true
                entries.remove(at: index)
            }
        }
        guard answer == isExpected else { return "\(type) \(identifier) is answered with \(answer)" }
        guard queue.waiting == entries.count - inFlight.count, Int(queue.inFlight) == inFlight.count else {
            return "\(queue.waiting) wait and \(queue.inFlight) are in flight"
        }
        return nil
    }

    mutating func rewind() {
        queue.rewind()
        for index in entries.indices where entries[index].isSent { entries[index].isResent = false }
    }
}

@Suite struct `The outgoing messages` {
    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func `behave as a plain list does [MQTT-4.6.0-1] [MQTT-4.6.0-6]`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var limits = Limits()
        limits.inFlightMessages = generator.element(of: [1, 3, 20, 0])
        limits.queuedMessages = generator.element(of: [0, 5, 100])
        var twins = TwinQueues(limits: limits)
        for step in 0..<4000 {
            var problem: String?
            switch generator.below(100) {
            case 0..<35: problem = twins.append(generator.element(of: QoS.allCases))
            case 35..<65: problem = twins.next()
            case 65..<66: twins.rewind()
            default:
                let known = twins.inFlight
                let identifier =
                    known.isEmpty || generator.happens(10)
                    ? PacketIdentifier(1 + generator.below(300)) : generator.element(of: known).identifier
                let types: [ControlPacketType] = [.publishAcknowledgement, .publishReceived, .publishComplete]
                problem = twins.acknowledge(identifier, generator.element(of: types))
            }
            if let problem {
                Issue.record("seed \(seed), step \(step): \(problem)")
                return
            }
        }
    }

    @Test(arguments: 1...2 as ClosedRange<UInt64>)
    func `find every identifier across the wrap, with gaps and QoS 0 between [MQTT-2.3.1-4]`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var limits = Limits()
        limits.inFlightMessages = 0
        limits.queuedMessages = 0
        var queue = OutgoingMessages()
        var held = HeldMessages()
        var ledger: Ledger?
        let message = ApplicationMessage(topic: "t", payload: [])
        var inFlight: [PacketIdentifier] = []
        for _ in 0..<100_000 {
            let qos = generator.happens(10) ? QoS.atMostOnce : .atLeastOnce
            var number: HeldMessages.Number = 0
            guard
                queue.append(
                    message, qos: qos, isRetained: false, limits: limits, held: &held, as: &number, ledger: &ledger)
                    == .waits,
                let (item, _) = queue.next(limits, held: &held, ledger: &ledger)
            else {
                Issue.record("seed \(seed): the window is closed")
                return
            }
            if item.packetIdentifier != 0 { inFlight.append(item.packetIdentifier) }
            if inFlight.count > 500 {
                let index = generator.below(inFlight.count)
                guard queue.acknowledge(inFlight[index], held: &held, ledger: &ledger),
                    !queue.acknowledge(inFlight[index], held: &held, ledger: &ledger)
                else {
                    Issue.record("seed \(seed): \(inFlight[index])")
                    return
                }
                inFlight.remove(at: index)
                if generator.happens(1), let oldest = inFlight.first {  // So that the oldest never stalls the wrap.
                    #expect(queue.acknowledge(oldest, held: &held, ledger: &ledger) == true)
                    inFlight.removeFirst()
                }
            }
        }
        for identifier in inFlight { #expect(queue.acknowledge(identifier, held: &held, ledger: &ledger) == true) }
        #expect(queue.waiting == 0)
        #expect(queue.inFlight == 0)
    }
}
