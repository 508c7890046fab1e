package import MQTT

/// A retained message, the QoS it was published with [MQTT-3.3.1-5], and when it was stored.
package struct RetainedMessage: Sendable {
    package var message = ApplicationMessage(body: [0, 0].span)
    package var qos = QoS.atMostOnce
    /// Who published it; nil for the server's own.
    package var publisher: Participant?
    /// Place in the order of all stores of this broker, from 1 on.
    package var sequence: UInt64 = 0

    init() {}

    init(message: ApplicationMessage, qos: QoS, publisher: Participant?, sequence: UInt64) {
        self.init(message: message, qos: qos, publisher: publisher)
        self.sequence = sequence
    }

    /// One that has no place in the order yet.
    package init(message: ApplicationMessage, qos: QoS, publisher: Participant?) {
        self.message = message
        self.qos = qos
        self.publisher = publisher
    }
}

/// The last retained message of each topic, as a tree in which every node lists its children in the order in which
/// they came. That order never changes, and a node that a cursor stands on stays, so a cursor goes on where it was.
struct RetainedTree: Sendable {
    private struct Node: Sendable {
        var text = LevelText()
        var parent: UInt32 = 0
        var firstChild: UInt32 = 0
        var lastChild: UInt32 = 0
        var next: UInt32 = 0
        var previous: UInt32 = 0
        var message: UInt32 = 0
        /// Children, the message, and cursors that stand here. At 0 the node goes.
        var uses: UInt32 = 0
    }

    private static let empty = RetainedMessage()

    private var nodes = Slab<Node>(placeholder: Node(), permanent: 1)
    private var longTexts = LongTexts()
    private var edges = NumberTable()
    private var messages = Slab<RetainedMessage>(placeholder: RetainedTree.empty)
    private let root: UInt32
    private let seed: UInt64
    private(set) var sequence: UInt64 = 0
    /// Bytes of all payloads.
    private(set) var byteCount = 0

    init(seed: UInt64) {
        self.seed = seed
        root = nodes.add(Node(uses: 1))
    }

    var count: Int { messages.count }

    /// Keeps a message as the one of its topic, or with an empty payload removes what is kept
    /// [MQTT-3.3.1-5] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
    /// Unless it `mayGrow`, only a message that is no longer than the one in its place is kept; false when it is not.
    mutating func store(
        _ message: ApplicationMessage, topic: Span<UInt8>, qos: QoS, publisher: Participant? = nil, mayGrow: Bool = true
    ) -> Bool {
        sequence += 1
        guard message.payloadCount > 0 else {
            guard let node = find(topic), nodes[node].message != 0 else { return true }
            byteCount -= messages[nodes[node].message].message.payloadCount
            messages.remove(nodes[node].message)
            nodes[node].message = 0
            release(node)
            return true
        }
        if !mayGrow {
            guard let node = find(topic), nodes[node].message != 0,
                messages[nodes[node].message].message.payloadCount >= message.payloadCount
            else { return false }
        }
        let node = make(topic)
        byteCount += message.payloadCount
        let retained = RetainedMessage(message: message, qos: qos, publisher: publisher, sequence: sequence)
        if nodes[node].message != 0 {
            byteCount -= messages[nodes[node].message].message.payloadCount
            messages[nodes[node].message] = retained
        } else {
            nodes[node].message = messages.add(retained)
            nodes[node].uses += 1
        }
        return true
    }

    // MARK: Cursors

    /// A cursor over what is stored now and matches `filter`.
    func cursor(_ filter: Span<UInt8>, maximumQoS: QoS) -> RetainedCursor {
        RetainedCursor(filter: filter, maximumQoS: maximumQoS, sequence: sequence, seed: seed)
    }

    /// The same over what is stored later too.
    func cursor(ofAll filter: Span<UInt8>) -> RetainedCursor {
        RetainedCursor(filter: filter, maximumQoS: .exactlyOnce, sequence: .max, seed: seed)
    }

    func has(_ topic: Span<UInt8>) -> Bool { find(topic).map { nodes[$0].message != 0 } ?? false }

