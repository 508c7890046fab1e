/// Which of the server's listeners a connection came through.
package typealias ListenerNumber = UInt16

/// What holds for the clients of one listener.
package struct ListenerRules: Sendable, Equatable {
    /// A CONNECT without a user name is accepted (`allow_anonymous`).
    package var allowsAnonymous = true

    package init() {}
}
