/// The rules of 4.7, written to be evident and not fast. Bytes, for `String` takes "é" and "e\u{301}" for the same.
package enum TopicText {
    private static let hash = Array("#".utf8)
    private static let plus = Array("+".utf8)

    package static func levels(_ text: some Collection<UInt8>) -> [[UInt8]] {
        text.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { Array($0) }
    }

    /// Whether a topic name has at least one character and no wildcard [MQTT-4.7.1-1] [MQTT-4.7.3-1].
    package static func isName(_ topic: [UInt8]) -> Bool {
        !topic.isEmpty && !topic.contains { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }
    }

    /// Whether its wildcards stand where they may [MQTT-4.7.1-2] [MQTT-4.7.1-3].
    package static func isFilter(_ filter: [UInt8]) -> Bool {
        let levels = levels(filter)
        guard !filter.isEmpty else { return false }
        for (place, level) in levels.enumerated() {
            if level.contains(UInt8(ascii: "#")), level.count > 1 || place < levels.count - 1 { return false }
            if level.contains(UInt8(ascii: "+")), level.count > 1 { return false }
        }
        return true
    }

    /// The filter of `$share/GROUP/FILTER`.
    package static func shared(_ filter: [UInt8]) -> [UInt8]? {
        let parts = filter.split(separator: UInt8(ascii: "/"), maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].elementsEqual("$share".utf8), isName(Array(parts[1])), !parts[2].isEmpty
        else { return nil }
        return Array(parts[2])
    }

    package static func matches(_ filter: some Collection<UInt8>, _ topic: some Collection<UInt8>) -> Bool {
        matches(levels(filter), levels(topic))
    }

    /// The same of what has been split. `hidesServerTopics` false leaves out the rule about `$` [MQTT-4.7.2-1].
    package static func matches(_ filter: [[UInt8]], _ topic: [[UInt8]], hidesServerTopics: Bool = true) -> Bool {
        let beginsWild = filter[0] == plus || filter[0] == hash
        if hidesServerTopics, beginsWild, topic[0].first == UInt8(ascii: "$") { return false }
        for (place, level) in filter.enumerated() {
            if level == hash { return true }
            guard place < topic.count, level == plus || level == topic[place] else { return false }
        }
        return filter.count == topic.count
    }
}
