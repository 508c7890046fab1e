import CLinux
import Glibc

/// A socket that accepts connections.
package final class ListeningSocket: Sendable {
    /// What an attempt to accept gave.
    package enum Accepted {
        case stream(Stream)
        /// Nobody is waiting.
        case nobody
        /// The peer was gone before it was accepted; the next one may be there.
        case gone
        /// No descriptor or memory is left: accepting must pause, or it would spin.
        case exhausted(SystemError)
    }

    private let descriptor: Descriptor
    /// With the port that the system chose, where 0 was asked for.
    package let address: SocketAddress

    package var rawDescriptor: CInt { descriptor.rawValue }

    /// Binds and listens; `noDelay` sets TCP_NODELAY, which Linux hands on to what is accepted (tcp(7)). The corresponding
    /// C functions are `socket`, `bind` and `listen`.
    package init(_ wanted: SocketAddress, noDelay: Bool) throws(SystemError) {
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        descriptor = try Descriptor(adopting: socket(wanted.family, type, 0), from: "socket")
        let socket = descriptor.rawValue
        Stream.setOption(socket, SOL_SOCKET, SO_REUSEADDR)
        // What is accepted inherits these too: who vanished without a keep-alive of MQTT is found in some minutes.
        Stream.setOption(socket, SOL_SOCKET, SO_KEEPALIVE)
        Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_KEEPIDLE, to: 300)
        Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_KEEPINTVL, to: 30)
        if noDelay { Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_NODELAY) }
        if wanted.family == AF_INET6 { Stream.setOption(socket, CInt(IPPROTO_IPV6), IPV6_V6ONLY) }
        guard unsafe wanted.withPointer({ unsafe bind(socket, $0, wanted.length) }) == 0 else {
            throw SystemError(errno, during: "bind")
        }
        guard listen(socket, 4096) == 0 else { throw SystemError(errno, during: "listen") }
        var bound = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = unsafe withUnsafeMutablePointer(to: &bound) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe getsockname(socket, $0, &length) }
        }
        guard result == 0 else { throw SystemError(errno, during: "getsockname") }
        address = SocketAddress(bound)
    }

    /// Whether what is accepted from now on has TCP_NODELAY; on a socket of another kind nothing happens.
    package func setNoDelay(_ isOn: Bool) {
        Stream.setOption(descriptor.rawValue, CInt(IPPROTO_TCP), TCP_NODELAY, to: isOn ? 1 : 0)
    }

    /// Refuses whoever comes from now on. The corresponding C function is `shutdown`.
    package func stop() { shutdown(descriptor.rawValue, CInt(SHUT_RDWR)) }

    /// Takes the next waiting connection. The corresponding C function is `accept4`.
    package func accept() -> Accepted {
        var peer = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = unsafe withUnsafeMutablePointer(to: &peer) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe accept_nonblocking(descriptor.rawValue, $0, &length)
            }
        }
        if result >= 0 {
            return .stream(Stream(Descriptor(adopting: result), peer: SocketAddress(peer)))
        }
        switch errno {
        case EAGAIN: return .nobody
        case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted(SystemError(errno, during: "accept4"))
        default: return .gone  // accept(2): errors of the new connection show up here; the listener is fine.
        }
    }
}
