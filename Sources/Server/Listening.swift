import Broker
import Configuration
import Transport

/// Where connections come from: one socket of a listener, which may have several.
struct Listener: Sendable {
    let socket: ListeningSocket
    /// The listener of the configuration.
    let number: ListenerNumber
    /// What a proxy has to send first. Nil: clients come directly.
    let awaitedHeader: AwaitedHeader?
    /// Nil: connections begin to speak at once; else by way of the lobby.
    let tls: TLSEntrance?
    /// HTTP is spoken here first, whatever comes of it.
    let speaksHTTP: Bool
}

extension BrokerServer {
    /// Opens what the configuration asks for: all of it, or nothing and says why. Throws `ListenError`.
    static func bind(_ configuration: Configuration, _ contexts: [TLSContext?]) throws -> [Listener] {
        let total = ConnectionCount()
        var listeners: [Listener] = []
        for (number, wanted) in configuration.listeners.enumerated() {
            let places = try Places(of: wanted, isLoopbackOnly: configuration.isLoopback(wanted))
            let sockets = try places.open(noDelay: configuration.setsTCPNoDelay, total: total)
            let awaited = wanted.proxyProtocol.map {
                AwaitedHeader(version: .init($0), needsTLS: wanted.proxyRequiresTLS)
            }
            let tls = contexts[number].map(TLSEntrance.init)
            listeners += sockets.map {
                Listener(
                    socket: $0, number: ListenerNumber(number), awaitedHeader: awaited, tls: tls,
                    speaksHTTP: wanted.application != .mqtt)
            }
        }
        return listeners
    }
}

/// The addresses of one listener, before they are bound.
private struct Places {
    private let name: String
    private var addresses: [SocketAddress] = []
    /// The interface that connections must come in through, and the addresses it has.
    private var interface: (name: String, addresses: [SocketAddress])?

    init(of listener: Configuration.Listener, isLoopbackOnly: Bool) throws(ListenError) {
        if let path = listener.socketPath {
            name = path
            addresses = [SocketAddress(path: path)]
            return
        }
        name = "\(listener.address ?? "*"):\(listener.port)"
        let version = listener.socketDomain.map { SocketAddress.Version($0) }
        var hosts = [listener.address]
        if isLoopbackOnly {  // By number: "localhost" is not everywhere both.
            hosts = (version == .ipv6 ? [] : ["127.0.0.1"]) + (version == .ipv4 ? [] : ["::1"])
        }
        for host in hosts {
            do throws(ResolutionError) {
                addresses += try SocketAddress.resolve(host, port: listener.port, only: version)
            } catch {
                throw ListenError(name, "\(error)")
            }
        }
        if let interface = listener.bindInterface { try narrow(to: interface, of: listener) }
    }

    /// An address that was named has to be one of the interface.
    private mutating func narrow(to name: String, of listener: Configuration.Listener) throws(ListenError) {
        let found: [SocketAddress]?
        do throws(SystemError) {
            found = try SocketAddress.addresses(ofInterface: name, port: listener.port)
        } catch {
            throw ListenError(self.name, "\(error)")
        }
        guard let found else { throw ListenError(self.name, "there is no network interface '\(name)'") }
        if listener.address != nil, let other = addresses.first(where: { !found.contains($0) }) {
            throw ListenError(self.name, "\(other.host) is not an address of the network interface '\(name)'")
        }
        interface = (name, found)
    }

    /// All sockets of the listener, at least one.
    func open(noDelay: Bool, total: ConnectionCount) throws(ListenError) -> [ListeningSocket] {
        let count = ConnectionCount()
        var options = ListeningSocket.Options()
        options.noDelay = noDelay
        var sockets: [ListeningSocket] = []
        for address in addresses {
            options.interface = interface?.name
            do throws(SystemError) {
                sockets.append(try ListeningSocket(address, options, count: count, total: total))
            } catch {
                // A machine without IPv6 still knows its addresses; an address in use is an error always.
                if error.isMissingAddress { continue }
                guard error.isForbiddenInterface else { throw ListenError("\(address)", error) }
                options.interface = nil
                sockets += try openByAddress(like: address, options, count: count, total: total)
            }
        }
        guard !sockets.isEmpty else { throw ListenError(name, "no such address here") }
        return sockets
    }

    /// Where the system lets only root name the interface of a socket: at the addresses it has now, as Mosquitto does.
    private func openByAddress(
        like wanted: SocketAddress, _ options: ListeningSocket.Options, count: ConnectionCount, total: ConnectionCount
    ) throws(ListenError) -> [ListeningSocket] {
        let own = interface?.addresses.filter { $0.family == wanted.family } ?? []
        var sockets: [ListeningSocket] = []
        for address in own.contains(wanted) ? [wanted] : own {
            do throws(SystemError) {
                sockets.append(try ListeningSocket(address, options, count: count, total: total))
            } catch {
                guard error.isMissingAddress else { throw ListenError("\(address)", error) }
            }
        }
        return sockets
    }
}

/// A place that can't be listened at.
struct ListenError: Error, CustomStringConvertible {
    private let place: String
    private let reason: String

    init(_ place: String, _ reason: String) {
        self.place = place
        self.reason = reason
    }

    init(_ place: String, _ error: SystemError) {
        self.init(place, "\(error)")
    }

    var description: String { "can't listen on \(place): \(reason)" }
}

extension ProxyHeader.Version {
    fileprivate init(_ version: Configuration.Listener.ProxyProtocol) {
        switch version {
        case .version1: self = .version1
        case .version2: self = .version2
        }
    }
}

extension SocketAddress.Version {
    fileprivate init(_ domain: Configuration.Listener.SocketDomain) {
        switch domain {
        case .ipv4: self = .ipv4
        case .ipv6: self = .ipv6
        }
    }
}
