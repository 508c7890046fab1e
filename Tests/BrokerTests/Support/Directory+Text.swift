import MQTT

@testable import Broker

/// The directory's questions with text instead of spans.
extension Directory {
    /// A session on `shard`, made if there is none.
    mutating func session(of client: String, on shard: Int = 0) -> SessionReference {
        guard case .here(let session, _) = home(of: ClientIdentifier(client), askedFrom: shard) else {
            preconditionFailure("\(client) lives elsewhere")
        }
        return session
    }

    mutating func subscribe(_ session: SessionReference, _ filter: String, _ qos: QoS = .exactlyOnce) -> RetainedCursor?
    {
        let filter = Array(filter.utf8)
        return subscribe(session, to: filter.span, at: qos)
    }

    mutating func unsubscribe(_ session: SessionReference, _ filter: String) {
        let filter = Array(filter.utf8)
        unsubscribe(session, from: filter.span)
    }

    mutating func match(_ topic: String) -> [Receiver] {
        let topic = Array(topic.utf8)
        var receivers: [Receiver] = []
        match(topic.span, into: &receivers)
        return receivers
    }

    @discardableResult
    mutating func retain(_ topic: String, _ payload: String, _ qos: QoS = .atMostOnce) -> [Receiver] {
        var receivers: [Receiver] = []
        retain(ApplicationMessage(topic: topic, payload: Array(payload.utf8)), qos: qos, into: &receivers)
        return receivers
    }

    mutating func read(_ cursor: inout RetainedCursor, steps: Int, limit: Int = .max / 2) -> [RetainedMessage] {
        var found: [RetainedMessage] = []
        readRetained(&cursor, steps: steps, limit: limit, into: &found)
        return found
    }

    /// Nodes of a tree beyond its root, found by reflection: nothing else tells what stays behind.
    private func nodes(of tree: String) -> Int {
        func child(_ label: String, of value: Any) -> Any? {
            Mirror(reflecting: value).children.first { $0.label == label }?.value
        }
        guard let tree = child(tree, of: self), let slab = child("nodes", of: tree),
            let elements = child("elements", of: slab), let free = child("free", of: slab)
        else { preconditionFailure("the trees have no nodes any more: mend this") }
        return Mirror(reflecting: elements).children.count - 2 - Mirror(reflecting: free).children.count
    }

    /// Nodes of the retained tree: those of its topics, and those that cursors stand on.
    var retainedNodes: Int { nodes(of: "retained") }
    var subscriptionNodes: Int { nodes(of: "subscriptions") }
}

extension RetainedMessage {
    var topic: String { String(decoding: message.topic, as: UTF8.self) }
    var payload: String { String(decoding: message.payload, as: UTF8.self) }
}