    /// Reads on from where `cursor` stands: at most `steps` nodes, at most `limit` messages. Skips what was stored after
    /// the subscription: that came live.
    mutating func read(
        _ cursor: inout RetainedCursor, steps: Int, limit: Int,
        into found: inout [RetainedMessage]
    ) {
        let full = found.count + limit
        for _ in 0..<steps {
            guard !cursor.isFinished, found.count < full else { return }
            advance(&cursor)
            let here = nodes[cursor.node]
            if cursor.isMatch, here.message != 0, !isHidden(cursor), messages[here.message].sequence <= cursor.sequence
            {
                found.append(messages[here.message])
            }
        }
    }

    /// Whether a few steps are enough to see that a new cursor will find nothing, as is the rule.
    mutating func hasNothing(for cursor: RetainedCursor) -> Bool {
        var (scout, found) = (cursor, [RetainedMessage]())
        read(&scout, steps: 16, limit: 1, into: &found)
        if scout.isFinished { return found.isEmpty }
        close(&scout)
        return false
    }

    /// Gives up a cursor, wherever it stands.
    mutating func close(_ cursor: inout RetainedCursor) {
        move(&cursor, to: 0, depth: 0)
        cursor.isFinished = true
    }

    /// The next node in the order of the tree (parents before children) that the filter can match.
    private mutating func advance(_ cursor: inout RetainedCursor) {
        if cursor.node == 0 { return step(&cursor, from: root, depth: 0) }
        step(&cursor, from: cursor.node, depth: cursor.depth)
    }

    /// Whether a cursor stands on one of the server's own trees, which a wildcard at the start doesn't match
    /// [MQTT-4.7.2-1]. It passes them like any other node, so that many of them don't make one step long.
    private func isHidden(_ cursor: RetainedCursor) -> Bool {
        guard cursor.depth == 1, case .all = cursor.filter.part(0) else { return false }
        return nodes[cursor.node].text.beginsWithDollar(longTexts)
    }

    /// Down from `node` if the filter goes on, else to a sibling, of it or of the nearest parent that has one.
    private mutating func step(
        _ cursor: inout RetainedCursor, from node: UInt32, depth: Int
    ) {
        var (node, depth) = (node, depth)
        var child: UInt32 = 0
        switch cursor.filter.part(depth) {
        case _ where isHidden(cursor): break
        case .none: break
        case .all: child = nodes[node].firstChild
        case .exactly(let range):
            let text = cursor.filter.text(depth, seed: seed)
            child = self.child(of: node, at: text, cursor.filter.bytes.span.extracting(range)) ?? 0
        }
        if child != 0 { return move(&cursor, to: child, depth: depth + 1) }
        while depth > 0 {
            if case .all = cursor.filter.part(depth - 1) {
                let sibling = nodes[node].next
                if sibling != 0 { return move(&cursor, to: sibling, depth: depth) }
            }
            node = nodes[node].parent
            depth -= 1
        }
        close(&cursor)
    }

    /// Holds the new node before it lets go of the old one.
    private mutating func move(
        _ cursor: inout RetainedCursor, to node: UInt32, depth: Int
    ) {
        let left = cursor.node
        if node != 0 { nodes[node].uses += 1 }
        cursor.node = node
        cursor.depth = depth
        if left != 0 { release(left) }
    }

    // MARK: Nodes

    @inline(__always)
    private func child(of parent: UInt32, at text: LevelText, _ bytes: Span<UInt8>) -> UInt32? {
        edges.first(hash: text.hash(below: parent, seed: seed)) { candidate in
            let node = nodes[candidate]
            return node.parent == parent && longTexts.isSame(node.text, text, bytes)
        }
    }

    private func find(_ topic: Span<UInt8>) -> UInt32? {
        var (node, start) = (root, 0)
        while true {
            let (text, end) = LevelText.read(topic, from: start, seed: seed)
            guard let child = child(of: node, at: text, topic.extracting(start..<end)) else { return nil }
            node = child
            if end == topic.count { return node }
            start = end + 1
        }
    }

