package import Access
import Configuration
import HTTP
import Locks
package import Management
import Transport

/// Whoever logs in over HTTP is counted, and waits, with those who sign in to MQTT.
extension BrokerServer: PasswordDesk {
    package func prove(
        _ check: PasswordCheck, of name: [UInt8], from source: SignInThrottle.Source
    ) async -> PasswordProof {
        guard permits(name, from: source) else { return .tooOften }
        let outcome: PasswordProof = await withCheckedContinuation { continuation in
            let isTaken = passwords.check(check) { principal in
                continuation.resume(returning: principal == nil ? .wrong : .proven)
            }
            if !isTaken { continuation.resume(returning: .busy) }
        }
        note(outcome, name, from: source)
        return outcome
    }

    package func hash(_ password: [UInt8]) async -> PasswordHash? {
        await withCheckedContinuation { continuation in
            if !passwords.hash(password, then: { continuation.resume(returning: $0) }) {
                continuation.resume(returning: nil)
            }
        }
    }

    package func mayRegister(from source: SignInThrottle.Source) -> Bool {
        let now = Self.milliseconds
        return registrations.withLock { registrations in
            guard registrations.permits([], from: source, at: now) else { return false }
            _ = registrations.failed([], from: source, at: now)
            return true
        }
    }

    package func permits(_ name: [UInt8], from source: SignInThrottle.Source) -> Bool {
        throttle.withLock { $0.permits(name, from: source, at: Self.milliseconds) }
    }

    package func note(_ proof: PasswordProof, _ name: [UInt8], from source: SignInThrottle.Source) {
        let now = Self.milliseconds
        throttle.withLock { throttle in
            switch proof {
            case .proven: throttle.succeeded(name, from: source, at: now)
            case .wrong: _ = throttle.failed(name, from: source, at: now)
            case .busy: throttle.abandoned(name, from: source)
            case .tooOften: break  // Nobody has let it through.
            }
        }
    }

    /// Who may sign in now. From any thread.
    package var accounts: Accounts { access.withLock { $0.accounts } }

    /// What of the configuration in force decides about requests. From any thread.
    package var apiSettings: APISettings { requestSettings.withLock { $0 } }

    package var managementSettings: ManagementSettings {
        let configuration = configuration.withLock { $0 }
        let management = configuration.management
        var settings = ManagementSettings()
        settings.firmwareURLSeconds = management.firmwareURLLifetime.milliseconds / 1000
        settings.firmwareReleases = management.firmwareReleases
        settings.baseURL = management.baseURL
        settings.httpsPort = configuration.listeners.first { $0.application == .http && $0.tls.isOn }?.port
        settings.httpPort = configuration.listeners.first { $0.application == .http && !$0.tls.isOn }?.port
        settings.tokenLifetime = management.tokenLifetime.milliseconds
        settings.maxDevicesPerUser = management.maxDevicesPerUser
        settings.deviceOfflineAfter = management.deviceOfflineAfter.milliseconds
        settings.activityRetention = management.activityRetention.milliseconds
        settings.healthRetention = management.healthRetention.milliseconds
        return settings
    }
}

/// `firmware_verifier` gets the image, its model and its version as its last arguments.
extension BrokerServer: FirmwareVerifier {
    package func objection(to image: String, _ model: String, _ version: String) async -> String? {
        guard let line = configuration.withLock({ $0.management.firmwareVerifier }) else { return nil }
        let command = ExternalCommand(line, [image, model, version], patience: .seconds(60))
        switch await command.run() {
        case .exited(status: 0, _): return nil
        case .exited(let status, let output):
            let reason = output.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
            return "firmware_verifier: \(reason.isEmpty ? "status \(status)" : reason)"
        case .killed(let signal): return "firmware_verifier ended by signal \(signal)"
        case .tooSlow: return "firmware_verifier took longer than a minute"
        case .failed(let error): return "firmware_verifier can't be started: \(error)"
        }
    }
}

extension APISettings {
    init(_ configuration: Configuration) {
        self.init()
        let management = configuration.management
        switch management.registration {
        case .local: registration = .local
        case .open: registration = .open
        case .invite: registration = .invite
        case .closed: registration = .closed
        }
        trustedProxies = TrustedProxies(management.trustedProxies) { SocketAddress.bytes(of: $0) }
        corsOrigins = Set(management.corsOrigins.compactMap { Origin($0) })
        ownHosts = Set([management.baseURL].compactMap(\.self).compactMap { Origin($0)?.host })
    }
}
