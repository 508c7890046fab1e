import Foundation
import Glibc
import Testing

extension System {
    /// `martlet serve` without a file: what it makes, what it takes over, and what keeps it from starting.
    @Suite struct `The default set-up` {
        private let directory: TemporaryDirectory

        init() throws { directory = try TemporaryDirectory() }

        private func text(_ name: String) -> String { directory.text("data/\(name)") }

        private func firstPassword() throws -> String {
            let lines = text("first-admin").split(separator: "\n", omittingEmptySubsequences: false)
            guard lines.count == 3, lines[0] == "admin@localhost", lines[2].isEmpty else {
                throw Unexpected("first-admin holds \(lines)")
            }
            return String(lines[1])
        }

        // MARK: - The first start, and the next

        @Test func `is made at the first start, for its owner only, and serves in time`() throws {
            var made: StandardMartlet?
            let duration = try seconds { made = try StandardMartlet(in: directory) }
            let broker = try #require(made)
            #expect(duration < (Martlet.isFast ? 2 : 20) * patience)
            for (name, mode) in [
                ("", 0o700), ("certs", 0o700), ("certs/ca.key", 0o600), ("certs/server.key", 0o600),
                ("certs/issued.jsonl", 0o600), ("certs/ca.pem", 0o644), ("certs/server.pem", 0o644),
                ("fleet.db", 0o600),
                ("lock", 0o600), ("control.sock", 0o600), ("first-admin", 0o600),
            ] as [(String, mode_t)] {
                var status = stat()
                #expect(lstat("\(broker.data)/\(name)", &status) == 0, "\(name)")
                #expect(status.st_mode & 0o777 == mode, "\(name)")
            }
            for port in StandardMartlet.fixedPorts { #expect(accepts(port), "\(port)") }
            let password = try firstPassword()
            #expect(password.utf8.count >= 16)
            #expect(!broker.program.output.contains(password))
            #expect(broker.program.output.contains("anonymous clients may connect"))
            try broker.stop()
        }

        @Test func `has a first administrator, whose password serves only to be changed`() throws {
            let broker = try StandardMartlet(in: directory)
            let password = try firstPassword()
            #expect(try broker.connect("a", "admin@localhost", password).code == 5)
            #expect(try broker.connect("a", "admin@localhost", "guess").code == 4)
            #expect(directory.exists("data/first-admin"))

            try broker.run("user", "passwd", "admin@localhost", "--password-stdin", input: "a better one")
            #expect(!directory.exists("data/first-admin"))
            #expect(try broker.connect("a", "admin@localhost", password).code == 4)
            let admin = try broker.client("a", "Admin@localhost", "a better one")
            #expect(try admin.subscribe([("#", 0), ("$SYS/#", 0), ("$CONTROL/#", 0)]) == [0, 0, 0])
            try broker.stop()
        }

        @Test func `is the same at the next start, also after kill -9`() throws {
            let first = try StandardMartlet(in: directory)
            let names = ["certs/ca.pem", "certs/ca.key", "certs/server.pem", "certs/server.key", "first-admin"]
            let before = names.map(text)
            let secret = try first.password("device", "add", "A")
            try first.run("certs", "device", "A", "--out", directory.path)
            first.program.signal(SIGKILL)
            #expect(try first.program.waitForEnd() == .killed(by: SIGKILL))
            #expect(directory.exists("data/control.sock"))
            // What is done while nobody runs counts as well.
            try first.run("certs", "device", "B", "--out", directory.path)
            try first.run("device", "add", "B")

            let second = try StandardMartlet(in: directory)
            #expect(names.map(text) == before)
            #expect(!second.program.output.contains("was made"))
            #expect(!second.program.output.contains("first administrator"))
            #expect(try second.publish(["-u", "A", "-P", secret]) == .exited(0))
            for name in ["A", "B"] { #expect(try second.publish(second.showing(name)) == .exited(0), "\(name)") }
            try second.stop()
            #expect(!directory.exists("data/control.sock"))
        }

        /// While it still looks at its certificates, for instance, with what the end of the process takes away.
        @Test func `may be stopped as soon as it serves`() throws {
            for _ in 0..<10 { try StandardMartlet(in: directory).stop() }
        }

        @Test func `shows the first password on a terminal where there is one, and writes it nowhere`() throws {
            let (terminal, name) = try openTerminal()
            defer { close(terminal) }
            _ = fcntl(terminal, F_SETFL, O_NONBLOCK)
            let port = try freePort()
            #expect(eventually(within: 60) { !accepts(StandardMartlet.securePort) })
            let program = try Program(
                "/bin/sh",
                [
                    "-c", "exec \"$1\" serve -p \"$2\" --data \"$3\" 2>\"$4\"", "sh", Martlet.binary, "\(port)",
                    "\(directory.path)/data", name,
                ])
            var shown = ""
            #expect(
                eventually(within: 30) {
                    var bytes = [UInt8](repeating: 0, count: 4096)
                    let count = max(0, read(terminal, &bytes, bytes.count))
                    shown += String(decoding: bytes.prefix(count), as: UTF8.self)
                    return shown.contains("started (")
                })
            let words = "The first administrator is admin@localhost, password "
            let line = try #require(shown.components(separatedBy: "\r\n").first { $0.hasPrefix(words) })
            #expect(line.utf8.count >= words.utf8.count + 16)
            #expect(shown.contains("martlet user passwd admin@localhost"))
            #expect(!directory.exists("data/first-admin"))
            program.signal(SIGTERM)
            #expect(try program.waitForEnd() == .exited(0))
        }

        // MARK: - What keeps it from starting

        /// The last line of a start that fails.
        private func failure(_ status: Int32, _ arguments: [String] = []) throws -> String {
            let port = try freePort()
            let program = try Program(
                Martlet.binary, ["serve", "-p", "\(port)", "--data", "\(directory.path)/data"] + arguments)
            #expect(try program.waitForEnd(within: 20) == .exited(status))
            let lines = program.lines.filter { $0.hasPrefix("martlet: ") }
            #expect(lines.count == 1 && lines == program.lines.suffix(1), "\(program.output)")
            return lines.first ?? ""
        }

        @Test func `belongs to one broker at a time`() throws {
            let broker = try StandardMartlet(in: directory)
            #expect(try failure(1).contains("in use"))
            try RawClient(port: broker.port).connect("still")
            #expect(try broker.command(["device", "list"]).end == .exited(0))
            try broker.stop()
        }

        @Test(arguments: ["server.pem", "server.key", "ca.pem", "ca.key", "crl.pem", "issued.jsonl"])
        func `does not start with garbage among the certificates, and leaves it`(_ name: String) throws {
            try StandardMartlet(in: directory).stop()
            try directory.write("garbage\n", "data/certs/\(name)")
            #expect(try failure(1).contains("certs/\(name): "))
            #expect(text("certs/\(name)") == "garbage\n")
        }

        @Test func `gets another certificate where the server's is gone, and no other authority`() throws {
            let first = try StandardMartlet(in: directory)
            let secret = try first.password("device", "add", "A")
            try first.stop()
            let (authority, certificate) = (text("certs/ca.pem"), text("certs/server.pem"))
            unlink("\(first.data)/certs/server.pem")
            let second = try StandardMartlet(in: directory)
            #expect(text("certs/ca.pem") == authority)
            #expect(text("certs/server.pem") != certificate)
            #expect(try second.publish(["-u", "A", "-P", secret]) == .exited(0))
            try second.stop()

            unlink("\(first.data)/certs/ca.pem")
            #expect(try failure(1).contains("certs/"), "a key whose certificate is gone")
        }

        @Test func `is refused where the data is no database`() throws {
            try StandardMartlet(in: directory).stop()
            try directory.write("garbage", "data/fleet.db")
            #expect(try failure(1).contains("fleet.db: damaged"))
        }

        @Test func `is refused where others may write to its directory`() throws {
            try StandardMartlet(in: directory).stop()
            chmod("\(directory.path)/data", 0o777)
            #expect(try failure(1).contains("other users may write to it; chmod 700 it"))
        }

        @Test(.enabled(if: geteuid() == 0 && othersReachFiles && nobodyReachesBinary))
        func `is refused where its directory is another user's`() throws {
            try StandardMartlet(in: directory).stop()
            let port = try freePort()
            for arguments in [["serve", "-p", "\(port)"], ["device", "list"], ["certs", "init"]] {
                let program = try Program(
                    "setpriv",
                    ["--reuid", "65534", "--regid", "65534", "--clear-groups", Martlet.binary] + arguments
                        + ["--data", "\(directory.path)/data"])
                #expect(try program.waitForEnd() == .exited(1))
                #expect(
                    program.lines.count == 1 && program.output.contains("\(directory.path)/data"), "\(program.output)")
            }
        }

