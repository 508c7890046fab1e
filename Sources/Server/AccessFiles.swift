package import Access
package import Configuration
import Transport

/// What a configuration says in files of its own about who may connect and what they may do, read. Whoever has it can
/// start, or reload, and nothing more can be wrong with those files.
package struct AccessFiles: Sendable {
    package let control: AccessControl
    package let warnings: [ConfigurationWarning]

    /// Throws the first thing that is wrong with one of the files, and its line.
    package init(_ configuration: Configuration) throws(ConfigurationError) {
        var reader = Reader(configuration: configuration)
        var listeners: [AccessControl.Listener] = []
        for listener in configuration.listeners { listeners.append(try reader.rules(of: listener)) }
        control = AccessControl(listeners: listeners)
        warnings = reader.warnings.map { ConfigurationWarning(file: $0.file, line: $0.line, reason: $0.reason) }
    }
}

/// Reads each file once, however many listeners name it.
private struct Reader {
    let configuration: Configuration
    var warnings: [AccessFileWarning] = []
    private var passwordFiles = KnownFiles<PasswordFile>()
    private var policies = KnownFiles<Policy>()
    private var keyFiles = KnownFiles<PreSharedKeys>()

    init(configuration: Configuration) { self.configuration = configuration }

    mutating func rules(of listener: Configuration.Listener) throws(ConfigurationError) -> AccessControl.Listener {
        let access = configuration.access(at: listener)
        var rules = AccessControl.Listener()
        rules.allowsAnonymous = access.allowsAnonymous ?? false
        rules.usesCertificateName = listener.tls.isOn && listener.tls.usesIdentityAsUserName
        rules.usesCertificateSubject = listener.tls.isOn && listener.tls.usesSubjectAsUserName
        rules.requiresCertificate = listener.tls.certificateFile != nil && listener.tls.requiresCertificate
        rules.admitsAccounts = configuration.dataDirectory != nil
        rules.followsMosquitto = !configuration.isStandard
        if let path = access.passwordFile {
            rules.passwordFile = try passwordFiles.read(path, .passwordFile, listener, configuration) {
                (bytes) throws(AccessFileError) in
                let file = try PasswordFile.parse(bytes, file: path)
                warnings += file.warnings
                return file
            }
        }
        if let path = access.aclFile {
            rules.policy = try policies.read(path, .aclFile, listener, configuration) {
                (bytes) throws(AccessFileError) in
                let policy = try Policy.parse(bytes, file: path)
                warnings += policy.warnings
                return policy
            }
        } else if configuration.isStandard {
            rules.policy = .shipped(.loopback)
        }
        if let path = access.keysFile {
            rules.keys = try keyFiles.read(path, .pskFile, listener, configuration) {
                (bytes) throws(AccessFileError) in
                let keys = try PreSharedKeys.parse(bytes, file: path)
                warnings += keys.warnings
                return keys
            }
        }
        return rules
    }
}

/// Files of one kind, by path.
private struct KnownFiles<Content> {
    private var contents: [String: Content] = [:]

    mutating func read(
        _ path: String, _ key: Configuration.Key, _ listener: Configuration.Listener, _ configuration: Configuration,
        _ parse: ([UInt8]) throws(AccessFileError) -> Content
    ) throws(ConfigurationError) -> Content {
        if let known = contents[path] { return known }
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try Transport.contents(ofFile: path, atMost: PasswordFile.Limits.fileBytes)
        } catch {
            let place = configuration.place(of: key, at: listener)
            throw ConfigurationError(
                file: place?.file ?? path, line: place?.line, reason: "'\(key.rawValue)' \(path): \(error.reason)")
        }
        do throws(AccessFileError) {
            let content = try parse(bytes)
            contents[path] = content
            return content
        } catch {
            throw ConfigurationError(file: error.file, line: error.line, reason: error.reason)
        }
    }
}
