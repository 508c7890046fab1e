import Foundation
import Glibc
import Testing

extension System {
    /// `martlet check-config`, with files on the disk.
    @Suite struct `Checking a configuration` {
        @Test func `says what to look at, what each listener allows, and ok`() throws {
            let directory = temporaryFile("d")
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
            defer { try? FileManager.default.removeItem(atPath: directory) }
            try write("listener 1999 ::1\nallow_anonymous true\n", "\(directory)/b.conf")
            try write("retry_interval 20\n", "\(directory)/A.conf")
            try write("not read", "\(directory)/C.conf.bak")
            try write("include_dir \(directory)\nmax_queued_messages 5\n", "\(directory).main")
            defer { unlink("\(directory).main") }

            let program = try Program(Martlet.binary, ["check-config", "\(directory).main"])
            #expect(try program.waitForEnd(within: 5) == .exited(0))
            #expect(
                program.output == """
                    \(directory)/A.conf:1: warning: 'retry_interval' has no effect: messages are sent again when \
                    their client comes back, and only then
                    Port 1999 at ::1: MQTT over TCP, not encrypted. Anyone may connect, without user name and \
                    password. Every topic is open to them.
                    Limits: max_queued_messages 5.
                    \(directory).main: ok

                    """)
        }

        @Test(arguments: [
            ("include_dir /nonexistent", ":1: 'include_dir' /nonexistent: No such file or directory"),
            ("listener 1883\nacl_file /nonexistent", ":2: 'acl_file' /nonexistent: No such file or directory"),
            ("listener 1883\nallow_anonymus true", ":2: unknown key 'allow_anonymus'; did you mean 'allow_anonymous'?"),
            (
                "durability relaxed\nlistener 1883",
                ":1: 'durability relaxed' needs 'data_dir' or 'persistence true'"
            ),
        ])
        func `says in one line what is wrong, with status 3`(_ text: String, _ expected: String) throws {
            let file = temporaryFile("conf")
            defer { unlink(file) }
            try write(text, file)
            let program = try Program(Martlet.binary, ["check-config", "-c", file])
            #expect(try program.waitForEnd(within: 5) == .exited(3))
            #expect(program.output == "\(file)\(expected)\n")
        }

        private func write(_ text: String, _ file: String) throws {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
        }
    }
}
