internal import HeapModule

/// All deployments that are under way, at most one for each device: what happens goes in, what shall be done comes out. Knows
/// neither clocks nor disks, and sends nothing.
package struct DeploymentTable: Sendable {
    /// How long each state may last, milliseconds, and how often it is tried.
    package struct Timing: Sendable, Equatable {
        /// Until a device has come that is away.
        package var queued: Int64 = 7 * 86_400_000
        /// Until the message is acknowledged.
        package var offered: Int64 = 60_000
        /// Until the device loads.
        package var started: Int64 = 300_000
        /// From one report to the next.
        package var inProgress: Int64 = 600_000
        /// From "it is done" until it has come back.
        package var reportedDone: Int64 = 600_000
        /// Until devices have come back to a server that has started anew, at least.
        package var restored: Int64 = 60_000
        /// Before the second attempt; doubled for each further one, up to an hour.
        package var backOff: Int64 = 30_000
        /// Until a device is told again that is there and does not listen.
        package var deaf: Int64 = 2_000
        package var attempts = 3

        package init() {}
    }

    package enum Action: Sendable, Equatable {
        /// Tell the device, with an address of this moment.
        case offer(Deployment)
        /// Do not tell it any more, unless it has it already.
        case withdraw(Deployment)
        /// It is another than it was. `isProgress`: by nothing but what the device says of its progress.
        case changed(Deployment, isProgress: Bool)
    }

    package enum Refusal: Error, Equatable, Sendable {
        /// Another one is.
        case underWay(Deployment)
        /// None is.
        case none
        /// The device has said that it is done: it may start with it at any moment.
        case tooLate(Deployment)
    }

    private struct Entry: Sendable {
        var deployment: Deployment
        /// By the clock that never jumps, as are the others.
        var due: Int64
        /// When a device that is away has had its time.
        var queueEnds: Int64
        /// Since when the device must not have started anew, for what it loads to be there still.
        var began: Int64
        var isOnline: Bool
        /// It has another connection since it said that it was done.
        var hasComeBack = false
        /// After a restart of the server everybody comes, which says nothing.
        var isRestored = false
    }

    private struct Due: Comparable, Sendable {
        let time: Int64
        let device: String

        static func < (left: Due, right: Due) -> Bool { (left.time, left.device) < (right.time, right.device) }
    }

    /// What clocks of devices may be off by, milliseconds, where one says how long it is up.
    private static let uptimeSlack: Int64 = 5_000
    private static let longestBackOff: Int64 = 3_600_000

    private let timing: Timing
    private var entries: [String: Entry] = [:]
    private var dues = Heap<Due>()

    package init(timing: Timing = Timing()) { self.timing = timing }

    package var count: Int { entries.count }

    /// Nil: none is under way.
    package func deployment(of device: String) -> Deployment? { entries[device]?.deployment }

    /// Those that a release goes to.
    package func deployments(of model: String, _ version: String) -> [Deployment] {
        entries.values.map(\.deployment).filter { $0.model == model && $0.version == version }
            .sorted { $0.device < $1.device }
    }

    // MARK: - Begin and end

    /// Throws `Refusal.underWay`. The same one a second time changes nothing.
    package mutating func start(
        _ deployment: Deployment, isOnline: Bool, at now: Moment
    ) throws(Refusal) -> [Action] {
        if let known = entries[deployment.device]?.deployment {
            guard known.id == deployment.id else { throw .underWay(known) }
            return []
        }
        var entry = Entry(
            deployment: deployment, due: 0, queueEnds: now.monotonic + timing.queued, began: now.monotonic,
            isOnline: isOnline)
        guard isOnline else {
            wait(&entry, until: entry.queueEnds, now)
            return put(entry)
        }
        return offer(&entry, now)
    }

    /// What was under way when the process before ended. Where the clock was set back nothing waits longer than it was given;
    /// what ran out while there was no server is not the device's fault.
    package mutating func restore(_ deployments: [Deployment], at now: Moment) {
        for deployment in deployments where !deployment.state.isOver {
            let time = deployment.due - deployment.since
            var left = min(deployment.due - now.wall, time)
            var queueLeft = min(deployment.created + timing.queued - now.wall, timing.queued)
            // Who was told before has the time for it, as `tryAgain` gives it.
            if deployment.attempts > 0 { queueLeft = max(queueLeft, max(left, 0) + timing.offered) }
            switch deployment.state {
            // Its device is away: nothing else than the time to wait for it counts, and not what the clock on the wall has
            // made of that.
            case .queued where deployment.isOffered || time > Self.longestBackOff: left = queueLeft
            case .queued: break
            default: left = max(left, min(timing.restored, time))
            }
            let age = max(0, now.wall - deployment.since)
            let entry = Entry(
                deployment: deployment, due: now.monotonic + left, queueEnds: now.monotonic + queueLeft,
                began: now.monotonic - age, isOnline: false, isRestored: true)
            keep(entry)
        }
    }

    /// Throws `Refusal.none`, `.tooLate`. Before the device knows of it, it never will; later what it loads ends with its next
    /// request, and whatever it comes up with, this stays canceled.
    package mutating func cancel(_ device: String, at now: Moment) throws(Refusal) -> [Action] {
        guard var entry = entries[device] else { throw .none }
        guard !entry.deployment.isReportedDone else { throw .tooLate(entry.deployment) }
        let wasOffered = entry.deployment.isOffered
        let actions = end(&entry, .canceled, nil, now)
        return actions + (wasOffered ? [.withdraw(entry.deployment)] : [])
    }

    /// It can't go on: the release is blocked, for instance.
    package mutating func fail(_ id: String, of device: String, _ reason: String, at now: Moment) -> [Action] {
        guard var entry = entries[device], entry.deployment.id == id else { return [] }
        let wasOffered = entry.deployment.isOffered
        let actions = end(&entry, .failed, reason, now)
        return actions + (wasOffered ? [.withdraw(entry.deployment)] : [])
    }

    /// Its device is no more.
    package mutating func remove(_ device: String) { entries[device] = nil }

    // MARK: - What devices do

    /// It has a new connection. What it has not acknowledged goes to it again, as a new message.
    package mutating func cameOnline(_ device: String, at now: Moment) -> [Action] {
        guard var entry = entries[device] else { return [] }
        entry.isOnline = true
        if entry.deployment.isReportedDone, !entry.isRestored { entry.hasComeBack = true }
        entry.isRestored = false
        guard entry.deployment.state == .queued else {
            entries[device] = entry
            return []
        }
        if entry.deployment.isOffered { return offer(&entry, now, isAgain: true) }
        let isItsTurn = entry.due <= now.monotonic || entry.deployment.attempts == 0 || entry.due == entry.queueEnds
        guard isItsTurn else {
            entries[device] = entry
            return []
        }
        return offer(&entry, now)
    }

    /// It has no connection any more, and is not awaited.
    package mutating func wentOffline(_ device: String, at now: Moment) -> [Action] {
        guard var entry = entries[device], entry.isOnline else { return [] }
        entry.isOnline = false
        // It was told, and will be again: its time to answer begins then.
        let isOffered = entry.deployment.state == .queued && entry.deployment.isOffered
        if isOffered { wait(&entry, until: entry.queueEnds, now) }
        keep(entry)
        return isOffered ? [.withdraw(entry.deployment)] : []
    }

    /// An offer could not be sent: the device does not listen, for it has only just come, perhaps.
    package mutating func unheard(_ id: String, of device: String, at now: Moment) -> [Action] {
        guard var entry = entries[device], entry.deployment.id == id, entry.deployment.isOffered else { return [] }
        entry.deployment.isOffered = false
        entry.deployment.attempts -= 1
        wait(&entry, until: min(now.monotonic + timing.deaf, entry.queueEnds), now)
        keep(entry)
        return []
    }

    /// It has acknowledged what it was told.
    package mutating func acknowledged(_ id: String, of device: String, at now: Moment) -> [Action] {
        guard var entry = entries[device], entry.deployment.id == id, entry.deployment.state == .queued else {
            return []
        }
        begin(&entry, .started, timing.started, now)
        return put(entry)
    }

    /// A message on `devices/{deviceId}/ota/status`. Nil: it can't be read. What comes late, or is about another one, changes
    /// nothing. `reportsVersion`: whether the device has ever said what it runs.
    package mutating func reported(
        _ device: String, _ payload: [UInt8], reportsVersion: Bool, at now: Moment
    ) -> [Action]? {
        guard let report = DeploymentReport(payload) else { return nil }
        guard var entry = entries[device], report.deployment ?? entry.deployment.id == entry.deployment.id else {
            return []
        }
        switch report.status {
        case .started:
            guard entry.deployment.state == .queued else { return [] }
            begin(&entry, .started, timing.started, now)
        case .inProgress:
            guard !entry.deployment.isReportedDone else { return [] }
            let wasInProgress = entry.deployment.state == .inProgress
            begin(&entry, .inProgress, timing.inProgress, now)
            entry.deployment.progress = report.progress ?? entry.deployment.progress
            return put(entry, isProgress: wasInProgress)
        case .success:
            guard reportsVersion else {
                (entry.deployment.progress, entry.deployment.isOnItsWord) = (100, true)
                return end(&entry, .success, nil, now)
            }
            guard !entry.deployment.isReportedDone else { return [] }
            let wasInProgress = entry.deployment.state == .inProgress
            begin(&entry, .inProgress, timing.reportedDone, now)
            (entry.deployment.progress, entry.deployment.isReportedDone) = (100, true)
            entry.began = now.monotonic
            return put(entry, isProgress: wasInProgress)
        case .failed: return end(&entry, .failed, report.reason ?? "the device says so", now)
        }
        return put(entry)
    }

    /// A message on `devices/{deviceId}/health`. `version`: what it says that it runs; `uptime`: seconds since it has started,
    /// if it says so. `isConnected`: it has a connection of its own, by which it can be seen to come back.
    package mutating func tookHealth(
        _ device: String, version: String?, uptime: Int64?, isConnected: Bool, at now: Moment
    ) -> [Action] {
        guard var entry = entries[device] else { return [] }
        if let version, entry.deployment.isFor(version) {
            if entry.deployment.state != .queued { entry.deployment.progress = 100 }
            return end(&entry, .success, nil, now)
        }
        guard entry.deployment.state != .queued else { return [] }
        let hasRestarted = uptime.map { uptime in
            now.monotonic - min(max(uptime, 0), now.monotonic / 1000) * 1000 > entry.began + Self.uptimeSlack
        }
        guard entry.deployment.isReportedDone else {
            return hasRestarted == true ? tryAgain(&entry, "the device has started anew before it was done", now) : []
        }
        guard hasRestarted == true || entry.hasComeBack || !isConnected else { return [] }
        guard let version else {
            entry.deployment.isOnItsWord = true
            return end(&entry, .success, nil, now)
        }
        return end(&entry, .rolledBack, "the device has come back with \(version.prefix(32))", now)
    }

    // MARK: - Time

    /// When `advance` has something to do next, by the clock that never jumps.
    package var nextDue: Int64? { dues.min?.time }

    package mutating func advance(to now: Moment) -> [Action] {
        var actions: [Action] = []
        while let due = dues.min, due.time <= now.monotonic {
            dues.removeMin()
            // Of what it was due for before.
            guard var entry = entries[due.device], entry.due == due.time else { continue }
            actions += missed(&entry, now)
        }
        return actions
    }

    private mutating func missed(_ entry: inout Entry, _ now: Moment) -> [Action] {
        switch entry.deployment.state {
        case .queued where entry.queueEnds <= now.monotonic: end(&entry, .timedOut, "the device has not come", now)
        case .queued where entry.deployment.isOffered: tryAgain(&entry, "the device does not answer", now)
        case .queued where entry.isOnline: offer(&entry, now)
        case .queued: awaitDevice(&entry, now)
        case .started: tryAgain(&entry, "the device does not begin to load", now)
        default:
            tryAgain(
                &entry,
                entry.deployment.isReportedDone
                    ? "the device has not come back with it" : "nothing was heard of its progress", now)
        }
    }

    private mutating func awaitDevice(_ entry: inout Entry, _ now: Moment) -> [Action] {
        wait(&entry, until: entry.queueEnds, now)
        return put(entry)
    }

    // MARK: - Steps

    private mutating func offer(_ entry: inout Entry, _ now: Moment, isAgain: Bool = false) -> [Action] {
        if !isAgain { entry.deployment.attempts += 1 }
        entry.deployment.isOffered = true
        entry.deployment.reason = nil
        wait(&entry, until: now.monotonic + timing.offered, now)
        return put(entry) + [.offer(entry.deployment)]
    }

    private mutating func tryAgain(_ entry: inout Entry, _ reason: String, _ now: Moment) -> [Action] {
        let attempts = entry.deployment.attempts
        guard attempts < timing.attempts else { return end(&entry, .timedOut, reason, now) }
        entry.deployment.state = .queued
        entry.deployment.since = now.wall
        entry.deployment.reason = reason
        entry.deployment.progress = nil
        (entry.deployment.isOffered, entry.deployment.isReportedDone, entry.hasComeBack) = (false, false, false)
        let pause = min(timing.backOff << Int64(max(0, attempts - 1)), Self.longestBackOff)
        // However long the first attempt has waited for the device, the next one has its time.
        entry.queueEnds = max(entry.queueEnds, now.monotonic + pause + timing.offered)
        wait(&entry, until: now.monotonic + pause, now)
        return put(entry)
    }

    private func begin(_ entry: inout Entry, _ state: Deployment.State, _ time: Int64, _ now: Moment) {
        if entry.deployment.state == .queued { entry.began = now.monotonic }
        entry.deployment.state = state
        entry.deployment.since = now.wall
        entry.deployment.isOffered = false
        entry.deployment.reason = nil
        entry.deployment.started = entry.deployment.started ?? now.wall
        wait(&entry, until: now.monotonic + time, now)
    }

    private func wait(_ entry: inout Entry, until due: Int64, _ now: Moment) {
        entry.due = due
        entry.deployment.due = now.wall + (due - now.monotonic)
    }

    private mutating func end(
        _ entry: inout Entry, _ state: Deployment.State, _ reason: String?, _ now: Moment
    ) -> [Action] {
        entry.deployment.state = state
        entry.deployment.reason = reason
        (entry.deployment.since, entry.deployment.due, entry.deployment.ended) = (now.wall, now.wall, now.wall)
        entry.deployment.isOffered = false
        entries[entry.deployment.device] = nil
        return [.changed(entry.deployment, isProgress: false)]
    }

    private mutating func keep(_ entry: Entry) {
        entries[entry.deployment.device] = entry
        dues.insert(Due(time: entry.due, device: entry.deployment.device))
    }

    private mutating func put(_ entry: Entry, isProgress: Bool = false) -> [Action] {
        keep(entry)
        return [.changed(entry.deployment, isProgress: isProgress)]
    }
}
