internal import Configuration
internal import FoundationEssentials
internal import Glibc
internal import Transport

/// Reads a configuration from a file, and from those that it includes; whatever is wrong with it ends the command with
/// status 3.
func readConfiguration(_ path: String) throws(ConfigurationError) -> Configuration {
    let files = Configuration.IncludedFiles(names: readNames, bytes: readBytes)
    return try Configuration.parse(readBytes(path), file: path, including: files)
}

private let configurationBytes = 1 << 20

private func readBytes(_ path: String) throws(ConfigurationError) -> [UInt8] {
    do throws(SystemError) {
        return try contents(ofFile: path, atMost: configurationBytes)
    } catch {
        let isTooLong = error.code == EFBIG
        throw ConfigurationError(
            file: path, reason: isTooLong ? "longer than \(configurationBytes) bytes" : error.reason)
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
