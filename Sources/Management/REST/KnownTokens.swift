internal import Access
internal import Locks

/// Log-ins whose signature has been looked at: who asks again with the same costs no cryptography. Whether it still counts is
/// asked each time.
struct KnownTokens: Sendable {
    private struct Known {
        /// That their signatures were held against.
        var keys: [TokenKey] = []
        var tokens: [String: WebToken] = [:]
    }

    /// Some 600 bytes each.
    private static let most = 1000

    private let known = Lock(Known())

    /// What `Accounts.token` answers.
    func token(_ text: Substring, _ accounts: Accounts) -> WebToken? {
        let text = String(text)
        let seen = known.withLock { $0.keys == accounts.tokenKeys ? $0.tokens[text] : nil }
        if let seen { return accounts.counts(seen) ? seen : nil }
        guard let token = accounts.token(text) else { return nil }
        known.withLock { known in
            if known.keys != accounts.tokenKeys || known.tokens.count >= Self.most {
                known = Known(keys: accounts.tokenKeys)
            }
            known.tokens[text] = token
        }
        return token
    }
}
