import Fleet
import Seeded
import Testing

/// A time by both clocks, which go alike from a start in 2026.
private func at(_ milliseconds: Int64, clockIsOff off: Int64 = 0) -> Moment {
    Moment(monotonic: 1_000_000_000 + milliseconds, wall: 1_790_000_000_000 + milliseconds + off)
}

private func deployment(_ id: String = "1", of device: String = "A", at time: Int64 = 0) -> Deployment {
    Deployment(
        id: id, device: device, model: "m", version: "1.1.0", previousVersion: "1.0.0", actor: "ann@x",
        created: at(time).wall)
}

/// One device with a deployment that is in some state, and what came of it.
private struct Trial {
    var table = DeploymentTable()
    var latest: Deployment
    var offers = 0
    var withdrawals = 0

    init(online: Bool = true) throws {
        latest = deployment()
        note(try table.start(latest, isOnline: online, at: at(0)))
    }

    mutating func note(_ actions: [DeploymentTable.Action]) {
        for action in actions {
            switch action {
            case .changed(let deployment, _): latest = deployment
            case .offer: offers += 1
            case .withdraw: withdrawals += 1
            }
        }
    }

    mutating func acknowledge(_ time: Int64) { note(table.acknowledged("1", of: "A", at: at(time))) }

    mutating func says(_ text: String, _ time: Int64, reportsVersion: Bool = true) {
        note(table.reported("A", Array(text.utf8), reportsVersion: reportsVersion, at: at(time)) ?? [])
    }

    mutating func runs(_ version: String?, uptime: Int64? = nil, _ time: Int64, isConnected: Bool = true) {
        note(table.tookHealth("A", version: version, uptime: uptime, isConnected: isConnected, at: at(time)))
    }

    mutating func comes(_ time: Int64) { note(table.cameOnline("A", at: at(time))) }
    mutating func goes(_ time: Int64) { note(table.wentOffline("A", at: at(time))) }
    mutating func passes(until time: Int64) { note(table.advance(to: at(time))) }

    /// The state in which it is, and how far.
    var state: Deployment.State { latest.state }

    /// To that state, from the beginning, within a second.
    mutating func reach(_ stage: Stage) {
        guard stage != .offered else { return }
        acknowledge(100)
        guard stage != .started else { return }
        says(#"{"status":"IN_PROGRESS","progress":40}"#, 200)
        guard stage != .loading else { return }
        says("SUCCESS", 300)
    }

    /// What a device and its server can be in the midst of.
    enum Stage: CaseIterable { case offered, started, loading, done }
}

@Suite struct `A deployment` {
    @Test func `goes from the message to the device that runs the version`() throws {
        var trial = try Trial()
        #expect(trial.offers == 1 && trial.state == .queued && trial.latest.attempts == 1)
        trial.acknowledge(100)
        #expect(trial.state == .started && trial.latest.started == at(100).wall)
        trial.says("IN_PROGRESS", 200)
        trial.says(#"{"status":"in_progress","progress":40,"deployment":"1"}"#, 300)
        #expect(trial.state == .inProgress && trial.latest.progress == 40)
        trial.says("SUCCESS", 400)
        #expect(trial.state == .inProgress && trial.latest.progress == 100, "until the device shows it")
        trial.runs("1.0.0", uptime: 500, 500)
        #expect(trial.state == .inProgress, "it has not started anew yet")
        trial.goes(600)
        trial.comes(5_000)
        trial.runs("v1.1.0", uptime: 3, 6_000)
        #expect(trial.state == .success && trial.latest.ended == at(6_000).wall && !trial.latest.isOnItsWord)
        #expect(trial.table.count == 0)
    }

    @Test func `waits for a device that is away, and not for ever`() throws {
        var trial = try Trial(online: false)
        #expect(trial.offers == 0 && trial.state == .queued)
        trial.comes(3_600_000)
        #expect(trial.offers == 1 && trial.latest.attempts == 1)
        var other = try Trial(online: false)
        other.passes(until: 7 * 86_400_000 - 1)
        #expect(other.state == .queued)
        other.passes(until: 7 * 86_400_000)
        #expect(other.state == .timedOut)
    }

    @Test func `is told anew to a device that comes back without having acknowledged it, which counts as no attempt`()
        throws
    {
        var trial = try Trial()
        for number in 1...5 {
            trial.goes(Int64(number) * 1_000)
            trial.passes(until: Int64(number) * 1_000 + 500)
            trial.comes(Int64(number) * 1_000 + 600)
        }
        #expect(trial.offers == 6 && trial.latest.attempts == 1 && trial.state == .queued)
    }

    @Test func `is told again soon to a device that does not listen yet`() throws {
        var trial = try Trial()
        trial.note(trial.table.unheard("1", of: "A", at: at(10)))
        #expect(trial.latest.attempts == 1)
        trial.passes(until: 1_000)
        #expect(trial.offers == 1)
        trial.passes(until: 2_010)
        #expect(trial.offers == 2 && trial.latest.attempts == 1)
    }

    @Test func `is one at a time, and the same one twice is one`() throws {
        var trial = try Trial()
        #expect(try trial.table.start(trial.latest, isOnline: true, at: at(1)).isEmpty)
        #expect(throws: DeploymentTable.Refusal.underWay(trial.latest)) {
            try trial.table.start(deployment("2"), isOnline: true, at: at(1))
        }
        #expect(try trial.table.start(deployment("3", of: "B"), isOnline: false, at: at(1)).count == 1)
        #expect(trial.table.deployments(of: "m", "1.1.0").map(\.id) == ["1", "3"])
        #expect(trial.table.deployments(of: "m", "1.0.0").isEmpty)
    }

