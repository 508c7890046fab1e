internal import HeapModule
internal import JSON

/// Names a connection for as long as the process lives.
package struct Link: Hashable, Sendable {
    package let shard: Int
    /// Unique on its shard.
    package let number: UInt64

    package init(shard: Int, number: UInt64) {
        self.shard = shard
        self.number = number
    }
}

/// What all devices do, as one value: what happens goes in, what has changed by it comes out. Knows neither clocks nor
/// disks. A device is **online** while it has a connection, and for `offlineAfter` after a message that others brought.
package struct FleetTable: Sendable {
    package enum Limits {
        /// So many changes of presence within `flappingWindow` make a device flap, until it is calm for as long.
        package static let flaps = 10
        /// Milliseconds.
        package static let flappingWindow: Int64 = 600_000
        /// Bytes of a report; a longer one counts as unreadable.
        package static let reportBytes = 16_384
    }

    /// What has become of a device.
    package enum Change: Sendable, Equatable {
        case cameOnline(String)
        case wentOffline(String, OfflineReason)
        /// Something else of its state: what it has reported.
        case reported(String)

        package var device: String {
            switch self {
            case .cameOnline(let device), .wentOffline(let device, _), .reported(let device): device
            }
        }
    }

    private struct Entry: Sendable {
        var state = DeviceState()
        var links: [Link] = []
        /// When a sign of life came last, by the clock that never jumps.
        var heard: Int64 = 0
        /// Whether `silences` has an entry of it.
        var isWatched = false
        /// Of the latest changes of presence, the last first; as many as flapping takes.
        var changes: [Int64] = []
        var isBlocked = false
    }

    /// When a device without a connection is missed: no earlier than this.
    private struct Silence: Comparable, Sendable {
        let due: Int64
        let device: String

        static func < (left: Silence, right: Silence) -> Bool { (left.due, left.device) < (right.due, right.device) }
    }

    /// Milliseconds (`device_offline_after`).
    package var offlineAfter: Int64
    private var entries: [String: Entry] = [:]
    private var silences = Heap<Silence>()
    /// Messages of devices that nobody has registered, or that are blocked.
    package private(set) var ignoredReports: UInt64 = 0
    package private(set) var unreadableReports: UInt64 = 0
    package private(set) var takenReports: UInt64 = 0
    package private(set) var onlineCount = 0
    package private(set) var flappingCount = 0

    package init(offlineAfter: Int64) { self.offlineAfter = offlineAfter }

    package var count: Int { entries.count }

    /// In order of their names.
    package var seenDevices: [String] { entries.filter { $0.value.state.lastSeen != nil }.keys.sorted() }

    /// Nil: there is no such device.
    package func state(of device: String) -> DeviceState? { entries[device]?.state }

    // MARK: - Devices

    /// A device is there from now on. One that was online when the server ended is given the time in which others are missed.
    package mutating func add(_ device: String, _ state: DeviceState = DeviceState(), isBlocked: Bool, at now: Moment) {
        var entry = Entry(state: state)
        entry.isBlocked = isBlocked
        if state.isOnline {
            onlineCount += 1
            entry.heard = now.monotonic
            watch(device, &entry)
        }
        // Calm is not known of it, but nor is anything else.
        entry.state.isFlapping = false
        entries[device] = entry
    }

    package mutating func remove(_ device: String) {
        guard let entry = entries.removeValue(forKey: device) else { return }
        if entry.state.isOnline { onlineCount -= 1 }
        if entry.state.isFlapping { flappingCount -= 1 }
    }

    /// Messages of one that is blocked count for nothing, and without a connection it is offline with the next `advance`.
    package mutating func setBlocked(_ isBlocked: Bool, _ device: String) {
        guard var entry = take(device) else { return }
        entry.isBlocked = isBlocked
        if isBlocked, entry.state.isOnline, entry.links.isEmpty { silences.insert(Silence(due: 0, device: device)) }
        entries[device] = entry
    }

    /// What became of a firmware for it.
    package mutating func setDeployment(_ deployment: Deployment) {
        entries[deployment.device]?.state.deployment = deployment
    }

    /// The latest of each device, by id.
    package var deployments: [Deployment] { entries.values.compactMap(\.state.deployment).sorted { $0.id < $1.id } }

    /// Something that it has said can't be read.
    package mutating func noteUnreadable(_ device: String) {
        guard entries[device] != nil else { return }
        unreadableReports += 1
        entries[device]?.state.unreadable += 1
    }

    package func isBlocked(_ device: String) -> Bool? { entries[device]?.isBlocked }

    // MARK: - Connections

    package mutating func connected(_ device: String, _ link: Link, at now: Moment) -> Change? {
        guard var entry = take(device) else { return nil }
        defer { entries[device] = entry }
        if !entry.links.contains(link) { entry.links.append(link) }
        note(now, &entry)
        return comeOnline(device, &entry, now)
    }

    /// It goes offline with the last of its connections; without a reason it is there by another one, which is told next.
    package mutating func ended(_ device: String, _ link: Link, _ reason: OfflineReason?, at now: Moment) -> Change? {
        guard var entry = take(device) else { return nil }
        defer { entries[device] = entry }
        guard let index = entry.links.firstIndex(of: link) else { return nil }
        entry.links.remove(at: index)
        guard entry.links.isEmpty, entry.state.isOnline else { return nil }
        guard let reason else {
            watch(device, &entry)
            return nil
        }
        return goOffline(device, &entry, reason, now)
    }

    /// Its connection brings packets.
    package mutating func heard(_ device: String, _ link: Link, at now: Moment) {
        guard entries[device]?.links.contains(link) ?? false, var entry = take(device) else { return }
        note(now, &entry)
        entries[device] = entry
    }

    package func hasConnection(_ device: String) -> Bool { entries[device].map { !$0.links.isEmpty } ?? false }

    // MARK: - Reports

    /// A message on `devices/{device}/health`.
    package mutating func tookHealth(_ device: String, _ payload: [UInt8], at now: Moment) -> [Change] {
        report(device, at: now) { entry in
            guard payload.count <= Limits.reportBytes, let health = JSONValue(parsing: payload) else { return false }
            entry.state.health = health
            entry.state.healthTime = now.wall
            if let version = health["fw"]?.string { entry.state.firmwareVersion = String(version.prefix(64)) }
            return true
        }
    }

    /// A message on `devices/{device}/status`: `ON`, `OFF`, or JSON, whose `led` or `state` may say the same.
    package mutating func tookStatus(_ device: String, _ payload: [UInt8], at now: Moment) -> [Change] {
        report(device, at: now) { entry in
            if let isOn = Self.isOn(payload) {
                (entry.state.ledState, entry.state.status) = (isOn, nil)
                return true
            }
            guard payload.count <= Limits.reportBytes, let status = JSONValue(parsing: payload) else { return false }
            entry.state.status = status
            for name in ["led", "state"] {
                guard let value = status[name] else { continue }
                let isOn = value.bool ?? value.string.flatMap { Self.isOn(Array($0.utf8)) }
                if let isOn { entry.state.ledState = isOn }
            }
            return true
        }
    }

    private static func isOn(_ text: [UInt8]) -> Bool? {
        switch String(decoding: text.prefix(4), as: UTF8.self) {
        case "ON": true
        case "OFF": false
        default: nil
        }
    }

    /// Any other message of a device, which shows that it is there.
    package mutating func tookOther(_ device: String, at now: Moment) -> [Change] {
        report(device, at: now) { _ in true }
    }

    private mutating func report(_ device: String, at now: Moment, _ read: (inout Entry) -> Bool) -> [Change] {
        guard isBlocked(device) == false, var entry = take(device) else {
            ignoredReports += 1
            return []
        }
        defer { entries[device] = entry }
        takenReports += 1
        var changes: [Change] = []
        let before = entry.state
        note(now, &entry)
        if let change = comeOnline(device, &entry, now) { changes.append(change) }
        if entry.links.isEmpty { watch(device, &entry) }
        if !read(&entry) {
            unreadableReports += 1
            entry.state.unreadable += 1
        }
        if entry.state != before, changes.isEmpty { changes.append(.reported(device)) }
        return changes
    }

    // MARK: - Time

    /// When `advance` has something to do next, by the clock that never jumps.
    package var nextDue: Int64? { silences.min?.due }

    /// Those without a connection who are missed by now, in the order in which they came to be.
    package mutating func advance(to now: Moment) -> [Change] {
        var changes: [Change] = []
        while let silence = silences.min, silence.due <= now.monotonic {
            silences.removeMin()
            guard var entry = take(silence.device) else { continue }
            entry.isWatched = false
            if entry.state.isOnline, entry.links.isEmpty {
                if entry.isBlocked {
                    changes.append(goOffline(silence.device, &entry, .notAuthorized, now))
                } else if entry.heard + offlineAfter <= now.monotonic {
                    // Nobody has heard it in this process: it was online in the one before.
                    let reason: OfflineReason = entry.changes.isEmpty ? .serverRestarted : .silent
                    changes.append(goOffline(silence.device, &entry, reason, now))
                } else {
                    watch(silence.device, &entry)
                }
            }
            entries[silence.device] = entry
        }
        return changes
    }

    /// Devices that have been calm for as long as flapping looks back. Costs a glance at each device.
    package mutating func calm(at now: Moment) -> [Change] {
        guard flappingCount > 0 else { return [] }
        var changes: [Change] = []
        for device in entries.keys.sorted() where entries[device]?.state.isFlapping ?? false {
            guard let latest = entries[device]?.changes.first, now.monotonic - latest >= Limits.flappingWindow else {
                continue
            }
            entries[device]?.state.isFlapping = false
            flappingCount -= 1
            changes.append(.reported(device))
        }
        return changes
    }

    /// Taken out, so that changing it copies nothing; whoever takes it puts it back.
    private mutating func take(_ device: String) -> Entry? { entries.removeValue(forKey: device) }

    private mutating func note(_ now: Moment, _ entry: inout Entry) {
        entry.heard = now.monotonic
        entry.state.lastSeen = now.wall
    }

    private mutating func watch(_ device: String, _ entry: inout Entry) {
        guard !entry.isWatched else { return }
        entry.isWatched = true
        silences.insert(Silence(due: entry.heard + offlineAfter, device: device))
    }

    private mutating func comeOnline(_ device: String, _ entry: inout Entry, _ now: Moment) -> Change? {
        guard !entry.state.isOnline else {
            // Back after a restart, before it was missed.
            if entry.changes.isEmpty { entry.changes = [now.monotonic] }
            return nil
        }
        entry.state.isOnline = true
        entry.state.sessions += 1
        onlineCount += 1
        (entry.state.since, entry.state.offlineReason) = (now.wall, nil)
        noteChange(&entry, now)
        return .cameOnline(device)
    }

    private mutating func goOffline(
        _ device: String, _ entry: inout Entry, _ reason: OfflineReason, _ now: Moment
    ) -> Change {
        entry.state.isOnline = false
        onlineCount -= 1
        (entry.state.since, entry.state.offlineReason) = (now.wall, reason)
        noteChange(&entry, now)
        return .wentOffline(device, reason)
    }

    private mutating func noteChange(_ entry: inout Entry, _ now: Moment) {
        entry.changes.insert(now.monotonic, at: 0)
        if entry.changes.count > Limits.flaps { entry.changes.removeLast() }
        guard !entry.state.isFlapping, entry.changes.count == Limits.flaps,
            now.monotonic - (entry.changes.last ?? 0) < Limits.flappingWindow
        else { return }
        entry.state.isFlapping = true
        flappingCount += 1
    }
}
