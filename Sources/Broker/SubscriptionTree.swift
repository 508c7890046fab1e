import MQTT

/// All subscriptions, by the levels of their filters. A node stands for the levels up to it; it holds the filters that
/// end there and those that end there with `#`. Nothing recurses: 65,535 levels cost no stack.
struct SubscriptionTree: Sendable {
    /// 48 bytes. A node that holds nothing and has no children goes.
    private struct Node: Sendable {
        var text = LevelText()
        var isPlus = false
        /// Its children are found in `edges`; with one child they are not, for then there is nothing to search.
        var hasManyChildren = false
        var parent: UInt32 = 0
        /// The only child, besides `plus`.
        var child: UInt32 = 0
        var children: UInt32 = 0
        /// The child that stands for `+`.
        var plus: UInt32 = 0
        /// First of the subscriptions whose filter ends here.
        var exact: UInt32 = 0
        /// First of the subscriptions whose filter ends here with `#`.
        var hash: UInt32 = 0
        /// First of the groups of `$share` at this node.
        var groups: UInt32 = 0

        var isUnused: Bool { children == 0 && plus == 0 && exact == 0 && hash == 0 && groups == 0 }
    }

    private enum Kind: UInt8 { case exact, hash, shared }

    /// One session's subscription: in the list of its filter, and in the chain of its session.
    private struct Entry: Sendable {
        /// A node, or a group for `.shared`.
        var owner: UInt32 = 0
        var session: SessionNumber = 0
        var next: UInt32 = 0
        var previous: UInt32 = 0
        var nextOfSession: UInt32 = 0
        var previousOfSession: UInt32 = 0
        var kind = Kind.exact
        var maximumQoS = QoS.atMostOnce
    }

    /// The sessions that share one filter under one name.
    private struct Group: Sendable {
        var node: UInt32 = 0
        var endsWithHash = false
        var name: [UInt8] = []
        var members: UInt32 = 0
        /// The member that was chosen last.
        var latest: UInt32 = 0
        /// Its neighbours in the list of its node.
        var next: UInt32 = 0
        var previous: UInt32 = 0
    }

    private var nodes = Slab<Node>(placeholder: Node(), permanent: 1)
    private var longTexts = LongTexts()
    private var edges = NumberTable()
    private var entries = Slab<Entry>(placeholder: Entry())
    private var groups = Slab<Group>(placeholder: Group())
    private var groupNames = NumberTable()
    private let root: UInt32
    private let seed: UInt64
    private var frontier: [UInt32] = []
    private var following: [UInt32] = []

    init(seed: UInt64) {
        self.seed = seed
        root = nodes.add(Node())
    }

    /// Subscriptions of all sessions.
    var count: Int { entries.count }
    private(set) var sharedCount = 0

    // MARK: Matching

    /// Appends the sessions whose filters match `topic`, each once at its highest QoS [MQTT-3.3.5-1], and one member of
    /// each matching group.
    mutating func match(
        _ topic: Span<UInt8>, sessions: inout SessionTable, into receivers: inout [Receiver]
    ) {
        var walk = Walk(first: receivers.count)
        swap(&walk.frontier, &frontier)
        swap(&walk.following, &following)
        collect(topic, &walk, &sessions, &receivers)
        swap(&walk.frontier, &frontier)
        swap(&walk.following, &following)
        for number in walk.groups {
            let (chosen, latest) = nextMember(of: groups[number], topic, sessions)
            groups[number].latest = latest
            guard let chosen else { continue }
            receivers.append(sessions.receiver(entries[chosen].session, at: entries[chosen].maximumQoS))
        }
    }

    /// What one match keeps on its way down the tree.
    private struct Walk {
        /// The nodes that the levels so far lead to.
        var frontier: [UInt32] = []
        var following: [UInt32] = []
        var groups: [UInt32] = []
        /// Lists read: a session can be met twice only once there is a second.
        var lists = 0
        /// Where its receivers begin.
        let first: Int

        init(first: Int) { self.first = first }
    }

