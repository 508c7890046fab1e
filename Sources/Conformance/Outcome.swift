/// Why a case did not pass.
package struct Failure: Error, Sendable {
    package enum Evidence: String, Sendable {
        /// Something else came, or the connection ended.
        case unexpected
        /// The broker answered what was sent later, so what was awaited does not come.
        case silence
        /// Nothing at all came in time.
        case timeLimit = "time limit"
        /// No connection to the broker.
        case unreachable
        /// The case itself is wrong.
        case mistake

        /// Whether the broker was seen to do wrong.
        package var isObserved: Bool { self == .unexpected || self == .silence }
    }

    /// Of the case's file.
    package let line: Int
    package let source: String
    package let expected: String
    /// Decoded, and in hexadecimal.
    package let came: String
    package let evidence: Evidence
    /// What went over all connections of the case, oldest first.
    package internal(set) var transcript: [String] = []
}

/// What became of a case.
package enum Outcome: Sendable {
    case passed
    case failed(Failure)
    /// An open choice, taken otherwise than Martlet takes it.
    case differs(Failure)
    /// Not run: the broker, or this suite, lacks a capability.
    case waits(String)
}

/// A case with its outcome: that of its first run that failed.
package struct CaseResult: Sendable {
    package let script: Case
    package let outcome: Outcome
    /// `flags=0x0f`, of each run that failed, in the order of the case; empty texts if it has no parameters.
    package let failedValues: [String]
    /// How many there were, one for each combination of the parameters.
    package let runs: Int
    /// Of all runs together.
    package let duration: Duration
}
