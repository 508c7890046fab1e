import Access
import MQTT

@testable import Broker

/// Who may connect and do what, in the words of a test.
enum AccessWorld {
    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    static func policy(_ lines: String...) -> Policy {
        (try? Policy.parse(bytes(lines.joined(separator: "\n") + "\n"), file: "acl"))!
    }

    /// Of a password file.
    static func line(_ name: String, _ password: String = "secret", _ scheme: PasswordHash.Scheme = .sha512) -> String {
        "\(name):\((try? PasswordHash(of: bytes(password), scheme: scheme, salt: bytes("0123456789ab")))!.text)"
    }

    /// Everybody's password is "secret". A check of `costly` ones is done away from the connections.
    static func passwords(
        _ names: String..., costly: [String] = [], password: String = "secret"
    ) -> PasswordFile {
        let lines =
            names.map { line($0, password, .sha512) }
            + costly.map { line($0, password, .pbkdf2SHA512(iterations: 101)) }
        return (try? PasswordFile.parse(bytes(lines.joined(separator: "\n") + "\n"), file: "users"))!
    }

    static func secret(_ text: String) -> SecretDigest {
        SecretDigest(of: bytes(text), salt: [UInt8](repeating: 7, count: SecretDigest.saltBytes))
    }

    /// One listener; `change` says what it has.
    static func control(
        devices: [String] = [], _ change: (inout AccessControl.Listener) -> Void = { _ in }
    ) -> AccessControl {
        var listener = AccessControl.Listener()
        listener.admitsAccounts = !devices.isEmpty
        change(&listener)
        var control = AccessControl(listeners: [listener])
        for device in devices {
            control.accounts.devices[device] = .init(deviceId: device, secret: secret("secret"))
        }
        return control
    }

    /// Anonymous clients, users without a password, and an ACL for all of them.
    static func open(_ lines: String...) -> AccessControl {
        control { $0.policy = (try? Policy.parse(bytes(lines.joined(separator: "\n") + "\n"), file: "acl"))! }
    }

    static func certificate(_ name: String, serial: String = "1234") -> ConnectionProof {
        ConnectionProof(
            source: .local,
            certificate: ClientCertificate(
                commonName: bytes(name), subject: bytes("CN=\(name)"), serial: serial,
                fingerprint: [UInt8](repeating: 1, count: 32), isForClients: true))
    }

    static func address(_ last: UInt8) -> ConnectionProof {
        ConnectionProof(source: SignInThrottle.Source(address: [192, 0, 2, last]))
    }
}

extension Identity {
    static func user(_ name: String) -> Identity { .user(Array(name.utf8)) }
}
