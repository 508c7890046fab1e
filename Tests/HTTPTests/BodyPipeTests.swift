import HTTP
import Testing

@Suite struct `A body on its way` {
    private func pipe() -> BodyPipe { BodyPipe(onAsked: {}, onRoom: {}) }

    @Test func `comes as it was sent`() async throws {
        let pipe = pipe()
        for part in [[1, 2, 3], [], [UInt8](repeating: 4, count: 5000), [5], [6]] { pipe.push(part) }
        pipe.finish()
        pipe.push([7])  // Behind the end.
        #expect(try await pipe.collect(upTo: 6000) == [1, 2, 3] + [UInt8](repeating: 4, count: 5000) + [5, 6])
        #expect(try await pipe.next() == nil)
    }

    @Test func `waits for its reader, and its reader for it`() async throws {
        let (asked, askings) = AsyncStream.makeStream(of: Void.self)
        let pipe = BodyPipe(onAsked: { askings.yield() }, onRoom: {})
        async let bytes = pipe.collect(upTo: 10)
        for await _ in asked { break }
        #expect(pipe.isAsked)
        pipe.push([1])
        pipe.push([2])
        pipe.finish()
        #expect(try await bytes == [1, 2])
    }

    @Test func `is full at its bound, also of single bytes, which come together`() async throws {
        let pipe = pipe()
        for _ in 1..<BodyPipe.bound { pipe.push([1]) }
        #expect(!pipe.isFull)
        pipe.push([1])
        #expect(pipe.isFull)
        #expect(try #require(try await pipe.next()).count > 1000)
        #expect(!pipe.isFull)
        pipe.finish()
        var (parts, bytes) = (0, 0)
        while let part = try await pipe.next() { (parts, bytes) = (parts + 1, bytes + part.count) }
        #expect(bytes > BodyPipe.bound / 2 && parts <= 64)
    }

    @Test func `is refused when it is longer than its reader takes`() async throws {
        let pipe = pipe()
        pipe.push([1, 2, 3])
        await #expect(throws: BodyError.tooLong(limit: 2)) { try await pipe.collect(upTo: 2) }
    }

    @Test func `fails for good, for the first reason`() async throws {
        let pipe = pipe()
        pipe.push([1])
        pipe.fail(.connectionLost)
        pipe.fail(.tooLong(limit: 1))
        pipe.finish()
        for _ in 0..<2 { await #expect(throws: BodyError.connectionLost) { try await pipe.next() } }
        #expect(try await BodyPipe.empty.next() == nil)
    }
}
