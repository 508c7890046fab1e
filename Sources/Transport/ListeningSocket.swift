import CLinux
import Glibc

/// A socket that accepts connections.
package final class ListeningSocket: Sendable {
    /// What an attempt to accept gave.
    package enum Accepted {
        case stream(Stream)
        /// Somebody came and was turned away: the listener, or the whole server, has as many connections as it may.
        case refused(isListenerFull: Bool)
        /// Nobody is waiting.
        case nobody
        /// The peer was gone before it was accepted; the next one may be there.
        case gone
        /// No descriptor or memory is left: accepting must pause, or it would spin.
        case exhausted(SystemError)
    }

    /// What a socket is made with.
    package struct Options: Sendable {
        /// TCP_NODELAY, which Linux hands on to what is accepted (tcp(7)).
        package var noDelay = true
        /// The network interface that connections must come in through. Nil: any.
        package var interface: String?

        package init() {}
    }

    /// Seconds after which a TCP peer that says nothing is asked whether it is there, and between two questions.
    package static let (probeAfter, probeInterval): (CInt, CInt) = (300, 30)
    /// Seconds after which a TCP peer that answers nothing counts as gone: neither a probe nor what was sent to it.
    package static let vanishedAfter: CInt = 600
    private static let backlog: CInt = 4096
    /// Of TCP, for the resolver.
    static let streamType = CInt(SOCK_STREAM.rawValue)

    private let descriptor: Descriptor
    /// With the port that the system chose, where 0 was asked for.
    package let address: SocketAddress
    /// The connections that came through this listener, which may have several sockets; and those of the whole server.
    package let count: ConnectionCount
    private let total: ConnectionCount
    /// Which file the path is while it is ours.
    private let file: FileIdentity?
    private let descriptorBound = connectionDescriptorBound()

    package var rawDescriptor: CInt { descriptor.rawValue }

    /// Binds and listens. The corresponding C functions are `socket`, `bind` and `listen`.
    package init(
        _ wanted: SocketAddress, _ options: Options = Options(), count: ConnectionCount, total: ConnectionCount
    ) throws(SystemError) {
        self.count = count
        self.total = total
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        descriptor = try Descriptor(adopting: socket(wanted.family, type, 0), from: "socket")
        let socket = descriptor.rawValue
        if let path = wanted.path {
            try Self.clear(path, for: wanted)
        } else {
            Self.prepare(socket, options, isIPv6: wanted.family == AF_INET6)
            if let interface = options.interface { try Self.bind(socket, to: interface) }
        }
        guard unsafe wanted.withPointer({ unsafe Glibc.bind(socket, $0, wanted.length) }) == 0 else {
            throw SystemError(errno, during: "bind")
        }
        file = wanted.path.flatMap { FileIdentity(of: $0) }
        do throws(SystemError) {
            guard listen(socket, Self.backlog) == 0 else { throw SystemError(errno, during: "listen") }
            if wanted.path != nil {
                address = wanted
            } else {
                let bound = unsafe SocketAddress.filled { unsafe getsockname(socket, $0, &$1) }
                guard let boundAddress = bound.address else { throw SystemError(errno, during: "getsockname") }
                address = boundAddress
            }
        } catch {
            if let path = wanted.path { file?.remove(path) }
            throw error
        }
    }

    deinit { removeFile() }

    private static func prepare(_ socket: CInt, _ options: Options, isIPv6: Bool) {
        Stream.setOption(socket, SOL_SOCKET, SO_REUSEADDR)
        // What is accepted inherits these: who vanished without a keep-alive of MQTT is found, with and without something
        // on its way there. Without TCP_USER_TIMEOUT the latter takes a quarter of an hour.
        Stream.setOption(socket, SOL_SOCKET, SO_KEEPALIVE)
        Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_KEEPIDLE, to: probeAfter)
        Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_KEEPINTVL, to: probeInterval)
        Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_USER_TIMEOUT, to: vanishedAfter * 1000)
        if options.noDelay { Stream.setOption(socket, CInt(IPPROTO_TCP), TCP_NODELAY) }
        if isIPv6 { Stream.setOption(socket, CInt(IPPROTO_IPV6), IPV6_V6ONLY) }
    }

    /// The corresponding C function is `setsockopt` with SO_BINDTODEVICE; old kernels let only root do it.
    private static func bind(_ socket: CInt, to interface: String) throws(SystemError) {
        let result = unsafe interface.withCString {
            unsafe setsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, $0, socklen_t(interface.utf8.count))
        }
        guard result == 0 else { throw SystemError(errno, during: "SO_BINDTODEVICE") }
    }

    /// Whether what is accepted from now on has TCP_NODELAY; on a socket of another kind nothing happens.
    package func setNoDelay(_ isOn: Bool) {
        Stream.setOption(descriptor.rawValue, CInt(IPPROTO_TCP), TCP_NODELAY, to: isOn ? 1 : 0)
    }

    /// Refuses whoever comes from now on. The corresponding C function is `shutdown`.
    package func stop() {
        shutdown(descriptor.rawValue, CInt(SHUT_RDWR))
        removeFile()
    }

    /// Takes the next waiting connection; at most as many at once as said (0: no limit). With a context its handshake is
    /// still to be made. The corresponding C function is `accept4`.
    package func accept(atMost most: Int = 0, ofAll mostOfAll: Int = 0, tls context: TLSContext? = nil) -> Accepted {
        let (result, peer) = unsafe SocketAddress.filled { unsafe accept_nonblocking(descriptor.rawValue, $0, &$1) }
        guard result >= 0 else {
            switch errno {
            case EAGAIN: return .nobody
            case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted(SystemError(errno, during: "accept4"))
            default: return .gone  // accept(2): errors of the new connection show up here; the listener is fine.
            }
        }
        let accepted = Descriptor(adopting: result)
        guard result < descriptorBound else { return .exhausted(SystemError(EMFILE, during: "accept4")) }
        do throws(ConnectionCount.Seat.Taken) {
            let seat = try ConnectionCount.Seat(in: count, atMost: most, and: total, atMost: mostOfAll)
            // Who comes to a unix socket has no address of its own.
            guard let stream = Stream(accepted, peer: peer ?? address, seat: seat, tls: context) else {
                return .exhausted(SystemError(ENOMEM, during: "SSL_new"))
            }
            return .stream(stream)
        } catch {
            return .refused(isListenerFull: error == .first)
        }
    }
}

