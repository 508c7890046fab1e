/// When certificates end, and when that has to be said.
package struct CertificateExpiry: Sendable {
    package struct Entry: Hashable, Sendable {
        /// What a person calls it: `the authority`, `the server certificate`, `the certificate of device ID`.
        package let subject: String
        package let notAfter: UnixTime

        package init(subject: String, notAfter: UnixTime) {
            self.subject = subject
            self.notAfter = notAfter
        }
    }

    /// How near the end is; each is announced once.
    package enum Stage: Int, Comparable, CaseIterable, Sendable {
        case month = 30
        case fortnight = 14
        case week = 7
        case day = 1
        case expired = 0

        package static func < (one: Stage, other: Stage) -> Bool { one.rawValue > other.rawValue }
    }

    package struct Announcement: Hashable, Sendable, CustomStringConvertible {
        package let subject: String
        package let notAfter: UnixTime
        package let stage: Stage
        /// Rounded down; negative once it has expired.
        package let daysLeft: Int

        package var description: String {
            switch stage {
            case .expired: "\(subject) has expired at \(notAfter)"
            case .day: "\(subject) expires within a day, at \(notAfter)"
            default: "\(subject) expires within \(daysLeft + 1) days, at \(notAfter)"
            }
        }
    }

    package let entries: [Entry]

    package init(_ entries: [Entry]) { self.entries = entries }

    /// What is to be said now: for each certificate that ends within 30 days the last of the stages it has reached. With
    /// `since`, the moment this was asked before, only of those that have reached another stage meanwhile.
    package func announcements(now: UnixTime, since: UnixTime? = nil) -> [Announcement] {
        entries.compactMap { entry in
            guard let stage = Self.stage(of: entry, at: now) else { return nil }
            if let since, Self.stage(of: entry, at: since) == stage { return nil }
            return Announcement(
                subject: entry.subject, notAfter: entry.notAfter, stage: stage,
                daysLeft: now.days(until: entry.notAfter))
        }
    }

    private static func stage(of entry: Entry, at now: UnixTime) -> Stage? {
        Stage.allCases.last { entry.notAfter <= now.adding(days: $0.rawValue) }
    }
}
