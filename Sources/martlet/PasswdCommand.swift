internal import Access
internal import ArgumentParser
internal import Cryptography
internal import Glibc

/// `martlet passwd`: what `mosquitto_passwd` does, with its options.
struct PasswdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd",
        abstract: "Set passwords in a Mosquitto-compatible password file.",
        usage: """
            martlet passwd [-H HASH] [-I ITERATIONS] [-c] FILE USER
            martlet passwd [-H HASH] [-I ITERATIONS] [-c] -b FILE USER PASSWORD
            martlet passwd -D FILE USER
            martlet passwd [-H HASH] [-I ITERATIONS] -U FILE
            """,
        discussion: """
            Asks for the password twice; where standard input is no terminal, it is the first line there. Lines of \
            other users and comments stay as they are. A running broker takes the file over at SIGHUP.
            """)

    enum Hash: String, ExpressibleByArgument {
        case sha512
        case sha512PBKDF2 = "sha512-pbkdf2"
    }

    @Option(name: .customShort("H"), help: ArgumentHelp("sha512-pbkdf2 or sha512, which is weak.", valueName: "hash"))
    var hash = Hash.sha512PBKDF2

    @Option(
        name: .customShort("I"),
        help: ArgumentHelp("How often PBKDF2 hashes, 1 to \(PasswordHash.Limits.iterations).", valueName: "iterations"))
    var iterations: Int?

    @Flag(name: .customShort("c"), help: "Make a new file, in the place of one that is there.")
    var create = false

    @Flag(name: .customShort("D"), help: "Delete the user.")
    var delete = false

    @Flag(name: .customShort("U"), help: "Hash all passwords of the file that are plain text.")
    var upgrade = false

    @Flag(name: .customShort("b"), help: "Take the password from the command line, where others can see it.")
    var batch = false

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("FILE, USER, PASSWORD", valueName: "argument"))
    var arguments: [String] = []

    func validate() throws {
        let count = upgrade ? 1 : batch ? 3 : 2
        guard arguments.count == count else {
            throw ValidationError(
                upgrade
                    ? "passwd -U takes FILE" : batch ? "passwd -b takes FILE USER PASSWORD" : "passwd takes FILE USER")
        }
        guard
            [delete && create, delete && upgrade, delete && batch, upgrade && create, upgrade && batch]
                .allSatisfy({ !$0 })
        else { throw ValidationError("only -c and -b go together") }
        if let iterations {
            guard hash == .sha512PBKDF2 else { throw ValidationError("-I is about sha512-pbkdf2") }
            guard (1...PasswordHash.Limits.iterations).contains(iterations) else {
                throw ValidationError("-I takes 1 to \(PasswordHash.Limits.iterations)")
            }
        }
    }

    func run() throws {
        if batch { hideLastArgument() }
        let path = arguments[0]
        guard !upgrade else { return try upgradeFile(path) }
        let name = Array(arguments[1].utf8)
        do throws(PasswordFile.NameProblem) {
            try PasswordFile.check(name: name)
        } catch {
            throw Failure(.usage, error)
        }
        guard !delete else {
            return try rewrite(path) { bytes throws(Failure) in
                guard let bytes = PasswordFile.removing(name, from: bytes) else {
                    throw Failure(.failed, "\(path): there is no user '\(arguments[1])'")
                }
                return bytes
            }
        }
        // Asked for before anything is locked, and after it is known that there is a file.
        if !create { try checkReadable(path) }
        let password = try batch ? Array(arguments[2].utf8) : askedPassword()
        guard !password.isEmpty else { throw Failure(.failed, "the password is empty") }
        let hash = try hashed(password)
        try rewrite(path, creating: create) { bytes throws(Failure) in
            PasswordFile.setting(name, to: hash, in: create ? [] : bytes)
        }
    }

    private func upgradeFile(_ path: String) throws {
        try rewrite(path) { bytes throws(Failure) in
            do {
                return try PasswordFile.hashingPlainText(in: bytes, file: path) { try hashed($0) }.bytes
            } catch let error as Failure {
                throw error
            } catch {
                throw Failure(.failed, "\(error)")
            }
        }
    }

    private func hashed(_ password: [UInt8]) throws(Failure) -> PasswordHash {
        let scheme: PasswordHash.Scheme =
            switch (hash, iterations) {
            case (.sha512, _): .sha512
            case (.sha512PBKDF2, let iterations?): .pbkdf2SHA512(iterations: iterations)
            case (.sha512PBKDF2, nil): .forFiles
            }
        do throws(CryptographyError) {
            return try PasswordHash.making(of: password, scheme: scheme)
        } catch {
            throw Failure(.failed, error)
        }
    }

    private func askedPassword() throws(Failure) -> [UInt8] {
        guard isatty(STDIN_FILENO) == 1 else { return try readPasswordLine() }
        let terminal = SilentTerminal()
        let first = try terminal.ask("Password: ")
        guard try terminal.ask("Reenter password: ") == first else { throw Failure(.failed, "the passwords differ") }
        return first
    }
}