    @Test(arguments: Trial.Stage.allCases) fileprivate func `ends when the device says that it failed`(
        _ stage: Trial.Stage
    ) throws {
        var trial = try Trial()
        trial.reach(stage)
        trial.says(#"{"status":"FAILED","reason":"no room"}"#, 1_000)
        #expect(trial.state == .failed && trial.latest.reason == "no room")
    }

    @Test(arguments: Trial.Stage.allCases)
    fileprivate func `ends with the version, whatever the device has said before`(
        _ stage: Trial.Stage
    ) throws {
        var trial = try Trial()
        trial.reach(stage)
        trial.runs("1.1.0", 1_000)
        #expect(trial.state == .success)
    }

    @Test(arguments: Trial.Stage.allCases)
    fileprivate func `ends by time alone, after as many attempts as there may be`(
        _ stage: Trial.Stage
    ) throws {
        var trial = try Trial()
        trial.reach(stage)
        var steps = 0
        while let due = trial.table.nextDue, steps < 1_000 {
            trial.passes(until: due - 1_000_000_000)
            steps += 1
        }
        #expect(trial.state == .timedOut && trial.offers == 3 && trial.latest.reason != nil)
        #expect(trial.latest.ended ?? 0 < at(3_600_000).wall)
    }

    @Test(arguments: Trial.Stage.allCases) fileprivate func `goes on after a restart where it was`(_ stage: Trial.Stage)
        throws
    {
        var before = try Trial()
        before.reach(stage)
        let kept = before.latest
        var after = before
        after.table = DeploymentTable()
        // The clock that never jumps has another beginning in the next process.
        let start = Moment(monotonic: 5_000, wall: at(2_000).wall)
        after.table.restore([kept], at: start)
        #expect(after.table.deployment(of: "A") == kept)
        let left = (after.table.nextDue ?? 0) - 5_000
        // A device that was told is away, as is everybody.
        #expect(left == (stage == .offered ? 7 * 86_400_000 - 2_000 : kept.due - at(2_000).wall) && left > 0)
        let came = Moment(monotonic: 6_000, wall: at(3_000).wall)
        after.note(after.table.cameOnline("A", at: came))
        #expect(after.offers == before.offers + (stage == .offered ? 1 : 0))
        after.note(after.table.tookHealth("A", version: "1.0.0", uptime: nil, isConnected: true, at: came))
        #expect(after.state == before.state, "everybody comes back when a server has started anew")
        let later = Moment(monotonic: 9_000, wall: at(6_000).wall)
        after.note(after.table.tookHealth("A", version: "1.1.0", uptime: 1, isConnected: true, at: later))
        #expect(after.state == .success)
    }

    @Test(arguments: Trial.Stage.allCases)
    fileprivate func `loses no attempt by a server that was away, and not its last one either`(
        _ stage: Trial.Stage
    ) throws {
        var trial = try Trial()
        trial.reach(stage)
        let hour: Int64 = 3_600_000
        for attempts in [1, 3] {
            var kept = trial.latest
            kept.attempts = attempts
            // The second time its seven days are over.
            for absence in [hour, 24 * 7 * hour] {
                var after = trial
                after.latest = kept
                after.table = DeploymentTable()
                after.table.restore([kept], at: at(absence))
                after.passes(until: absence + 59_000)
                #expect(after.latest == kept, "\(stage), \(attempts)")
                after.comes(absence + 59_500)
                #expect(after.latest.attempts == attempts && after.state == trial.state)
                #expect(after.offers == trial.offers + (stage == .offered ? 1 : 0))
                after.runs("1.1.0", absence + 59_600)
                #expect(after.state == .success)
            }
        }
    }

    @Test(arguments: [-50, 0, 50]) func `is told again to a device that comes after a restart, however clocks drift`(
        _ drift: Int64
    ) throws {
        var trial = try Trial()
        trial.reach(.loading)
        trial.runs("1.0.0", uptime: 1, 20_000)
        trial.goes(21_000)
        trial.passes(until: 60_000)
        #expect(trial.state == .queued && trial.latest.attempts == 1 && trial.offers == 1)
        var kept = trial.latest
        kept.due += drift
        trial.table = DeploymentTable()
        trial.table.restore([kept], at: at(100_000))
        trial.comes(200_000)
        #expect(trial.offers == 2 && trial.latest.attempts == 2)
    }

    @Test func `waits no longer after a restart than it was given, wherever the clock is`() throws {
        var before = try Trial()
        before.reach(.loading)
        for off in [-86_400_000 * 30, 0, 86_400_000 * 30] as [Int64] {
            var table = DeploymentTable()
            table.restore([before.latest], at: Moment(monotonic: 1, wall: at(300).wall + off))
            #expect((table.nextDue ?? .max) <= 1 + 600_000)
        }
    }
}

@Suite struct `A device that does otherwise` {
    @Test func `comes back with the old version after it was done`() throws {
        for uptime in [nil, 2] as [Int64?] {
            var trial = try Trial()
            trial.reach(.done)
            trial.goes(1_000)
            trial.comes(20_000)
            trial.runs("1.0.0", uptime: uptime, 21_000)
            #expect(trial.state == .rolledBack && trial.latest.reason?.contains("1.0.0") == true)
        }
    }

