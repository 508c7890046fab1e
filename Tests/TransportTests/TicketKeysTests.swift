import Synchronization
import Testing

@testable import Transport

@Suite struct `Keys of session tickets` {
    private final class Clock: Sendable {
        private let now = Atomic<Int64>(0)
        var seconds: Int64 { now.load(ordering: .relaxed) }
        func pass(_ seconds: Int64) { now.add(seconds, ordering: .relaxed) }
    }

    @Test func `seal for one period, open for two more, and are gone then`() {
        let clock = Clock()
        let keys = TicketKeys { clock.seconds }
        let first = keys.sealing()
        #expect(first.name.count == 16 && first.cipherKey.count == 32 && first.authenticationKey.count == 32)
        clock.pass(TicketKeys.period - 1)
        #expect(keys.sealing().name == first.name)
        #expect(keys.opening(first.name)?.isOld == false)
        clock.pass(1)
        #expect(keys.opening(first.name)?.isOld == true, "and the client gets a new ticket")
        let second = keys.sealing()
        #expect(second.name != first.name && second.cipherKey != first.cipherKey)
        #expect(keys.opening(first.name)?.isOld == true)
        #expect(keys.opening(second.name)?.isOld == false)
        clock.pass(2 * TicketKeys.period - 1)
        #expect(keys.opening(first.name) != nil)
        clock.pass(1)
        #expect(keys.opening(first.name) == nil)
        #expect(keys.opening(second.name)?.isOld == true)
        #expect(keys.opening([UInt8](repeating: 0, count: 16)) == nil)
    }
}
