import Foundation
import Glibc
import Seeded
import Testing

extension System {
    @Suite(.disabled(if: isSanitized, "a sanitizer wants to be loaded first"))
    struct `A fault of the disk` {
        private let directory: TemporaryDirectory

        init() throws { directory = try TemporaryDirectory() }

        /// Each mishap at every so many calls, with another beginning for each, so that most calls meet some.
        /// `also`: rounds that have found something before.
        private func sweep(_ sweep: Sweep, every stride: Int, also more: [(Mishap, Int)] = []) throws {
            let calls = try sweep.calls()
            let stride = chosenSweep == "all" ? 1 : stride
            var rounds = Mishap.allCases.enumerated().flatMap { index, mishap in
                Swift.stride(from: 1 + index % stride, through: calls, by: stride).map { (mishap, $0) }
            }
            rounds += more
            if let name = chosenSweep?.split(separator: " "), name.count == 2 {
                let numbers = Int(name[1]).map { [$0] } ?? Array(1...calls)
                rounds = Mishap.allCases.filter { "\($0)" == name[0] }.flatMap { mishap in numbers.map { (mishap, $0) }
                }
            }
            var happened = 0
            let time = try seconds { happened = try sweep.rounds(rounds) }
            sweep.findings.record()
            print("faults: \(calls) calls, \(rounds.count) rounds, \(happened) of them met one, \(Int(time)) s")
            #expect(happened > rounds.count * 8 / 10)
        }

        private static let lines = ["persistence true", "persistence_location DIR/data", "shards 2"]

        @Test(.timeLimit(.minutes(30))) func `at any call loses nothing that was acknowledged`() throws {
            try sweep(Sweep(lines: Self.lines), every: 33)
        }

        @Test(.timeLimit(.minutes(30))) func `at the start on what a crash left loses nothing either`() throws {
            // The log's name could not be synchronised; a part of the log was written again.
            let known = (40...43).map { (Mishap.errorsAndPowerCut, $0) } + [(.shortWrite, 3)]
            try sweep(Sweep(lines: Self.lines, isAfterCrash: true), every: 25, also: known)
        }

        /// Accounts and certificates too.
        @Test(.timeLimit(.minutes(30))) func `while a directory is made is no reason not to start the next time`()
            throws
        {
            try sweep(Sweep(lines: ["data_dir DIR/data", "shards 2"]), every: 120)
        }

        /// Otherwise the sweep would find no loss because it makes none.
        @Test func `takes away what a disk only said it had`() throws {
            let faults = try Faults(for: "\(directory.path)/data")
            let broker = try FaultedMartlet(Self.lines, in: directory, faults: faults)
            let client = try broker.client("c")
            try client.send(Packet.publish("r/1", "safe", qos: 1, identifier: 1, retain: true))
            #expect(try client.receive().type == 4)
            faults.begin(.pretend, only: [.sync])
            try client.send(Packet.publish("r/2", "lost", qos: 1, identifier: 2, retain: true))
            #expect(try client.receive().type == 4)
            try broker.kill()
            var cut = try PowerCut(faults)
            var generator = SeededGenerator(seed: 1)
            try cut.apply(.nothing, &generator)
            let second = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            #expect(try retained(second) == ["r/1": "safe"])
        }

        // MARK: One after the other

        /// All below "r".
        private func retained(_ broker: FaultedMartlet) throws -> [String: String] {
            let client = try broker.client("reader")
            var found: [String: String] = [:]
            try client.subscribe([("r/#", 0)])
            try client.send(Packet.pingRequest)
            while true {
                let packet = try client.receive()
                if packet.first == 0xd0 { return found }
                found[String(decoding: packet.topic, as: UTF8.self)] = packet.text
            }
        }

        /// Sends a message that has to be on the disk, and does not wait.
        private func retain(_ topic: String, _ text: String, _ identifier: UInt16, _ client: RawClient) throws {
            try client.send(Packet.publish(topic, text, qos: 1, identifier: identifier, retain: true))
        }

