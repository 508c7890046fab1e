/// The topics of the management, which the role of somebody opens and no `acl_file`: `$SYS/devices/...`,
/// `$SYS/rollouts/...`, `$SYS/activity/...` and `$CONTROL/...`.
extension Span where Element == UInt8 {
    /// How many of the topics that this filter, or name, matches are among them.
    var managementTopics: Rights.Coverage {
        var end = 0
        while end < count, self[end] != UInt8(ascii: "/") { end += 1 }
        let first = extracting(..<end)
        if first.spells("$CONTROL") { return .all }
        guard first.spells("$SYS"), end < count else { return .none }
        let start = end + 1
        end = start
        while end < count, self[end] != UInt8(ascii: "/") { end += 1 }
        let second = extracting(start..<end)
        if second.spells("devices") || second.spells("rollouts") || second.spells("activity") { return .all }
        return second.spells("+") || second.spells("#") ? .some : .none
    }

    private func spells(_ text: String) -> Bool { isEqual(to: text.utf8.span) }
}
