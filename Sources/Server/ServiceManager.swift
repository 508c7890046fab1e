import Glibc
import Transport

/// What a service manager is told: systemd's protocol of datagrams (sd_notify(3)), without its library. Without a
/// NOTIFY_SOCKET nobody is told anything.
package final class ServiceManager: Sendable {
    private let path: String?
    /// How often it wants to hear that the broker lives; nil: never.
    package let watchdogInterval: Duration?

    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    package init(environment: [String: String], process: Int32 = getpid()) {
        path = environment["NOTIFY_SOCKET"].flatMap { $0.isEmpty ? nil : $0 }
        let isOurs = environment["WATCHDOG_PID"].map { Int32($0) == process } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
        watchdogInterval = path != nil && isOurs && microseconds > 0 ? .microseconds(microseconds) : nil
    }

    package func tellReady(_ status: String) { tell("READY=1\nSTATUS=\(status)\nMAINPID=\(getpid())") }

    package func tellReloading() {
        tell("RELOADING=1\nMONOTONIC_USEC=\(monotonicNanoseconds() / 1000)\nSTATUS=reading the configuration")
    }

    package func tellStopping() { tell("STOPPING=1\nSTATUS=stopping") }

    /// Tells twice an interval that all is well, as long as `answers` returns: where it doesn't, nothing is told, and
    /// the manager starts the broker anew. Until it is cancelled.
    package func watch(_ answers: @Sendable () async -> Void) async {
        guard let watchdogInterval else { return }
        while !Task.isCancelled {
            await answers()
            tell("WATCHDOG=1")
            do { try await Task.sleep(for: watchdogInterval / 2) } catch { return }  // Only a cancellation throws.
        }
    }

    /// A socket each time: the manager may have been started anew. A full one is given a moment.
    private func tell(_ state: String) {
        guard let path else { return }
        for _ in 0..<20 {
            do throws(SystemError) {
                return try DatagramSocket(path: path).send(Array(state.utf8))
            } catch {
                guard error.code == EAGAIN else { return }
                usleep(10_000)
            }
        }
    }
}
