import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `The number table` {
    /// With hashes that collide as badly as the argument says.
    @Test(arguments: [1, 2, 7, 64, 1 << 20] as [UInt32])
    func `finds what is in it, and nothing else`(_ hashes: UInt32) {
        var generator = SeededGenerator(seed: UInt64(hashes))
        var table = NumberTable()
        var present = Set<UInt32>()
        func hash(_ number: UInt32) -> UInt32 { mixed(UInt64(number)) % hashes &* 0x9E37_79B1 }
        for step in 0..<6000 {
            let number = UInt32(generator.below(400))
            if present.contains(number) {
                table.remove(number, hash: hash(number))
                present.remove(number)
            } else if step < 3000 || generator.happens(30) {
                table.insert(number, hash: hash(number))
                present.insert(number)
            }
            #expect(table.count == present.count)
            guard step % 50 == 0 else { continue }
            for number in 0..<400 as Range<UInt32> {
                let found = table.first(hash: hash(number)) { $0 == number }
                guard (found == number) == present.contains(number) else {
                    Issue.record("\(number) is \(present.contains(number) ? "lost" : "a ghost") at step \(step)")
                    return
                }
            }
        }
    }

    @Test func `keeps numbers up to the greatest but one`() {
        var table = NumberTable()
        for number in [0, .max - 1] as [UInt32] { table.insert(number, hash: 5) }
        #expect(table.first(hash: 5) { $0 == .max - 1 } == UInt32.max - 1)
        #expect(table.first(hash: 5) { $0 == 0 } == 0)
    }
}

@Suite struct `The slab` {
    @Test func `uses numbers again, never 0, and gives back what a peak took`() {
        var slab = Slab(placeholder: "none")
        let numbers = (0..<100).map { slab.add("\($0)") }
        #expect(!numbers.contains(0) && Set(numbers).count == 100 && slab.count == 100)
        slab.remove(numbers[7])
        #expect(slab[numbers[7]] == "none")
        #expect(slab.add("again") == numbers[7])
        for number in numbers { slab.remove(number) }
        #expect(slab.count == 0)
        #expect(slab.elements.count == 1)
    }
}

@Suite struct `The timer wheel` {
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `brings up each deadline in time, moved or not, and none that was dropped`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var now = Instant(milliseconds: Int64(generator.below(1_000_000)))
        var wheel = TimerWheel(now: now)
        var deadlines = [Instant?](repeating: nil, count: 100)
        for _ in 0..<3000 {
            let number = generator.below(100)
            if generator.happens(80) {
                let deadline = now + Int64(generator.below(generator.happens(10) ? 300_000 : 20_000))
                wheel.schedule(UInt32(number), at: deadline)
                deadlines[number] = deadline
            } else {
                wheel.cancel(UInt32(number))
                deadlines[number] = nil
            }
            #expect(wheel.count == deadlines.count { $0 != nil })
            if let next = wheel.nextExpiry() {
                #expect(next > now || next - now > -TimerWheel.granularity, "seed \(seed)")
            } else {
                #expect(wheel.count == 0)
            }
            now = now + Int64(generator.below(generator.happens(2) ? 200_000 : 500))
            var due: [UInt32] = []
            wheel.expire(now, into: &due)
            #expect(Set(due).count == due.count)
            for number in due {
                guard let deadline = deadlines[Int(number)] else {
                    Issue.record("seed \(seed): \(number) was dropped")
                    return
                }
                if deadline > now {  // Out of reach when it was set; its owner sets it again.
                    wheel.schedule(number, at: deadline)
                } else {
                    deadlines[Int(number)] = nil
                }
            }
            for (number, deadline) in deadlines.enumerated() {
                guard let deadline else { continue }
                #expect(deadline + TimerWheel.granularity > now, "seed \(seed): \(number) is late")
            }
        }
    }

    @Test func `brings up what is in reach not before its time, and soon after`() {
        for milliseconds in [0, 1, 63, 64, 65, 1000, 60_000] as [Int64] {
            var wheel = TimerWheel(now: Instant(milliseconds: 7))
            wheel.schedule(3, at: Instant(milliseconds: milliseconds))
            let next = wheel.nextExpiry() ?? Instant(milliseconds: 0)
            #expect(next >= Instant(milliseconds: milliseconds))
            #expect(next <= Instant(milliseconds: max(milliseconds, 7) + TimerWheel.granularity))
            var due: [UInt32] = []
            wheel.expire(next + -1, into: &due)
            #expect(due == [])
            wheel.expire(next, into: &due)
            #expect(due == [3])
            #expect(wheel.nextExpiry() == nil)
        }
    }

    @Test func `can be asked to turn too early, but not for nothing for ever`() {
        var wheel = TimerWheel(now: Instant(milliseconds: 0))
        wheel.schedule(1, at: Instant(milliseconds: 100))
        wheel.schedule(2, at: Instant(milliseconds: 5000))
        wheel.cancel(1)
        wheel.cancel(1)
        var (due, turns): ([UInt32], Int) = ([], 0)
        while let next = wheel.nextExpiry() {
            wheel.expire(next, into: &due)
            turns += 1
        }
        #expect(due == [2])
        #expect(turns <= 2)
    }

    @Test func `wakes early once for a deadline that is set after a long silence`() {
        var wheel = TimerWheel(now: Instant(milliseconds: 0))
        let now = Instant(milliseconds: 100_000_000)
        var due: [UInt32] = []
        wheel.schedule(1, at: now + 10_000)
        wheel.expire(now, into: &due)
        if due == [1] { wheel.schedule(1, at: now + 10_000) }
        due = []
        wheel.expire(now + 9000, into: &due)
        #expect(due == [])
        wheel.expire(now + 10_100, into: &due)
        #expect(due == [1])
    }
}

