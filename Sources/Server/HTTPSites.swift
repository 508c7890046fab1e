package import Configuration
package import HTTP

/// What is at one listener.
struct HTTPSite: Sendable {
    /// `protocol websockets`: MQTT at every path, and nothing else.
    let isOnlyWebSocket: Bool
    /// The pages that may connect to MQTT besides those from here; nil: all.
    private let origins: Set<Origin>?

    /// By listener.
    static func all(_ configuration: Configuration) -> [HTTPSite] {
        configuration.listeners.map { HTTPSite($0, of: configuration) }
    }

    private init(_ listener: Configuration.Listener, of configuration: Configuration) {
        isOnlyWebSocket = listener.application == .webSockets
        if isOnlyWebSocket {
            let named = listener.webSocketsOrigins
            origins = named.isEmpty ? nil : Set(named.compactMap { Origin($0) })
        } else {
            origins = Set(configuration.management.ownOrigins)
        }
    }

    /// Whether a page may connect to MQTT: by what its browser names as its origin, and the host that it connects to.
    func admits(origin: String, host: String?, isSecure: Bool) -> Bool {
        guard let origins else { return true }
        guard let origin = Origin(origin) else { return false }
        if origins.contains(origin) { return true }
        guard !isOnlyWebSocket, let place = host.flatMap({ HostAndPort($0) }) else { return false }
        // Behind a proxy that ends TLS the page has come by https all the same.
        return origin == Origin(scheme: isSecure ? "https" : origin.scheme, place)
    }
}

extension Configuration.Management {
    /// `base_url` and `cors_origins`.
    package var ownOrigins: [Origin] { ([baseURL].compactMap(\.self) + corsOrigins).compactMap { Origin($0) } }
}