// MARK: - Unix sockets

extension ListeningSocket {
    private func removeFile() {
        if let path = address.path { file?.remove(path) }
    }

    /// Makes the socket's file, if it has one, somebody's; where that fails it stays as it is. The corresponding C function
    /// is `lchown`.
    package func give(to user: UInt32, _ group: UInt32) {
        if let path = address.path, let file, file.isAt(path) { unsafe lchown(path, user, group) }
    }

    /// Removes the socket that a broker left behind when it died; one where somebody listens, and a file that is no
    /// socket, stay, and `bind` fails. The corresponding C functions are `lstat`, `connect` and `unlink`.
    private static func clear(_ path: String, for address: SocketAddress) throws(SystemError) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let probe = try Descriptor(adopting: socket(AF_UNIX, type, 0), from: "socket")
        let result = unsafe address.withPointer { unsafe connect(probe.rawValue, $0, address.length) }
        if result != 0, errno == ECONNREFUSED { unsafe unlink(path) }
    }
}

/// Which file a path names, so that only that one is removed.
private struct FileIdentity {
    private let device: dev_t
    private let number: ino_t

    /// The corresponding C function is `lstat`.
    init?(of path: String) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return nil }
        device = status.st_dev
        number = status.st_ino
    }

    /// The corresponding C function is `unlink`.
    func remove(_ path: String) {
        if isAt(path) { unsafe unlink(path) }
    }

    func isAt(_ path: String) -> Bool {
        guard let found = FileIdentity(of: path) else { return false }
        return found.device == device && found.number == number
    }
}
