internal import ArgumentParser
internal import Firmware
internal import Glibc
internal import JSON
internal import Transport

/// `martlet firmware`
struct FirmwareCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "firmware", abstract: "Firmware for ESP32 devices.",
        subcommands: [
            Verify.self, Upload.self, List.self, Approve.self, Promote.self, Block.self, Remove.self, Check.self,
            Model.self,
        ])
}

extension FirmwareCommand {
    /// `martlet firmware verify FILE`
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a file is, and whether devices can be given it.",
            discussion: """
                Prints what the file says about itself, then what is wrong with it or worth a look. No broker is asked. \
                Exit status: 0 sound, 1 not, 2 a wrong command. docs/firmware.md has each finding.
                """)

        @Argument(help: "The image, as esptool or ESP-IDF writes it.")
        var file: String

        @Option(help: "The chip it has to be for.")
        var chip: Chip?

        @Option(help: ArgumentHelp("What it is called, where it does not say so itself.", valueName: "version"))
        var declaredVersion: FirmwareVersion?

        @Option(help: ArgumentHelp("What it has to fit: bytes, 0x180000, 1536K or 2M.", valueName: "size"))
        var partitionSize: ByteCount?

        @Option(help: ArgumentHelp("The flash of the device, likewise.", valueName: "size"))
        var flashSize: ByteCount?

        @Option(help: "A file with public keys (PEM), one of which has to have signed it; may be given several times.")
        var key: [String] = []

        @Option(
            help: ArgumentHelp(
                "The digest of a Secure Boot key, likewise: 64 hexadecimal digits.", valueName: "digest"))
        var keyDigest: [String] = []

        @Option(help: ArgumentHelp("A detached signature of the file.", valueName: "file"))
        var signature: String?

        @Flag(help: "As JSON.")
        var json = false

        func validate() throws {
            guard signature == nil || !key.isEmpty else { throw ValidationError("--signature goes with --key") }
        }

        func run() throws {
            let expectations = try expectations()
            let analysis = try orFail(file) { () throws(ReadFailure) in
                try ImageAnalysis(of: ImageFile(file), expecting: expectations)
            }
            let text = json ? analysis.json.text : analysis.lines.joined(separator: "\n")
            write(text, to: STDOUT_FILENO)
            guard let error = analysis.firstError else { return }
            let more = analysis.findings.count { $0.severity == .error } - 1
            throw Failure(.failed, "\(file): \(error.text)\(more > 0 ? " (and \(more) more)" : "")")
        }

        private func expectations() throws -> Expectations {
            var expectations = Expectations()
            expectations.chip = chip
            expectations.declaredVersion = declaredVersion
            expectations.partitionBytes = partitionSize?.bytes
            expectations.flashBytes = flashSize?.bytes
            expectations.detachedSignature = try signature.map { try smallFile($0, atMost: Limits.signatureBytes) }
            for path in key {
                let pem = try smallFile(path, atMost: Limits.keyBytes)
                do throws(TrustedKeys.Refusal) {
                    try expectations.keys.add(pem: pem)
                } catch {
                    throw Failure(.failed, "\(path): \(error)")
                }
            }
            for digest in keyDigest {
                do throws(TrustedKeys.Refusal) {
                    try expectations.keys.add(digest: digest)
                } catch {
                    throw Failure(.usage, error)
                }
            }
            return expectations
        }
    }
}

/// A whole file, of a few bytes.
func smallFile(_ path: String, atMost limit: Int) throws(Failure) -> [UInt8] {
    do throws(SystemError) {
        return try contents(ofFile: path, atMost: limit)
    } catch {
        throw Failure(.failed, "\(path): \(error.code == EFBIG ? "longer than \(limit) bytes" : error.reason)")
    }
}

/// Turns what can't be read into the end of the command.
private func orFail<Result>(_ path: String, _ body: () throws(ReadFailure) -> Result) throws(Failure) -> Result {
    do throws(ReadFailure) {
        return try body()
    } catch {
        throw Failure(.failed, "\(path): \(error)")
    }
}

/// A size on the command line: decimal, hexadecimal, or with K or M behind it, as partition tables have it.
struct ByteCount: ExpressibleByArgument {
    let bytes: Int

    init?(argument: String) {
        let text = argument.lowercased()
        let unit = text.hasSuffix("k") ? 1 << 10 : text.hasSuffix("m") ? 1 << 20 : 1
        let digits = unit == 1 ? text[...] : text.dropLast()
        let number = digits.hasPrefix("0x") ? Int(digits.dropFirst(2), radix: 16) : Int(digits)
        guard let number, (1...(1 << 32)).contains(number) else { return nil }
        bytes = number * unit
    }
}

extension Chip: ExpressibleByArgument {
    package init?(argument: String) { self.init(name: argument) }
    package static var allValueStrings: [String] { allCases.map(\.name) }
}

extension FirmwareVersion: ExpressibleByArgument {
    package init?(argument: String) { self.init(argument) }
}
