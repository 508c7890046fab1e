extension Rights {
    /// What may be read of the topics that `filter` matches: without the `$share/GROUP/` of a shared subscription.
    /// `.none` and `.all` are certain; where several rules would have to be put together to know, it is `.some`.
    package func coverage(of filter: Span<UInt8>) -> Coverage {
        if isUnrestricted { return .all }
        guard !filter.isEmpty else { return .none }
        let management = reachesManagement ? .none : filter.managementTopics
        if management == .all { return .none }
        guard let rules else { return allowsWithoutRules ? (management == .none ? .all : .some) : .none }

        let first = rules.reach(under: section, of: filter, names)
        if first.covering.contains(.deny) { return .none }
        var second = rules.reach(under: patterns, of: filter, names)
        if second.covering.contains(.deny) { second.overlapping = .deny }
        guard first.overlapping.contains(.read) || second.overlapping.contains(.read) else { return .none }
        guard management == .none, !first.overlapping.contains(.deny) else { return .some }
        if first.covering.contains(.read) { return .all }
        return second.covering.contains(.read) && !second.overlapping.contains(.deny) ? .all : .some
    }
}

extension TopicRules {
    /// What all rules together say that match some topic of a filter, perhaps too much, and those that match every topic
    /// of it, perhaps too little.
    struct Reach {
        var overlapping: TopicAccess = []
        var covering: TopicAccess = []
    }

    func reach(under root: UInt32, of filter: Span<UInt8>, _ names: borrowing RuleNames) -> Reach {
        let nodes = nodes
        var reach = Reach()
        collect(Int(root), 0, isCovering: true, filter, names, nodes.span, &reach)
        return reach
    }

    /// `isCovering`: the levels up to here match whatever the filter's do. No deeper than `PolicyLimits.separators`.
    private func collect(
        _ node: Int, _ start: Int, isCovering: Bool, _ filter: Span<UInt8>, _ names: borrowing RuleNames,
        _ nodes: Span<Node>, _ reach: inout Reach
    ) {
        let children = nodes[node].children
        let isOwnTree = start == 0 && filter[0] == UInt8(ascii: "$")
        if !isOwnTree { add(nodes[node].below, isCovering, &reach) }
        var end = start
        var key = LevelKey()
        while end < filter.count, filter[end] != UInt8(ascii: "/") {
            key.append(filter[end])
            end += 1
        }
        let level = filter.extracting(start..<end)
        let templates = children.lowerBound + Int(nodes[node].literals)
        if level.count == 1, level[0] == UInt8(ascii: "#") {
            if start > 0 { add(nodes[node].here, false, &reach) }  // `a/#` matches `a` too.
            for child in children where !isHidden(nodes[child], start) { add(nodes[child].subtree, false, &reach) }
        } else if level.count == 1, level[0] == UInt8(ascii: "+") {
            for child in children where !isHidden(nodes[child], start) {
                descend(child, end, isCovering && nodes[child].kind == .plus, filter, names, nodes, &reach)
            }
        } else {
            if let child = literal(key.bits, level, among: children.lowerBound..<templates, nodes) {
                descend(child, end, isCovering, filter, names, nodes, &reach)
            }
            for child in templates..<children.upperBound {
                let isPlus = nodes[child].kind == .plus
                guard isPlus ? !isOwnTree : isMatch(nodes[child], level, names, isOwnTree: isOwnTree) else { continue }
                descend(child, end, isCovering, filter, names, nodes, &reach)
            }
        }
    }

    /// Goes on behind the level that ends at `end`.
    private func descend(
        _ child: Int, _ end: Int, _ isCovering: Bool, _ filter: Span<UInt8>, _ names: borrowing RuleNames,
        _ nodes: Span<Node>, _ reach: inout Reach
    ) {
        if end == filter.count {
            add(nodes[child].here.union(nodes[child].below), isCovering, &reach)
        } else {
            collect(child, end + 1, isCovering: isCovering, filter, names, nodes, &reach)
        }
    }

    private func add(_ access: TopicAccess, _ isCovering: Bool, _ reach: inout Reach) {
        reach.overlapping.formUnion(access)
        if isCovering { reach.covering.formUnion(access) }
    }

    /// A wildcard at the start of a filter does not reach what begins with `$` [MQTT-4.7.2-1].
    private func isHidden(_ node: Node, _ start: Int) -> Bool {
        start == 0 && node.kind == .literal && node.length > 0 && source[Int(node.text)] == UInt8(ascii: "$")
    }
}
