/// What one client may write and read: a policy with its own `%u`, `%c` and `%o`. A value that a session keeps and asks
/// for each message.
package struct Rights: Sendable {
    /// May do everything, so that nobody needs to ask.
    package let isUnrestricted: Bool

    package static let everything = Rights(isUnrestricted: true)
    package static let nothing = Rights(isUnrestricted: false)

    private init(isUnrestricted: Bool) { self.isUnrestricted = isUnrestricted }

    /// What of a filter's topics may be read.
    package enum Coverage: Sendable {
        /// No topic that the filter matches.
        case none
        /// Perhaps some: each message has to be asked about.
        case some
        /// Every topic that it can match.
        case all
    }

    package func mayWrite(_ topic: Span<UInt8>) -> Bool { isUnrestricted }
    package func mayRead(_ topic: Span<UInt8>) -> Bool { isUnrestricted }
    /// `filter` without the `$share/GROUP/` of a shared subscription.
    package func coverage(of filter: Span<UInt8>) -> Coverage { isUnrestricted ? .all : .none }
}
