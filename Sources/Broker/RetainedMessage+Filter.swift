import MQTT

/// For those who manage the broker.
extension RetainedMessage {
    /// Whether something may be asked for by this filter: it is valid, and for nobody's group.
    package static func isFilter(_ bytes: [UInt8]) -> Bool {
        do {
            try bytes.span.validateTopicFilter()
            return try bytes.span.sharedSubscription() == nil
        } catch {
            return false
        }
    }

    /// `filter`: one of which `isFilter` is true.
    package func matches(_ filter: [UInt8]) -> Bool {
        message.bytes.span.extracting(message.topicRange).matches(filter.span)
    }

    /// What takes the place of the one of a topic that shall have none.
    package static func cleared(_ topic: [UInt8]) -> RetainedMessage {
        RetainedMessage(
            message: ApplicationMessage(topic: topic.span, payload: Span()), qos: .atMostOnce, publisher: nil)
    }
}
