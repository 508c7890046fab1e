internal import Dispatch
internal import JSON
internal import Locks

/// What has to be done again and again, each thing under a name. Each begins a whole number of intervals after the start
/// (no drift), never while it still runs from the last time (no overlap): then it is left out.
package final class Scheduler: Sendable {
    package struct Job: Sendable {
        let name: String
        let interval: Duration
        let run: @Sendable () async throws -> Void

        package init(_ name: String, every interval: Duration, _ run: @escaping @Sendable () async throws -> Void) {
            self.name = name
            self.interval = interval
            self.run = run
        }
    }

    /// How it went, by name in the order in which they were given.
    package struct Record: Sendable, Equatable {
        package let name: String
        /// Seconds.
        package let interval: Int64
        package var runs = 0
        package var failures = 0
        /// Times at which it was still running.
        package var skipped = 0
        /// Milliseconds since 1970.
        package var lastStart: Int64?
        package var lastMilliseconds: Int64?
        /// Nil: it went well.
        package var lastProblem: String?
        package var isRunning = false
    }

    private let records: Lock<[Record]>
    private let jobs: [Job]
    private let milliseconds: @Sendable () -> Int64
    private let report: @Sendable (_ job: String, _ problem: String) -> Void

    /// `milliseconds`: since 1970. `report`: for the log, where something fails that went well before.
    package init(
        _ jobs: [Job], milliseconds: @escaping @Sendable () -> Int64 = currentMilliseconds,
        report: @escaping @Sendable (_ job: String, _ problem: String) -> Void
    ) {
        self.jobs = jobs
        self.milliseconds = milliseconds
        self.report = report
        records = Lock(jobs.map { Record(name: $0.name, interval: $0.interval.components.seconds) })
    }

    package var state: [Record] { records.withLock { $0 } }

    /// Until it is cancelled; then returns once what runs has ended.
    package func run() async {
        await withTaskGroup { group in
            for index in jobs.indices { group.addTask { await self.repeatJob(index) } }
        }
    }

    private func repeatJob(_ index: Int) async {
        let job = jobs[index]
        let clock = ContinuousClock()
        var next = clock.now.advanced(by: job.interval)
        while !Task.isCancelled {
            do { try await clock.sleep(until: next) } catch { return }
            await perform(index)
            next = next.advanced(by: job.interval)
            var missed = 0
            while next <= clock.now {
                next = next.advanced(by: job.interval)
                missed += 1
            }
            records.withLock { [missed] in $0[index].skipped += missed }
        }
    }

    private func perform(_ index: Int) async {
        let (clock, job) = (ContinuousClock(), jobs[index])
        let start = clock.now
        records.withLock { records in
            records[index].isRunning = true
            records[index].lastStart = milliseconds()
        }
        var problem: String?
        do { try await job.run() } catch { problem = "\(error)" }
        let took = clock.now - start
        let isNew = records.withLock { [problem] records in
            let isNew = problem != nil && records[index].lastProblem == nil
            records[index].isRunning = false
            records[index].runs += 1
            if problem != nil { records[index].failures += 1 }
            records[index].lastProblem = problem
            records[index].lastMilliseconds =
                took.components.seconds * 1000 + took.components.attoseconds / 1_000_000_000_000_000
            return isNew
        }
        if isNew, let problem { report(job.name, problem) }
    }
}

extension Management {
    func listJobs(_ request: ManagementCommand.PageRequest) -> JSONValue? {
        let records = scheduler?.state ?? []
        let page = records.dropFirst((request.page - 1) * request.limit).prefix(request.limit).map { record in
            JSONValue.object([
                "name": .string(record.name), "interval": .integer(record.interval),
                "runs": .integer(Int64(record.runs)), "failures": .integer(Int64(record.failures)),
                "skipped": .integer(Int64(record.skipped)), "running": .bool(record.isRunning),
                "lastRunAt": record.lastStart.map(timestamp) ?? .null,
                "lastMilliseconds": record.lastMilliseconds.map { .integer($0) } ?? .null,
                "lastResult": .optional(
                    record.lastMilliseconds == nil ? nil : record.lastProblem == nil ? "OK" : "FAILED"),
                "lastProblem": .optional(record.lastProblem),
            ])
        }
        return list("jobs", page, request, total: records.count)
    }
}
