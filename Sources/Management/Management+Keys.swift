internal import Access
internal import Cryptography
internal import JSON
internal import Store

extension Management {
    /// Keys that log-ins were signed with which still count, and the one in use.
    static let mostKeys = 16

    /// Makes what log-ins are signed with where there is nothing yet.
    package func ensureTokenKey() throws {
        if accounts.tokenKeys.isEmpty { _ = try addTokenKey(nil) }
    }

    private func addTokenKey(_ requester: Requester?) throws -> KeyRecord {
        // Later than the one before it also where somebody has set the clock back, for the latest is the one in use.
        let latest = try store.keys(for: .jwt).first?.created ?? 0
        let key = KeyRecord(
            id: Base64.url.encode(randomBytes(6)), purpose: .jwt, secret: randomBytes(32),
            created: max(milliseconds(), latest + 1))
        let detail: [String: JSONValue] = ["purpose": .string(key.purpose.rawValue), "key": .string(key.id)]
        try store.add(key, requester.map { activity(.keyRotated, by: $0, detail) })
        adopt { $0.tokenKeys.insert(TokenKey(id: key.id, secret: key.secret), at: 0) }
        return key
    }

    /// A new key for what is signed from now on. What was signed before counts as long as it would have.
    func rotateKey(_ requester: Requester) throws -> JSONValue? {
        try dropIdleKeys()
        guard accounts.tokenKeys.count < Self.mostKeys else {
            throw ManagementProblem(
                .tooMany, "log-ins that count are signed with \(Self.mostKeys) keys already; wait until some have ended"
            )
        }
        let key = try addTokenKey(requester)
        try dropIdleKeys()  // Perhaps the one before has signed nothing.
        return .object(["key": json(key, isInUse: true)])
    }

    /// Keys that no log-in needs any more go.
    func dropIdleKeys() throws {
        guard accounts.tokenKeys.count > 1 else { return }
        let left = Set(try store.dropIdleTokenKeys())
        guard left.count < accounts.tokenKeys.count else { return }
        adopt { $0.tokenKeys.removeAll { !left.contains($0.id) } }
    }

    /// Never what they are.
    func listKeys(_ request: ManagementCommand.PageRequest) throws -> JSONValue? {
        let keys = try [KeyRecord.Purpose.jwt, .url].flatMap { purpose in
            try store.keys(for: purpose).enumerated().map { json($0.element, isInUse: $0.offset == 0) }
        }
        let page = keys.dropFirst((request.page - 1) * request.limit).prefix(request.limit)
        return list("keys", Array(page), request, total: keys.count)
    }

    func json(_ key: KeyRecord, isInUse: Bool) -> JSONValue {
        .object([
            "id": .string(key.id), "_id": .string(key.id), "purpose": .string(key.purpose.rawValue),
            "createdAt": timestamp(key.created), "inUse": .bool(isInUse),
        ])
    }
}
