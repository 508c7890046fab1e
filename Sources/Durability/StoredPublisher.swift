internal import Access
internal import Broker

/// Who somebody is, as a row has it in four columns: kind, name, user_name, listener.
struct StoredPublisher {
    private let kind: Int64
    private let name: [UInt8]?
    private let userName: [UInt8]?
    private let listener: Int64

    init(_ participant: Participant?) {
        guard let participant else {
            (kind, name, userName, listener) = (0, nil, nil, 0)
            return
        }
        (kind, name) =
            switch participant.principal.identity {
            case .anonymous: (1, nil)
            case .user(let name): (2, name)
            case .device(let id): (3, Array(id.utf8))
            case .person(let id): (4, Array(id.utf8))
            case .service(let name): (5, Array(name.utf8))
            }
        userName = participant.principal.userName
        listener = Int64(participant.principal.listener)
    }

    /// The columns of the row from `column` on.
    init(_ row: borrowing Statement, from column: CInt) {
        kind = row.number(column)
        name = row.bytes(column + 1)
        userName = row.bytes(column + 2)
        listener = row.number(column + 3)
    }

    func bind(to statement: borrowing Statement, from index: CInt) {
        statement.bind(kind, at: index)
        statement.bind(name?.span, at: index + 1)
        statement.bind(userName?.span, at: index + 2)
        statement.bind(listener, at: index + 3)
    }

    /// `listeners`: how many there are now. Whoever came through one that is no more counts as the first one's.
    func participant(_ client: [UInt8]?, listeners: Int) -> Participant? {
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
