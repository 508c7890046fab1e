/// A configuration while files, or the environment, are being applied: knows what came up, where, and for which
/// listener.
struct Settings {
    /// Where the line being applied stands; the order is that in which the lines were read.
    struct Position {
        var file = ""
        var line: Int?
        var order = 0
    }

    /// What a line sets. The listener is a number in the file, -1 for the default one, nil for the whole broker.
    struct Place: Hashable {
        let key: Configuration.Key
        let listener: Int?
    }

    var configuration = Configuration.defaults()
    /// The listeners that have a line of their own.
    var listeners: [Configuration.Listener] = []
    /// What `port` and `bind_address` make, and what keys above the first listener are about.
    var defaultListener = Configuration.Listener(port: Configuration.defaultPort)
    var isDefaultNamed = false
    /// The listener that the next lines are about; nil: the default one.
    var current: Int?

    private(set) var position = Position()
    private(set) var seen: [Place: Position] = [:]
    private(set) var defaultListenerKey: (position: Position, name: String)?
    var warnings: [(order: Int, warning: ConfigurationWarning)] = []
    private var firstAccessKey: (position: Position, name: String)?
    /// True for the environment, which changes no listener.
    let isOverriding: Bool

    init() { isOverriding = false }

    init(overriding configuration: Configuration) {
        self.configuration = configuration
        isOverriding = true
    }

    mutating func move(to file: String, line: Int?) {
        position = Position(file: file, line: line, order: position.order + 1)
    }

    mutating func warn(_ reason: String, at place: Position? = nil) {
        let place = place ?? position
        warnings.append(
            (place.order, ConfigurationWarning(file: place.file, line: place.line, reason: reason)))
    }

    // MARK: - A line

    /// From the environment, which speaks about the whole broker only.
    mutating func set(global name: String, to text: String) throws(Problem) {
        if let key = Configuration.Key(name: name) {
            switch key.scope {
            case .global: break
            case .access where !configuration.perListenerSettings: break
            case .file: throw Problem("only a file can set '\(name)'")
            case .listener, .namedListener, .access:
                throw Problem("'\(name)' belongs to a listener; only a file can set it")
            }
        }
        try set(name, to: text)
    }

    mutating func set(_ name: String, to text: String) throws(Problem) {
        guard let key = Configuration.Key(name: name) else { throw Problem(UnknownKey.reason(name)) }
        let value = try self.value(of: key, name: name, text: text)
        let place = try place(of: key, name: name)
        let first = seen[place]
        if key == .perListenerSettings, configuration.perListenerSettings {
            return try stayPerListener(value)
        }

        let isAboutDefault = key == .port || key == .bindAddress
        var draft = Draft(configuration: configuration, listener: isAboutDefault ? defaultListener : listener)
        try draft.assign(key, value, isFirst: first == nil)
        configuration = draft.configuration
        try applyListeners(key, value, draft)
        for note in draft.notes { warn(note) }
        guard !draft.isIgnored else { return }
        if let first, !key.addsUp { warnRepeated(key, name, first) }
        seen[place] = position
        if case .accepted(let reason) = key.status { warn("'\(value.name)' has no effect: \(reason)") }
    }

    /// The value without what Mosquitto doesn't look at: words behind those that it takes.
    private mutating func value(
        of key: Configuration.Key, name: String, text: String
    ) throws(Problem) -> Value {
        var text = text
        if let count = key.words {
            let words = text.split(whereSeparator: \.isBlank).prefix { !$0.hasPrefix("#") }
            text = words.prefix(count).joined(separator: " ")
            if words.count > count {
                warn("'\(name)' takes \(count == 1 ? "one word" : "\(count) words"); what follows is ignored")
            }
        }
        guard !text.isEmpty else { throw Problem("'\(name)' without a value") }
        return Value(name: name, text: text)
    }

    private mutating func place(of key: Configuration.Key, name: String) throws(Problem) -> Place {
        let hasListener = current != nil || isDefaultNamed
        switch key.scope {
        case .global, .file: return Place(key: key, listener: nil)
        case .listener: return Place(key: key, listener: current ?? -1)
        case .namedListener:
            guard hasListener else {
                throw Problem("'\(name)' belongs to a listener; put it below a 'listener' line")
            }
            return Place(key: key, listener: current ?? -1)
        case .access:
            if firstAccessKey == nil { firstAccessKey = (position, name) }
            guard configuration.perListenerSettings else { return Place(key: key, listener: nil) }
            guard hasListener else {
                throw Problem(
                    "'\(name)' belongs to a listener while 'per_listener_settings' is true; "
                        + "put it below a 'listener' line")
            }
            return Place(key: key, listener: current ?? -1)
        }
    }

    private mutating func warnRepeated(_ key: Configuration.Key, _ name: String, _ first: Position) {
        let other = first.line.map { first.file == position.file ? "line \($0)" : "\(first.file):\($0)" } ?? first.file
        let why = key.scope == .access ? ", for all listeners" : ""
        warn("'\(name)' a second time; this one counts\(why), and no longer \(other)")
    }

    // MARK: - Listeners

    /// The one that the lines are about.
    private(set) var listener: Configuration.Listener {
        get { current.map { listeners[$0] } ?? defaultListener }
        set {
            if let current { listeners[current] = newValue } else { defaultListener = newValue }
        }
    }

    private mutating func applyListeners(
        _ key: Configuration.Key, _ value: Value, _ draft: Draft
    ) throws(Problem) {
        switch key {
        case .listener:
            guard !listeners.contains(where: { $0.isSamePlace(as: draft.listener) }) else {
                throw Problem("'listener \(printable(value.text))' a second time")
            }
            listeners.append(draft.listener)
            current = listeners.count - 1
        case .port, .bindAddress:
            current = nil
            isDefaultNamed = true
            defaultListener = draft.listener
        case .perListenerSettings:
            if configuration.perListenerSettings { try beginPerListener() }
        default:
            guard draft.listener != listener else { return }
            listener = draft.listener
            if current == nil, defaultListenerKey == nil { defaultListenerKey = (position, value.name) }
        }
    }

    private func beginPerListener() throws(Problem) {
        guard let firstAccessKey else { return }
        let line = firstAccessKey.position.line.map { ":\($0)" } ?? ""
        throw Problem(
            "'per_listener_settings' has to stand above '\(firstAccessKey.name)' in "
                + "\(firstAccessKey.position.file)\(line)")
    }

    /// As in Mosquitto: once on, it is not turned off again.
    private mutating func stayPerListener(_ value: Value) throws(Problem) {
        if try !value.flag() { warn("'per_listener_settings' stays true, as it was set further up") }
    }

    /// The value of `include_dir`.
    mutating func directoryToInclude(_ text: String, isMain: Bool) throws(Problem) -> String {
        guard isMain else { throw Problem("'include_dir' only counts in the main file; take it out here") }
        return try value(of: .includeDir, name: "include_dir", text: text).text
    }
}

extension Configuration.Listener {
    func isSamePlace(as other: Self) -> Bool {
        port == other.port && address == other.address && socketPath == other.socketPath
    }
}