    private func collect(
        _ topic: Span<UInt8>, _ walk: inout Walk, _ sessions: inout SessionTable, _ receivers: inout [Receiver]
    ) {
        walk.frontier.removeAll(keepingCapacity: true)
        walk.frontier.append(root)
        // Wildcards at the start don't match the server's own topics [MQTT-4.7.2-1].
        var wildcardsCount = !topic.beginsWithDollar
        var start = 0
        while true {
            let (text, end) = LevelText.read(topic, from: start, seed: seed)
            let bytes = topic.extracting(start..<end)
            walk.following.removeAll(keepingCapacity: true)
            for number in walk.frontier {
                let node = nodes[number]
                if wildcardsCount {
                    if node.hash != 0 { collect(node.hash, &walk, &sessions, &receivers) }
                    if node.groups != 0 { collectGroups(node, endingWithHash: true, &walk) }
                    if node.plus != 0 { walk.following.append(node.plus) }
                }
                if let child = child(of: number, node, at: text, bytes) { walk.following.append(child) }
            }
            swap(&walk.frontier, &walk.following)
            if walk.frontier.isEmpty { return }
            wildcardsCount = true
            if end == topic.count { break }
            start = end + 1
        }
        for number in walk.frontier {
            let node = nodes[number]
            if node.exact != 0 { collect(node.exact, &walk, &sessions, &receivers) }
            if node.hash != 0 { collect(node.hash, &walk, &sessions, &receivers) }  // "a/#" matches "a" (4.7.1.2)
            if node.groups != 0 {
                collectGroups(node, endingWithHash: false, &walk)
                collectGroups(node, endingWithHash: true, &walk)
            }
        }
    }

    @inline(__always)
    private func collect(
        _ list: UInt32, _ walk: inout Walk, _ sessions: inout SessionTable, _ receivers: inout [Receiver]
    ) {
        walk.lists += 1
        if walk.lists == 2 { sessions.mark(receivers[walk.first...]) }
        var number = list
        while number != 0 {
            let entry = entries[number]
            number = entry.next
            if walk.lists > 1, let index = sessions.markedIndex(of: entry.session, orMark: receivers.count) {
                receivers[index].maximumQoS = max(receivers[index].maximumQoS, entry.maximumQoS)
                continue
            }
            receivers.append(sessions.receiver(entry.session, at: entry.maximumQoS))
        }
    }

    private func collectGroups(_ node: Node, endingWithHash: Bool, _ walk: inout Walk) {
        var number = node.groups
        while number != 0 {
            if groups[number].endsWithHash == endingWithHash { walk.groups.append(number) }
            number = groups[number].next
        }
    }

    /// The member after the one chosen last that may read the topic; connected members come first, as far as a short
    /// search finds them. `latest`: where the next search goes on, further on where this one was in vain.
    private func nextMember(
        of group: Group, _ topic: Span<UInt8>, _ sessions: borrowing SessionTable
    ) -> (chosen: UInt32?, latest: UInt32) {
        let after = group.latest == 0 ? 0 : entries[group.latest].next
        let start = after == 0 ? group.members : after
        var (number, looked, away) = (start, start, UInt32?.none)
        for _ in 0..<Limits.groupMembersSearched {
            if sessions.mayRead(topic, entries[number].session) {
                if sessions.isConnected(entries[number].session) { return (number, number) }
                if away == nil { away = number }
            }
            looked = number
            number = entries[number].next == 0 ? group.members : entries[number].next
            if number == start { break }
        }
        return (away, away ?? looked)
    }

    // MARK: Changing

    /// Adds a subscription or replaces its QoS [MQTT-3.8.4-3].
    mutating func insert(
        _ filter: Span<UInt8>, group name: Span<UInt8>?, maximumQoS: QoS, session: SessionNumber,
        sessions: inout SessionTable
    ) {
        let (node, endsWithHash) = makeNode(filter)
        let kind: Kind = name != nil ? .shared : endsWithHash ? .hash : .exact
        let owner = if let name { makeGroup(name, at: node, endsWithHash: endsWithHash) } else { node }
        if let existing = entry(of: session, owner: owner, kind: kind, sessions) {
            entries[existing].maximumQoS = maximumQoS
            return
        }
        let head = list(owner, kind)
        let number = entries.add(
            Entry(
                owner: owner, session: session, next: head, nextOfSession: sessions[session].subscriptions, kind: kind,
                maximumQoS: maximumQoS
            )
        )
        if head != 0 { entries[head].previous = number }
        setList(owner, kind, to: number)
        let chain = sessions[session].subscriptions
        if chain != 0 { entries[chain].previousOfSession = number }
        sessions[session].subscriptions = number
        sessions[session].subscriptionCount += 1
        if kind == .shared { sharedCount += 1 }
    }

    /// Removes the subscription whose filter is the same, character by character [MQTT-3.10.4-1].
    mutating func remove(
        _ filter: Span<UInt8>, group name: Span<UInt8>?, session: SessionNumber, sessions: inout SessionTable
    ) {
        guard let (node, endsWithHash) = findNode(filter) else { return }
        var owner = node
        if let name {
            guard let group = findGroup(name, at: node, endsWithHash: endsWithHash) else { return }
            owner = group
        }
        let kind: Kind = name != nil ? .shared : endsWithHash ? .hash : .exact
        guard let number = entry(of: session, owner: owner, kind: kind, sessions) else { return }
        remove(number, &sessions)
    }

