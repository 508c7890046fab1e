extension Configuration {
    /// The keys about who may connect: once for all listeners, and for each listener what it has of its own.
    package struct Access: Sendable, Equatable {
        /// `allow_anonymous`, `listener_allow_anonymous`: a CONNECT without a user name is accepted.
        package var allowsAnonymous: Bool?
        /// `password_file`: user names and password hashes, as `mosquitto_passwd` writes them.
        package var passwordFile: String?
        /// `acl_file`: who may read and write which topics.
        package var aclFile: String?
        /// `psk_file`: identities and pre-shared keys.
        package var keysFile: String?
        /// `allow_zero_length_clientid`: an empty Client Identifier gets one of ours. Default true.
        package var allowsEmptyClientIdentifier: Bool?
        /// `auto_id_prefix`, `listener_auto_id_prefix`: what such an identifier begins with, at most 50 bytes, default
        /// "auto-".
        package var automaticPrefix: String?

        package init() {}
    }

    /// `allow_anonymous` for all listeners that say nothing of their own. Default: true while `isLoopbackOnly`, else
    /// false.
    package var allowsAnonymous: Bool {
        get { access.allowsAnonymous ?? isLoopbackOnly }
        set { access.allowsAnonymous = newValue }
    }

    /// What holds at a listener, defaults included: its own settings before everyone's; with `per_listener_settings`
    /// its own alone. Only the files can be nil.
    package func access(at listener: Listener) -> Access {
        let own = listener.access
        let shared = perListenerSettings ? Access() : access
        var result = Access()
        result.allowsAnonymous = own.allowsAnonymous ?? shared.allowsAnonymous ?? isLoopbackOnly
        result.passwordFile = own.passwordFile ?? shared.passwordFile
        result.aclFile = own.aclFile ?? shared.aclFile
        result.keysFile = own.keysFile ?? shared.keysFile
        result.allowsEmptyClientIdentifier =
            own.allowsEmptyClientIdentifier ?? shared.allowsEmptyClientIdentifier ?? true
        result.automaticPrefix = own.automaticPrefix ?? shared.automaticPrefix ?? "auto-"
        return result
    }
}
