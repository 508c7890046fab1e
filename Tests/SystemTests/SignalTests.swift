import Foundation
import Glibc
import Testing

extension System {
    /// Signals, the process, and the service manager around it.
    @Suite struct `The process` {
        @Test func `reloads at SIGHUP without ending a connection that is still allowed`() throws {
            let lines = ["allow_anonymous true", "log_dest stderr", "max_packet_size 100"]
            let broker = try ConfiguredMartlet(lines, in: try TemporaryDirectory())
            let client = try broker.client("kept")
            try broker.configure(["allow_anonymous true", "log_dest stderr", "max_packet_size 1000", "shards 64"])
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "configuration reloaded")
            #expect(broker.program.lines.contains { $0.contains("key=shards") })
            try client.publish("a", String(repeating: "x", count: 500))
            try client.ping()

            try broker.configure(["allow_anonymous false", "log_dest stderr"])
            broker.program.signal(SIGHUP)
            #expect(client.isClosed())
            let refused = try RawClient(port: broker.port)
            try refused.send(Packet.connect("new"))
            #expect(try refused.receive() == Received(first: 0x20, body: [0, 5]))

            try broker.configure(["allow_anonymous true", "log_dest stderr", "log_format json", "log_type all"])
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "\"message\":\"configuration reloaded\"")
            try broker.client("again").subscribe([("a/b", 1)])
            try broker.program.waitForLine(containing: "\"message\":\"subscribed\",\"client\":\"again\"")
        }

        @Test(arguments: [
            ("allow_anonymus true", ":2: unknown key 'allow_anonymus'"), ("log_dest file DIR/none/x", "No such file"),
        ])
        func `keeps what was in force when a reload fails, and says why`(_ line: String, _ reason: String) throws {
            let broker = try ConfiguredMartlet(
                ["allow_anonymous true", "log_dest stderr"], in: try TemporaryDirectory())
            let client = try broker.client("kept")
            try broker.configure([line])
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "the configuration is not reloaded, what was in force stays")
            #expect(broker.program.output.contains(reason), "\(broker.program.output)")
            try client.ping()
            try broker.client("new").ping()

            unlink("\(broker.directory.path)/m.conf")
            broker.program.signal(SIGHUP)
            try broker.program.waitForLine(containing: "m.conf: No such file or directory")
            try broker.client("newer").ping()
        }

        @Test func `opens its log anew at SIGHUP, for rotation`() throws {
            let directory = try TemporaryDirectory()
            let broker = try ConfiguredMartlet(["allow_anonymous true", "log_dest file DIR/m.log"], in: directory)
            #expect(eventually { directory.text("m.log").contains("started") })
            #expect(rename("\(directory.path)/m.log", "\(directory.path)/m.log.1") == 0)
            broker.program.signal(SIGHUP)
            #expect(eventually { directory.text("m.log").contains("configuration reloaded") })
            _ = try broker.client("late")
            #expect(eventually { directory.text("m.log").contains("as late") })
            #expect(!directory.text("m.log.1").contains("late"))
            var status = stat()
            #expect(stat("\(directory.path)/m.log", &status) == 0 && status.st_mode & 0o777 == 0o600)
            // Where it can't, the old one goes on.
            #expect(rename("\(directory.path)/m.log", "\(directory.path)/m.log.2") == 0)
            #expect(mkdir("\(directory.path)/m.log", 0o700) == 0)
            broker.program.signal(SIGHUP)
            #expect(eventually { directory.text("m.log.2").contains("can't be opened again, the old one stays") })
        }

        @Test func `answers SIGUSR1 and SIGUSR2 with a line, and goes on`() throws {
            let broker = try Martlet()
            let client = try broker.client("reader")
            try client.subscribe([("a", 0), ("$share/g/b", 0)])
            broker.program.signal(SIGUSR1)
            try broker.program.waitForLine(containing: "nothing to save")
            broker.program.signal(SIGUSR2)
            try broker.program.waitForLine(containing: "summary (")
            let line = try #require(broker.program.lines.first { $0.contains("summary (") })
            #expect(line.contains("sessions=1,") && line.contains("sharedSubscriptions=1, subscriptions=2"))
            try client.ping()
        }

        @Test func `ends in time under load, with a reader that reads nothing`() throws {
            let broker = try Martlet(["log_type all"])
            let sleeper = try RawClient(port: broker.port, receiveBufferBytes: 4_096)
            try sleeper.connect("sleeper", will: ("wills", "gone", 1))
            try sleeper.subscribe([("flood", 1)])
            let packet = Packet.publish(Array("flood".utf8), [UInt8](repeating: 0x78, count: 16_384))
            let port = broker.port
            let flood = (0..<4).map { number in
                { @Sendable in
                    let client = try RawClient(port: port)
                    try client.connect("p\(number)")
                    while true { try client.send(packet) }
                }
            }
            let thread = Thread { try? concurrently(flood) }
            thread.start()
            try broker.program.waitForLine(containing: "slow reader")
            broker.program.signal(SIGTERM)
            var end: Program.End?
            let duration = try seconds { end = try broker.program.waitForEnd(within: 12) }
            #expect(end == .exited(0))
            #expect(duration < 10)
        }

        @Test func `ends in time although nobody reads its log`() throws {
            var ends: [Int32] = [0, 0]
            try #require(pipe(&ends) == 0)
            defer { for end in ends { close(end) } }
            let port = try freePort()
            let directory = try TemporaryDirectory()
            try directory.write("listener \(port) 127.0.0.1\nallow_anonymous true\nlog_type all\n", "m.conf")
            let program = try Program(
                "/bin/sh",
                [
                    "-c", "exec \"$1\" serve -c \"$2\" 2>/proc/\(getpid())/fd/\(ends[1])", "sh", Martlet.binary,
                    "\(directory.path)/m.conf",
                ])
            #expect(eventually(within: 20) { accepts(port) })
            for number in 0..<1500 { try RawClient(port: port).connect("\(number)") }
            program.signal(SIGTERM)
            var end: Program.End?
            let duration = try seconds { end = try program.waitForEnd(within: 12) }
            #expect(end == .exited(0))
            #expect(duration < 10)
        }

        @Test func `writes its identifier once it listens, and takes it away at the end`() throws {
            let directory = try TemporaryDirectory()
            try directory.write("12345 stale", "m.pid")
            let broker = try ConfiguredMartlet(["pid_file DIR/m.pid"], in: directory)
            #expect(eventually { directory.text("m.pid") == "\(broker.program.pid)\n" })
            var status = stat()
            #expect(stat("\(directory.path)/m.pid", &status) == 0 && status.st_mode & 0o777 == 0o644)
            broker.program.signal(SIGTERM)
            #expect(try broker.program.waitForEnd() == .exited(0))
            #expect(!directory.exists("m.pid"))

            try directory.write("pid_file \(directory.path)/none/m.pid\nlistener \(try freePort())\n", "bad.conf")
            let program = try Program(Martlet.binary, ["-c", "\(directory.path)/bad.conf"])
            #expect(try program.waitForEnd(within: 5) == .exited(1))
            #expect(program.output.contains("pid_file \(directory.path)/none/m.pid: No such file or directory"))
        }

        @Test(.enabled(if: geteuid() != 0 || othersReachFiles))
        func `goes into the background with -d, and says how that went`() throws {
            let directory = try TemporaryDirectory()
            let port = try freePort()
            let text =
                "listener \(port) 127.0.0.1\npid_file \(directory.path)/m.pid\nlog_dest file \(directory.path)/m.log\n"
            try directory.write(text + "allow_anonymous true\n", "m.conf")
            let start = try Program(Martlet.binary, ["-c", "\(directory.path)/m.conf", "-d"])
            #expect(try start.waitForEnd(within: 20) == .exited(0))
            let pid = try #require(pid_t(directory.text("m.pid").dropLast()))
            defer { kill(pid, SIGKILL) }
            #expect(pid != start.pid && getsid(pid) == pid)
            try RawClient(port: port).connect("a")
            // A second one fails, and says so to whoever started it.
            let second = try Program(Martlet.binary, ["-c", "\(directory.path)/m.conf", "-d"])
            #expect(try second.waitForEnd(within: 20) == .exited(1))
            #expect(second.output.contains("can't listen on"))
            kill(pid, SIGTERM)
            #expect(eventually { !directory.exists("m.pid") })
            #expect(
                directory.text("m.log").contains("stopped")
                    || eventually { directory.text("m.log").contains("stopped") })

            try directory.write("no_such_key 1\n", "m.conf")
            let bad = try Program(Martlet.binary, ["-d", "-c", "\(directory.path)/m.conf"])
            #expect(try bad.waitForEnd(within: 20) == .exited(3))
            #expect(bad.output.contains("m.conf:1:"))
        }

        @Test(.enabled(if: geteuid() == 0 && othersReachFiles)) func `root becomes another user, with all its threads`()
            throws
        {
            let directory = try TemporaryDirectory()
            let broker = try ConfiguredMartlet(
                ["user nobody", "log_dest file DIR/m.log", "pid_file DIR/m.pid"], in: directory)
            let tasks = "/proc/\(broker.program.pid)/task"
            #expect(
                eventually {
                    let names = (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? []
                    let users = names.map { name in
                        let status = (try? String(contentsOfFile: "\(tasks)/\(name)/status", encoding: .utf8)) ?? ""
                        return status.split(separator: "\n").first { $0.hasPrefix("Uid:") } ?? ""
                    }
                    return Set(users) == ["Uid:\t65534\t65534\t65534\t65534"]
                })
            #expect(rename("\(directory.path)/m.log", "\(directory.path)/old.log") == 0)
            broker.program.signal(SIGHUP)
            #expect(eventually { directory.text("m.log").contains("configuration reloaded") })
            broker.program.signal(SIGTERM)
            #expect(try broker.program.waitForEnd() == .exited(0))
            #expect(!directory.exists("m.pid"))
        }

        @Test(.enabled(if: geteuid() == 0)) func `root stays root where it is told to`() throws {
            let broker = try ConfiguredMartlet(["user root"], in: try TemporaryDirectory())
            try broker.program.waitForLine(containing: "started")
            let status = try String(contentsOfFile: "/proc/\(broker.program.pid)/status", encoding: .utf8)
            #expect(status.contains("Uid:\t0\t0\t0\t0"))
        }

        @Test(.enabled(if: geteuid() == 0)) func `ends where the user does not exist`() throws {
            let directory = try TemporaryDirectory()
            try directory.write("user no-such-user\nlistener \(try freePort()) 127.0.0.1\n", "m.conf")
            let program = try Program(Martlet.binary, ["-c", "\(directory.path)/m.conf"])
            #expect(try program.waitForEnd(within: 5) == .exited(1))
            #expect(program.output.contains("user no-such-user: there is no such user"))
        }

        @Test(arguments: [false, true])
        func `tells its service manager what it does, and that it lives`(_ isAbstract: Bool) throws {
            let directory = try TemporaryDirectory()
            let name = isAbstract ? "@martlet-test-\(getpid())" : "\(directory.path)/notify"
            let manager = try DatagramReceiver(name)
            let broker = try ConfiguredMartlet(
                ["allow_anonymous true"], in: directory,
                environment: ["NOTIFY_SOCKET": name, "WATCHDOG_USEC": "300000"])
            #expect(try manager.next(beginning: "READY=1").contains("\nMAINPID=\(broker.program.pid)"))
            for _ in 0..<3 { _ = try manager.next(beginning: "WATCHDOG=1") }
            broker.program.signal(SIGHUP)
            #expect(try manager.next(beginning: "RELOADING=1").contains("\nMONOTONIC_USEC="))
            _ = try manager.next(beginning: "READY=1")
            broker.program.signal(SIGTERM)
            _ = try manager.next(beginning: "STOPPING=1")
            #expect(try broker.program.waitForEnd() == .exited(0))
        }

        @Test func `does not ping for another process`() throws {
            let directory = try TemporaryDirectory()
            let manager = try DatagramReceiver("\(directory.path)/notify")
            let broker = try ConfiguredMartlet(
                ["allow_anonymous true"], in: directory,
                environment: ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"])
            _ = try manager.next(beginning: "READY=1")
            broker.program.signal(SIGTERM)
            #expect(try manager.next().hasPrefix("STOPPING=1"))
        }

        @Test(.enabled(if: geteuid() != 0 || othersReachFiles)) func `runs with Debian's own configuration file`()
            throws
        {
            let directory = try TemporaryDirectory()
            try FileManager.default.createDirectory(
                atPath: "\(directory.path)/conf.d", withIntermediateDirectories: false)
            let port = try freePort()
            try directory.write("listener \(port) 127.0.0.1\nallow_anonymous true\n", "conf.d/local.conf")
            try directory.write(
                """
                pid_file \(directory.path)/mosquitto.pid

                persistence true
                persistence_location \(directory.path)/lib/

                log_dest file \(directory.path)/mosquitto.log

                include_dir \(directory.path)/conf.d
                """, "mosquitto.conf")
            let program = try Program(Martlet.binary, ["-c", "\(directory.path)/mosquitto.conf"])
            #expect(eventually { accepts(port) })
            try RawClient(port: port).connect("a")
            #expect(eventually { directory.text("mosquitto.log").contains("as a (p2, c1, k0).") })
            #expect(directory.text("mosquitto.pid") == "\(program.pid)\n")
            program.signal(SIGTERM)
            #expect(try program.waitForEnd() == .exited(0))
            #expect(!directory.exists("mosquitto.pid"))
        }
    }
}