    /// Removes some of what a session subscribed to; true while there is more.
    mutating func remove(of session: SessionNumber, atMost limit: Int, sessions: inout SessionTable) -> Bool {
        for _ in 0..<limit {
            guard sessions[session].subscriptions != 0 else { return false }
            remove(sessions[session].subscriptions, &sessions)
        }
        return sessions[session].subscriptions != 0
    }

    /// What a session subscribed to, without the names of groups; nil when that is more than `limit` filters, or has more
    /// than `levelLimit` levels.
    func filters(
        of session: SessionNumber, atMost limit: Int, levels levelLimit: Int, sessions: borrowing SessionTable
    ) -> [[UInt8]]? {
        var filters: [[UInt8]] = []
        var levelsLeft = levelLimit
        var number = sessions[session].subscriptions
        while number != 0 {
            guard filters.count < limit, let filter = filter(of: entries[number], &levelsLeft) else { return nil }
            filters.append(filter)
            number = entries[number].nextOfSession
        }
        return filters
    }

    private func filter(of entry: Entry, _ levelsLeft: inout Int) -> [UInt8]? {
        let isShared = entry.kind == .shared
        var node = isShared ? groups[entry.owner].node : entry.owner
        var levels: [[UInt8]] = []
        if isShared ? groups[entry.owner].endsWithHash : entry.kind == .hash { levels.append(Array("#".utf8)) }
        while node != root {
            levelsLeft -= 1
            guard levelsLeft >= 0 else { return nil }
            levels.append(nodes[node].isPlus ? Array("+".utf8) : nodes[node].text.bytes(longTexts))
            node = nodes[node].parent
        }
        return Array(levels.reversed().joined(separator: [UInt8(ascii: "/")]))
    }

    private mutating func remove(_ number: UInt32, _ sessions: inout SessionTable) {
        let entry = entries[number]
        if entry.nextOfSession != 0 { entries[entry.nextOfSession].previousOfSession = entry.previousOfSession }
        if entry.previousOfSession != 0 {
            entries[entry.previousOfSession].nextOfSession = entry.nextOfSession
        } else {
            sessions[entry.session].subscriptions = entry.nextOfSession
        }
        sessions[entry.session].subscriptionCount -= 1

        if entry.next != 0 { entries[entry.next].previous = entry.previous }
        if entry.previous != 0 {
            entries[entry.previous].next = entry.next
        } else {
            setList(entry.owner, entry.kind, to: entry.next)
        }
        var node = entry.owner
        if entry.kind == .shared {
            sharedCount -= 1
            node = groups[entry.owner].node
            if groups[entry.owner].latest == number { groups[entry.owner].latest = entry.previous }
        }
        entries.remove(number)
        guard list(entry.owner, entry.kind) == 0 else { return }
        if entry.kind == .shared { removeGroup(entry.owner) }
        prune(node)
    }

    /// A session's entry in a list: looked for from both ends at once, in the list of the filter and in the chain of
    /// the session, so that neither a popular filter nor a session with many makes it slow.
    private func entry(
        of session: SessionNumber, owner: UInt32, kind: Kind, _ sessions: borrowing SessionTable
    ) -> UInt32? {
        var (inList, inChain) = (list(owner, kind), sessions[session].subscriptions)
        while inList != 0, inChain != 0 {
            if entries[inList].session == session { return inList }
            if entries[inChain].owner == owner, entries[inChain].kind == kind { return inChain }
            inList = entries[inList].next
            inChain = entries[inChain].nextOfSession
        }
        return nil
    }

    private func list(_ owner: UInt32, _ kind: Kind) -> UInt32 {
        switch kind {
        case .exact: nodes[owner].exact
        case .hash: nodes[owner].hash
        case .shared: groups[owner].members
        }
    }

    private mutating func setList(_ owner: UInt32, _ kind: Kind, to head: UInt32) {
        switch kind {
        case .exact: nodes[owner].exact = head
        case .hash: nodes[owner].hash = head
        case .shared: groups[owner].members = head
        }
    }

    // MARK: Groups

    private func groupHash(_ name: Span<UInt8>, at node: UInt32) -> UInt32 {
        var hash = seed
        for index in name.indices { hash = (hash ^ UInt64(name[index])) &* 0x100_0000_01B3 }
        return mixed(hash ^ UInt64(node) << 32)
    }

    private func findGroup(_ name: Span<UInt8>, at node: UInt32, endsWithHash: Bool) -> UInt32? {
        groupNames.first(hash: groupHash(name, at: node)) { number in
            let group = groups[number]
            return group.node == node && group.endsWithHash == endsWithHash && name.isEqual(to: group.name.span)
        }
    }

