internal import Access

/// Figures in the text format of Prometheus (version 0.0.4), each family once.
package struct Metrics: Sendable {
    package enum Kind: String, Sendable { case counter, gauge }

    package static let mediaType = "text/plain; version=0.0.4; charset=utf-8"

    package private(set) var text = ""

    package init() {}

    /// `martlet_` goes before the name.
    package mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
        addPlain("martlet_" + name, kind, help, value)
    }

    /// One of each set of labels.
    package mutating func add(
        _ name: String, _ kind: Kind, _ help: String, _ values: [(labels: [String: String], value: Double)]
    ) {
        begin("martlet_" + name, kind, help)
        for (labels, value) in values {
            let all = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }
            text += "martlet_\(name){\(all.joined(separator: ","))} \(Self.number(value))\n"
        }
    }

    package mutating func add(_ other: Metrics) { text += other.text }

    /// A name that is not ours alone.
    package mutating func addPlain(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
        begin(name, kind, help)
        text += "\(name) \(Self.number(value))\n"
    }

    private mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
}

extension Management {
    /// Of devices, people and what the server does by itself.
    func metrics() -> Metrics {
        var metrics = Metrics()
        let figures = fleet.figures
        metrics.add("devices", .gauge, "Registered devices", Double(figures.devices))
        metrics.add("devices_online", .gauge, "Devices that are there", Double(figures.online))
        metrics.add("devices_flapping", .gauge, "Devices that come and go all the time", Double(figures.flapping))
        metrics.add("device_messages_total", .counter, "Messages of devices that were taken", Double(figures.taken))
        metrics.add(
            "device_messages_ignored_total", .counter,
            "Messages for devices that nobody has registered, or that are blocked",
            Double(figures.ignored))
        metrics.add(
            "device_messages_unreadable_total", .counter, "Messages of devices that could not be read",
            Double(figures.unreadable))
        metrics.add("people", .gauge, "People with an account", Double(accounts.people.count))
        metrics.add("services", .gauge, "Service accounts", Double(accounts.services.count))
        metrics.add("log_ins", .gauge, "Log-ins that count", Double(accounts.tokens.count))
        let jobs = scheduler?.state ?? []
        metrics.add(
            "job_runs_total", .counter, "Runs of what the server does by itself",
            jobs.map { (["job": $0.name], Double($0.runs)) })
        metrics.add(
            "job_failures_total", .counter, "Those that failed", jobs.map { (["job": $0.name], Double($0.failures)) })
        return metrics
    }
}
