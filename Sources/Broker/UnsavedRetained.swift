import MQTT

/// What has been retained, or cleared, and is not on the disk yet, in order. Of each topic only the last counts, so what the
/// store never gets to write stays as small as what is retained.
struct UnsavedRetained: Sendable {
    private static let fewest = 4096

    private var messages: [RetainedMessage] = []
    /// When so many have come together, those that are overtaken go.
    private var bound = Self.fewest

    var isEmpty: Bool { messages.isEmpty }

    mutating func append(_ message: RetainedMessage) {
        messages.append(message)
        guard messages.count >= bound else { return }
        messages = messages.latestOfEachTopic()
        bound = max(Self.fewest, 2 * messages.count)
    }

    mutating func take() -> [RetainedMessage] {
        var taken: [RetainedMessage] = []
        swap(&taken, &messages)
        bound = Self.fewest
        return taken.latestOfEachTopic()
    }
}

extension [RetainedMessage] {
    /// Each topic once, with what came last, in the order of that.
    package func latestOfEachTopic() -> [RetainedMessage] {
        var topics = Set<ArraySlice<UInt8>>()
        topics.reserveCapacity(count)
        return Array(reversed().filter { topics.insert($0.message.bytes[$0.message.topicRange]).inserted }.reversed())
    }
}