    @Test func `has no connection of its own by which it could be seen to come back`() throws {
        var trial = try Trial()
        trial.reach(.done)
        trial.runs("1.0.0", 1_000, isConnected: false)
        #expect(trial.state == .rolledBack)
    }

    @Test func `says that it is done and never starts with it`() throws {
        var trial = try Trial()
        trial.reach(.done)
        trial.runs("1.0.0", uptime: 10_000, 60_000)
        #expect(trial.state == .inProgress)
        trial.passes(until: 600_300)
        #expect(trial.state == .queued && trial.latest.progress == nil, "the next attempt")
        trial.passes(until: 630_300)
        #expect(trial.offers == 2 && trial.latest.attempts == 2)
    }

    @Test func `starts anew before it was done, and gets another attempt`() throws {
        var trial = try Trial()
        trial.reach(.loading)
        trial.goes(10_000)
        trial.comes(20_000)
        trial.runs("1.0.0", uptime: 100_000, 20_500)
        #expect(trial.state == .inProgress, "it was away, and loads on")
        trial.runs("1.0.0", uptime: 3, 21_000)
        #expect(trial.state == .queued && trial.offers == 1)
        trial.passes(until: 51_000)
        #expect(trial.offers == 2)
    }

    @Test func `never answers`() throws {
        var trial = try Trial()
        var times: [Int64] = []
        while let due = trial.table.nextDue, times.count < 100 {
            times.append(due - 1_000_000_000)
            trial.passes(until: due - 1_000_000_000)
        }
        #expect(times == [60_000, 90_000, 150_000, 210_000, 270_000], "a minute each, with growing pauses")
        #expect(trial.state == .timedOut && trial.latest.reason == "the device does not answer")
    }

