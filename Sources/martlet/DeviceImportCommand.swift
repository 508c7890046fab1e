internal import ArgumentParser
internal import Glibc
internal import JSON
internal import Management

extension DeviceCommand {
    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make many devices from CSV; prints what each signs in with, and is claimed with, once.",
            discussion: """
                The first line names the columns: deviceId, and any of claimCode, name, model, macAddress, tags (between ;) and \
                owner. A device without an owner is claimed with its code by whoever registers it; without a claimCode one is \
                made. A line without a line in the output was not made.
                """)

        @Argument(help: "The file; - for standard input.") var file: String
        @Flag(help: "Print a line of JSON for each, as the REST interface does.") var json = false
        @OptionGroup var data: DataOption

        /// Of one request, which has at most 65,536.
        private static let requestBytes = 48 << 10

        func run() async throws {
            var source = try CSVSource(file)
            guard let header = try source.next() else {
                throw Failure(.failed, "\(file): the first line is missing, which names the columns")
            }
            let columns: ImportColumns
            do throws(ManagementProblem) {
                columns = try ImportColumns(header)
            } catch {
                throw Failure(.failed, "\(file): \(error.message)")
            }
            if !json { ManagementOutput.print("line,deviceId,result,username,password,claimCode,detail") }
            var hasErrors = false
            try await managing(data.path, makesDirectory: true) { client in
                var (batch, bytes): ([JSONValue], Int) = ([], 0)
                func submit() async throws {
                    guard !batch.isEmpty else { return }
                    let answer = try await client.perform("importDevices", ["devices": .array(batch)])
                    for report in answer["reports"]?.array ?? [] { show(report, &hasErrors) }
                    (batch, bytes) = ([], 0)
                }
                do {
                    while let record = try source.next() {
                        switch columns.device(record) {
                        case .failure(let unreadable):
                            try await submit()
                            show(unreadable.report.value, &hasErrors)
                        case .success(let device):
                            let value = device.value
                            let size = value.bytes.count
                            if batch.count == Management.importedAtOnce || bytes + size > Self.requestBytes {
                                try await submit()
                            }
                            batch.append(value)
                            bytes += size
                        }
                    }
                } catch {
                    try await submit()  // What came before is sound.
                    throw error
                }
                try await submit()
            }
            if hasErrors { throw Failure(.failed, "\(file): some devices could not be made; see 'error'") }
        }

        private func show(_ report: JSONValue, _ hasErrors: inout Bool) {
            if report["result"]?.string == ImportReport.Result.error.rawValue { hasErrors = true }
            if json { return ManagementOutput.print(report.text) }
            let fields = [
                "\(report["line"]?.integer ?? 0)", report["deviceId"]?.string, report["result"]?.string,
                report["credentials"]?["username"]?.string, report["credentials"]?["password"]?.string,
                report["claimCode"]?.string, report["detail"]?.string,
            ]
            ManagementOutput.print(fields.map { Self.quoted($0 ?? "") }.joined(separator: ","))
        }

        private static func quoted(_ field: String) -> String {
            guard field.utf8.contains(where: { ",\"\r\n".utf8.contains($0) }) else { return field }
            return "\"" + field.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
                + "\""
        }
    }
}

/// A file of records, a part at a time.
private struct CSVSource: ~Copyable {
    private static let partBytes = 64 << 10

    private let path: String
    private let descriptor: CInt
    private var reader = CSVReader()
    private var isOver = false

    /// The corresponding C function is `open`.
    init(_ path: String) throws(Failure) {
        self.path = path
        descriptor = path == "-" ? STDIN_FILENO : unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure(.failed, "\(path): can't be read") }
    }

    deinit { if descriptor != STDIN_FILENO { close(descriptor) } }

    mutating func next() throws(Failure) -> CSVReader.Record? {
        while !isOver {
            if let record = try sound({ reader throws(CSVReader.Malformed) in try reader.record() }) { return record }
            let part = try read()
            if part.isEmpty {
                isOver = true
                return try sound { reader throws(CSVReader.Malformed) in try reader.last() }
            }
            reader.push(part)
        }
        return nil
    }

    private mutating func sound(
        _ read: (inout CSVReader) throws(CSVReader.Malformed) -> CSVReader.Record?
    ) throws(Failure) -> CSVReader.Record? {
        do throws(CSVReader.Malformed) {
            return try read(&reader)
        } catch {
            throw Failure(.failed, "\(path):\(error.line): \(error.reason)")
        }
    }

    /// Empty at the end. The corresponding C function is `read`.
    private func read() throws(Failure) -> [UInt8] {
        var part = [UInt8](repeating: 0, count: Self.partBytes)
        while true {
            let count = unsafe Glibc.read(descriptor, &part, part.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Failure(.failed, "\(path): can't be read") }
            return Array(part.prefix(count))
        }
    }
}

extension ImportedDevice {
    /// As `importDevices` takes it.
    fileprivate var value: JSONValue {
        .object([
            "line": .integer(Int64(line)), "deviceId": .string(deviceId), "claimCode": .optional(claimCode),
            "name": .optional(name), "model": .optional(model), "macAddress": .optional(macAddress),
            "owner": .optional(owner), "tags": .array(tags.map { .string($0) }),
        ])
    }
}
