internal import AccessPolicies

/// The policies of `acl/`, which are in the binary. What a device, an owner, an admin and, where nothing is configured,
/// somebody without a name may do, is what these files say.
package enum ShippedPolicy: String, CaseIterable, Sendable {
    case device, owner, backend, admin, loopback

    /// The file as it was when this was built.
    package var text: [UInt8] {
        var number = 0
        while true {
            let file = unsafe shipped_policy(number)
            guard unsafe file.count > 0 else { preconditionFailure("acl/\(rawValue).acl is not in the binary") }
            if unsafe String(cString: file.name) == rawValue {
                return unsafe Array(UnsafeBufferPointer(start: file.bytes, count: file.count))
            }
            number += 1
        }
    }

    /// Where the repository has it.
    package var file: String { "acl/\(rawValue).acl" }
}

extension Policy {
    /// Compiled once.
    package static func shipped(_ policy: ShippedPolicy) -> Policy {
        switch policy {
        case .device: device
        case .owner: owner
        case .backend: backend
        case .admin: admin
        case .loopback: loopback
        }
    }

    package static func shipped(named name: String) -> Policy? { ShippedPolicy(rawValue: name).map(shipped) }

    private static let device = compiled(.device)
    private static let owner = compiled(.owner)
    private static let backend = compiled(.backend)
    private static let admin = compiled(.admin)
    private static let loopback = compiled(.loopback)

    private static func compiled(_ policy: ShippedPolicy) -> Policy {
        do throws(AccessFileError) {
            return try parse(policy.text, file: policy.file, dialect: .martlet)
        } catch {
            preconditionFailure("a shipped policy is wrong: \(error)")
        }
    }
}
