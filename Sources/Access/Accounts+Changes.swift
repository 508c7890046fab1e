extension Accounts {
    /// Whose rights may be others than with `old`. Nil: anybody's.
    package func changes(from old: Accounts) -> Set<Identity>? {
        // Where there is a fleet, nobody else reaches the management topics.
        guard revokedCertificates == old.revokedCertificates, isEmpty == old.isEmpty else { return nil }
        var changed = Set<Identity>()
        Self.compare(devices, old.devices) { deviceId, _ in changed.insert(.device(deviceId)) }
        Self.compare(people, old.people) { _, person in changed.insert(.person(person.id)) }
        Self.compare(tokens, old.tokens) { _, token in changed.insert(.person(token.person)) }
        Self.compare(services, old.services) { name, _ in changed.insert(.service(name)) }
        return changed
    }

    private static func compare<Account: Equatable>(
        _ new: [String: Account], _ old: [String: Account], _ differs: (String, Account) -> Void
    ) {
        guard new != old else { return }  // Where neither was changed since the other was copied, at once.
        for (name, account) in new where old[name] != account { differs(name, account) }
        for (name, account) in old where new[name] == nil { differs(name, account) }
    }
}
