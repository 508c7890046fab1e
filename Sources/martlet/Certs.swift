internal import ArgumentParser
internal import Certificates
internal import FoundationEssentials
internal import Glibc
internal import Management
internal import Server
internal import Store

/// `martlet certs ...`
struct Certs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "certs",
        abstract: "The certificate authority of a broker: certificates for devices, and what was revoked.",
        discussion: """
            Works on DATA/certs, whether or not a broker runs on it; one that runs takes what has changed into force at \
            once.
            """,
        subcommands: [
            CertsInit.self, CertsDevice.self, CertsSign.self, CertsRevoke.self, CertsList.self, CertsRenew.self,
        ])
}

/// What all of them take.
struct CertsOptions: ParsableArguments {
    @OptionGroup var dataOption: DataOption

    private var data: String { dataOption.path }
    var directory: CertificateDirectory { CertificateDirectory(dataDirectory: data) }

    /// A broker that runs takes the certificates, and what was revoked, into force, and the store notes them. Where there
    /// is neither nobody has to know: a broker reads them when it starts.
    func tellBroker() async throws {
        let places = [ControlSocket.fileName, FleetStore.fileName].map { "\(data)/\($0)" }
        guard places.contains(where: DataDirectory.exists) else { return }
        do {
            try await managing(data) { try await $0.perform("reloadCertificates") }
        } catch let failure as Failure {
            throw Failure(failure.status, "the files are written, but not in force yet: \(failure.line)")
        }
    }
}

/// Names of the server on the command line.
struct ServerNameOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Another name or address that clients call the server by, for good; may be given several times."))
    var name: [String] = []

    var names: [ServerName] { name.compactMap { ServerName($0) } }

    func validate() throws {
        for name in name where ServerName(name) == nil {
            throw ValidationError("\(name) is neither a host name nor an address")
        }
    }
}

/// How long a device's certificate counts.
struct DeviceDaysOptions: ParsableArguments {
    @Option(help: "How many days it counts, 1 to 36525, but not beyond the authority's own end.")
    var days = CertificateAuthority.Lifetime.device

    func validate() throws {
        guard (1...36_525).contains(days) else { throw ValidationError("--days takes 1 to 36525") }
    }
}

/// The canonical form of a deviceId: upper case, `[A-Z0-9_-]{1,64}`, not beginning with `ESP32_`.
func canonicalDeviceID(_ text: String) throws -> String {
    do throws(ManagementProblem) {
        return try DeviceId(text).text
    } catch {
        throw ValidationError(error.message)
    }
}

/// Turns what the certificates say into the end of the command.
private func orFail<Result>(_ body: () throws(CertificateError) -> Result) throws(Failure) -> Result {
    do throws(CertificateError) {
        return try body()
    } catch {
        throw Failure(.failed, error)
    }
}

/// `martlet certs init`
struct CertsInit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make the authority and the server's certificate, where they are missing.",
        discussion:
            "The same as a broker does when it starts. What is there is kept, unless its time or names ask for it.")

    @OptionGroup var options: CertsOptions
    @OptionGroup var further: ServerNameOptions

    @Option(help: "The kind of new keys: p256, rsa2048 or rsa3072.")
    var keyType = KeyKind.p256

    func run() async throws {
        let directory = options.directory
        let steps = try orFail { () throws(CertificateError) in
            try directory.add(names: further.names)
            return try directory.prepare(names: ServerName.ofThisMachine(), now: .now, kind: keyType)
        }
        for step in steps { write(step.description, to: STDOUT_FILENO) }
        if steps.isEmpty { write("everything is in place: \(directory.path)", to: STDOUT_FILENO) }
        try await options.tellBroker()
    }
}

/// `martlet certs device ID`
struct CertsDevice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device",
        abstract: "Make a key and a certificate for a device.",
        discussion: """
            Writes ID.pem, ID.key, ca.pem and ID.h, a header for a sketch with the three as constants. The key is kept \
            nowhere else. An older certificate of the device counts until it is revoked.
            """)

    @Argument(help: "The device's id.")
    var id: String

    @OptionGroup var options: CertsOptions
    @OptionGroup var lifetime: DeviceDaysOptions

    @Option(help: "The kind of its key: p256, rsa2048 or rsa3072.")
    var keyType = KeyKind.p256

    @Option(help: ArgumentHelp("The directory for the files.", valueName: "dir"))
    var out = "."

    @Flag(help: "Replace files of an earlier certificate.")
    var force = false

    func validate() throws { _ = try canonicalDeviceID(id) }

    func run() async throws {
        let name = try canonicalDeviceID(id)
        let directory = options.directory
        let credential = try orFail { () throws(CertificateError) in
            if !force { try ClientCredential.requireRoom(in: out, for: name) }
            return try directory.issueDevice(name, kind: keyType, days: lifetime.days, now: .now)
        }
        do throws(CertificateError) {
            let files = try credential.write(to: out, name: name)
            let certificate = credential.certificate
            write("\(name): certificate \(certificate.serial) until \(certificate.notAfter)", to: STDOUT_FILENO)
            write(files.joined(separator: " "), to: STDOUT_FILENO)
        } catch {
            // Nobody has the key, so nobody shall be able to use the certificate.
            _ = try? directory.revoke(credential.certificate.serial.description, now: .now)
            throw Failure(.failed, error)
        }
        try await options.tellBroker()
    }
}