    @Test func `reports no version, and is believed`() throws {
        var trial = try Trial()
        trial.reach(.started)
        trial.says("SUCCESS", 500, reportsVersion: false)
        #expect(trial.state == .success && trial.latest.isOnItsWord)
        // Its old firmware did, and the new one does not.
        var other = try Trial()
        other.reach(.done)
        other.goes(600)
        other.comes(5_000)
        other.runs(nil, 6_000)
        #expect(other.state == .success && other.latest.isOnItsWord)
    }

    @Test func `says things late, twice, or about another`() throws {
        var trial = try Trial()
        trial.reach(.done)
        let done = trial.latest
        for text in [
            "STARTED", "IN_PROGRESS", "SUCCESS", #"{"status":"FAILED","deployment":"0"}"#,
            #"{"status":"IN_PROGRESS","progress":3}"#,
        ] {
            trial.says(text, 400)
            #expect(trial.latest == done, "\(text)")
        }
        trial.runs("1.1.0", 500)
        trial.says("FAILED", 600)
        #expect(trial.state == .success)
    }

    @Test(arguments: [
        "", "DONE", "1", "null", "[]", "{}", #"{"status":1}"#, #"{"status":"DONE"}"#, "{\"status\":\"STARTED\"",
        "\u{0}",
        String(repeating: "S", count: 100_000),
    ]) func `says what can't be read`(_ text: String) throws {
        var trial = try Trial()
        #expect(trial.table.reported("A", Array(text.utf8), reportsVersion: true, at: at(1)) == nil)
        #expect(trial.table.deployment(of: "A") == trial.latest)
    }

