internal import Glibc

/// Where a person's new password comes from.
enum PasswordPrompt {
    /// Asks twice at the terminal, without showing what is typed.
    static func ask(for user: String) throws(Failure) -> String {
        guard isatty(STDIN_FILENO) == 1 else {
            throw Failure(
                .usage, "there is no terminal to ask for a password at: use --password-stdin or --generate")
        }
        let terminal = SilentTerminal()
        let first = try terminal.ask("New password for \(user): ")
        guard try terminal.ask("The same again: ") == first else {
            throw Failure(.failed, "the two passwords differ; nothing was changed")
        }
        return try text(first)
    }

    /// The first line of standard input.
    static func readStandardInput() throws(Failure) -> String { try text(try readPasswordLine()) }

    private static func text(_ bytes: [UInt8]) throws(Failure) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Failure(.failed, "the password is not UTF-8")
        }
        return text
    }
}

/// What a password may have, bytes: what a CONNECT can carry.
private let longestPassword = 65_535

/// A line of standard input, without its end. The corresponding C function is `read`, a byte at a time: what follows is
/// not ours.
func readPasswordLine(until isEnd: (UInt8) -> Bool = { $0 == 0x0A }) throws(Failure) -> [UInt8] {
    var line: [UInt8] = []
    while true {
        var byte: UInt8 = 0
        let count = unsafe read(STDIN_FILENO, &byte, 1)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw unsafe Failure(.failed, "standard input: \(String(cString: strerror(errno)))") }
        if count == 0 || isEnd(byte) {
            if line.last == 0x0D { line.removeLast() }
            return line
        }
        line.append(byte)
        guard line.count <= longestPassword else {
            throw Failure(.failed, "the password is longer than \(longestPassword) bytes")
        }
    }
}

/// The terminal without an echo of what is typed, until it is let go of. Ctrl-C is a byte meanwhile, so that nobody is
/// left with a silent terminal. The corresponding C functions are `tcgetattr` and `tcsetattr`.
struct SilentTerminal: ~Copyable {
    private static let interrupt: UInt8 = 3
    private let earlier: termios?

    init() {
        var settings = termios()
        guard unsafe tcgetattr(STDIN_FILENO, &settings) == 0 else {
            earlier = nil
            return
        }
        earlier = settings
        settings.c_lflag &= ~tcflag_t(ECHO | ISIG)
        settings.c_cc.11 = Self.interrupt  // VEOL: it also ends a line.
        _ = unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
    }

    deinit { restore() }

    private func restore() {
        guard var settings = earlier else { return }
        _ = unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
    }

    func ask(_ question: String) throws(Failure) -> [UInt8] {
        show(question)
        var isInterrupted = false
        let line = try readPasswordLine { byte in
            if byte == Self.interrupt { isInterrupted = true }
            return byte == 0x0A || isInterrupted
        }
        show("\n")
        guard !isInterrupted else { throw Failure(.interrupted, "interrupted") }
        return line
    }

    /// The corresponding C function is `write`.
    private func show(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBufferPointer { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
