import MQTT

/// `mount_point`: what stands before the topics of a listener's clients, everywhere but in their own packets.
extension ShardState {
    @inline(__always)
    func isMounted(_ number: ConnectionNumber) -> Bool { hasMountPoints && connections[Int(number)].isMounted }

    func mountPoint(of number: ConnectionNumber) -> [UInt8] { rules[Int(connections[Int(number)].listener)].mountPoint }

    /// A client's topic as the others see it; nil where that is longer than a topic may be (4.7.3).
    func mounted(_ topic: Span<UInt8>, _ number: ConnectionNumber) -> [UInt8]? {
        let mounted = mountPoint(of: number) + topic.copied()
        return mounted.count <= Int(UInt16.max) ? mounted : nil
    }

    /// The same for a filter; the name of a shared subscription's group stays in front.
    func mounted(filter: Span<UInt8>, _ number: ConnectionNumber) -> [UInt8]? {
        // The filter was validated when it was decoded.
        guard let shared = try? filter.sharedSubscription() else { return mounted(filter, number) }
        guard let own = mounted(filter.extracting(shared.filter..<filter.count), number) else { return nil }
        return filter.extracting(0..<shared.filter).copied() + own
    }

    func mounted(_ will: WillMessage, _ number: ConnectionNumber) -> WillMessage? {
        let bytes = will.message.bytes.span
        guard let topic = mounted(bytes.extracting(will.message.topicRange), number) else { return nil }
        let payload = bytes.extracting(will.message.payloadStart..<bytes.count)
        return WillMessage(
            message: ApplicationMessage(topic: topic.span, payload: payload), qos: will.qos, isRetained: will.isRetained
        )
    }

    /// Whether a message lies behind the connection's mount point: `m/#` also matches `m` (4.7.1.2), which does not.
    @inline(__always)
    func sees(_ message: Int, number: ConnectionNumber, _ outbox: borrowing Outbox) -> Bool {
        guard isMounted(number) else { return true }
        return outbox.messages.withBytes(of: message) { sees($0, number: number) }
    }

    /// `message` has the form of `ApplicationMessage.bytes`.
    @inline(__always)
    func sees(_ message: Span<UInt8>, number: ConnectionNumber) -> Bool {
        guard isMounted(number) else { return true }
        let mountPoint = mountPoint(of: number)
        let topicBytes = Int(message[0]) << 8 | Int(message[1])
        return topicBytes > mountPoint.count
            && message.extracting(2..<(2 + mountPoint.count)).isEqual(to: mountPoint.span)
    }

    /// A message as the connection's client sees it: the outbox's own, or a copy without the mount point. What a
    /// session has kept from a listener without one stays as it is.
    mutating func unmounted(_ message: Int, for number: ConnectionNumber, _ outbox: inout Outbox) -> Int {
        let listener = connections[Int(number)].listener
        if let unmountedCopy, unmountedCopy.listener == listener { return unmountedCopy.message }
        let seen = outbox.messages.withBytes(of: message) { bytes -> ApplicationMessage? in
            guard sees(bytes, number: number) else { return nil }
            let (begin, topicEnd) = (2 + mountPoint(of: number).count, 2 + (Int(bytes[0]) << 8 | Int(bytes[1])))
            return ApplicationMessage(
                topic: bytes.extracting(begin..<topicEnd), payload: bytes.extracting(topicEnd..<bytes.count))
        }
        let copy = seen.map { outbox.add($0) } ?? message
        unmountedCopy = (listener, copy)
        return copy
    }
}