/// Takes the password out of what `ps` shows of this process.
private func hideLastArgument() {
    let last = Int(CommandLine.argc) - 1
    guard last > 0, let argument = unsafe CommandLine.unsafeArgv[last] else { return }
    unsafe memset(argument, CInt(UInt8(ascii: "x")), strlen(argument))
}

private func refusal(_ path: String) -> Failure {
    unsafe Failure(.failed, "\(path): \(String(cString: strerror(errno)))")
}

private func checkReadable(_ path: String) throws(Failure) {
    guard unsafe access(path, R_OK) == 0 else { throw refusal(path) }
}

/// Puts what `change` makes of a file in its place: whole or not at all, with its mode and owner, one change after the
/// other. A symbolic link stays, and what it names is replaced. The corresponding C functions are `open`, `flock`,
/// `fstat`, `fchmod`, `fchown`, `fsync` and `rename`.
private func rewrite(
    _ path: String, creating: Bool = false, with change: ([UInt8]) throws(Failure) -> [UInt8]
) throws(Failure) {
    let target = resolved(path)
    while true {
        let flags = O_RDONLY | O_CLOEXEC | (creating ? O_CREAT : 0)
        let descriptor = unsafe open(target, flags, 0o600)
        guard descriptor >= 0 else { throw refusal(path) }
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_EX) == 0 else { throw refusal(path) }
        var (held, named) = (stat(), stat())
        guard unsafe fstat(descriptor, &held) == 0 else { throw refusal(path) }
        guard held.st_mode & S_IFMT == S_IFREG else { throw Failure(.failed, "\(path): not a regular file") }
        // Somebody else has replaced it while we waited for the lock.
        guard unsafe stat(target, &named) == 0, named.st_ino == held.st_ino, named.st_dev == held.st_dev else {
            continue
        }
        let bytes = try contents(of: descriptor, path: path)
        return try replace(target, with: change(bytes), like: held)
    }
}

private func resolved(_ path: String) -> String {
    guard let real = unsafe realpath(path, nil) else { return path }
    defer { unsafe free(real) }
    return unsafe String(cString: real)
}

private func contents(of descriptor: CInt, path: String) throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = unsafe read(descriptor, &chunk, chunk.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw refusal(path) }
        guard count > 0 else { return bytes }
        bytes += chunk.prefix(count)
        guard bytes.count <= PasswordFile.Limits.fileBytes else {
            throw Failure(.failed, "\(path): longer than \(PasswordFile.Limits.fileBytes) bytes")
        }
    }
}

private func replace(_ path: String, with bytes: [UInt8], like original: stat) throws(Failure) {
    let draft = "\(path).\(getpid())"
    unsafe unlink(draft)
    let descriptor = unsafe open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw refusal(draft) }
    defer { close(descriptor) }
    var isDone = fchown(descriptor, original.st_uid, original.st_gid) == 0
    isDone = isDone && fchmod(descriptor, original.st_mode & 0o7777) == 0
    var rest = bytes[...]
    while isDone, !rest.isEmpty {
        let count = unsafe rest.withUnsafeBufferPointer { unsafe write(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        isDone = count > 0
        rest = rest.dropFirst(max(0, count))
    }
    guard isDone, fsync(descriptor) == 0, unsafe rename(draft, path) == 0 else {
        let failure = refusal(path)
        unsafe unlink(draft)
        throw failure
    }
    syncFolder(of: path)
}

/// So that the new name outlives a power cut.
private func syncFolder(of path: String) {
    let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let descriptor = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = fsync(descriptor)
    close(descriptor)
}