    private mutating func make(_ topic: Span<UInt8>) -> UInt32 {
        var (node, start) = (root, 0)
        while true {
            let (text, end) = LevelText.read(topic, from: start, seed: seed)
            let bytes = topic.extracting(start..<end)
            node = child(of: node, at: text, bytes) ?? addChild(to: node, at: text, bytes)
            if end == topic.count { return node }
            start = end + 1
        }
    }

    private mutating func addChild(to parent: UInt32, at text: LevelText, _ bytes: Span<UInt8>) -> UInt32 {
        let last = nodes[parent].lastChild
        let number = nodes.add(Node(text: longTexts.keep(text, bytes), parent: parent, previous: last))
        if last == 0 { nodes[parent].firstChild = number } else { nodes[last].next = number }
        nodes[parent].lastChild = number
        nodes[parent].uses += 1
        edges.insert(number, hash: text.hash(below: parent, seed: seed))
        return number
    }

    /// Gives back one use of a node; one that nothing uses goes, and then its parents.
    private mutating func release(_ number: UInt32) {
        var number = number
        nodes[number].uses -= 1
        while number != root, nodes[number].uses == 0 {
            let node = nodes[number]
            if node.previous == 0 {
                nodes[node.parent].firstChild = node.next
            } else {
                nodes[node.previous].next = node.next
            }
            if node.next == 0 {
                nodes[node.parent].lastChild = node.previous
            } else {
                nodes[node.next].previous = node.previous
            }
            edges.remove(number, hash: node.text.hash(below: node.parent, seed: seed))
            longTexts.release(node.text)
            nodes.remove(number)
            nodes[node.parent].uses -= 1
            number = node.parent
        }
    }
}

/// How far the retained messages of one new subscription have been read.
package struct RetainedCursor: Sendable {
    let filter: LevelledFilter
    package let maximumQoS: QoS
    /// Stores up to this one were before the subscription.
    let sequence: UInt64
    fileprivate var node: UInt32 = 0
    fileprivate var depth = 0
    package fileprivate(set) var isFinished = false

    init(filter: Span<UInt8>, maximumQoS: QoS, sequence: UInt64, seed: UInt64) {
        self.filter = LevelledFilter(filter, seed: seed)
        self.maximumQoS = maximumQoS
        self.sequence = sequence
    }

    fileprivate var isMatch: Bool {
        node != 0 && (filter.hash.map { depth >= $0 } ?? (depth == filter.count))
    }
}

/// A filter cut into its levels: two bytes a level, for filters may have very many.
struct LevelledFilter: Sendable {
    enum Part {
        /// The filter ends before this level.
        case none
        /// Every child matches.
        case all
        /// Only the child of this text.
        case exactly(Range<Int>)
    }

    let bytes: [UInt8]
    /// Where each level begins, but for `#`.
    private var starts: [UInt16] = []
    /// The depth at which `#` stands.
    private(set) var hash: Int?
    /// The texts that take long to read, by depth: a filter is held against many nodes.
    private var longTexts: [Int: LevelText] = [:]

    var count: Int { starts.count }

    init(_ filter: Span<UInt8>, seed: UInt64) {
        bytes = filter.copied()
        var start = 0
        while true {
            let (text, end) = LevelText.read(filter, from: start, seed: seed)
            if filter.isLevel("#", at: start..<end) {
                hash = starts.count
            } else {
                if !text.isShort { longTexts[starts.count] = text }
                starts.append(UInt16(start))  // A filter has at most 65,535 bytes.
            }
            if end == filter.count { return }
            start = end + 1
        }
    }

    func part(_ depth: Int) -> Part {
        if let hash, depth >= hash { return .all }
        guard depth < starts.count else { return .none }
        let start = Int(starts[depth])
        let next = depth + 1 < starts.count ? Int(starts[depth + 1]) : hash == nil ? bytes.count + 1 : bytes.count - 1
        let range = start..<(next - 1)
        return bytes.span.isLevel("+", at: range) ? .all : .exactly(range)
    }

    /// The text at a depth where the part is exact.
    func text(_ depth: Int, seed: UInt64) -> LevelText {
        longTexts[depth] ?? LevelText.read(bytes.span, from: Int(starts[depth]), seed: seed).text
    }
}
