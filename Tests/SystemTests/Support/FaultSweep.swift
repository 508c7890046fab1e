import Foundation
import Glibc
import Seeded
import Synchronization

/// A broker whose disk is a test's; it may fail to start.
final class FaultedMartlet {
    private(set) var port: UInt16
    private(set) var program: Program
    /// It may also have ended at once.
    private(set) var isServing: Bool

    init(_ lines: [String], in directory: TemporaryDirectory, faults: Faults?) throws {
        while true {
            let port = try freePort()
            let all = ["listener \(port) 127.0.0.1", "allow_anonymous true"] + stayingRoot(lines)
            try directory.write(
                all.joined(separator: "\n").replacing("DIR", with: directory.path) + "\n", "m.conf")
            let program = try Program(
                Martlet.binary, ["serve", "-c", "\(directory.path)/m.conf"], environment: faults?.environment ?? [:])
            // It listens before it has read what is on the disk, and answers nobody yet.
            _ = eventually(within: 20) { program.output.contains("started (") || program.endIfOver() != nil }
            (self.port, self.program, isServing) = (port, program, program.endIfOver() == nil)
            // Others that run at the same time look for free ports too.
            guard !isServing, program.output.contains("Address already in use") else { return }
        }
    }

    func client(_ identifier: String, cleanSession: Bool = true) throws -> RawClient {
        let client = try RawClient(port: port)
        try client.connect(identifier, cleanSession: cleanSession)
        return client
    }

    func kill() throws {
        program.signal(SIGKILL)
        _ = try program.waitForEnd()
    }

    var said: String { String(program.output.suffix(2_000)) }
}

/// One way in which calls to the disk go wrong, from the first to the last.
enum Mishap: CaseIterable {
    case dieBefore, dieAfter, tear
    /// The power goes: all that was not synchronised is lost, or some of it.
    case powerCut, powerCutOfSectors, powerCutOfPages
    case inputOutputError, noSpace, shortWrite
    /// Four calls in a row, and at the end the power goes: what an fsync that failed had to write is lost.
    case errorsAndPowerCut

    var ends: Bool {
        switch self {
        case .dieBefore, .dieAfter, .tear, .powerCut, .powerCutOfSectors, .powerCutOfPages: true
        case .inputOutputError, .noSpace, .shortWrite, .errorsAndPowerCut: false
        }
    }

    func begin(at number: Int, _ faults: Faults) {
        switch self {
        case .dieBefore, .powerCut, .powerCutOfSectors, .powerCutOfPages: faults.begin(.dieBefore, first: number)
        case .dieAfter: faults.begin(.dieAfter, first: number)
        case .tear: faults.begin(.tear, first: number, bytes: number * 641 % 4096)
        case .inputOutputError: faults.begin(.fail, first: number, count: 1)
        case .noSpace:
            faults.begin(.fail, first: number, count: 1, only: [.write, .create, .makeDirectory], errno: ENOSPC)
        case .shortWrite: faults.begin(.shorten, first: number, count: 1, bytes: number * 641 % 4096)
        case .errorsAndPowerCut: faults.begin(.fail, first: number, count: 4)
        }
    }

    /// Nil: only the process ends.
    var survival: PowerCut.Survival? {
        switch self {
        case .powerCut, .errorsAndPowerCut: .nothing
        case .powerCutOfSectors: .some(sectorBytes: 512)
        case .powerCutOfPages: .some(sectorBytes: 4096)
        default: nil
        }
    }
}

/// FAULT_SWEEP=all: each mishap at each call (`make soak`). FAULT_SWEEP="powerCut 17": this one alone, with
/// its story; "powerCut all": at each call.
let chosenSweep = ProcessInfo.processInfo.environment["FAULT_SWEEP"]

struct Sweep: Sendable {
    let lines: [String]
    /// Another broker has run the workload before, and was killed: what is met is the start on what it left, and more.
    var isAfterCrash = false
    let findings = Findings()

