internal import Access
internal import HTTP
internal import HTTPTypes
internal import JSON

extension API {
    /// `POST /api/admin/devices/import`. Lines are read as they come, some hundred at a time are made, and what became of each
    /// is written before the next are read: neither list is ever in memory as a whole. A client that does not take its
    /// reports is not read either, and one that is silent is given up.
    func importDevices(_ call: Call) async throws -> Response {
        let type = call.request.fields[.contentType]?.lowercased().prefix { $0 != ";" }.filter { $0 != " " } ?? ""
        guard type == "text/csv" else {
            throw ManagementProblem(.unsupportedMediaType, "the devices come as text/csv")
        }
        var lines = CSVLines(call.request.body)
        guard let header = try await lines.next() else {
            throw ManagementProblem(.invalidRequest, "the first line is missing, which names the columns")
        }
        let run = ImportRun(
            management: management, columns: try ImportColumns(header), requester: call.requester)
        return Response(
            .ok, [.contentType: "application/x-ndjson"],
            body: .stream(length: nil) { [lines] writer in try await run.perform(lines, writer) })
    }
}

/// The lines of a body, as they come.
private struct CSVLines: Sendable {
    private var reader = CSVReader()
    private let body: BodyPipe
    private var isOver = false

    init(_ body: BodyPipe) { self.body = body }

    mutating func next() async throws -> CSVReader.Record? {
        do {
            while !isOver {
                if let record = try reader.record() { return record }
                guard let part = try await body.next() else {
                    isOver = true
                    return try reader.last()
                }
                reader.push(part)
            }
            return nil
        } catch let error as CSVReader.Malformed {
            throw ManagementProblem(.invalidRequest, "line \(error.line): \(error.reason)")
        }
    }
}

private struct ImportRun: Sendable {
    let management: Management
    let columns: ImportColumns
    let requester: Requester

    func perform(_ lines: CSVLines, _ writer: any BodyWriter) async throws {
        var lines = lines
        var summary = ImportSummary()
        var problem: ManagementProblem?
        while problem == nil {
            var batch: [Result<ImportedDevice, ImportColumns.Unreadable>] = []
            do {
                while batch.count < Management.importedAtOnce, let record = try await lines.next() {
                    batch.append(columns.device(record))
                }
            } catch let error as ManagementProblem {
                problem = error
            } catch BodyError.connectionLost {
                throw BodyError.connectionLost  // Nobody would hear what the devices sign in with.
            } catch let error as BodyError {
                problem = API.problem(error)
            }
            guard !batch.isEmpty else { break }
            do {
                try await write(reports(on: batch), &summary, to: writer)
            } catch let error as ManagementProblem {
                problem = error
            }
        }
        try await writer.write(summary.value(problem).bytes + [UInt8(ascii: "\n")])
    }

    private func reports(
        on batch: [Result<ImportedDevice, ImportColumns.Unreadable>]
    ) async throws -> [ImportReport] {
        var made = try await management.importDevices(batch.compactMap { try? $0.get() }, for: requester)[...]
        return batch.compactMap { line in
            switch line {
            case .success: made.popFirst()
            case .failure(let unreadable): unreadable.report
            }
        }
    }

    private func write(
        _ reports: [ImportReport], _ summary: inout ImportSummary, to writer: any BodyWriter
    ) async throws {
        var bytes: [UInt8] = []
        for report in reports {
            summary.count(report)
            bytes += report.value.bytes
            bytes.append(UInt8(ascii: "\n"))
        }
        try await writer.write(bytes)
    }
}
