import Foundation
import Glibc
import Testing

extension System {
    /// `martlet user`, `device` and `service`, with and without a broker, and what they leave on the disk.
    @Suite struct `Accounts` {
        private let data = temporaryFile("data")

        private func run(_ arguments: [String]) throws -> (end: Program.End, output: String) {
            let program = try Program(Martlet.binary, arguments + ["--data", data])
            let end = try program.waitForEnd(within: 20)
            return (end, program.output)
        }

        /// Listeners are bound before the data is opened; all is there once it says so.
        private func broker(_ lines: [String]) throws -> Martlet {
            let martlet = try Martlet(lines)
            try martlet.program.waitForLine(containing: "started (")
            return martlet
        }

        private func remove() { try? FileManager.default.removeItem(atPath: data) }

        private func devices() throws -> [String] {
            let (end, output) = try run(["device", "list", "--json"])
            guard end == .exited(0) else { throw Unexpected(output) }
            let list = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [[String: Any]] ?? []
            return list.compactMap { $0["deviceId"] as? String }
        }

        @Test func `are the same through a running broker and without one`() throws {
            defer { remove() }
            var result = try run(["user", "add", "Ann@Example.org", "--admin", "--generate"])
            #expect(result.end == .exited(0))
            #expect(result.output.hasPrefix("added ann@example.org\npassword  "))
            result = try run(["device", "add", "0c5d32dd2568", "--owner", "ann@example.org"])
            #expect(result.end == .exited(0))
            #expect(result.output.hasPrefix("user name  0C5D32DD2568\npassword   "))

            let martlet = try broker(["data_dir \(data)"])
            #expect(try devices() == ["0C5D32DD2568"])
            #expect(try run(["device", "add", "second"]).end == .exited(0))
            #expect(try run(["device", "block", "second"]).end == .exited(0))
            result = try run(["service", "add", "node-red"])
            #expect(result.output.hasPrefix("user name  node-red\n"))
            #expect(try run(["device", "remove", "0C5D32DD2568"]).end == .exited(0))
            result = try run(["user", "block", "ann@example.org"])
            #expect(result.end == .exited(1))
            #expect(result.output == "martlet: the last administrator can't be blocked\n")
            try martlet.stop()

            #expect(try devices() == ["SECOND"])
            result = try run(["service", "list"])
            #expect(result.output.hasPrefix("NAME      POLICY   BLOCKED  CREATED\nnode-red  backend  no       2"))
            #expect(!FileManager.default.fileExists(atPath: "\(data)/control.sock"))
        }

        @Test func `and sessions are listed and ended through a running broker and without one`() throws {
            defer { remove() }
            let martlet = try broker(["data_dir \(data)"])
            for name in ["away", "gone", "connected"] {
                let client = try martlet.client(name, cleanSession: false)
                try client.subscribe([("t", 1)])
                if name != "connected" { try client.send(Packet.disconnect) }
                if name != "connected" { #expect(client.isClosed()) }
            }
            let connected = try martlet.client("connected", cleanSession: false)
            let publisher = try martlet.client("publisher")
            try publisher.send(Packet.publish("t", "x", qos: 1, identifier: 1))
            #expect(try publisher.receive().type == 4)
            let (end, output) = try run(["session", "list", "--absent"])
            #expect(end == .exited(0))
            let rows = output.split(separator: "\n").dropFirst().map { $0.split(separator: " ") }
            #expect(Set(rows.compactMap { $0.first.map(String.init) }) == ["away", "gone"])
            #expect(rows.allSatisfy { $0.last == "1" }, "\(output)")
            #expect(try run(["session", "remove", "gone"]).end == .exited(0))
            #expect(try run(["session", "remove", "gone"]).output == "martlet: there is no session of gone\n")
            #expect(try run(["session", "remove", "connected"]).end == .exited(0))
            #expect(connected.isClosed())
            try martlet.stop()

            #expect(try run(["session", "list"]).output.contains("\naway "))
            #expect(try !run(["session", "list"]).output.contains("gone"))
            #expect(try run(["session", "remove", "away"]).end == .exited(0))
            #expect(try run(["session", "list"]).output.split(separator: "\n").count == 1)
        }

        @Test(arguments: [
            (["user", "add", "nobody", "--generate"], 1, "martlet: this is not an e-mail address, such as"),
            (["user", "add", "a@x"], 2, "martlet: there is no terminal to ask for a password at"),
            (["user", "passwd", "a@x", "--generate", "--password-stdin"], 2, "martlet: --password-stdin and"),
            (["user", "role", "a@x", "king"], 2, "martlet: a role is 'user' or 'admin'"),
            (["device", "add", "ESP32_1"], 1, "martlet: a deviceId has 1 to 64 letters"),
            (["device", "fly"], 2, "martlet: "),
            (["service", "add", "x", "--policy", "owner"], 1, "martlet: a service's"),
        ])
        func `say in one line what is wrong`(_ arguments: [String], _ status: Int32, _ line: String) throws {
            defer { remove() }
            let (end, output) = try run(arguments)
            #expect(end == .exited(status))
            #expect(output.hasPrefix(line))
            #expect(output.split(separator: "\n").count == 1, "\(output)")
        }

        @Test func `need a data directory to be listed`() throws {
            let (end, output) = try run(["device", "list"])
            #expect(end == .exited(1))
            #expect(output == "martlet: \(data): there is no data directory here; --data names another\n")
        }

        @Test func `belong to one broker`() throws {
            defer { remove() }
            let martlet = try broker(["data_dir \(data)"])
            let file = temporaryFile("conf")
            defer { unlink(file) }
            try "listener \(freePort()) 127.0.0.1\nuser root\ndata_dir \(data)\n"
                .write(toFile: file, atomically: true, encoding: .utf8)
            let second = try Program(Martlet.binary, ["serve", "-c", file])
            #expect(try second.waitForEnd() == .exited(1))
            #expect(
                second.output.hasSuffix(
                    "martlet: data_dir: the data directory \(data) is in use by process \(martlet.program.pid)\n"))
            // A broker that does not answer.
            unlink("\(data)/control.sock")
            let (end, output) = try run(["device", "list"])
            #expect(end == .exited(1))
            #expect(
                output == "martlet: process \(martlet.program.pid) has the data directory \(data), "
                    + "and does not answer at its control.sock\n")
            try martlet.stop()
        }

