/// Names that are no keys: why they are refused, and what may have been meant.
enum UnknownKey {
    /// The sentence for a name that is no key.
    static func reason(_ name: String) -> String {
        if isPlugin(name) {
            return "'\(printable(name))' is about Mosquitto's plugins, which can't be loaded here; "
                + "see 'password_file' and 'acl_file'"
        }
        if bridgeKeys.contains(name) || name.hasPrefix("bridge_") {
            return "'\(printable(name))' is about bridges, which this version does not have; take the bridge out"
        }
        guard let nearest = nearestKey(to: name) else { return "unknown key '\(printable(name))'" }
        return "unknown key '\(printable(name))'; did you mean '\(nearest)'?"
    }

    private static func isPlugin(_ name: String) -> Bool {
        name == "global_plugin" || ["plugin", "auth_plugin", "auth_opt_"].contains { name.hasPrefix($0) }
    }

    private static let bridgeKeys: Set = [
        "address", "addresses", "cleansession", "clientid", "connection", "idle_timeout", "keepalive_interval",
        "local_cleansession", "local_clientid", "local_password", "local_username", "notification_topic",
        "notifications", "notifications_local_only", "password", "remote_clientid", "remote_password",
        "remote_username", "restart_timeout", "round_robin", "session_expiry", "start_type", "threshold", "topic",
        "try_private", "username",
    ]

    /// The key that the fewest changed letters away; nil where that is more than a third of them.
    private static func nearestKey(to name: String) -> String? {
        let longest = 40
        guard (2...longest).contains(name.utf8.count) else { return nil }
        let wanted = lowercased(Array(name.utf8))
        var nearest: (name: String, distance: Int)?
        var bound = max(1, wanted.count / 3)
        for candidate in Configuration.Key.allCases.map(\.rawValue) + Configuration.Key.aliases.keys.sorted() {
            let letters = Array(candidate.utf8)
            guard abs(letters.count - wanted.count) <= bound else { continue }
            let distance = distance(wanted, letters)
            guard distance <= bound else { continue }
            nearest = (candidate, distance)
            bound = distance - 1
        }
        return nearest?.name
    }

    private static func lowercased(_ bytes: [UInt8]) -> [UInt8] {
        bytes.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
    }

    /// Bytes put in, taken out or replaced, and neighbours swapped, to get from one to the other.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var before: [Int] = []
        var row = Array(0...right.count)
        for i in left.indices {
            var next = [i + 1]
            for j in right.indices {
                var least = min(row[j] + (left[i] == right[j] ? 0 : 1), row[j + 1] + 1, next[j] + 1)
                if i > 0, j > 0, left[i] == right[j - 1], left[i - 1] == right[j] {
                    least = min(least, before[j - 1] + 1)
                }
                next.append(least)
            }
            (before, row) = (row, next)
        }
        return row[right.count]
    }
}
