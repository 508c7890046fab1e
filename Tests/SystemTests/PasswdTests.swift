import Foundation
import Glibc
import Testing

extension System {
    @Suite struct `martlet passwd` {
        private let file = temporaryFile("passwords")

        private func run(_ arguments: [String], input: String? = nil) throws -> (end: Program.End, output: String) {
            let program =
                if let input {
                    try Program(
                        "/bin/sh", ["-c", "printf '\(input)' | \"$@\"", "sh", Martlet.binary, "passwd"] + arguments)
                } else {
                    try Program(Martlet.binary, ["passwd"] + arguments)
                }
            return try (program.waitForEnd(), program.output)
        }

        private func text() -> String { (try? String(contentsOfFile: file, encoding: .utf8)) ?? "" }

        private func mode() -> mode_t {
            var status = stat()
            stat(file, &status)
            return status.st_mode & 0o7777
        }

        @Test func `makes a file that only its owner reads, and sets, changes and deletes users`() throws {
            defer { unlink(file) }
            #expect(try run(["-c", "-b", file, "alice", "one"]) == (.exited(0), ""))
            #expect(text().hasPrefix("alice:$7$10000$") && mode() == 0o600)
            #expect(try run(["-H", "sha512", "-b", file, "bob", "two"]) == (.exited(0), ""))
            #expect(text().split(separator: "\n").last?.hasPrefix("bob:$6$") == true)
            let before = text().split(separator: "\n")
            #expect(try run(["-I", "200", "-b", file, "alice", "three"]) == (.exited(0), ""))
            let after = text().split(separator: "\n")
            #expect(after[0].hasPrefix("alice:$7$200$") && after[1] == before[1] && after.count == 2)
            #expect(try run(["-D", file, "alice"]) == (.exited(0), ""))
            #expect(text() == before[1] + "\n")
            #expect(try run(["-D", file, "alice"]).end == .exited(1))
        }

        @Test func `keeps the mode, the link and the lines of others`() throws {
            defer { unlink(file) }
            let link = temporaryFile("link")
            defer { unlink(link) }
            let text = "# our users\r\n\nzed:not a hash\r\n"
            try text.write(toFile: file, atomically: false, encoding: .utf8)
            chmod(file, 0o640)
            symlink(file, link)
            #expect(try run(["-b", link, "alice", "one"]) == (.exited(0), ""))
            #expect(self.text().hasPrefix(text + "alice:$7$") && mode() == 0o640)
            var status = stat()
            #expect(lstat(link, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
        }

        @Test func `takes a password from standard input, and hashes plain text`() throws {
            defer { unlink(file) }
            #expect(try run(["-c", file, "alice"], input: "first line\\nsecond\\n") == (.exited(0), ""))
            #expect(try run(["-b", file, "bob", "x"]) == (.exited(0), ""))
            let hashed = text()
            try (hashed + "carol:plain\n").write(toFile: file, atomically: false, encoding: .utf8)
            #expect(try run(["-U", file]) == (.exited(0), ""))
            #expect(text().hasPrefix(hashed + "carol:$7$"))
        }

        private static let refused: [([String], Int32)] = [
            ([], 2), (["FILE"], 2), (["-b", "FILE", "a"], 2), (["-c", "-D", "FILE", "a"], 2),
            (["-U", "-b", "FILE", "a", "b"], 2),
            (["-I", "0", "-b", "FILE", "a", "b"], 2), (["-I", "5000000", "-b", "FILE", "a", "b"], 2),
            (["-H", "md5", "-b", "FILE", "a", "b"], 2), (["-b", "FILE", "a:b", "x"], 2), (["-b", "FILE", "", "x"], 2),
            (["-b", "FILE", "a", ""], 1), (["-b", "/nowhere/file", "a", "x"], 1), (["-c", "-b", "/tmp", "a", "x"], 1),
        ]

        @Test(arguments: refused)
        func `refuses what it cannot do in one line, changes nothing and shows no password`(
            _ arguments: [String], _ status: Int32
        ) throws {
            defer { unlink(file) }
            try "zed:x\n".write(toFile: file, atomically: false, encoding: .utf8)
            let (end, output) = try run(arguments.map { $0 == "FILE" ? file : $0 })
            #expect(end == .exited(status), "\(output)")
            #expect(output.split(separator: "\n").count == 1 && text() == "zed:x\n", "\(output)")
        }

        @Test func `asks twice on a terminal without showing what is typed`() throws {
            defer { unlink(file) }
            for (second, status) in [("hunter2\n", Int32(0)), ("other\n", 1), ("\u{3}", 130)] {
                let (terminal, name) = try openTerminal()
                defer { close(terminal) }
                let command = "exec \"$1\" passwd -c \"$2\" alice <\"$3\""
                let program = try Program("/bin/sh", ["-c", command, "sh", Martlet.binary, file, name])
                try #require(eventually(within: 20) { program.output.contains("Password: ") })
                // Typed only once it listens in silence: what came before would be thrown away.
                try #require(eventually(within: 20) { isSilent(terminal) })
                _ = write(terminal, "hunter2\n", 8)
                try #require(eventually(within: 20) { program.output.contains("Reenter password: ") })
                _ = write(terminal, second, second.utf8.count)
                #expect(try program.waitForEnd() == .exited(status), "\(program.output)")
                #expect(!program.output.contains("hunter2") && !isSilent(terminal))
                var echoed = [UInt8](repeating: 0, count: 256)
                _ = fcntl(terminal, F_SETFL, O_NONBLOCK)
                let count = max(0, read(terminal, &echoed, echoed.count))
                #expect(!String(decoding: echoed.prefix(count), as: UTF8.self).contains("hunter2"))
            }
            #expect(text().hasPrefix("alice:$7$"))
        }

        private func isSilent(_ terminal: Int32) -> Bool {
            var settings = termios()
            return tcgetattr(terminal, &settings) == 0 && settings.c_lflag & tcflag_t(ECHO) == 0
        }
    }
}
