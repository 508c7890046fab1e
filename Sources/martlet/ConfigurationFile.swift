internal import Configuration
internal import FoundationEssentials
internal import Glibc

/// Reads a configuration from a file, and from those that it includes; whatever is wrong with it ends the command with
/// status 3.
func readConfiguration(_ path: String) throws(ConfigurationError) -> Configuration {
    let files = Configuration.IncludedFiles(names: readNames, bytes: readBytes)
    return try Configuration.parse(readBytes(path), file: path, including: files)
}

private let configurationBytes = 1 << 20

private func readBytes(_ path: String) throws(ConfigurationError) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw refusal(path) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = unsafe read(descriptor, &chunk, chunk.count)
        guard count >= 0 else {
            if errno == EINTR { continue }
            throw refusal(path)
        }
        guard count > 0 else { return bytes }
        bytes += chunk.prefix(count)
        guard bytes.count <= configurationBytes else {
            throw ConfigurationError(file: path, reason: "longer than \(configurationBytes) bytes")
        }
    }
}

private func readNames(_ directory: String) throws(ConfigurationError) -> [String] {
    // The system's reason first, which FileManager would only paraphrase.
    let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw refusal(directory) }
    close(descriptor)
    do {
        return try FileManager.default.contentsOfDirectory(atPath: directory)
    } catch {
        throw ConfigurationError(file: directory, reason: "can't be read")
    }
}

private func refusal(_ path: String) -> ConfigurationError {
    unsafe ConfigurationError(file: path, reason: String(cString: strerror(errno)))
}

/// The environment; a variable that is not UTF-8 gets replacement characters, which no key takes.
func environment() -> [String: String] {
    var result: [String: String] = [:]
    var entry = unsafe environ
    while let text = unsafe entry.pointee {
        let parts = unsafe String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 2 { result[String(parts[0])] = String(parts[1]) }
        unsafe entry += 1
    }
    return result
}
