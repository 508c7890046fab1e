import Foundation

/// A program that once showed a difference, or one that is close to it: a file of `Tests/Programs`.
package struct KeptProgram: Sendable, CustomStringConvertible {
    package let description: String
    private let text: String

    package func program() throws -> ClientProgram { try ClientProgram(parsing: text) }

    package static let all: [KeptProgram] = {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let folder = tests.appendingPathComponent("Programs").path
        let names = FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? []
        return names.filter { $0.hasSuffix(".program") }.sorted().map { name in
            let bytes = FileManager.default.contents(atPath: "\(folder)/\(name)") ?? Data()
            return KeptProgram(description: name, text: String(decoding: bytes, as: UTF8.self))
        }
    }()
}