        @Test func `that were answered are there after kill -9`() throws {
            defer { remove() }
            var answered: [String] = []
            for round in 0..<3 {
                let martlet = try broker(["data_dir \(data)"])
                let pid = martlet.program.pid
                let killer = Thread {
                    usleep(UInt32.random(in: 100_000...400_000))
                    kill(pid, SIGKILL)
                }
                killer.start()
                // What is refused because nobody answers any more goes to the files, and is there as well.
                for index in 0..<40 {
                    let name = "D\(round)-\(index)"
                    if try run(["device", "add", name]).end == .exited(0) { answered.append(name) }
                    if martlet.program.endIfOver() != nil { break }
                }
                #expect(try martlet.program.waitForEnd() == .killed(by: SIGKILL))
            }
            let stored = Set(try devices())
            #expect(!answered.isEmpty)
            #expect(stored.isSuperset(of: answered))
        }

        @Test func `of two commands at once are both made`() throws {
            defer { remove() }
            #expect(try run(["device", "add", "FIRST"]).end == .exited(0))
            let programs = try (0..<4).map {
                try Program(Martlet.binary, ["device", "add", "D\($0)", "--data", data])
            }
            for program in programs { #expect(try program.waitForEnd() == .exited(0), "\(program.output)") }
            #expect(try devices() == ["D0", "D1", "D2", "D3", "FIRST"])
        }

        @Test func `are kept from newer data, with status 3`() throws {
            defer { remove() }
            #expect(try run(["device", "add", "A"]).end == .exited(0))
            let change = try Program(
                "sqlite3",
                [
                    "\(data)/fleet.db",
                    "INSERT INTO migration VALUES (99, 'x', 1, '7.5'); PRAGMA user_version = 99",
                ])
            #expect(try change.waitForEnd() == .exited(0))
            let (end, output) = try run(["device", "list"])
            #expect(end == .exited(3))
            #expect(output.hasPrefix("\(data)/fleet.db: made by Martlet 7.5; this is "))
        }

        @Test(.enabled(if: geteuid() == 0)) func `are closed to another user of the machine`() throws {
            defer { remove() }
            let martlet = try broker(["data_dir \(data)"])
            chmod(data, 0o755)
            chmod("\(data)/control.sock", 0o666)
            let script = """
                import os, socket, sys
                os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)
                s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect("control.sock")
                try:
                    s.sendall(b'{"commands":[{"command":"listDevices"}]}\\n'); print("got", s.recv(100))
                except OSError: print("got", b"")
                """
            let stranger = try Program("python3", ["-c", script, data])
            #expect(try stranger.waitForEnd() == .exited(0), "\(stranger.output)")
            #expect(stranger.output == "got b''\n")
            try martlet.program.waitForLine(containing: "another user at control.sock was turned away (user=65534)")
            try martlet.stop()
        }

        /// Root makes the directory for the user that it becomes, and nothing in it.
        @Test(.enabled(if: geteuid() == 0 && othersReachFiles)) func `belong to the user that root becomes`() throws {
            defer { remove() }
            let martlet = try broker(["user nobody", "data_dir \(data)"])
            for name in ["", "fleet.db", "lock", "control.sock"] {
                var status = stat()
                #expect(lstat("\(data)/\(name)", &status) == 0)
                #expect(status.st_uid != 0, "\(name)")
            }
            #expect(try run(["device", "add", "A"]).end == .exited(0))
            try martlet.stop()
            #expect(try run(["device", "add", "B"]).end == .exited(0))
            let again = try broker(["user nobody", "data_dir \(data)"])
            #expect(try devices() == ["A", "B"])
            try again.stop()
        }
    }
}
