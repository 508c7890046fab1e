import HTTP
import HTTPTypes
import Seeded
import Testing

/// Mutated streams of requests and of frames. Goal: whatever comes, and however it is cut, reading ends with events, a
/// refusal or the wish for more, never with a trap, and the cuts change nothing. Method: each batch is a seed, which decides
/// everything and stands in the message of a failure; it runs in a process of its own, so that a trap fails the test that
/// names its seed.
@Suite struct `Fuzzing what HTTP reads` {
    static let mutations = 4_000

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `never traps over requests, and cuts change nothing`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var (generator, taken) = (SeededGenerator(seed: seed), 0)
            for index in 0..<`Fuzzing what HTTP reads`.mutations {
                let bytes = Mutation.next(&generator, of: Mutation.requests)
                let whole = Transcript(bytes)
                let cuts = (0..<generator.below(8)).map { _ in generator.below(bytes.count + 1) }.sorted()
                let other = Transcript(bytes, cuts: cuts)
                // Where it is cut decides how early a refusal comes, and so how much was said before; not what is said.
                guard other == whole else {
                    Issue.record("seed \(seed), mutation \(index): cut at \(cuts) it differs: \(bytes)")
                    return
                }
                if whole.refusal == nil, !whole.entries.isEmpty { taken += 1 }
            }
            #expect(taken > `Fuzzing what HTTP reads`.mutations / 20, "seed \(seed): only \(taken) are requests")
        }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `never traps over frames, and cuts change nothing`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var (generator, taken) = (SeededGenerator(seed: seed), 0)
            for index in 0..<`Fuzzing what HTTP reads`.mutations {
                let bytes = Mutation.next(&generator, of: Mutation.frames)
                let whole = Reading(bytes)
                let cuts = (0..<generator.below(8)).map { _ in generator.below(bytes.count + 1) }.sorted()
                guard Reading(bytes, cuts: cuts) == whole else {
                    Issue.record("seed \(seed), mutation \(index): cut at \(cuts) it differs: \(bytes)")
                    return
                }
                if whole.failure == nil { taken += 1 }
            }
            #expect(taken > `Fuzzing what HTTP reads`.mutations / 20, "seed \(seed): only \(taken) are frames")
        }
    }

    @Test(arguments: 1...2 as ClosedRange<UInt64>)
    func `never traps over what fields say`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            var generator = SeededGenerator(seed: seed)
            for _ in 0..<`Fuzzing what HTTP reads`.mutations {
                let text = String(decoding: Mutation.next(&generator, of: Mutation.values), as: UTF8.self)
                if case .part(let part) = ByteRange([.range: text], of: 100, eTag: nil) {
                    #expect(!part.isEmpty && part.lowerBound >= 0 && part.upperBound <= 100, "\(text)")
                }
                _ = (acceptsGzip([.acceptEncoding: text]), isUnchanged([.ifNoneMatch: text], eTag: "\"a\""))
                _ = (HostAndPort(text)?.isLoopback, Origin(text), percentDecoded(text), queryParameters(text))
                let proxies = TrustedProxies([text]) { $0.utf8.count == 4 ? Array($0.utf8) : nil }
                _ = (proxies.contains([1, 2, 3, 4]), proxies.contains([UInt8](repeating: 0, count: 16)))
                _ = forwardedAddress([.xForwardedFor: text], trusting: proxies) { $0.isEmpty ? nil : Array($0.utf8) }
            }
        }
    }
}

private enum Mutation {
    static let requests: [[UInt8]] =
        `A connection's requests`.streams.map { Array($0.utf8) }
        + [
            "GET /mqtt HTTP/1.1\r\nHost: [::1]:80\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
            "POST http://a/b?c HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
        ].map { Array($0.utf8) }
    static let frames: [[UInt8]] = [
        frame(0x82, [1, 2, 3]), frame(0x02, [1, 2]) + frame(0x89, [9]) + frame(0x80, [3]), frame(0x88, [3, 0xE8]),
        frame(0x8A, []), frame(0x82, [UInt8](repeating: 7, count: 130)),
        frame(0x02, []) + frame(0x00, [1]) + frame(0x80, []),
    ]
    static let values = [
        "bytes=0-", "bytes=10-20", "bytes=-5", "gzip;q=0.5, *;q=0", "\"a\", W/\"b\", *", "example.org:80", "[::1]:443",
        "https://a.b:1", "a%20b+c=d&e", "1234/24", "1.2.3.4, [::1]:1, unknown",
    ].map { Array($0.utf8) }
    private static let spliced = [
        "\r\n", "\r\n\r\n", "0\r\n\r\n", "chunked", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n",
    ]
    .map { Array($0.utf8) }
    private static let interesting: [UInt8] =
        [0, 9, 10, 13, 32, 0x7E, 0x7F, 0x80, 0x82, 0x88, 0x89, 0xFE, 0xFF] + Array(":;,-=%0129afg/.\"[]".utf8)

    static func next(_ generator: inout SeededGenerator, of corpus: [[UInt8]]) -> [UInt8] {
        var bytes = generator.element(of: corpus)
        if generator.happens(50) { bytes += generator.element(of: corpus) }
        for _ in 0..<generator.below(4) {
            let index = generator.below(bytes.count + 1)
            switch generator.below(6) {
            case 0 where index < bytes.count: bytes[index] ^= 1 << generator.below(8)
            case 1 where index < bytes.count: bytes[index] = generator.element(of: interesting)
            case 2: bytes.insert(generator.element(of: interesting), at: index)
            case 3: bytes.insert(contentsOf: generator.element(of: spliced), at: index)
            case 4: bytes.removeSubrange(index..<min(bytes.count, index + 1 + generator.below(4)))
            default: bytes.replaceSubrange(index..., with: generator.element(of: corpus))
            }
        }
        return bytes
    }
}