@Suite struct `The packet identifier set` {
    @Test(arguments: [20, 33, 5000, 65_535])
    func `is a set, in a list or in a bitmap`(_ range: Int) {
        var generator = SeededGenerator(seed: UInt64(range))
        var (set, model) = (PacketIdentifierSet(), Set<PacketIdentifier>())
        for step in 0..<20_000 {
            let identifier = PacketIdentifier(1 + generator.below(range))
            if generator.happens(step % 4000 < 2000 ? 60 : 30) {
                #expect(set.insert(identifier) == model.insert(identifier).inserted)
            } else {
                set.remove(identifier)
                model.remove(identifier)
            }
            #expect(set.count == model.count)
            #expect(set.contains(identifier) == model.contains(identifier))
        }
        for identifier in 1...65_535 as ClosedRange<PacketIdentifier> {
            guard set.contains(identifier) == model.contains(identifier) else {
                Issue.record("\(identifier)")
                return
            }
        }
    }
}

@Suite struct `The acknowledgement queue` {
    private let none = Handovers(shard: 0, of: 1)

    private func acknowledgement(_ identifier: PacketIdentifier) -> AcknowledgementQueue.Answer {
        .acknowledgement(Acknowledgement(.publishAcknowledgement, identifier))
    }

    private func identifier(_ answer: AcknowledgementQueue.Answer?) -> PacketIdentifier? {
        guard case .acknowledgement(let acknowledgement) = answer else { return nil }
        return acknowledgement.packetIdentifier
    }

    @Test func `lets go at once what needs no commit, while nothing waits`() {
        var queue = AcknowledgementQueue()
        #expect(queue.mayLeave(acknowledgement(1), after: nil) == true)
        #expect(queue.count == 0)
        #expect(queue.mayLeave(acknowledgement(2), after: 5) == false)
        #expect(queue.mayLeave(acknowledgement(3), after: nil) == false, "it must not overtake 2 [MQTT-4.6.0-2]")
        #expect(queue.count == 2)
        #expect(identifier(queue.next(committed: 4, none)) == nil)
        #expect(identifier(queue.next(committed: 5, none)) == 2)
        #expect(identifier(queue.next(committed: 0, none)) == 3)
        #expect(identifier(queue.next(committed: .max, none)) == nil)
        #expect(queue.mayLeave(acknowledgement(4), after: nil) == true)
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `keeps the order, and lets nothing go before its commit [MQTT-4.6.0-2]`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var queue = AcknowledgementQueue()
        var (left, tickets): ([PacketIdentifier], [CommitTicket?]) = ([], [])
        var committed: CommitTicket = 0
        for identifier in 1...2000 as ClosedRange<PacketIdentifier> {
            let ticket = generator.happens(50) ? committed + CommitTicket(generator.below(5)) : nil
            tickets.append(ticket)
            if queue.mayLeave(acknowledgement(identifier), after: ticket) { left.append(identifier) }
            if generator.happens(30) { committed += CommitTicket(generator.below(3)) }
            while generator.happens(70), let next = self.identifier(queue.next(committed: committed, none)) {
                left.append(next)
                #expect(tickets[Int(next) - 1] ?? 0 <= committed, "seed \(seed)")
            }
            #expect(left.count + queue.count == Int(identifier))
        }
        #expect(left == Array(1...PacketIdentifier(left.count)), "seed \(seed)")
    }
}
