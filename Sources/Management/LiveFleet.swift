internal import Access
package import Fleet
internal import HTTP
internal import JSON
internal import Locks
internal import Store

/// The devices as they are at this moment, for whoever asks. From any thread, and nobody waits.
package final class LiveFleet: Sendable {
    struct State {
        var table: FleetTable
        var history = HealthHistory()
        /// Devices of which something has changed that others are told, since it was told.
        var untold: Set<String> = []
        /// Devices whose state is another than on the disk.
        var unsaved: Set<String> = []
        /// Devices that somebody has deleted lately: what waits for them is for nobody.
        var removed: Set<String> = []
    }

    private let state: Lock<State>
    private let desks = Lock<(any CommandDesk)?>(nil)

    /// Who gives commands to devices; nil: no broker runs.
    var desk: (any CommandDesk)? { desks.withLock { $0 } }

    func setDesk(_ desk: any CommandDesk) { desks.withLock { $0 = desk } }

    /// `offlineAfter`: `device_offline_after`, milliseconds. `isServing`: devices can come; else all are offline.
    init(_ store: FleetStore, offlineAfter: Int64, isServing: Bool, at now: Moment) throws {
        var table = FleetTable(offlineAfter: offlineAfter)
        for (device, isBlocked, known) in try store.deviceStates() {
            var state = known
            if !isServing, state.isOnline { (state.isOnline, state.offlineReason) = (false, .serverRestarted) }
            table.add(device, state, isBlocked: isBlocked, at: now)
        }
        for deployment in try store.latestDeployments() { table.setDeployment(deployment) }
        state = Lock(State(table: table))
    }

    func withState<Value>(_ body: (inout State) -> Value) -> Value { state.withLock { body(&$0) } }

    package func state(of device: String) -> DeviceState? { state.withLock { $0.table.state(of: device) } }

    /// The id of the one that is under way; nil: none is.
    func activeDeployment(of device: String) -> String? {
        let latest = state(of: device)?.deployment
        return latest.flatMap { $0.state.isOver ? nil : $0.id }
    }

    package func setOfflineAfter(_ milliseconds: Int64) { state.withLock { $0.table.offlineAfter = milliseconds } }

    // MARK: - Devices come and go

    func add(_ devices: [String], at now: Moment) {
        state.withLock { state in
            for device in devices where state.table.state(of: device) == nil {
                state.table.add(device, isBlocked: false, at: now)
                state.untold.insert(device)
            }
        }
    }

    func remove(_ device: String) {
        state.withLock { state in
            state.table.remove(device)
            state.history.remove(device)
            state.unsaved.remove(device)
            state.removed.insert(device)
            state.untold.insert(device)
        }
    }

    func setBlocked(_ isBlocked: Bool, _ device: String) {
        state.withLock { state in
            state.table.setBlocked(isBlocked, device)
            state.untold.insert(device)
        }
    }

    /// Its owner, or what they call it, is another.
    func touch(_ device: String) { state.withLock { _ = $0.untold.insert(device) } }

    // MARK: - Figures

    /// How many of those devices there are, are online, were never seen, are blocked.
    func totals(of devices: some Sequence<String>) -> FleetTotals {
        state.withLock { state in
            var totals = FleetTotals()
            for device in devices {
                guard let known = state.table.state(of: device) else { continue }
                totals.devices += 1
                if known.isOnline { totals.online += 1 } else if known.lastSeen == nil { totals.neverSeen += 1 }
                if known.isFlapping { totals.flapping += 1 }
                if state.table.isBlocked(device) ?? false { totals.blocked += 1 }
            }
            return totals
        }
    }

    /// For the metrics.
    package var figures: FleetFigures {
        state.withLock { state in
            FleetFigures(
                devices: state.table.count, online: state.table.onlineCount, flapping: state.table.flappingCount,
                taken: state.table.takenReports, ignored: state.table.ignoredReports,
                unreadable: state.table.unreadableReports)
        }
    }
}

struct FleetTotals: Sendable, Equatable {
    var devices = 0
    var online = 0
    var neverSeen = 0
    var blocked = 0
    var flapping = 0

    var offline: Int { devices - online - neverSeen }

    var json: JSONValue {
        .object([
            "devices": .integer(Int64(devices)), "online": .integer(Int64(online)),
            "offline": .integer(Int64(offline)), "neverSeen": .integer(Int64(neverSeen)),
            "blocked": .integer(Int64(blocked)), "flapping": .integer(Int64(flapping)),
        ])
    }
}

package struct FleetFigures: Sendable, Equatable {
    package let devices: Int
    package let online: Int
    package let flapping: Int
    /// Messages of devices.
    package let taken: UInt64
    package let ignored: UInt64
    package let unreadable: UInt64
}

extension DeviceState {
    /// What a device's record says of it, besides who and whose it is.
    func write(into text: inout JSONText) {
        text.add("online", .bool(isOnline))
        text.add("presence", isOnline ? "ONLINE" : lastSeen == nil ? "NEVER_SEEN" : "OFFLINE")
        text.add("lastSeen", lastSeen.map(internetTime))
        text.add("offlineAt", lastSeen == nil ? nil : offlineAt.map(internetTime))
        text.add("offlineReason", offlineReason?.rawValue)
        text.add("flapping", .bool(isFlapping))
        // As a boolean, as it always was; what is not known is off.
        text.add("ledState", .bool(ledState ?? false))
        text.add("status", status ?? .null)
        text.add("firmwareVersion", firmwareVersion)
        text.add("targetVersion", deployment?.version)
        text.add("otaStatus", deployment?.state.rawValue ?? "IDLE")
        text.add("otaProgress", deployment?.progress.map { .integer(Int64($0)) } ?? .null)
        text.add("otaReason", deployment?.reason)
        text.add("otaStartedAt", deployment.map { internetTime($0.created) })
        text.add("health", health ?? .object([:]))
        text.add("healthAt", healthTime.map(internetTime))
        text.add("lastHeap", health?["heap"] ?? .null)
        text.add("lastTemp", health?["temp"] ?? .null)
    }
}
