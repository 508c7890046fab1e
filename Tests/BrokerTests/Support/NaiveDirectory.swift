import Conformance
import MQTT
import Seeded

/// What a directory promises, written so that it can be read: lists, and topics taken apart as text.
struct NaiveDirectory {
    struct Subscription {
        let client: String
        /// As the client wrote it, `$share` included.
        let filter: String
        var qos: QoS
        /// The name of a shared subscription's group and the filter that its members share.
        let group: String?
        let levels: [[UInt8]]

        init(client: String, filter: String, qos: QoS) {
            self.client = client
            self.filter = filter
            self.qos = qos
            let levels = TopicText.levels(filter.utf8)
            let isShared = levels.count > 2 && levels[0] == Array("$share".utf8)
            group = isShared ? filter : nil
            self.levels = isShared ? Array(levels[2...]) : levels
        }
    }

    var subscriptions: [Subscription] = []
    struct Retained {
        let topic: String
        let levels: [[UInt8]]
        let payload: String
        let qos: QoS
    }

    /// By the bytes of the topic; only ever looked up or sorted, for its order is another in each run.
    private var retainedByTopic: [[UInt8]: Retained] = [:]
    var connected: [String] = []

    mutating func subscribe(_ client: String, _ filter: String, _ qos: QoS) {
        unsubscribe(client, filter)
        subscriptions.append(Subscription(client: client, filter: filter, qos: qos))
    }

    mutating func unsubscribe(_ client: String, _ filter: String) {
        subscriptions.removeAll { $0.client == client && Array($0.filter.utf8) == Array(filter.utf8) }
    }

    mutating func remove(_ client: String) {
        subscriptions.removeAll { $0.client == client }
        connected.removeAll { $0 == client }
    }

    mutating func retain(_ topic: String, _ payload: String, _ qos: QoS) {
        let retained = Retained(topic: topic, levels: TopicText.levels(topic.utf8), payload: payload, qos: qos)
        retainedByTopic[Array(topic.utf8)] = payload.isEmpty ? nil : retained
    }

    var retainedCount: Int { retainedByTopic.count }
    var retainedTopics: [String] {
        retainedByTopic.values.map(\.topic).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// What is retained for a filter without `$share`, in no order.
    func retained(for filter: String) -> [Retained] {
        let filter = TopicText.levels(filter.utf8)
        return retainedByTopic.values.filter { TopicText.matches(filter, $0.levels) }
    }

    /// Each client that gets a message by its ordinary subscriptions, at its highest QoS.
    func receivers(of topic: String) -> [String: QoS] {
        var receivers: [String: QoS] = [:]
        let topic = TopicText.levels(topic.utf8)
        for subscription in subscriptions
        where subscription.group == nil && TopicText.matches(subscription.levels, topic) {
            receivers[subscription.client] = max(receivers[subscription.client] ?? .atMostOnce, subscription.qos)
        }
        return receivers
    }

    /// For each group that gets a message its members, of whom one is to be chosen: those connected, if any is.
    func groups(of topic: String) -> [String: [Subscription]] {
        var groups: [String: [Subscription]] = [:]
        let topic = TopicText.levels(topic.utf8)
        for subscription in subscriptions {
            guard let group = subscription.group, TopicText.matches(subscription.levels, topic) else { continue }
            groups[group, default: []].append(subscription)
        }
        return groups.mapValues { members in
            let online = members.filter { connected.contains($0.client) }
            return online.isEmpty ? members : online
        }
    }

    static func matches(_ filter: String, _ topic: String) -> Bool { TopicText.matches(filter.utf8, topic.utf8) }
}

extension NaiveDirectory {
    private static let texts = [
        "a", "b", "", "$", "$SYS", "é", "e\u{301}", "eight by", "sixteen bytes ab", "sixteen bytes abc",
        "sixteen bytes abd", "$ixteen bytes abc", "$ixteen bytes ab",
    ]

    /// A topic name of few levels out of few, so that many are the same.
    static func randomTopic(_ generator: inout SeededGenerator) -> String {
        while true {
            let count = 1 + generator.below(1 + generator.below(4))
            let topic = (0..<count).map { _ in generator.element(of: texts) }.joined(separator: "/")
            if !topic.isEmpty { return topic }
        }
    }

    static func randomFilter(_ generator: inout SeededGenerator) -> String {
        var filter = ""
        while filter.isEmpty {
            var parts = (0..<generator.below(1 + generator.below(5))).map { _ in
                generator.happens(35) ? "+" : generator.element(of: texts)
            }
            if parts.isEmpty || generator.happens(30) { parts.append("#") }
            filter = parts.joined(separator: "/")
        }
        guard generator.happens(30) else { return filter }
        return "$share/" + generator.element(of: ["g", "h", "$SYS"]) + "/" + filter
    }
}