    @Test func `says more than there is`() throws {
        for (text, progress) in [("-5", 0), ("1000", 100), ("39.9", 39), ("1e300", 100)] {
            var trial = try Trial()
            trial.reach(.started)
            trial.says(#"{"status":"IN_PROGRESS","progress":\#(text)}"#, 500)
            #expect(trial.latest.progress == progress)
        }
        var trial = try Trial()
        trial.says(#"{"status":"FAILED","reason":"\#(String(repeating: "x", count: 5_000))"}"#, 1)
        #expect(trial.latest.reason?.count == 256)
    }
}

@Suite struct `Canceling a deployment` {
    @Test func `withdraws what has not been acknowledged`() throws {
        var trial = try Trial()
        trial.note(try trial.table.cancel("A", at: at(10)))
        #expect(trial.state == .canceled && trial.withdrawals == 1)
        trial.acknowledge(20)
        trial.comes(30)
        trial.passes(until: 700_000_000)
        #expect(trial.state == .canceled && trial.offers == 1)
    }

    @Test func `stays so, whatever the device comes up with`() throws {
        for stage in [Trial.Stage.started, .loading] {
            var trial = try Trial()
            trial.reach(stage)
            trial.note(try trial.table.cancel("A", at: at(1_000)))
            trial.says("SUCCESS", 2_000)
            trial.runs("1.1.0", 3_000)
            #expect(trial.state == .canceled && trial.withdrawals == 0)
        }
    }

    @Test func `comes too late when the device says that it is done, and for one that is over`() throws {
        var trial = try Trial()
        trial.reach(.done)
        #expect(throws: DeploymentTable.Refusal.tooLate(trial.latest)) { try trial.table.cancel("A", at: at(1_000)) }
        trial.runs("1.1.0", 2_000)
        #expect(throws: DeploymentTable.Refusal.none) { try trial.table.cancel("A", at: at(3_000)) }
    }
}

@Suite struct `Deployments by chance` {
    private static let seed: UInt64 = 0x6465_706C_6F79

    /// Whatever happens in whatever order: what is over stays over, no device has two, attempts keep to their bound, and time
    /// alone ends all of them.
    @Test func `come to an end, and only once`() throws {
        var random = SeededGenerator(seed: Self.seed)
        let words = ["STARTED", "IN_PROGRESS", "SUCCESS", "FAILED", "x", #"{"status":"IN_PROGRESS","progress":7}"#]
        for round in 0..<300 {
            var table = DeploymentTable()
            var latest: [String: Deployment] = [:]
            var now: Int64 = 0
            var number = 0
            func note(_ actions: [DeploymentTable.Action]) {
                for case .changed(let deployment, _) in actions {
                    let known = latest[deployment.id]
                    #expect(known?.state.isOver != true, "round \(round): \(deployment)")
                    #expect(deployment.attempts <= 3 && deployment.state.isOver == (deployment.ended != nil))
                    latest[deployment.id] = deployment
                }
            }
            for _ in 0..<60 {
                now += Int64.random(in: 0...200_000, using: &random)
                let device = ["A", "B", "C"].randomElement(using: &random) ?? "A"
                let id = table.deployment(of: device)?.id ?? ""
                switch Int.random(in: 0..<11, using: &random) {
                case 0...1:
                    number += 1
                    let new = deployment("\(round).\(number)", of: device, at: now)
                    note((try? table.start(new, isOnline: .random(using: &random), at: at(now))) ?? [])
                case 2: note(table.cameOnline(device, at: at(now)))
                case 3: note(table.wentOffline(device, at: at(now)))
                case 4: note(table.acknowledged(id, of: device, at: at(now)))
                case 5...6:
                    let word = words.randomElement(using: &random) ?? ""
                    note(
                        table.reported(device, Array(word.utf8), reportsVersion: .random(using: &random), at: at(now))
                            ?? [])
                case 7:
                    let version = ["1.0.0", "1.1.0", nil].randomElement(using: &random) ?? nil
                    let uptime = ([nil, 1, 100_000] as [Int64?]).randomElement(using: &random) ?? nil
                    note(
                        table.tookHealth(
                            device, version: version, uptime: uptime, isConnected: .random(using: &random), at: at(now))
                    )
                case 8: note((try? table.cancel(device, at: at(now))) ?? [])
                case 9: note(table.unheard(id, of: device, at: at(now)))
                default: note(table.advance(to: at(now)))
                }
                if Int.random(in: 0..<20, using: &random) == 0 {
                    let kept = latest.values.filter { !$0.state.isOver }.sorted { $0.id < $1.id }
                    table = DeploymentTable()
                    table.restore(kept, at: at(now, clockIsOff: 0))
                }
                let active = latest.values.filter { !$0.state.isOver }
                #expect(Set(active.map(\.device)).count == active.count && table.count == active.count)
            }
            for _ in 0..<200 {
                guard let due = table.nextDue else { break }
                now = max(now, due - 1_000_000_000)
                note(table.advance(to: at(now)))
            }
            #expect(table.count == 0 && latest.values.allSatisfy(\.state.isOver), "round \(round), seed \(Self.seed)")
        }
    }

    @Test func `what devices say is read without a trap`() throws {
        var random = SeededGenerator(seed: Self.seed)
        let corpus = [
            "STARTED", "in_progress ", #"{"status":"IN_PROGRESS","progress":40,"reason":"r","deployment":"1"}"#,
            #"{"status":"FAILED","reason":"\ud83d\ude00"}"#, "[[[[[[", "\u{FEFF}SUCCESS",
        ].map { Array($0.utf8) }
        var (read, unread) = (0, 0)
        for _ in 0..<20_000 {
            var bytes = corpus.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] = .random(in: 0...255, using: &random)
            }
            var trial = try Trial()
            if trial.table.reported("A", bytes, reportsVersion: true, at: at(1)) == nil {
                unread += 1
            } else {
                read += 1
            }
        }
        #expect(read > 1_000 && unread > 1_000)
    }
}