        // MARK: - Disks

        @Test(.enabled(if: geteuid() == 0)) func `goes on where the disk is full, and says what was not done`() throws {
            let place = "\(directory.path)/disk"
            mkdir(place, 0o700)
            guard try Program("mount", ["-t", "tmpfs", "-o", "size=3m", "none", place]).waitForEnd() == .exited(0)
            else {
                return  // Not every container lets root do this.
            }
            defer { umount2(place, Int32(MNT_DETACH)) }
            let broker = try StandardMartlet(in: directory, data: "disk/data")
            let secret = try broker.password("device", "add", "A")
            let device = try broker.client("A", "A", secret)
            let filler = open("\(place)/filler", O_WRONLY | O_CREAT, 0o600)
            let zeroes = [UInt8](repeating: 0, count: 4096)
            while write(filler, zeroes, zeroes.count) > 0 {}
            close(filler)

            var refused: (end: Program.End, output: String)?
            // What the file of commits has room for is still done.
            for number in 0..<200 {
                let result = try broker.command(["device", "add", "D\(number)"])
                if result.end == .exited(0) { continue }
                refused = result
                break
            }
            let end = try #require(refused)
            #expect(end.end == .exited(1))
            #expect(end.output.hasPrefix("martlet: nothing was changed: ") && end.output.contains("full"))
            #expect(end.output.split(separator: "\n").count == 1)
            let certificate = try broker.command(["certs", "device", "A", "--out", directory.path])
            #expect(certificate.end == .exited(1) && certificate.output.contains("No space left on device"))
            try device.ping()
            #expect(try broker.connect("B", "A", secret).code == 0)

            unlink("\(place)/filler")
            #expect(try broker.command(["device", "add", "LATER"]).end == .exited(0))
            #expect(try broker.command(["device", "block", "A"]).end == .exited(0))
            #expect(device.isClosed())
            try broker.stop()
        }
    }
}

/// Whether the binary lies where another user reaches it.
private let nobodyReachesBinary: Bool = {
    let program = try? Program(
        "setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", Martlet.binary, "--version"])
    return (try? program?.waitForEnd()) == .exited(0)
}()
