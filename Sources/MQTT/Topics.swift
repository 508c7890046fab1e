private let sharePrefix = Array("$share".utf8)

/// The rules of 4.7 for topic names and filters, over their bytes.
extension Span where Element == UInt8 {
    /// A name that a message may be published to: UTF-8, at least one character, no U+0000 and no wildcard
    /// [MQTT-3.3.2-2] [MQTT-4.7.3-1].
    package func validateTopicName() throws(MalformedPacket) {
        guard !isEmpty else { throw .invalidTopicName }
        var isASCII = true
        for index in indices {
            let byte = self[index]
            if byte >= 0x80 { isASCII = false }
            if byte == 0 { throw .nullCharacter }
            if byte == UInt8(ascii: "+") || byte == UInt8(ascii: "#") { throw .invalidTopicName }
        }
        if !isASCII && !isWellFormedUTF8 { throw .invalidUTF8 }
    }

    /// A filter: `+` fills a level, `#` is the last level [MQTT-4.7.1-2] [MQTT-4.7.1-3]; with `$share/GROUP/` in front,
    /// a group without wildcards and a filter behind it.
    package func validateTopicFilter() throws(MalformedPacket) {
        guard !isEmpty else { throw .invalidTopicFilter }
        try validateString(indices)
        var start = 0
        if let shared = try sharedSubscription() { start = shared.filter }
        var levelStart = start
        for index in start..<count {
            switch self[index] {
            case UInt8(ascii: "/"): levelStart = index + 1
            case UInt8(ascii: "#"):
                guard index == levelStart, index == count - 1 else { throw .invalidTopicFilter }
            case UInt8(ascii: "+"):
                guard index == levelStart, index == count - 1 || self[index + 1] == UInt8(ascii: "/") else {
                    throw .invalidTopicFilter
                }
            default: break
            }
        }
    }

    /// The group of `$share/GROUP/FILTER` and where its filter starts; nil for an ordinary filter.
    package func sharedSubscription() throws(MalformedPacket) -> (group: Range<Int>, filter: Int)? {
        guard count >= sharePrefix.count else { return nil }
        for index in sharePrefix.indices where self[index] != sharePrefix[index] { return nil }
        guard count > sharePrefix.count else { throw .invalidTopicFilter }
        guard self[sharePrefix.count] == UInt8(ascii: "/") else { return nil }
        let start = sharePrefix.count + 1
        var end = start
        while end < count, self[end] != UInt8(ascii: "/") {
            if self[end] == UInt8(ascii: "+") || self[end] == UInt8(ascii: "#") { throw .invalidTopicFilter }
            end += 1
        }
        guard end > start, end + 1 < count else { throw .invalidTopicFilter }
        return (start..<end, end + 1)
    }

    /// Whether a filter, which is valid and no shared subscription, matches this name (4.7.1, [MQTT-4.7.2-1]).
    package func matches(_ filter: Span<UInt8>) -> Bool {
        if beginsWithDollar, filter[0] == UInt8(ascii: "+") || filter[0] == UInt8(ascii: "#") { return false }
        var (at, wanted) = (0, 0)
        while wanted < filter.count {
            if filter[wanted] == UInt8(ascii: "#") { return true }
            if filter[wanted] == UInt8(ascii: "+") {
                while at < count, self[at] != UInt8(ascii: "/") { at += 1 }
                wanted += 1
            } else {
                while wanted < filter.count, filter[wanted] != UInt8(ascii: "/") {
                    guard at < count, self[at] == filter[wanted] else { return false }
                    (at, wanted) = (at + 1, wanted + 1)
                }
            }
            if at == count {  // `#` also stands for the level above it.
                let isParent = filter.count - wanted == 2 && filter[wanted + 1] == UInt8(ascii: "#")
                return wanted == filter.count || isParent
            }
            guard wanted < filter.count, self[at] == UInt8(ascii: "/") else { return false }
            (at, wanted) = (at + 1, wanted + 1)
            if wanted == filter.count { return at == count }
        }
        return at == count
    }

    /// Whether this name belongs to the server's own tree, which wildcards at the start never match [MQTT-4.7.2-1].
    package var beginsWithDollar: Bool { !isEmpty && self[0] == UInt8(ascii: "$") }
}
