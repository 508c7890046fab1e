internal import Conformance
internal import FoundationEssentials

/// The files of a suite that is being written.
func readDirectory(_ path: String) throws(SuiteError) -> [(name: String, text: String)] {
    var file = path
    do {
        var files: [(name: String, text: String)] = []
        for name in try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        where name.hasSuffix(".cases") || ["statements.txt", "corpus.txt"].contains(name) {
            file = "\(path)/\(name)"
            files.append((name, try String(contentsOfFile: file, encoding: .utf8)))
        }
        return files
    } catch {
        throw SuiteError(file: file, line: 0, reason: "can't be read")
    }
}

/// Writes a file whole or not at all.
func replace(_ path: String, with bytes: [UInt8]) throws(Failure) {
    do {
        try Data(bytes).write(to: URL(filePath: path), options: .atomic)
    } catch {
        throw Failure(.failed, "\(path): can't be written")
    }
}
