import Configuration
import Server
import Testing

@Suite struct `A configuration that is read again` {
    private func reloaded(_ old: String, _ new: String) throws -> (configuration: Configuration, kept: [String]) {
        let running = try Configuration.parse(Array(old.utf8), file: "old")
        return try Configuration.parse(Array(new.utf8), file: "new").reloaded(over: running)
    }

    @Test func `brings limits and rules into force`() throws {
        let (result, kept) = try reloaded(
            "listener 1883\nmax_queued_messages 5\nallow_anonymous true",
            "listener 1883\nmax_queued_messages 7\nallow_anonymous false\nlog_type all")
        #expect(kept == [])
        #expect(result.maxQueuedMessages == 7)
        #expect(result.access(at: result.listeners[0]).allowsAnonymous == false)
        #expect(result.logTypes.count == Configuration.LogType.allCases.count)
    }

    @Test(arguments: [
        ("shards 2", "shards"), ("user nobody", "user"), ("pid_file /run/m.pid", "pid_file"),
        ("persistence true", "persistence"), ("data_dir /var/m", "data_dir"), ("mount_point m/", "mount_point"),
        ("protocol websockets", "protocol"), ("listener 1884", "listener"), ("bind_interface lo", "bind_interface"),
    ])
    func `keeps what only a start can change, and names it`(_ line: String, _ key: String) throws {
        let (result, kept) = try reloaded("listener 1883", "listener 1883\n\(line)")
        #expect(kept == [key])
        let (same, none) = try reloaded("listener 1883\n\(line)", "listener 1883\n\(line)")
        #expect(none == [] && same != result)
    }

    @Test func `leaves a listener alone that it no longer has`() throws {
        let (result, kept) = try reloaded("", "listener 1883 0.0.0.0")
        #expect(kept == ["listener"])
        #expect(result.listeners.map(\.address) == ["localhost"])
        #expect(result.isLoopbackOnly)
        #expect(result.access(at: result.listeners[0]).allowsAnonymous == true)
        let (open, _) = try reloaded("listener 1883\nallow_anonymous true", "")
        #expect(open.access(at: open.listeners[0]).allowsAnonymous == true)
    }

    @Test func `finds its listeners in another order`() throws {
        let (result, _) = try reloaded(
            "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\nallow_anonymous false",
            "per_listener_settings true\nlistener 2\nallow_anonymous true\nlistener 1\nallow_anonymous false")
        #expect(result.listeners.map(\.port) == [1, 2])
        #expect(result.listeners.map { result.access(at: $0).allowsAnonymous } == [false, true])
    }
}

@Suite struct `A service manager` {
    @Test(arguments: [
        (["NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000"], Duration.seconds(2)),
        (["NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"], .seconds(2)),
        (["NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"], nil),
        (["NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"], nil), (["NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "-5"], nil),
        (["NOTIFY_SOCKET": "/x"], nil), (["WATCHDOG_USEC": "2000000"], nil),
    ])
    func `is pinged where it asks this process for it`(_ environment: [String: String], _ interval: Duration?) {
        #expect(ServiceManager(environment: environment, process: 7).watchdogInterval == interval)
    }
}