/// `martlet certs sign CSR --device ID`
struct CertsSign: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sign",
        abstract: "Sign a request of a device that keeps its key to itself.",
        discussion: "Only the public key is taken from the request. Prints the certificate.")

    @Argument(help: "The request, PEM; - for standard input.")
    var request: String

    @Option(help: ArgumentHelp("The device's id, whatever the request says.", valueName: "id"))
    var device: String

    @OptionGroup var options: CertsOptions
    @OptionGroup var lifetime: DeviceDaysOptions

    func validate() throws { _ = try canonicalDeviceID(device) }

    func run() async throws {
        let name = try canonicalDeviceID(device)
        let text = try orFail { () throws(CertificateError) in try CertificateRequest.readText(from: request) }
        let directory = options.directory
        do throws(CertificateError) {
            let certificate = try directory.sign(request: text, for: name, days: lifetime.days, now: .now)
            write(String(certificate.pem.dropLast()), to: STDOUT_FILENO)
        } catch .refused(let reason) {
            throw Failure(.failed, "\(request): \(reason)")
        } catch {
            throw Failure(.failed, error)
        }
        try await options.tellBroker()
    }
}

/// `martlet certs revoke SERIAL|ID`
struct CertsRevoke: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke",
        abstract: "Revoke a certificate, or all certificates of a device.",
        discussion: "A broker that runs closes the connections that were made with them.")

    @Argument(help: ArgumentHelp("The serial number, or the device's id.", valueName: "serial-or-id"))
    var which: String

    @OptionGroup var options: CertsOptions

    func run() async throws {
        let directory = options.directory
        let revoked = try orFail { () throws(CertificateError) in
            try directory.revoke(which.uppercased(), now: .now)
        }
        for certificate in revoked {
            write("revoked: \(certificate.serial), \(certificate.kind) \(certificate.name)", to: STDOUT_FILENO)
        }
        if revoked.isEmpty { write("revoked already, nothing has changed", to: STDOUT_FILENO) }
        try await options.tellBroker()
        guard revoked.contains(where: { $0.kind == .server }) else { return }
        let steps = try orFail { () throws(CertificateError) in
            try directory.prepare(names: ServerName.ofThisMachine(), now: .now)
        }
        for step in steps { write(step.description, to: STDOUT_FILENO) }
        try await options.tellBroker()
    }
}

/// `martlet certs list`
struct CertsList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List what was issued, and whether it counts.")

    @OptionGroup var options: CertsOptions

    @Flag(help: "As JSON.")
    var json = false

    /// A certificate as a person or a program wants to see it.
    private struct Row: Encodable {
        let serial: String
        let kind: String
        let name: String
        let issued: UnixTime
        let notAfter: UnixTime
        let revoked: UnixTime?
        let state: String

        init(_ certificate: IssuedCertificate, now: UnixTime) {
            serial = certificate.serial.description
            kind = certificate.kind.rawValue
            name = certificate.name
            issued = certificate.issued
            notAfter = certificate.notAfter
            revoked = certificate.revoked
            state = certificate.revoked != nil ? "revoked" : certificate.notAfter <= now ? "expired" : "valid"
        }
    }

    func run() async throws {
        let directory = options.directory
        let all = try orFail { () throws(CertificateError) in
            guard try directory.authorityCertificate() != nil else {
                throw .unknown("\(directory.path): there are no certificates; `martlet certs init` makes them")
            }
            return try directory.list()
        }
        let rows = all.map { Row($0, now: .now) }
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            let text = try encoder.encode(["certificates": rows])
            return write(String(decoding: text, as: UTF8.self), to: STDOUT_FILENO)
        }
        var lines = [("SERIAL", "STATE", "EXPIRES", "KIND", "NAME")]
        lines += rows.map { ($0.serial, $0.state, $0.notAfter.description, $0.kind, $0.name) }
        func padded(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(0, width - text.count))
        }
        let text = lines.map { line in
            "\(padded(line.0, 32))  \(padded(line.1, 7))  \(padded(line.2, 20))  \(padded(line.3, 6))  \(line.4)"
        }
        write(text.joined(separator: "\n"), to: STDOUT_FILENO)
    }
}

/// `martlet certs renew`
struct CertsRenew: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "renew",
        abstract: "Give the server a new certificate, and sign the list of what was revoked anew.",
        discussion: "From the same authority and for the same key, so no device notices.")

    @OptionGroup var options: CertsOptions
    @OptionGroup var further: ServerNameOptions

    func run() async throws {
        let directory = options.directory
        let steps = try orFail { () throws(CertificateError) in
            guard try directory.authorityCertificate() != nil else {
                throw .unknown("\(directory.path): there are no certificates; `martlet certs init` makes them")
            }
            try directory.add(names: further.names)
            return try directory.renew(names: ServerName.ofThisMachine(), now: .now)
        }
        for step in steps { write(step.description, to: STDOUT_FILENO) }
        try await options.tellBroker()
    }
}

extension KeyKind: ExpressibleByArgument {}
