import Foundation
import HTTP
import HTTPTypes
import Seeded
import Testing

/// What gunzip makes of it.
private func gunzipped(_ bytes: [UInt8]) throws -> [UInt8] {
    let file = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString).gz")
    try Data(bytes).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    let gunzip = Process()
    gunzip.executableURL = URL(filePath: "/bin/gunzip")
    gunzip.arguments = ["-c", file.path()]
    let output = Pipe()
    gunzip.standardOutput = output
    try gunzip.run()
    let plain = try output.fileHandleForReading.readToEnd() ?? Data()
    gunzip.waitUntilExit()
    #expect(gunzip.terminationStatus == 0)
    return Array(plain)
}

@Suite struct `Compression` {
    static let samples: [[UInt8]] = {
        var generator = SeededGenerator(seed: 1)
        let noise = (0..<200_000).map { _ in UInt8(generator.below(256)) }
        return [
            [], [0], Array(repeating: 0x61, count: 1 << 20), noise, Array("{\"a\":1}".utf8), Array(noise[..<16_384]),
        ]
    }()

    @Test(arguments: samples.indices)
    func `is undone by gunzip`(_ index: Int) throws {
        let bytes = Self.samples[index]
        #expect(try gunzipped(Gzip.compressed(bytes)) == bytes)
    }

    @Test func `goes piece by piece, and says what went in when it is asked to`() throws {
        var gzip = Gzip()
        var (output, plain): ([UInt8], [UInt8]) = ([], [])
        for (index, sample) in Self.samples.enumerated() {
            output += gzip.compress(sample, isFlushed: index.isMultiple(of: 2))
            plain += sample
        }
        #expect(!gzip.compress([1, 2, 3], isFlushed: true).isEmpty)
        var other = Gzip()
        let begun = other.compress(Array("hello".utf8), isFlushed: true)
        #expect(begun.count > 10)  // More than its header.
        output = other.compress(plain) + other.finish()
        #expect(try gunzipped(begun + output) == Array("hello".utf8) + plain)
    }

    @Test(
        arguments: [
            ("gzip", true), ("GZIP", true), ("x-gzip", true), ("*", true), ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false), ("*;q=0", false), ("*, gzip;q=0", false), ("gzip;q=0, *", false),
            ("*;q=0, gzip", true), ("deflate", false), ("identity", false), ("", false), ("gzipped", false),
            ("br;q=1.0, gzip ; q = 0.8, *;q=0.1", true), ("gzip;q=x", false),
        ])
    func `is used only where the client takes it (RFC 9110, 12.5.3)`(_ text: String, _ isTaken: Bool) {
        #expect(acceptsGzip([.acceptEncoding: text]) == isTaken)
    }

    @Test func `is not used for who says nothing`() { #expect(!acceptsGzip([:])) }

    // MARK: Of responses

    private let long = [UInt8](repeating: 0x61, count: 4096)

    private func compressed(
        _ bytes: [UInt8], _ fields: HTTPFields, _ status: HTTPResponse.Status = .ok, taken: Bool = true
    ) -> Response {
        var response = Response(status, fields, body: .bytes(bytes))
        response.compress(for: taken ? [.acceptEncoding: "gzip"] : [:])
        return response
    }

    @Test func `makes a tag weak and takes ranges away, for the bytes are others`() throws {
        let response = compressed(
            long, [.contentType: "application/json", .eTag: "\"a\"", .acceptRanges: "bytes", .vary: "Origin"])
        #expect(
            response.head.headerFields == [
                .contentType: "application/json", .eTag: "W/\"a\"", .vary: "Origin, Accept-Encoding",
                .contentEncoding: "gzip",
            ])
        guard case .bytes(let bytes) = response.body else { throw Unlike() }
        #expect(bytes.count < 200)
        #expect(try gunzipped(bytes) == long)
    }

    @Test func `says Vary also where it was not asked for`() {
        let response = compressed(long, [.contentType: "text/html"], taken: false)
        #expect(response.head.headerFields == [.contentType: "text/html", .vary: "Accept-Encoding"])
    }

    @Test func `leaves alone what does not gain`() {
        func isCompressed(_ response: Response) -> Bool { response.head.headerFields[.contentEncoding] == "gzip" }
        let text: HTTPFields = [.contentType: "text/plain"]
        #expect(isCompressed(compressed(long, text)))
        #expect(!isCompressed(compressed(Array(long[..<1023]), text)))
        #expect(!isCompressed(compressed(long, text, .partialContent)))
        #expect(!isCompressed(compressed(long, [.contentType: "application/octet-stream"])))
        #expect(!isCompressed(compressed(long, [:])))
        let done = compressed(long, [.contentType: "text/plain", .contentEncoding: "br"])
        #expect(done.head.headerFields[.contentEncoding] == "br")
    }

    @Test func `also takes a stream`() async throws {
        let long = long
        var response = Response(
            .ok, [.contentType: "text/csv"],
            body: .stream(length: 3 * long.count) { writer in
                for _ in 0..<3 { try await writer.write(long) }
            })
        response.compress(for: [.acceptEncoding: "gzip"])
        guard case .stream(let length, let write) = response.body else { throw Unlike() }
        #expect(length == nil)
        let collector = Collector()
        try await write(collector)
        #expect(try gunzipped(await collector.bytes) == long + long + long)
    }

    private struct Unlike: Error {}
}

private actor Collector: BodyWriter {
    private(set) var bytes: [UInt8] = []
    func write(_ part: [UInt8]) { bytes += part }
}
