internal import Glibc
internal import Locks
internal import Transport

/// Lines as datagrams for the system's log, as syslog(3) writes them (RFC 3164), which would wait where this does not.
final class SyslogOutput: LogOutput {
    private let facility: Int
    private let path: String
    /// Nil until there is somebody who listens.
    private let socket = Lock<DatagramSocket?>(nil)

    init(facility: Int?, path: String) {
        self.facility = facility.map { 16 + $0 } ?? 3
        self.path = path
    }

    func write(_ lines: ArraySlice<LogWriter.Line>) -> Int {
        var lost = 0
        for line in lines {
            let priority = facility << 3 | line.kind.severity
            let time = LogTime.now().formatted("%b %e %H:%M:%S")
            let bytes = Array("<\(priority)>\(time) martlet[\(getpid())]: \(line.text)".utf8)
            // Once more where the system's log has been started anew.
            if !send(bytes), !send(bytes) { lost += 1 }
        }
        return lost
    }

    private func send(_ bytes: [UInt8]) -> Bool {
        socket.withLock { socket in
            if socket == nil { socket = try? DatagramSocket(path: path) }
            do throws(SystemError) {
                guard let open = socket else { return false }
                try open.send(bytes)
                return true
            } catch {
                if error.code != EAGAIN, error.code != ENOBUFS { socket = nil }
                return false
            }
        }
    }
}