        /// What needs no disk goes to and fro between two clients, at once.
        private func expectService(_ broker: FaultedMartlet, _ what: String) throws {
            let subscriber = try broker.client("subscriber")
            let publisher = try broker.client("publisher")
            let time = try seconds {
                try subscriber.subscribe([("live", 1)])
                for number in 1...20 {
                    try publisher.publish("live", "\(number)")
                    #expect(try subscriber.receive().text == "\(number)")
                    try publisher.send(Packet.publish("live", "and \(number)", qos: 1, identifier: UInt16(number)))
                    #expect(try publisher.receive() == Received(first: 0x40, body: Packet.uint16(UInt16(number))))
                    let packet = try subscriber.receive()
                    #expect(packet.text == "and \(number)")
                    try subscriber.send(Packet.acknowledge(0x40, packet.identifier))
                }
            }
            #expect(time < 0.8 * patience, "\(what): \(time) s")
        }

        @Test func `that makes it slow delays only what has to be on it, and stops in time`() throws {
            let faults = try Faults(for: "\(directory.path)/data")
            let lines = ["data_dir DIR/data", "shards 2"]
            let broker = try FaultedMartlet(lines, in: directory, faults: faults)
            let client = try broker.client("c")
            try retain("r/0", "fast", 1, client)
            #expect(try client.receive().type == 4)
            faults.delaySyncs(milliseconds: 2000)
            let start = monotonicNanoseconds()
            for number in 1...5 { try retain("r/\(number)", "slow", UInt16(number), client) }
            try expectService(broker, "while an fsync takes two seconds")
            let control = try Program(Martlet.binary, ["device", "list", "--data", "\(directory.path)/data"])
            #expect(try control.waitForEnd() == .exited(0), "\(control.output)")
            #expect(!client.hasInput, "not on the disk yet")
            #expect(Double(monotonicNanoseconds() - start) < 1.9e9)
            for number in 1...5 {
                #expect(try client.receive().body == Packet.uint16(UInt16(number)), "in order [MQTT-4.6.0-2]")
            }
            #expect(Double(monotonicNanoseconds() - start) > 1.9e9)
            try retain("r/0", "slower", 1, client)
            broker.program.signal(SIGTERM)
            var end: Program.End?
            let time = try seconds { end = try broker.program.waitForEnd(within: 30) }
            #expect(end == .exited(0), "\(broker.said)")
            print("SIGTERM while each fsync takes 2 s: \(time) s")
            #expect(time < 10, "\(time) s")
            let second = try FaultedMartlet(lines, in: directory, faults: nil)
            let found = try retained(second)
            #expect(found.count == 6 && found["r/5"] == "slow", "\(found)")
        }