    private mutating func makeGroup(_ name: Span<UInt8>, at node: UInt32, endsWithHash: Bool) -> UInt32 {
        if let known = findGroup(name, at: node, endsWithHash: endsWithHash) { return known }
        let next = nodes[node].groups
        let number = groups.add(Group(node: node, endsWithHash: endsWithHash, name: name.copied(), next: next))
        if next != 0 { groups[next].previous = number }
        nodes[node].groups = number
        groupNames.insert(number, hash: groupHash(name, at: node))
        return number
    }

    private mutating func removeGroup(_ number: UInt32) {
        let group = groups[number]
        if group.next != 0 { groups[group.next].previous = group.previous }
        if group.previous != 0 {
            groups[group.previous].next = group.next
        } else {
            nodes[group.node].groups = group.next
        }
        groupNames.remove(number, hash: groupHash(group.name.span, at: group.node))
        groups.remove(number)
    }

    // MARK: Nodes

    @inline(__always)
    private func child(of number: UInt32, _ parent: Node, at text: LevelText, _ bytes: Span<UInt8>) -> UInt32? {
        if parent.hasManyChildren {
            return edges.first(hash: text.hash(below: number, seed: seed)) { candidate in
                let node = nodes[candidate]
                return node.parent == number && longTexts.isSame(node.text, text, bytes)
            }
        }
        guard parent.child != 0, longTexts.isSame(nodes[parent.child].text, text, bytes) else { return nil }
        return parent.child
    }

    /// The node where a filter ends, and whether a `#` follows it.
    private func findNode(_ filter: Span<UInt8>) -> (node: UInt32, endsWithHash: Bool)? {
        var (node, start) = (root, 0)
        while true {
            let (text, end) = LevelText.read(filter, from: start, seed: seed)
            if filter.isLevel("#", at: start..<end) { return (node, true) }
            if filter.isLevel("+", at: start..<end) {
                guard nodes[node].plus != 0 else { return nil }
                node = nodes[node].plus
            } else {
                guard let child = child(of: node, nodes[node], at: text, filter.extracting(start..<end)) else {
                    return nil
                }
                node = child
            }
            if end == filter.count { return (node, false) }
            start = end + 1
        }
    }

    private mutating func makeNode(_ filter: Span<UInt8>) -> (node: UInt32, endsWithHash: Bool) {
        var (node, start) = (root, 0)
        while true {
            let (text, end) = LevelText.read(filter, from: start, seed: seed)
            let bytes = filter.extracting(start..<end)
            if filter.isLevel("#", at: start..<end) { return (node, true) }
            if filter.isLevel("+", at: start..<end) {
                if nodes[node].plus == 0 { nodes[node].plus = nodes.add(Node(isPlus: true, parent: node)) }
                node = nodes[node].plus
            } else {
                node = child(of: node, nodes[node], at: text, bytes) ?? addChild(to: node, at: text, bytes)
            }
            if end == filter.count { return (node, false) }
            start = end + 1
        }
    }

    private mutating func addChild(to parent: UInt32, at text: LevelText, _ bytes: Span<UInt8>) -> UInt32 {
        let number = nodes.add(Node(text: longTexts.keep(text, bytes), parent: parent))
        nodes[parent].children += 1
        if nodes[parent].children == 1, !nodes[parent].hasManyChildren {
            nodes[parent].child = number
            return number
        }
        let only = nodes[parent].child
        if only != 0 {  // With the second child searching begins.
            edges.insert(only, hash: nodes[only].text.hash(below: parent, seed: seed))
            nodes[parent].child = 0
            nodes[parent].hasManyChildren = true
        }
        edges.insert(number, hash: text.hash(below: parent, seed: seed))
        return number
    }

    /// Removes a node that holds nothing, and then its parents.
    private mutating func prune(_ number: UInt32) {
        var number = number
        while number != root, nodes[number].isUnused {
            let (node, parent) = (nodes[number], nodes[number].parent)
            if node.isPlus {
                nodes[parent].plus = 0
            } else {
                if nodes[parent].hasManyChildren {
                    edges.remove(number, hash: node.text.hash(below: parent, seed: seed))
                } else {
                    nodes[parent].child = 0
                }
                nodes[parent].children -= 1
                if nodes[parent].children == 0 { nodes[parent].hasManyChildren = false }
                longTexts.release(node.text)
            }
            nodes.remove(number)
            number = parent
        }
    }
}

extension Span where Element == UInt8 {
    func isEqual(to other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in indices where self[index] != other[index] { return false }
        return true
    }
}
