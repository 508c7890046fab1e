import Backup
import Foundation
import Seeded
import Testing

@Suite struct `The header of a file in a tar archive` {
    private func header(_ name: String, size: Int = 7) -> TarHeader {
        TarHeader(name: name, size: size, mode: 0o640, modified: 1_700_000_000)
    }

    @Test(arguments: [
        "a", "certs/ca.pem", String(repeating: "n", count: 100),
        String(repeating: "d", count: 90) + "/" + String(repeating: "n", count: 100),
        String(repeating: "e", count: 60) + "/" + String(repeating: "d", count: 90) + "/"
            + String(repeating: "n", count: 99),
        "ä/ö",
    ])
    func `comes back from its bytes`(_ name: String) throws {
        for size in [0, 1, 511, 512, 0o7777_7777_777, 0o7777_7777_777 + 1, 1 << 50] {
            let block = try #require(header(name, size: size).bytes)
            #expect(block.count == TarHeader.blockBytes)
            #expect(try TarHeader(parsing: block) == header(name, size: size))
        }
    }

    @Test(arguments: [
        String(repeating: "n", count: 101), "a/" + String(repeating: "n", count: 101),
        String(repeating: "d", count: 156) + "/" + String(repeating: "n", count: 99),
    ])
    func `is not there for a name that its fields can't hold`(_ name: String) {
        #expect(header(name).bytes == nil)
    }

    @Test(arguments: [
        "", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a/./b", "..", ".", "a\nb", "a\u{7F}",
        (0..<17).map(String.init).joined(separator: "/"), String(repeating: "n", count: 257),
    ])
    func `has no name that leads elsewhere`(_ name: String) throws {
        #expect(!TarHeader.isSafe(name))
        guard let block = header(name).bytes else { return }
        #expect(throws: TarProblem.name) { try TarHeader(parsing: block) }
    }

    /// With a byte changed, and the checksum right for it.
    private func altered(_ block: [UInt8], _ changes: [Int: UInt8]) -> [UInt8] {
        var block = block
        for (index, byte) in changes { block[index] = byte }
        let sum = block.indices.reduce(0) { $0 + ((148..<156).contains($1) ? 32 : Int(block[$1])) }
        let digits = Array(String(sum, radix: 8).utf8)
        block.replaceSubrange(148..<155, with: [UInt8](repeating: 48, count: 6 - digits.count) + digits + [0])
        return block
    }

    @Test func `is of a plain file, in the format ustar, and has a right checksum`() throws {
        let block = try #require(header("a").bytes)
        #expect(altered(block, [:]) == block)
        for kind in "1234567xgLKDSV\u{0}".utf8 {
            #expect(throws: TarProblem.kind(name: "a")) { try TarHeader(parsing: altered(block, [156: kind])) }
        }
        #expect(throws: TarProblem.format) { try TarHeader(parsing: altered(block, [257: 0x55])) }
        #expect(throws: TarProblem.number) { try TarHeader(parsing: altered(block, [130: 0x39])) }
        #expect(throws: TarProblem.name) { try TarHeader(parsing: altered(block, [1: 0xFF])) }
        var wrong = block
        wrong[0] = 0x62
        #expect(throws: TarProblem.checksum) { try TarHeader(parsing: wrong) }
        #expect(throws: (any Error).self) { try TarHeader(parsing: [UInt8](repeating: 0xFF, count: 512)) }
    }
}

@Suite struct `The manifest of a backup` {
    private let digest = String(repeating: "0f", count: 32)

    @Test func `comes back from its text`() throws {
        let manifest = Manifest(
            martlet: "1.2.3", created: "2026-11-22T11:40:37Z",
            files: ["broker.db", "certs/with a space.pem"].map { .init(name: $0, sha256: digest) })
        #expect(try Manifest(parsing: Array(manifest.text.utf8)) == manifest)
        #expect(
            manifest.text.hasPrefix(
                "# martlet-backup 1\n# martlet 1.2.3\n# created 2026-11-22T11:40:37Z\n\(digest)  broker.db\n"))
    }

    @Test func `of a later format is told by its first line alone`() {
        #expect(throws: ManifestProblem.newer(format: 2, martlet: "9.0")) {
            try Manifest(parsing: Array("# martlet-backup 2\n# martlet 9.0\nwhatever\n".utf8))
        }
        #expect(throws: ManifestProblem.newer(format: 3, martlet: nil)) {
            try Manifest(parsing: Array("# martlet-backup 3\n".utf8))
        }
    }

    @Test func `that is malformed names the line`() {
        let head = "# martlet-backup 1\n# martlet 1\n# created now\n"
        let cases: [(String, Int)] = [
            ("", 1), ("x\n", 1), ("# martlet-backup 0\n", 1), ("# martlet-backup -1\n", 1), ("# martlet-backup 1\n", 2),
            (head, 0), (String(head.dropLast()), 3), (head + "\(digest)  a", 4), (head + "\(digest) a\n", 4),
            (head + "\(digest)  ../a\n", 4), (head + "\(digest)  a\n\(digest.uppercased())  b\n", 5),
            (head + "\(digest)  a\n\n", 5),
        ]
        for (text, line) in cases {
            guard line > 0 else {
                #expect((try? Manifest(parsing: Array(text.utf8)))?.files == [])
                continue
            }
            #expect(throws: ManifestProblem.malformed(line: line), "\(text)") {
                try Manifest(parsing: Array(text.utf8))
            }
        }
    }
}