    /// Numbers that mishaps have, in the run without one.
    func calls() throws -> Int {
        let directory = try TemporaryDirectory()
        let faults = try Faults(for: "\(directory.path)/data")
        let broker = try FaultedMartlet(lines, in: directory, faults: faults)
        guard broker.isServing else { throw Unexpected(broker.said) }
        let workload = FaultWorkload()
        try workload.run(port: broker.port)
        guard !isAfterCrash else {
            try broker.kill()
            let before = faults.calls
            let second = try FaultedMartlet(lines, in: directory, faults: faults)
            guard second.isServing else { throw Unexpected(second.said) }
            try workload.goOn(port: second.port)
            try end(second)
            return faults.calls - before
        }
        let running = faults.calls
        try workload.check(port: broker.port, sessions: true, "without a fault", findings)
        let asked = faults.calls
        try end(broker)
        return running + faults.calls - asked
    }

    private func end(_ broker: FaultedMartlet) throws {
        broker.program.signal(SIGTERM)
        findings.expect(try broker.program.waitForEnd() == .exited(0), broker.said)
    }

    /// The workload, with one mishap; and whether another broker finds all that was acknowledged. True: it happened.
    func round(_ mishap: Mishap, at number: Int) throws -> Bool {
        let what = "\(mishap) at \(number)"
        let directory = try TemporaryDirectory()
        let faults = try Faults(for: "\(directory.path)/data")
        let workload = FaultWorkload()
        if isAfterCrash {
            let first = try FaultedMartlet(lines, in: directory, faults: faults)
            try workload.run(port: first.port)
            try first.kill()
        }
        mishap.begin(at: faults.calls + number, faults)
        let broker = try FaultedMartlet(lines, in: directory, faults: faults)
        if broker.isServing {
            do {
                if isAfterCrash { try workload.goOn(port: broker.port) } else { try workload.run(port: broker.port) }
            } catch {
                let isOver = eventually(within: mishap.ends ? 10 : 0) { broker.program.endIfOver() != nil }
                findings.expect(mishap.ends && isOver, "\(what): \(error); it said:\n\(broker.said)")
            }
            broker.program.signal(SIGTERM)
            let end = try broker.program.waitForEnd(within: 10)
            if case .killed(by: let signal) = end, signal != SIGKILL || !mishap.ends {
                findings.add("\(what): ended by signal \(signal); it said:\n\(broker.said)")
            }
            // The pause before a second try.
            if workload.longestWait > 0.9 {
                for line in [
                    "what has to be on the disk is not acknowledged", "the disk takes what has to be on it again",
                ] {
                    findings.expect(broker.program.output.contains(line), "\(what): no word of it:\n\(broker.said)")
                }
            }
        } else if case .exited(let status) = broker.program.endIfOver() {
            let reasons = ["Input/output error", "disk I/O error", "No space left", "disk is full", "unable to open"]
            findings.expect(
                !mishap.ends && status == 1 && reasons.contains { broker.said.contains($0) },
                "\(what): ended with \(status); it said:\n\(broker.said)")
        }
        let happened = faults.fired > 0
        if chosenSweep?.hasSuffix(" \(number)") == true {
            print("\(broker.said)\n\(faults.story.joined(separator: "\n"))")
        }
        if let survival = mishap.survival {
            var cut = try PowerCut(faults)
            var generator = SeededGenerator(seed: UInt64(number))
            try cut.apply(survival, &generator)
        }
        let second = try FaultedMartlet(lines, in: directory, faults: nil)
        guard second.isServing else {
            findings.add("\(what): it does not start again; it said:\n\(second.said)\n\(faults.story.suffix(12))")
            return happened
        }
        do {
            try workload.check(port: second.port, sessions: FaultWorkload.sessionsOutlive, what, findings)
        } catch {
            findings.add("\(what): afterwards: \(error); it said:\n\(second.said)")
        }
        findings.expect(!second.said.contains("damaged"), "\(what): \(second.said)\n\(faults.story.suffix(12))")
        try second.kill()
        return happened
    }

    /// The same mishap at each of these, several at a time.
    func rounds(_ all: [(Mishap, Int)]) throws -> Int {
        let next = Atomic(0)
        let happened = Atomic(0)
        let one = { @Sendable in
            while true {
                let index = next.add(1, ordering: .relaxed).oldValue
                guard index < all.count else { return }
                let (mishap, number) = all[index]
                do {
                    if try round(mishap, at: number) { happened.add(1, ordering: .relaxed) }
                } catch {
                    findings.add("\(mishap) at \(number): \(error)")
                }
            }
        }
        try concurrently(Array(repeating: one, count: 6))
        return happened.load(ordering: .relaxed)
    }
}
