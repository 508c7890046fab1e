package import Configuration
import Locks
package import Transport

/// The TLS of one listener: the context for those who come next, which a reload replaces.
final class TLSEntrance: Sendable {
    private let current: Lock<TLSContext>

    init(_ context: TLSContext) { current = Lock(context) }

    var context: TLSContext { current.withLock { $0 } }

    func replace(with context: TLSContext) { current.withLock { $0 = context } }
}

/// The pre-shared key of an identity at a listener, by number; nil where nobody has that name. From any thread.
package typealias KeyLookup = @Sendable (_ listener: Int, _ identity: [UInt8]) -> [UInt8]?

extension TLSSettings {
    init(_ tls: Configuration.TLS) {
        self.init()
        certificateFile = tls.certificateFile
        keyFile = tls.keyFile
        authorityFile = tls.authorityFile
        authorityDirectory = tls.authorityDirectory
        revocationFile = tls.revocationFile
        // With a `cafile` alone nobody is asked for a certificate, as in Mosquitto.
        clientCertificates = tls.requiresCertificate ? .required : tls.asksForCertificate ? .optional : .none
        ignoresCertificateDates = tls.ignoresCertificateDates
        oldestVersion =
            switch tls.minimumVersion {
            case .tls11: .tls11
            case .tls12: .tls12
            case .tls13: .tls13
            }
        ciphers = tls.ciphers
        cipherSuites = tls.cipherSuites
        parameterFile = tls.parameterFile
        keyHint = tls.keyHint
    }
}

extension Configuration {
    /// The contexts of all listeners, by number; nil where a listener has no TLS. Reads their files. Throws what is wrong
    /// with the first that can't be used, and where the configuration names it.
    package func tlsContexts(
        tickets: TicketKeys, keys: @escaping KeyLookup
    ) throws(ConfigurationError) -> [TLSContext?] {
        var contexts: [TLSContext?] = []
        for (number, listener) in listeners.enumerated() {
            guard listener.tls.isOn else {
                contexts.append(nil)
                continue
            }
            var settings = TLSSettings(listener.tls)
            if listener.tls.keyHint != nil { settings.keys = { keys(number, $0) } }
            do throws(TLSError) {
                contexts.append(try TLSContext(settings, tickets: tickets))
            } catch {
                let place = listener.places[error.key]
                throw ConfigurationError(
                    file: place?.file ?? "listener \(listener.port)", line: place?.line, reason: "\(error)")
            }
        }
        return contexts
    }
}
