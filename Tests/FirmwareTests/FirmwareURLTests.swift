import Firmware
import Foundation
import Seeded
import Testing

@Suite struct `A signed address of firmware` {
    private static let now: Int64 = 1_800_000_000
    private static let key = FirmwareURL.Key(id: "a1B2c3D4", secret: Array(repeating: 7, count: 32))
    private static let other = FirmwareURL.Key(id: "zzzzzzzz", secret: Array(repeating: 8, count: 32))
    private static let url: FirmwareURL = {
        guard let model = ModelName("esp32s3"), let version = FirmwareVersion("1.2.0+rc-1") else {
            preconditionFailure("these are names")
        }
        let release = ReleaseName(model: model, version: version)
        return FirmwareURL(release: release, device: "0C5D32DD2568", expires: now + 3600)
    }()

    private static func read(
        _ text: String, keys: [FirmwareURL.Key] = [key], now: Int64 = now
    ) throws(FirmwareURL.Refusal) -> FirmwareURL {
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        return try FirmwareURL(path: parts[0], query: parts.count > 1 ? parts[1] : "", keys: keys, now: now)
    }

    @Test func `says whose it is, and what it is for`() throws {
        #expect(try Self.read(Self.url.signed(with: Self.key)) == Self.url)
        #expect(try Self.read(Self.url.signed(with: Self.key), keys: [Self.other, Self.key]) == Self.url)
    }

    @Test func `counts until its time is over`() throws {
        let text = Self.url.signed(with: Self.key)
        #expect(try Self.read(text, now: Self.now + 3599) == Self.url)
        #expect(throws: FirmwareURL.Refusal.expired) { try Self.read(text, now: Self.now + 3600) }
        #expect(throws: FirmwareURL.Refusal.wrong, "it is not ours, so its time is nobody's business") {
            try Self.read(text.dropLast(1) + (text.hasSuffix("A") ? "E" : "A"), now: Self.now + 3600)
        }
    }

    @Test func `does not count any more without its key`() {
        let text = Self.url.signed(with: Self.key)
        let rotated = FirmwareURL.Key(id: Self.key.id, secret: Self.other.secret)
        for keys in [[], [Self.other], [rotated]] {
            #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read(text, keys: keys) }
        }
    }

    @Test func `fits where clients of ESP-IDF have room`() throws {
        let longest = String(repeating: "x", count: 32)
        let release = ReleaseName(
            model: try #require(ModelName(longest)), version: try #require(FirmwareVersion(longest)))
        let url = FirmwareURL(
            release: release, device: "0C5D32DD2568", expires: 9_999_999_999)
        #expect(
            "https://".utf8.count + url.signed(with: Self.key).utf8.count + "martlet.example.org:8443".utf8.count < 256)
    }

    /// Each is what somebody may try who has an address of their own.
    @Test(arguments: [
        ("esp32s3", "esp32s4"), ("1.2.0+rc-1", "1.3.0"), ("1.2.0+rc-1", "1.2.0%2Brc-1"), ("/firmware/", "//firmware/"),
        ("/firmware/", "/firmware/./"), ("/firmware/esp32s3", "/firmware/x/../esp32s3"),
        ("firmware.bin", "firmware.bin/"),
        ("firmware.bin", "metadata.json"), ("firmware.bin", "Firmware.bin"), ("0C5D32DD2568", "0C5D32DD2569"),
        ("0C5D32DD2568", "0c5d32dd2568"), ("d=", "D="), ("d=", "%64="), ("&e=", "&e=0"), ("&e=1", "&e=+1"),
        ("&e=1", "&e=2"),
        ("&k=", ";k="), ("&k=a1B2c3D4", "&k=zzzzzzzz"), ("&k=a1B2c3D4", ""), ("&s=", "&&s="), ("&s=", "&x=1&s="),
        ("&e=", "&d=0C5D32DD2568&e="), ("?d", "?s=&d"), ("&s=", "&s=&s="), ("&s=", "&s=AAAA"),
    ])
    func `is refused with anything else in it`(_ was: String, _ becomes: String) throws {
        let text = Self.url.signed(with: Self.key)
        let place = try #require(text.range(of: was))
        let altered = text.replacingCharacters(in: place, with: becomes)
        #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read(altered) }
        #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read(altered, now: Self.now + 9_999) }
    }

    @Test func `is refused with its parameters in another order, or without one`() throws {
        let text = Self.url.signed(with: Self.key)
        let query = try #require(text.split(separator: "?").last).split(separator: "&")
        let path = try #require(text.split(separator: "?").first)
        for index in query.indices {
            var fewer = query
            let taken = fewer.remove(at: index)
            #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read("\(path)?\(fewer.joined(separator: "&"))") }
            fewer.insert(taken, at: index == 0 ? 1 : 0)
            #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read("\(path)?\(fewer.joined(separator: "&"))") }
        }
        #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read(String(path)) }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `is refused with any byte of it changed`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let bytes = Array(Self.url.signed(with: Self.key).utf8)
        for _ in 0..<2_000 {
            var altered = bytes
            switch generator.below(3) {
            case 0: altered[generator.below(altered.count)] ^= UInt8(1 << generator.below(7))
            case 1: altered.remove(at: generator.below(altered.count))
            default: altered.insert(UInt8(generator.below(128)), at: generator.below(altered.count + 1))
            }
            guard altered != bytes else { continue }
            #expect(throws: FirmwareURL.Refusal.wrong) { try Self.read(String(decoding: altered, as: UTF8.self)) }
        }
    }
}
