/// Who asks: what the placeholders stand for.
struct RuleNames: Sendable {
    /// `%u`. Nil: no pattern with `%u` matches.
    let userName: [UInt8]?
    /// `%c`.
    let client: [UInt8]
    /// `%o`: in ascending order of their bytes.
    let owned: [String]
}

extension TopicRules {
    /// What all rules under `root` that match a topic say together. Allocates nothing.
    func access(under root: UInt32, to topic: Span<UInt8>, _ names: borrowing RuleNames) -> TopicAccess {
        let nodes = nodes
        var access: TopicAccess = []
        collect(Int(root), 0, topic, names, nodes.span, &access)
        return access
    }

    /// Goes down one path; where a level has several matches, all but the last are gone down by a call. No deeper than
    /// `PolicyLimits.separators`.
    private func collect(
        _ root: Int, _ position: Int, _ topic: Span<UInt8>, _ names: borrowing RuleNames, _ nodes: Span<Node>,
        _ access: inout TopicAccess
    ) {
        var node = root
        var start = position
        while true {
            let children = nodes[node].children
            // Wildcards, and names, at the start do not reach the server's own tree [MQTT-4.7.2-1].
            let isOwnTree = start == 0 && topic[0] == UInt8(ascii: "$")
            if !isOwnTree { access.formUnion(nodes[node].below) }
            guard !children.isEmpty else { return }

            var end = start
            var key = LevelKey()
            while end < topic.count, topic[end] != UInt8(ascii: "/") {
                key.append(topic[end])
                end += 1
            }
            let level = topic.extracting(start..<end)
            var next = -1
            let templates = children.lowerBound + Int(nodes[node].literals)
            if let child = literal(key.bits, level, among: children.lowerBound..<templates, nodes) { next = child }
            for child in templates..<children.upperBound {
                switch nodes[child].kind {
                case .plus where !isOwnTree: break
                case .plus: continue
                default: guard isMatch(nodes[child], level, names, isOwnTree: isOwnTree) else { continue }
                }
                if next >= 0 { visit(next, end, topic, names, nodes, &access) }
                next = child
            }
            guard next >= 0 else { return }
            if end == topic.count {
                access.formUnion(nodes[next].here.union(nodes[next].below))
                return
            }
            node = next
            start = end + 1
        }
    }

    /// Goes on with a child whose level ends at `end`.
    private func visit(
        _ child: Int, _ end: Int, _ topic: Span<UInt8>, _ names: borrowing RuleNames, _ nodes: Span<Node>,
        _ access: inout TopicAccess
    ) {
        if end == topic.count {
            access.formUnion(nodes[child].here.union(nodes[child].below))
        } else {
            collect(child, end + 1, topic, names, nodes, &access)
        }
    }

    /// The child with that text.
    @inline(__always)
    func literal(
        _ key: UInt64, _ level: Span<UInt8>, among children: Range<Int>, _ nodes: Span<Node>
    ) -> Int? {
        var low = children.lowerBound
        var high = children.upperBound
        while high - low > 8 {
            let middle = low + (high - low) / 2
            if isBefore(nodes[middle], key, level) { low = middle + 1 } else { high = middle + 1 }
        }
        while low < high {
            if nodes[low].key == key, Int(nodes[low].length) == level.count, hasRest(nodes[low], level) { return low }
            low += 1
        }
        return nil
    }

    private func isBefore(_ node: Node, _ key: UInt64, _ level: Span<UInt8>) -> Bool {
        if node.key != key { return node.key < key }
        if Int(node.length) != level.count { return Int(node.length) < level.count }
        for offset in 0..<level.count where source[Int(node.text) + offset] != level[offset] {
            return source[Int(node.text) + offset] < level[offset]
        }
        return false
    }

    /// What lies behind the key.
    @inline(__always)
    private func hasRest(_ node: Node, _ level: Span<UInt8>) -> Bool {
        var offset = 8
        while offset < level.count {
            if source[Int(node.text) + offset] != level[offset] { return false }
            offset += 1
        }
        return true
    }

    /// Whether a level with placeholders is this one, with these names. Levels are compared, so a name with `/` in it
    /// never matches.
    @inline(__always)
    func isMatch(_ node: Node, _ level: Span<UInt8>, _ names: borrowing RuleNames, isOwnTree: Bool) -> Bool {
        if isOwnTree && startsWithName(node) { return false }
        switch node.kind {
        case .client: return names.client.span.isEqual(to: level)
        case .userName:
            guard let userName = names.userName else { return false }
            return userName.span.isEqual(to: level)
        case .owned: return owns(level, names.owned)
        default: return isMixedMatch(node, level, names)
        }
    }

    private func startsWithName(_ node: Node) -> Bool {
        guard node.kind == .mixed else { return true }
        return source[Int(node.text)] == UInt8(ascii: "%")
            && Placeholder(source[Int(node.text) + 1], dialect: .mosquitto) != nil
    }

    private func isMixedMatch(_ node: Node, _ level: Span<UInt8>, _ names: borrowing RuleNames) -> Bool {
        var offset = 0
        var index = Int(node.text)
        let end = index + Int(node.length)
        while index < end {
            let placeholder =
                source[index] == UInt8(ascii: "%") && index + 1 < end
                ? Placeholder(source[index + 1], dialect: .mosquitto) : nil
            switch placeholder {
            case nil:
                guard offset < level.count, level[offset] == source[index] else { return false }
                offset += 1
                index += 1
                continue
            case .client:
                guard level.has(names.client.span, at: offset) else { return false }
                offset += names.client.count
            default:
                guard let userName = names.userName, level.has(userName.span, at: offset) else { return false }
                offset += userName.count
            }
            index += 2
        }
        return offset == level.count
    }

    private func owns(_ level: Span<UInt8>, _ owned: [String]) -> Bool {
        var low = 0
        var high = owned.count
        while low < high {
            let middle = low + (high - low) / 2
            switch owned[middle].utf8.span.order(against: level) {
            case 0: return true
            case ..<0: low = middle + 1
            default: high = middle
            }
        }
        return false
    }
}

extension Span where Element == UInt8 {
    @inline(__always)
    func isEqual(to other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in indices where self[index] != other[index] { return false }
        return true
    }

    fileprivate func has(_ text: Span<UInt8>, at offset: Int) -> Bool {
        count - offset >= text.count && extracting(offset..<offset + text.count).isEqual(to: text)
    }

    /// Below 0 where it comes before the other in order of bytes, above where after.
    fileprivate func order(against other: Span<UInt8>) -> Int {
        for index in 0..<Swift.min(count, other.count) where self[index] != other[index] {
            return self[index] < other[index] ? -1 : 1
        }
        return count - other.count
    }
}
