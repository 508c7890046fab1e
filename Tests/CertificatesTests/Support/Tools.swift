import Certificates
import Foundation
import Testing

/// A directory that goes away with the test.
final class Scratch {
    let path = "\(NSTemporaryDirectory())/martlet-certificates-\(getpid())-\(UUID().uuidString.prefix(8))"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false) }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a file; returns its path.
    @discardableResult
    func file(_ name: String, _ text: String) throws -> String {
        try text.write(toFile: "\(path)/\(name)", atomically: true, encoding: .utf8)
        return "\(path)/\(name)"
    }

    func bytes(_ name: String) -> [UInt8] { Array(FileManager.default.contents(atPath: "\(path)/\(name)") ?? Data()) }

    func text(_ name: String) -> String { String(decoding: bytes(name), as: UTF8.self) }

    func mode(_ name: String) -> mode_t? {
        var status = stat()
        return stat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o777 : nil
    }

    /// Everything below, by path, for what must not change.
    func everything() throws -> [String: Data] {
        var files: [String: Data] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
            files[name] = FileManager.default.contents(atPath: "\(path)/\(name)")
        }
        return files
    }
}

struct ToolRun {
    let status: Int32
    let output: String
}

/// Runs a tool to its end, standard output and standard error together.
@discardableResult
func run(_ tool: String, _ arguments: [String], in directory: String? = nil) throws -> ToolRun {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [tool] + arguments
    if let directory { process.currentDirectoryURL = URL(fileURLWithPath: directory) }
    let pipe = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return ToolRun(status: process.terminationStatus, output: String(decoding: output, as: UTF8.self))
}

@discardableResult
func openssl(_ arguments: String..., in directory: Scratch) throws -> ToolRun {
    try run("openssl", arguments, in: directory.path)
}

let today = UnixTime.now

extension CertificateError {
    var isDamage: Bool { if case .damaged = self { true } else { false } }
    var isRefusal: Bool { if case .refused = self { true } else { false } }
}

/// The error that `body` throws, which is one of ours.
func failure(_ body: () throws -> Void) -> CertificateError? {
    do {
        try body()
        return nil
    } catch {
        return error as? CertificateError
    }
}
