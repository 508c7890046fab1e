package import JSON

/// What a device has reported in one stretch of time, as it is kept: a list of points in JSON, each
/// `{"t":SECONDS,"n":REPORTS,"v":{NAME:[LEAST,MEAN,MOST]|TEXT}}` with its seconds since the start of the row.
package struct HealthRow: Sendable, Equatable {
    /// Milliseconds that a point stands for at first.
    package static let fineStep: Int64 = 60_000
    /// And once it is older than `fineAge`.
    package static let coarseStep: Int64 = 3_600_000
    package static let fineAge: Int64 = 48 * 3_600_000
    /// Milliseconds that a row of fine points covers, and how much a crash may lose of a device's history.
    package static let fineSpan: Int64 = 15 * 60_000
    package static let coarseSpan: Int64 = 24 * 3_600_000
    /// The most that a row covers: a day's has what began before its end.
    package static let longest = coarseSpan + fineSpan

    package let deviceId: String
    /// Milliseconds since 1970.
    package let start: Int64
    package let step: Int64
    package let text: String

    package init(deviceId: String, start: Int64, step: Int64, text: String) {
        self.deviceId = deviceId
        self.start = start
        self.step = step
        self.text = text
    }

    package init(deviceId: String, start: Int64, step: Int64, points: [HealthPoint]) {
        self.init(
            deviceId: deviceId, start: start, step: step,
            text: JSONValue.array(points.map { $0.json(since: start) }).text)
    }

    /// The earliest point that can't be in it.
    package var end: Int64 { start + (step < Self.coarseStep ? Self.fineSpan + step : Self.longest) }

    /// In the order of time. What can't be read is left out.
    package var points: [HealthPoint] {
        (JSONValue(parsing: Array(text.utf8))?.array ?? []).compactMap { HealthPoint($0, since: start) }
    }
}

/// What a device's reports said in one step of time.
package struct HealthPoint: Sendable, Equatable {
    package enum Limits {
        /// Names of a report that are kept in its history; of more the first by name.
        package static let names = 32
        /// Bytes of a text that is kept there.
        package static let textBytes = 64
    }

    package enum Value: Sendable, Equatable {
        /// `sum` of `count` numbers.
        case numbers(least: Double, sum: Double, most: Double, count: Int)
        /// The last of what is no number.
        case text(JSONValue)
    }

    /// Milliseconds since 1970, where its step begins.
    package let time: Int64
    /// Reports.
    package private(set) var count = 0
    package private(set) var values: [String: Value] = [:]

    package init(time: Int64) { self.time = time }

    /// Objects in a report are taken apart: `{"wifi":{"rssi":-60}}` is `wifi.rssi`. Lists are not kept.
    package mutating func add(_ report: JSONValue) {
        count += 1
        var flat: [(name: String, value: JSONValue)] = []
        Self.flatten(report, "", into: &flat)
        for (name, value) in flat.prefix(Limits.names) {
            guard values[name] != nil || values.count < Limits.names else { continue }
            merge(name, value)
        }
    }

    private static func flatten(
        _ value: JSONValue, _ prefix: String, into flat: inout [(name: String, value: JSONValue)]
    ) {
        guard let members = value.object else {
            if prefix.isEmpty { flat.append(("value", value)) }
            return
        }
        for (name, value) in members.sorted(by: { $0.key < $1.key }) where prefix.utf8.count + name.utf8.count < 128 {
            if value.object != nil {
                flatten(value, prefix + name + ".", into: &flat)
            } else {
                flat.append((prefix + name, value))
            }
        }
    }

    private mutating func merge(_ name: String, _ value: JSONValue) {
        if let number = value.double {
            guard case .numbers(let least, let sum, let most, let count) = values[name] else {
                values[name] = .numbers(least: number, sum: number, most: number, count: 1)
                return
            }
            values[name] = .numbers(
                least: min(least, number), sum: sum + number, most: max(most, number), count: count + 1)
            return
        }
        switch value {
        case .string(let text): values[name] = .text(.string(String(text.prefix(Limits.textBytes))))
        case .bool: values[name] = .text(value)
        default: break
        }
    }

    /// What a later point of the same step says.
    package mutating func add(_ later: HealthPoint) {
        count += later.count
        for (name, value) in later.values {
            if case .numbers(let least, let sum, let most, let count) = value,
                case .numbers(let ownLeast, let ownSum, let ownMost, let ownCount) = values[name]
            {
                values[name] = .numbers(
                    least: min(least, ownLeast), sum: sum + ownSum, most: max(most, ownMost), count: count + ownCount)
            } else {
                values[name] = value
            }
        }
    }

    /// Those of one step made one, in the order of time.
    package static func condensed(_ points: [HealthPoint], to step: Int64) -> [HealthPoint] {
        var condensed: [HealthPoint] = []
        for point in points.sorted(by: { $0.time < $1.time }) {
            let time = point.time - point.time % step
            if condensed.last?.time != time { condensed.append(HealthPoint(time: time)) }
            condensed[condensed.count - 1].add(point)
        }
        return condensed
    }

    // MARK: - As it is kept

    fileprivate func json(since start: Int64) -> JSONValue {
        let values = values.mapValues { value -> JSONValue in
            switch value {
            case .text(let text): text
            case .numbers(let least, let sum, let most, let count):
                least == most
                    ? .array([.plain(least)]) : .array([.plain(least), .plain(sum / Double(count)), .plain(most)])
            }
        }
        return .object(["t": .integer((time - start) / 1000), "n": .integer(Int64(count)), "v": .object(values)])
    }

    fileprivate init?(_ json: JSONValue, since start: Int64) {
        guard let seconds = json["t"]?.integer, let count = json["n"]?.integer, let values = json["v"]?.object else {
            return nil
        }
        self.init(time: start + seconds * 1000)
        self.count = Int(count)
        for (name, value) in values {
            guard let numbers = value.array?.compactMap(\.double) else {
                self.values[name] = .text(value)
                continue
            }
            // How many numbers there were is not kept; each report may be taken to have had one.
            switch numbers.count {
            case 1:
                self.values[name] = .numbers(
                    least: numbers[0], sum: numbers[0] * Double(count), most: numbers[0], count: Int(count))
            case 3:
                self.values[name] = .numbers(
                    least: numbers[0], sum: numbers[1] * Double(count), most: numbers[2], count: Int(count))
            default: break
            }
        }
    }
}

extension JSONValue {
    /// A number, whatever it is written as.
    package var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    /// Whole numbers as such; others with at most three places, for more is noise that takes space.
    package static func plain(_ value: Double) -> JSONValue {
        guard value.isFinite else { return .null }
        if value == value.rounded(), abs(value) < 1e15 { return .integer(Int64(value)) }
        return abs(value) < 1e12 ? .number((value * 1000).rounded() / 1000) : .number(value)
    }
}
