internal import Glibc

/// Where a person's new password comes from.
enum PasswordPrompt {
    /// A password, in bytes, at most.
    private static let bytes = 1024

    /// Asks twice at the terminal, without showing what is typed.
    static func ask(for user: String) throws(Failure) -> String {
        guard isatty(STDIN_FILENO) == 1 else {
            throw Failure(
                .usage, "there is no terminal to ask for a password at: use --password-stdin or --generate")
        }
        let first = try line(prompt: "New password for \(user): ")
        guard try line(prompt: "The same again: ") == first else {
            throw Failure(.failed, "the two passwords differ; nothing was changed")
        }
        return first
    }

    /// The first line of standard input.
    static func readStandardInput() throws(Failure) -> String {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while bytes.count <= Self.bytes {
            let count = unsafe read(STDIN_FILENO, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count == 1, byte != UInt8(ascii: "\n") else { break }
            bytes.append(byte)
        }
        if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Failure(.failed, "the password is not UTF-8")
        }
        return text
    }

    /// The corresponding C functions are `tcgetattr` and `tcsetattr`.
    private static func line(prompt: String) throws(Failure) -> String {
        let text = Array(prompt.utf8)
        _ = unsafe text.withUnsafeBufferPointer { unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
        var shown = termios()
        guard unsafe tcgetattr(STDIN_FILENO, &shown) == 0 else { return try readStandardInput() }
        var hidden = shown
        hidden.c_lflag &= ~tcflag_t(ECHO)
        unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden)
        defer {
            unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown)
            write("", to: STDERR_FILENO)
        }
        return try readStandardInput()
    }
}