        @Test(arguments: [(ENOSPC, "full"), (EIO, "I/O error"), (EROFS, "I/O error")])
        func `that lasts holds acknowledgements back, says so, and is over when it is over`(
            _ code: Int32, _ reason: String
        ) throws {
            let faults = try Faults(for: "\(directory.path)/data")
            let broker = try FaultedMartlet(Self.lines, in: directory, faults: faults)
            let client = try broker.client("c")
            try retain("r/1", "before", 1, client)
            #expect(try client.receive().type == 4)
            faults.begin(.fail, only: code == ENOSPC ? [.write, .create] : [], errno: code)
            try retain("r/2", "late", 2, client)
            try broker.program.waitForLine(containing: "what has to be on the disk is not acknowledged")
            #expect(broker.said.contains(reason), "\(broker.said)")
            try retain("r/1", "overwritten", 3, client)
            try expectService(broker, "while the disk fails")
            // It tries again each second.
            let before = faults.fired
            #expect(eventually { faults.fired > before })
            #expect(!client.hasInput)
            faults.end()
            for identifier: UInt16 in [2, 3] { #expect(try client.receive().body == Packet.uint16(identifier)) }
            try broker.program.waitForLine(containing: "the disk takes what has to be on it again")
            #expect(broker.program.lines.count { $0.contains("is not acknowledged") } == 1, "once: \(broker.said)")
            try broker.kill()
            let second = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            #expect(try retained(second) == ["r/1": "overwritten", "r/2": "late"])
            #expect(!second.said.contains("damaged"))
        }

        /// A real one.
        @Test(.enabled(if: geteuid() == 0, "mounting is root's"))
        func `that is full keeps what it took and takes the rest later`()
            throws
        {
            let data = "\(directory.path)/data"
            mkdir(data, 0o700)
            guard mount("none", data, "tmpfs", 0, "size=1m,mode=0700") == 0 else { return }  // Not in every container.
            defer { umount2(data, Int32(MNT_DETACH)) }
            let broker = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            let client = try broker.client("c")
            try retain("r/1", "before", 1, client)
            #expect(try client.receive().type == 4)
            let filler = open("\(data)/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
            let zeroes = [UInt8](repeating: 0, count: 4096)
            while write(filler, zeroes, zeroes.count) > 0 {}
            close(filler)
            try retain("r/2", String(repeating: "x", count: 50_000), 2, client)
            try broker.program.waitForLine(containing: "what has to be on the disk is not acknowledged")
            try retain("r/3", "late", 3, client)
            try expectService(broker, "while the disk is full")
            #expect(!client.hasInput)
            unlink("\(data)/filler")
            for identifier: UInt16 in [2, 3] { #expect(try client.receive().body == Packet.uint16(identifier)) }
            try broker.kill()
            // Nothing can be written: it says so, changes nothing, and is as before when it can be.
            #expect(mount("none", data, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil) == 0)
            let refused = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            #expect(!refused.isServing && refused.program.endIfOver() == .exited(1), "\(refused.said)")
            #expect(refused.said.contains("Read-only file system"), "\(refused.said)")
            #expect(mount("none", data, "tmpfs", UInt(MS_REMOUNT), nil) == 0)
            let second = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            let found = try retained(second)
            #expect(found.count == 3 && found["r/1"] == "before" && found["r/3"] == "late")
            try second.kill()
        }

        @Test func `in who may use it is mended or named`() throws {
            let data = "\(directory.path)/data"
            let first = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            let client = try first.client("c")
            try retain("r/1", "kept", 1, client)
            #expect(try client.receive().type == 4)
            let second = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            #expect(second.program.endIfOver() == .exited(1), "a second broker")
            #expect(second.said.contains("is in use by process \(first.program.pid)"), "\(second.said)")
            try first.kill()

            func refusal() throws -> String {
                let broker = try FaultedMartlet(Self.lines, in: directory, faults: nil)
                #expect(broker.program.endIfOver() == .exited(1), "\(broker.said)")
                return broker.said
            }
            // Nobody else may read it: that much can be done.
            chmod("\(data)/broker.db", 0o644)
            let third = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            #expect(try retained(third) == ["r/1": "kept"])
            var status = stat()
            #expect(stat("\(data)/broker.db", &status) == 0 && status.st_mode & 0o777 == 0o600)
            try third.kill()

            link("\(data)/broker.db", "\(directory.path)/elsewhere")
            #expect(try refusal().contains("broker.db: it is not a plain file with one name"))
            unlink("\(directory.path)/elsewhere")
            rename("\(data)/broker.db", "\(directory.path)/elsewhere")
            symlink("\(directory.path)/elsewhere", "\(data)/broker.db")
            #expect(try refusal().contains("broker.db"))
            unlink("\(data)/broker.db")
            rename("\(directory.path)/elsewhere", "\(data)/broker.db")
            if geteuid() == 0 {
                chown("\(data)/broker.db", 1, 1)
                #expect(try refusal().contains("broker.db: it belongs to another user"))
                chown("\(data)/broker.db", 0, 0)
            }
            let last = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            #expect(try retained(last) == ["r/1": "kept"])
        }

        /// Bits turn while it is stopped. Where the file says nothing about its own contents, a payload may have changed: that
        /// one, and no other.
        @Test(arguments: ["broker.db", "broker.db-wal"]) func `that turns bits does not keep it from starting`(
            _ file: String
        )
            throws
        {
            let data = "\(directory.path)/data"
            let first = try FaultedMartlet(Self.lines, in: directory, faults: nil)
            let client = try first.client("c")
            let text = String(repeating: "text ", count: 40)
            // Twenty commits.
            for batch in 0..<20 {
                for number in 1...10 { try retain("r/\(batch)/\(number)", text, UInt16(number), client) }
                for _ in 1...10 { #expect(try client.receive().type == 4) }
            }
            if file == "broker.db" {
                // Then all of it is in the file, otherwise in the log.
                first.program.signal(SIGTERM)
                _ = try first.program.waitForEnd()
            } else {
                try first.kill()
            }
            func read(_ name: String) -> [UInt8] {
                [UInt8](FileManager.default.contents(atPath: "\(data)/\(name)") ?? Data())
            }
            let names = ["broker.db", "broker.db-wal"]
            let whole = names.map(read)
            #expect(whole[file == "broker.db" ? 0 : 1].count > 40_000)
            var generator = SeededGenerator(seed: 29)
            var losses: [Int] = []
            var silent = 0
            for round in 0..<(chosenSweep == "all" ? 400 : 20) {
                let bits = [1, 3, 40][round % 3]
                for (name, var bytes) in zip(names, whole) {
                    if name == file {
                        for _ in 0..<bits {
                            bytes[generator.below(bytes.count)] ^= 1 << UInt8(generator.below(8))
                        }
                    }
                    unlink("\(data)/\(name)")
                    if !bytes.isEmpty {
                        _ = FileManager.default.createFile(atPath: "\(data)/\(name)", contents: Data(bytes))
                    }
                }
                unlink("\(data)/broker.db-shm")
                let broker = try FaultedMartlet(Self.lines, in: directory, faults: nil)
                guard broker.isServing else {
                    Issue.record("round \(round): it does not start; it said:\n\(broker.said)")
                    continue
                }
                let found = try retained(broker)
                let right = found.count { $0.value == text }
                if right < 200 - bits {
                    losses.append(200 - right)
                    // The last commits of a log may have been torn by a crash, for all that can be told.
                    if !broker.said.contains("damaged"), right < 170 { silent += 1 }
                }
                let client = try broker.client("c")
                try retain("r/after", "all right", 1, client)
                #expect(try client.receive().type == 4)
                try broker.kill()
                for name in try FileManager.default.contentsOfDirectory(atPath: data) where name.contains("damaged") {
                    unlink("\(data)/\(name)")
                }
            }
            print("turned bits in \(file): more than those in \(losses.count) rounds: \(losses)")
            #expect(losses.count > 2)
            #expect(silent == 0)
        }

        @Test func `is none where only the clock jumps`() throws {
            let faults = try Faults(for: "\(directory.path)/data")
            let lines = Self.lines + ["persistent_client_expiration 1h"]
            let broker = try FaultedMartlet(lines, in: directory, faults: faults)
            let persistent = try broker.client("persistent", cleanSession: false)
            try persistent.subscribe([("q", 1)])
            try persistent.send(Packet.disconnect)
            #expect(persistent.isClosed())
            let alive = try RawClient(port: broker.port)
            try alive.connect("alive", keepAlive: 3)
            let publisher = try broker.client("c")
            for (number, jump) in [86_400, -86_400, 3_650 * 86_400, 0].enumerated() {
                faults.moveClock(seconds: jump)
                try expectService(broker, "the clock \(jump) s away")
                try retain("r/\(number)", "x", 1, publisher)
                #expect(try publisher.receive().type == 4)
                try alive.ping()
            }
            faults.moveClock(seconds: -86_400)
            var isClosed = false
            let silence = seconds { isClosed = alive.isClosed() }
            #expect(isClosed)
            #expect(silence > 3 && silence < 7 * patience, "one and a half keep-alives, not \(silence) s")
            faults.moveClock(seconds: 86_400)
            #expect(
                try RawClient(port: broker.port).connect("persistent", cleanSession: false), "an hour has not passed")
            try broker.kill()
            let second = try FaultedMartlet(lines, in: directory, faults: nil)
            #expect(try retained(second).count == 4)
        }
    }
}
