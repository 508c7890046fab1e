package import Logging

/// The loggers of a server, by the label that says what their lines are.
package struct Loggers: Sendable {
    /// Start, stop, configuration.
    package let process: Logger
    /// What clients and the network cause.
    package let network: Logger
    package let subscribe: Logger
    package let unsubscribe: Logger
    package let webSockets: Logger

    package init(_ make: (_ label: String) -> Logger) {
        process = make("martlet")
        network = make("network")
        subscribe = make("subscribe")
        unsubscribe = make("unsubscribe")
        webSockets = make("websockets")
    }

    /// One for everything, but without a line for every subscription.
    package init(_ logger: Logger) {
        self.init { label in
            guard ["subscribe", "unsubscribe"].contains(label) else { return logger }
            return Logger(label: label) { _ in SwiftLogNoOpLogHandler() }
        }
    }

    var wantSubscriptions: Bool { subscribe.logLevel < .critical || unsubscribe.logLevel < .critical }
}
