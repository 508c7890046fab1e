internal import Dispatch
package import Fleet
internal import JSON
internal import Store

/// What a device listens to; the raw value is the end of its topic.
package enum DeviceBox: String, Sendable { case command, ota }

/// The broker, as whoever keeps the fleet needs it.
package protocol DeviceBroker: Sendable {
    /// Publishes what is for a device, and returns to how many of its own connections it went, and how many of them will
    /// acknowledge it; to others only if they shall get it. After `milliseconds` it is not sent again. When it is acknowledged
    /// the feed tells, by `number`.
    func send(
        _ payload: [UInt8], on topic: DeviceBox, number: UInt64, to device: String, within milliseconds: Int64,
        andOthers: Bool
    ) async -> (sent: Int, awaited: Int)
    /// What was sent by these numbers, and is not acknowledged, is not sent again.
    func withdraw(_ numbers: Set<UInt64>)
    /// Answers a request of the feed.
    func answer(_ response: [UInt8], to person: String) async
    /// The connections of devices that have brought a packet since then, by the clock that never jumps.
    func devicesHeard(since milliseconds: Int64) async -> [(device: String, link: Link)]
    /// Publishes what is the server's own; what is retained is cleared without a payload.
    func publishOwn(_ messages: [(topic: String, payload: [UInt8], isRetained: Bool)]) async
}

