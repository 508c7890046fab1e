package import Configuration

extension Configuration {
    /// This configuration for a server that runs with `running`: what only a start can change is as it was, and named.
    package func reloaded(over running: Configuration) -> (configuration: Configuration, kept: [String]) {
        var (result, kept) = (self, [String]())
        func keep<Value: Equatable>(_ name: String, _ path: WritableKeyPath<Configuration, Value>) {
            guard result[keyPath: path] != running[keyPath: path] else { return }
            kept.append(name)
            result[keyPath: path] = running[keyPath: path]
        }
        keep("shards", \.shards)
        keep("user", \.user)
        keep("pid_file", \.pidFile)
        keep("persistence", \.persistence)
        keep("persistence_location", \.persistenceLocation)
        keep("data_dir", \.dataDirectory)
        keep("durability", \.durability)
        keep("durability_topic", \.topicDurabilities)

        result.isLoopbackOnly = running.isLoopbackOnly
        result.listeners = running.listeners.map { old in
            guard let new = listeners.first(where: { $0.place == old.place }) else {
                // It goes on as it was, whatever is now said about all listeners.
                var frozen = old
                frozen.access = running.access(at: old)
                return frozen
            }
            var merged = new
            merged.access = access(at: new)
            let names = merged.keepBinding(of: old)
            kept += names.filter { !kept.contains($0) }
            return merged
        }
        if listeners.map(\.place) != running.listeners.map(\.place) { kept.append("listener") }
        return (result, kept)
    }
}

extension Configuration.Listener {
    /// What makes it the same listener in two files.
    fileprivate var place: [String] { ["\(port)", address ?? "*", socketPath ?? ""] }

    /// Takes over what a socket has from its beginning. Returns the keys for which that makes a difference.
    fileprivate mutating func keepBinding(of old: Self) -> [String] {
        var kept: [String] = []
        func keep<Value: Equatable>(_ name: String, _ path: WritableKeyPath<Self, Value>, _ listener: inout Self) {
            guard listener[keyPath: path] != old[keyPath: path] else { return }
            kept.append(name)
            listener[keyPath: path] = old[keyPath: path]
        }
        keep("protocol", \.application, &self)
        keep("bind_interface", \.bindInterface, &self)
        keep("socket_domain", \.socketDomain, &self)
        keep("mount_point", \.mountPoint, &self)
        keep("enable_proxy_protocol", \.proxyProtocol, &self)
        keep("proxy_protocol_v2_require_tls", \.proxyRequiresTLS, &self)
        // A listener has TLS for its life, or not; which is new each time.
        if tls.isOn != old.tls.isOn {
            kept.append((tls.certificateFile ?? old.tls.certificateFile) == nil ? "psk_hint" : "certfile")
            tls = old.tls
        }
        return kept
    }
}
