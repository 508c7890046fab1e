/// Who a client is: what its rights, its sessions and its log lines go by.
package enum Identity: Hashable, Sendable {
    /// Nobody in particular.
    case anonymous
    /// A name that a password file, a pre-shared key or a client certificate stands for, as in Mosquitto.
    case user([UInt8])
    /// A registered device, by its canonical deviceId.
    case device(String)
    /// A person, by id.
    case person(String)
    /// A program, by name.
    case service(String)

    /// Whether Martlet's own store knows it: its sessions are nobody else's.
    package var isManaged: Bool {
        switch self {
        case .anonymous, .user: false
        case .device, .person, .service: true
        }
    }
}

/// Somebody who has signed in, and how. What it may do follows from it and from the policies in force.
package struct Principal: Hashable, Sendable {
    package let identity: Identity
    /// What `%u` stands for: the canonical deviceId for a device. Nil for who is anonymous.
    package let userName: [UInt8]?
    /// The listener it came through, by number: policies may differ.
    package let listener: Int
    /// Which secret or certificate proved it, so that it ends when that no longer counts. 0 where there was none.
    package let credential: UInt64

    package init(identity: Identity, userName: [UInt8]?, listener: Int, credential: UInt64 = 0) {
        self.identity = identity
        self.userName = userName
        self.listener = listener
        self.credential = credential
    }

    package static func anonymous(listener: Int) -> Principal {
        Principal(identity: .anonymous, userName: nil, listener: listener)
    }
}
