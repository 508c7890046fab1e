import Access
import Configuration

extension AccessControl {
    /// Who may connect and do what, as far as the configuration says it.
    init(_ configuration: Configuration) {
        self.init(
            listeners: configuration.listeners.map { listener in
                var rules = AccessControl.Listener()
                rules.allowsAnonymous = configuration.access(at: listener).allowsAnonymous ?? false
                return rules
            })
    }
}
