internal import ConformanceCases

extension Suite {
    /// The suite that is in the binary.
    package static func embedded() throws(SuiteError) -> Suite { try Suite(files: embeddedFiles) }

    /// The files that are in the binary, as in `conformance/`.
    package static var embeddedFiles: [(name: String, text: String)] {
        var files: [(name: String, text: String)] = []
        while true {
            let file = unsafe conformance_file(files.count)
            guard let name = unsafe file.name, let bytes = unsafe file.bytes else { return files }
            let text = unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: file.count), as: UTF8.self)
            files.append((unsafe String(cString: name), text))
        }
    }
}