/// What devices do, taken from the broker as it happens: brings it to the table of the fleet, into the log, to the disk in
/// batches, and to `$SYS/devices/`. Gives commands to devices, and sees to it that each is delivered or expires. An actor on
/// a queue of its own, since it waits for the disk.
package actor FleetKeeper: CommandDesk {
    package enum Limits {
        /// What waits for a disk that fails: rows of health, and entries of the log. Past it the oldest are given up.
        package static let waiting = 50_000
        /// Requests over MQTT that wait for their turn.
        package static let requests = 256
        /// Milliseconds between two looks at who has been heard.
        package static let hearing: Int64 = 5_000
    }

    private let executor = QueueExecutor("fleet", qos: .utility)
    package nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe executor.asUnownedSerialExecutor() }

    let management: Management
    let live: LiveFleet
    private let store: FleetStore
    private let feed: FleetFeed
    let broker: any DeviceBroker
    let now: @Sendable () -> Moment
    private let report: @Sendable (String) -> Void

    /// What the disk has not taken yet.
    private var rows: [HealthRow] = []
    private var activities: [(activity: Activity, isCounted: Bool)] = []
    private var isFailing = false
    private var latestRequest: Task<Void, Never>?
    private var waitingRequests = 0
    private var heardAt: Int64
    /// Where devices have connected from, and to.
    private var addresses: [String: String] = [:]
    private(set) var hosts: [String: String] = [:]

    var deployments = DeploymentTable()
    /// What devices were told, by number: which deployment that is of which device.
    var offers: [UInt64: (deployment: String, device: String)] = [:]
    /// To be told.
    var dueOffers: [Deployment] = []
    /// What the disk has not taken yet, the latest of each.
    private var unsavedDeployments: [String: Deployment] = [:]

    // MARK: Commands

    /// A command that somebody waits for the end of.
    private struct Pending {
        let id: String
        let device: String
        let payload: [UInt8]
        let actor: String
        /// By the clock that never jumps.
        let expires: Int64
        /// It is given to the device when that comes, and lies on the disk until then.
        let isQueued: Bool
        /// It has gone to the device.
        var isSent: Bool
        /// Others who listen have got it.
        var isPublished: Bool
    }

    /// By number, which ascends.
    private var commands: [UInt64: Pending] = [:]
    private var nextCommand: UInt64 = 1

    /// `report`: for the log, when the disk begins to fail.
    package init(
        _ management: Management, feed: FleetFeed, broker: any DeviceBroker,
        now: @escaping @Sendable () -> Moment, report: @escaping @Sendable (String) -> Void
    ) throws {
        self.management = management
        live = management.fleet
        store = management.store
        self.feed = feed
        self.broker = broker
        self.now = now
        self.report = report
        let moment = now()
        heardAt = moment.monotonic
        for record in try store.commands() {
            // Where the clock was set back, no longer than it was given for.
            let left = min(record.expires - moment.wall, record.expires - record.created)
            commands[nextCommand] = Pending(
                id: record.id, device: record.deviceId, payload: Array(record.payload.utf8), actor: record.actor,
                expires: moment.monotonic + left, isQueued: true, isSent: false, isPublished: false)
            nextCommand += 1
        }
        deployments.restore(live.withState { $0.table.deployments }, at: moment)
        live.setDesk(self)
    }

    func takeNumber() -> UInt64 {
        defer { nextCommand += 1 }
        return nextCommand
    }

    /// Takes what happens until it is cancelled.
    package func run() async {
        for await _ in feed.signals {
            await drain()
            // What comes meanwhile is one batch.
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    /// What time brings: each second.
    package func tick() async {
        let moment = now()
        live.setOfflineAfter(management.settings().deviceOfflineAfter)
        if moment.monotonic - heardAt >= Limits.hearing {
            let heard = await broker.devicesHeard(since: heardAt)
            heardAt = moment.monotonic
            live.withState { state in
                for (device, link) in heard { state.table.heard(device, link, at: moment) }
            }
        }
        await drain()
        await sendQueued()
        expireCommands()
        note(deployments.advance(to: now()), at: now())
        save()
        await sendOffers()
    }

    /// The same for the end: all that is known goes to the disk.
    package func finish() async {
        await drain()
        live.withState { state in
            rows += state.history.takeAll()
            state.unsaved.formUnion(state.table.seenDevices)
        }
        save()
    }

    // MARK: - What happens

    func drain() async {
        let events = feed.take()
        let moment = now()
        var happened: [(what: Happening, moment: Moment)] = []
        var requests: [FleetRequest] = []
        var actions: [(actions: [DeploymentTable.Action], moment: Moment)] = []
        live.withState { state in
            // First: what has happened since may be about another device of that name already.
            for device in state.removed { forget(device) }
            state.removed = []
            for (event, moment) in events {
                var changes: [FleetTable.Change] = []
                switch event {
                case .connected(let device, let link, let address, let host):
                    (addresses[device], hosts[device]) = (address, host)
                    sendAgain(to: device)
                    actions.append((deployments.cameOnline(device, at: moment), moment))
                    changes = [state.table.connected(device, link, at: moment)].compactMap(\.self)
                case .ended(let device, let link, let reason):
                    changes = [state.table.ended(device, link, reason, at: moment)].compactMap(\.self)
                case .message(let device, let topic, let payload):
                    changes = take(payload, device, topic, at: moment, &state)
                    actions.append((report(payload, device, topic, at: moment, &state), moment))
                case .delivered(_, let number): happened.append((.delivered(number), moment))
                case .request(let person, let address, let payload):
                    requests.append(FleetRequest(person: person, address: address, payload: payload))
                }
                happened += changes.map { (note($0, &state), moment) }
            }
            let changes = state.table.advance(to: moment) + state.table.calm(at: moment)
            happened += changes.map { (note($0, &state), moment) }
            for case (.change(.wentOffline(let device, _), _), let moment) in happened {
                actions.append((deployments.wentOffline(device, at: moment), moment))
            }
            for row in state.history.takeDue(at: moment) {
                rows.append(row)
                state.unsaved.insert(row.deviceId)
            }
        }
        for (what, moment) in happened {
            switch what {
            case .change(let change, let isFlapping): record(change, isFlapping: isFlapping, at: moment)
            case .delivered(let number): noteDelivered(number, at: moment)
            }
        }
        for (actions, moment) in actions { note(actions, at: moment) }
        save()
        await sendOffers()
        answer(requests)
        await tell()
    }

    private enum Happening {
        case change(FleetTable.Change, isFlapping: Bool)
        case delivered(UInt64)
    }

    // MARK: - Requests over MQTT

    private struct FleetRequest {
        let person: String
        let address: String
        let payload: [UInt8]
    }

    /// One after the other, in the order in which they came; who asks much faster than that is refused.
    private func answer(_ requests: [FleetRequest]) {
        for request in requests {
            guard waitingRequests < Limits.requests else {
                let problem = ManagementProblem(.busy, "too many requests wait")
                let broker = broker
                Task { await broker.answer(Management.refusal(problem), to: request.person) }
                continue
            }
            waitingRequests += 1
            let earlier = latestRequest
            latestRequest = Task { [management, broker] in
                await earlier?.value
                let response = await management.respond(
                    to: request.payload, fromAdministrator: request.person, at: request.address)
                await broker.answer(response, to: request.person)
                self.waitingRequests -= 1
            }
        }
    }

    private func take(
        _ payload: [UInt8], _ device: String, _ topic: FleetEvent.Topic, at moment: Moment,
        _ state: inout LiveFleet.State
    ) -> [FleetTable.Change] {
        let before = state.table.state(of: device)
        // What is seldom another is not left to the next row of its history.
        defer {
            let after = state.table.state(of: device)
            if before?.ledState != after?.ledState || before?.firmwareVersion != after?.firmwareVersion
                || before?.status != after?.status
            {
                state.unsaved.insert(device)
            }
        }
        switch topic {
        case .health:
            let changes = state.table.tookHealth(device, payload, at: moment)
            let after = state.table.state(of: device)
            if let health = after?.health, after?.unreadable == before?.unreadable,
                !(state.table.isBlocked(device) ?? true)
            {
                rows += state.history.add(device, health, at: moment)
            }
            return changes
        case .status: return state.table.tookStatus(device, payload, at: moment)
        case .otaStatus, .other: return state.table.tookOther(device, at: moment)
        }
    }

    /// Presence is saved at once; what is reported all the time only with the row of its history.
    private func note(_ change: FleetTable.Change, _ state: inout LiveFleet.State) -> Happening {
        state.untold.insert(change.device)
        let isPresence = if case .reported = change { false } else { true }
        if isPresence { state.unsaved.insert(change.device) }
        return .change(change, isFlapping: state.table.state(of: change.device)?.isFlapping ?? false)
    }

    private func record(_ change: FleetTable.Change, isFlapping: Bool, at moment: Moment) {
        var activity: Activity
        switch change {
        case .reported: return
        case .cameOnline(let device):
            activity = Activity(time: moment.wall, actor: Self.actor(device), device: device, kind: .deviceOnline)
        case .wentOffline(let device, let reason):
            activity = Activity(
                time: moment.wall, actor: Self.actor(device), device: device, kind: .deviceOffline,
                detail: JSONValue.object(["reason": .string(reason.rawValue)]).text)
        }
        activity.address = addresses[change.device]
        activities.append((activity, isFlapping))
    }

    static func actor(_ device: String) -> String { "device:\(device)" }

    /// To be on the disk with the next batch, with what is said of it in the log.
    func keep(_ deployment: Deployment, _ entry: (activity: Activity, isCounted: Bool)?) {
        unsavedDeployments[deployment.id] = deployment
        if let entry { activities.append(entry) }
    }

    /// At once; throws where the disk does not take it.
    func keepNow(_ deployment: Deployment, _ activity: Activity) throws {
        try store.save([], [], [deployment], [(activity, false)])
        unsavedDeployments[deployment.id] = nil
    }

    // MARK: - The disk

    func save() {
        let states = live.withState { state in
            defer { state.unsaved = [] }
            return state.unsaved.sorted().compactMap { device in
                state.table.state(of: device).map { (deviceId: device, state: $0) }
            }
        }
        guard !states.isEmpty || !rows.isEmpty || !activities.isEmpty || !unsavedDeployments.isEmpty else { return }
        do {
            try store.save(states, rows, Array(unsavedDeployments.values), activities)
            (rows, activities, unsavedDeployments) = ([], [], [:])
            if isFailing { isFailing = false }
        } catch {
            if !isFailing { report("what devices do is not on the disk: \(error)") }
            isFailing = true
            live.withState { $0.unsaved.formUnion(states.map(\.deviceId)) }
            if rows.count > Limits.waiting { rows.removeFirst(rows.count - Limits.waiting) }
            if activities.count > Limits.waiting { activities.removeFirst(activities.count - Limits.waiting) }
        }
    }

    // MARK: - $SYS/devices

    private func tell() async {
        let states = live.withState { state in
            defer { state.untold = [] }
            return state.untold.sorted().map { device in
                (device, state.table.state(of: device), state.table.isBlocked(device) ?? false)
            }
        }
        guard !states.isEmpty else { return }
        await broker.publishOwn(
            states.map { device, state, isBlocked in
                let text = state.map { state in
                    JSONText {
                        $0.add("deviceId", device)
                        state.write(into: &$0)
                        $0.add("blocked", .bool(isBlocked))
                    }
                }
                return ("$SYS/devices/\(device)", text.map { JSONValue.text($0).bytes } ?? [], true)
            })
    }

    // MARK: - Commands

    package func send(_ command: OutgoingCommand, by requester: Requester) async throws -> CommandReceipt {
        let device = command.device
        await drain()  // What the device has said until now counts.
        let isOnline = live.state(of: device)?.isOnline ?? false
        guard isOnline || command.queueMilliseconds != nil else {
            throw ManagementProblem(.deviceOffline, "\(device) is offline; see 'queue'")
        }
        let moment = now()
        let lifetime = command.queueMilliseconds ?? OutgoingCommand.usualLifetime
        let number = nextCommand
        nextCommand += 1
        let id = Secrets.identifier(at: moment.wall)
        let activity = Activity(
            time: moment.wall, actor: requester.actor, address: requester.address, device: device, kind: command.kind,
            detail: command.detail(id: id))
        var pending = Pending(
            id: id, device: device, payload: command.payload, actor: requester.actor,
            expires: moment.monotonic + lifetime, isQueued: command.queueMilliseconds != nil, isSent: false,
            isPublished: isOnline)
        // In the log and on the disk first: a command that went out is never one that nobody knows of.
        let record =
            pending.isQueued
            ? QueuedCommandRecord(
                id: id, deviceId: device, payload: String(decoding: command.payload, as: UTF8.self),
                actor: requester.actor, created: moment.wall, expires: moment.wall + lifetime) : nil
        try store.add(record, activity)
        // Before it is sent, for it may be acknowledged before that is over.
        pending.isSent = isOnline
        commands[number] = pending
        var isWaiting = !isOnline
        if isOnline {
            let reach = await broker.send(
                command.payload, on: .command, number: number, to: device, within: lifetime, andOthers: true)
            if reach.sent > 0 {
                if reach.awaited == 0 { noteUnconfirmed(number) }
            } else if pending.isQueued {
                // It does not listen yet: with the next turn.
                commands[number]?.isSent = false
                isWaiting = true
            } else {
                commands[number] = nil
            }
        }
        return CommandReceipt(id: id, isQueued: isWaiting, expires: moment.wall + lifetime)
    }

    /// Those that wait for a device which is there now.
    private func sendQueued() async {
        let moment = now()
        for (number, pending) in commands.sorted(by: { $0.key < $1.key }) where pending.isQueued && !pending.isSent {
            guard pending.expires > moment.monotonic, live.state(of: pending.device)?.isOnline ?? false else {
                continue
            }
            guard await management.mayCommand(pending.device, pending.actor) else {
                if let pending = commands.removeValue(forKey: number) { end(pending, .commandExpired, pending.actor) }
                continue
            }
            let left = pending.expires - moment.monotonic
            let reach = await broker.send(
                pending.payload, on: .command, number: number, to: pending.device, within: left,
                andOthers: !pending.isPublished)
            commands[number]?.isPublished = true
            guard reach.sent > 0 else { continue }
            commands[number]?.isSent = true
            if reach.awaited == 0 { noteUnconfirmed(number) }
        }
    }

    /// It has another connection: what waited for it and was not acknowledged may have gone with the session that it had.
    private func sendAgain(to device: String) {
        for number in commands.keys where commands[number]?.device == device && commands[number]?.isQueued ?? false {
            commands[number]?.isSent = false
        }
    }

    /// It is deleted. One that is registered by this name later is another.
    private func forget(_ device: String) {
        (addresses[device], hosts[device]) = (nil, nil)
        deployments.remove(device)
        offers = offers.filter { $0.value.device != device }
        unsavedDeployments = unsavedDeployments.filter { $0.value.device != device }
        commands = commands.filter { $0.value.device != device }
    }

    private func noteDelivered(_ number: UInt64, at moment: Moment) {
        if let offer = offers.removeValue(forKey: number) {
            return note(deployments.acknowledged(offer.deployment, of: offer.device, at: moment), at: moment)
        }
        guard let pending = commands.removeValue(forKey: number) else { return }
        end(pending, .commandDelivered, Self.actor(pending.device))
    }

    /// It went out at QoS 0, for the device listens so: nothing will tell whether it came, and it is not sent again.
    private func noteUnconfirmed(_ number: UInt64) {
        guard let pending = commands.removeValue(forKey: number) else { return }
        end(pending, .commandUnconfirmed, pending.actor)
    }

    private func expireCommands() {
        let moment = now()
        for (number, pending) in commands.sorted(by: { $0.key < $1.key }) where pending.expires <= moment.monotonic {
            commands[number] = nil
            end(pending, .commandExpired, pending.actor)
        }
    }

    private func end(_ pending: Pending, _ kind: Activity.Kind, _ actor: String) {
        let activity = Activity(
            time: now().wall, actor: actor, device: pending.device, kind: kind,
            detail: JSONValue.object(["commandId": .string(pending.id)]).text)
        guard pending.isQueued else { return activities.append((activity, false)) }
        do {
            try store.removeCommand(pending.id, activity)
        } catch {
            // After a restart it would go out again, unless its time is over then.
            report("the end of a command is not on the disk: \(error)")
        }
    }
}
