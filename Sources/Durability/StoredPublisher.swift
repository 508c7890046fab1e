internal import Access
internal import Broker

/// A participant as a row has it.
struct StoredPublisher {
    let kind: Int64
    let name: [UInt8]?
    let userName: [UInt8]?
    let listener: Int64
    let client: [UInt8]?
}

extension StoredPublisher {
    init(_ participant: Participant?) {
        guard let participant else {
            self.init(kind: 0, name: nil, userName: nil, listener: 0, client: nil)
            return
        }
        let (kind, name): (Int64, [UInt8]?) =
            switch participant.principal.identity {
            case .anonymous: (1, nil)
            case .user(let name): (2, name)
            case .device(let id): (3, Array(id.utf8))
            case .person(let id): (4, Array(id.utf8))
            case .service(let name): (5, Array(name.utf8))
            }
        self.init(
            kind: kind, name: name, userName: participant.principal.userName,
            listener: Int64(participant.principal.listener), client: participant.client.bytes)
    }

    /// `listeners`: how many there are now. Whoever came through one that is no more counts as the first one's.
    func participant(listeners: Int) -> Participant? {
        let name = name ?? []
        let identity: Identity
        switch kind {
        case 1: identity = .anonymous
        case 2: identity = .user(name)
        case 3: identity = .device(String(decoding: name, as: UTF8.self))
        case 4: identity = .person(String(decoding: name, as: UTF8.self))
        case 5: identity = .service(String(decoding: name, as: UTF8.self))
        default: return nil
        }
        let listener = (0..<Int64(listeners)).contains(listener) ? Int(listener) : 0
        return Participant(
            Principal(identity: identity, userName: userName, listener: listener),
            client: ClientIdentifier(client ?? []))
    }
}
