import Cryptography
import Foundation
import JSON
import Seeded
import Testing

@testable import Firmware

/// A data directory that is gone afterwards.
private final class Place {
    let path = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString)").path

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func bytes(_ name: String) -> [UInt8]? {
        FileManager.default.contents(atPath: "\(path)/firmware/\(name)").map(Array.init)
    }
    func text(_ name: String) -> String? { bytes(name).map { String(decoding: $0, as: UTF8.self) } }
    func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(path)/firmware/\(folder)").sorted()
    }
    func edit(_ name: String, _ text: String) throws {
        let file = URL(filePath: "\(path)/firmware/\(name)")
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }
}

@Suite struct `The tree of firmware` {
    private let place: Place
    private let model: ModelName

    init() throws {
        place = try Place()
        model = try #require(ModelName("esp32s3"))
    }

    private func release(_ version: String) throws -> ReleaseName {
        ReleaseName(model: model, version: try #require(FirmwareVersion(version)))
    }

    private func add(_ image: [UInt8], _ version: String, to tree: borrowing FirmwareTree) throws {
        var draft = try tree.draft(for: model)
        for part in stride(from: 0, to: image.count, by: 700) {
            try draft.append(Array(image[part..<min(part + 700, image.count)]))
        }
        #expect(draft.size == image.count && draft.finishDigest() == sha256(image))
        let file = try #require(try tree.image(of: draft))
        #expect(try ImageAnalysis(of: file).digest == sha256(image), "it can be looked at before it is a release")
        try tree.add(draft, as: try release(version).version, metadata: Array("{\"version\":\"\(version)\"}".utf8))
    }

    @Test func `has S3's old layout, and what was uploaded in it`() throws {
        let tree = try FirmwareTree(in: place.path)
        let image = (0..<5_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        try add(image, "1.2.0", to: tree)
        try add([1], "1.10.0", to: tree)
        #expect(place.bytes("esp32s3/releases/v1.2.0/firmware.bin") == image)
        #expect(place.text("esp32s3/releases/v1.2.0/metadata.json") == #"{"version":"1.2.0"}"#)
        #expect(try tree.models() == [model])
        #expect(try tree.versions(of: model).map(\.text) == ["1.10.0", "1.2.0"])
        let file = try #require(try tree.image(of: release("1.2.0")))
        #expect(file.count == 5_000)
        #expect(try file.read(4_990..<5_000) == Array(image[4_990...]))
        #expect(throws: ReadFailure.shortened) { try file.read(4_990..<5_001) }
        #expect(try tree.image(of: release("2")) == nil)
    }

    @Test func `takes a version once, and nothing of what comes to no end`() throws {
        let tree = try FirmwareTree(in: place.path)
        try add([1, 2, 3], "1.0.0", to: tree)
        #expect(throws: FirmwareTreeError.exists(try release("1.0.0"))) { try add([4], "1.0.0", to: tree) }
        #expect(place.bytes("esp32s3/releases/v1.0.0/firmware.bin") == [1, 2, 3])
        var broken = try tree.draft(for: model)
        try broken.append([9])
        #expect(try place.names("esp32s3/releases").count == 3, "the release, a refused draft, this one")
        try tree.discard(broken)
        #expect(try place.names("esp32s3/releases").count == 2)
        _ = consume tree
        _ = try FirmwareTree(in: place.path)
        #expect(try place.names("esp32s3/releases") == ["v1.0.0"], "a process that died leaves nothing")
    }

    @Test func `has what devices shall run, and a copy of it`() throws {
        let tree = try FirmwareTree(in: place.path)
        try add([1], "1.0.0", to: tree)
        try add([2, 2], "1.1.0", to: tree)
        #expect(try tree.production(of: model) == nil)
        try tree.promote(release("1.1.0"))
        #expect(place.text("esp32s3/production/version.txt") == "1.1.0\n")
        #expect(place.bytes("esp32s3/production/firmware.bin") == [2, 2])
        #expect(place.text("esp32s3/production/metadata.json") == #"{"version":"1.1.0"}"#)
        try place.edit("esp32s3/production/version.txt", " 1.0.0\r\n")
        #expect(try tree.production(of: model)?.text == "1.0.0")
        try tree.refreshProduction(release("1.0.0"))
        #expect(place.bytes("esp32s3/production/firmware.bin") == [1])
        #expect(throws: FirmwareTreeError.missing(try release("3"))) { try tree.promote(release("3")) }
        #expect(try tree.production(of: model)?.text == "1.0.0", "what can't be promoted changes nothing")
    }

    @Test(arguments: ["1.0.0 1.1.0", "../x", "v\u{7F}1", String(repeating: "1", count: 33)])
    func `says which file is edited wrongly`(_ text: String) throws {
        let tree = try FirmwareTree(in: place.path)
        try place.edit("esp32s3/production/version.txt", text)
        #expect {
            _ = try tree.production(of: model)
        } throws: { "\($0)".contains("esp32s3/production/version.txt: it has one version in it") }
    }

    @Test func `knows what is blocked, and leaves the rest of that file as it is`() throws {
        let tree = try FirmwareTree(in: place.path)
        #expect(try tree.blockedVersions(of: model) == BlockedVersions())
        try place.edit(
            "esp32s3/rollback/blocked_versions.json",
            #"{"blocked_versions":["1.1.0","1.2.0"],"reason":{"1.1.0":"boot loop"},"who":"ops"}"#)
        var blocked = try tree.blockedVersions(of: model)
        let (old, new) = (try release("1.1.0").version, try release("1.3.0").version)
        #expect(blocked.reasons == [old: "boot loop", try release("1.2.0").version: ""])
        blocked.unblock(old)
        blocked.block(new, "no Wi-Fi")
        try tree.setBlockedVersions(blocked, of: model)
        let bytes = try #require(place.bytes("esp32s3/rollback/blocked_versions.json"))
        let file = try #require(JSONValue(parsing: bytes))
        #expect(file["blocked_versions"]?.array?.compactMap(\.string) == ["1.2.0", "1.3.0"])
        #expect(file["reason"]?.object == ["1.3.0": "no Wi-Fi"] && file["who"]?.string == "ops")
        #expect(try tree.blockedVersions(of: model).reasons == blocked.reasons)
    }

    @Test(arguments: [
        "", "[]", "{}", #"{"blocked_versions":"1.1.0"}"#, #"{"blocked_versions":[1]}"#,
        #"{"blocked_versions":["../x"]}"#,
    ])
    func `does not take a list of what is blocked for empty that can't be read`(_ text: String) throws {
        let tree = try FirmwareTree(in: place.path)
        try place.edit("esp32s3/rollback/blocked_versions.json", text)
        #expect { _ = try tree.blockedVersions(of: model) } throws: {
            "\($0)".contains("blocked_versions.json: it is {")
        }
    }

    @Test func `follows no link, and takes nothing for an image that is none`() throws {
        let tree = try FirmwareTree(in: place.path)
        try place.edit("secret", "key")
        let folder = "\(place.path)/firmware/esp32s3/releases/v1"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: "\(folder)/firmware.bin", withDestinationPath: "\(place.path)/firmware/secret")
        #expect(throws: FirmwareTreeError.self) { try tree.image(of: release("1")) }
        try FileManager.default.removeItem(atPath: "\(folder)/firmware.bin")
        try FileManager.default.createDirectory(atPath: "\(folder)/firmware.bin", withIntermediateDirectories: true)
        #expect(throws: FirmwareTreeError.self) { try tree.image(of: release("1")) }
        #expect(try tree.image(of: release("2")) == nil)
    }

    @Test(arguments: ["", ".", "..", ".x", "a/b", "a b", "ü", "a%2Fb", String(repeating: "a", count: 33)])
    func `has no names that could lead elsewhere`(_ text: String) {
        #expect(ModelName(text) == nil && FirmwareVersion(text) == nil)
    }

    @Test(arguments: ["a", "esp32s3", "1.2.0-rc.1+build_7", "A..b", String(repeating: "a", count: 32)])
    func `has names of models and versions`(_ text: String) {
        #expect(ModelName(text)?.text == text && FirmwareVersion(text)?.text == text)
    }
}
