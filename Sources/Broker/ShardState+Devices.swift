import Access
package import MQTT

/// What whoever manages devices has to know.
extension ShardState {
    /// A message is about to be routed, which its publisher may write. Not so a will: it says nothing of the present.
    @inline(__always)
    func tellOfDevice(_ topic: Span<UInt8>, _ payload: Span<UInt8>, _ outbox: inout Outbox) {
        guard topic.count > DeviceTopic.prefix.count, topic[0] == UInt8(ascii: "d"), let found = DeviceTopic(topic)
        else { return }
        let isWanted = found.kind != .other
        outbox.note(
            .deviceMessage(
                DeviceMessage(
                    device: String(decoding: topic.extracting(found.device).copied(), as: UTF8.self),
                    kind: found.kind, payload: isWanted ? payload.copied() : [])))
    }

    /// A request to whoever manages the fleet (`$CONTROL/fleet/v1`). True: it was one, which goes no further: it is never
    /// retained or shared, and whoever may not ask gets no answer, as with any topic that may not be written.
    mutating func tellRequest(
        _ topic: Span<UInt8>, _ payload: Span<UInt8>, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) -> Bool {
        guard topic.isEqual(to: ManagementTopic.requests.span) else { return false }
        let slot = connections[Int(number)].slot
        guard let person = administrator(slot) else {
            counters.publishesDenied += 1
            return true
        }
        outbox.note(.request(number, person: person, payload: payload.copied()))
        return true
    }

    /// The e-mail of the administrator whose session that is.
    private func administrator(_ slot: Int) -> String? {
        guard case .person(let id) = sessions[slot].participant?.principal.identity,
            let name = sessions[slot].participant?.principal.userName
        else { return nil }
        let email = String(decoding: name, as: UTF8.self)
        guard let person = access.accounts.people[email], person.id == id, person.role == .admin, !person.isBlocked
        else {
            return nil
        }
        return email
    }

    /// What answers a request goes to whoever asked, by all connections by which they listen, and to nobody else. `receivers`:
    /// of its topic; those that don't live here are left out.
    package mutating func answer(
        _ message: ApplicationMessage, to person: String, _ receivers: [Receiver], into outbox: inout Outbox
    ) {
        let index = outbox.add(message)
        storing = 0
        unmountedCopy = nil
        for receiver in receivers where Int(receiver.session.number) % shards == shard {
            let slot = slot(of: receiver.session.number)
            guard slot < sessions.count, sessions[slot].reference == receiver.session,
                sessions[slot].connection != Session.noConnection, administrator(slot) == person
            else { continue }
            deliver(index, qos: granted(.atLeastOnce, receiver.maximumQoS), to: receiver.session, into: &outbox)
        }
    }

    /// Whether a message under `$` is one that everybody may get whom a policy lets: those of the management are for people, by
    /// their role, whatever an `acl_file` says.
    func mayManage(_ slot: Int, _ message: Span<UInt8>) -> Bool {
        let topic = message.extracting(2..<(2 + (Int(message[0]) << 8 | Int(message[1]))))
        guard ManagementTopic.all.contains(where: { topic.begins(with: $0) }) else { return true }
        if case .person = sessions[slot].participant?.principal.identity { return true }
        return false
    }

    /// The device whose connection that is, if it is one's.
    package func device(of number: ConnectionNumber) -> String? {
        guard case .device(let device) = sessions[connections[Int(number)].slot].participant?.principal.identity else {
            return nil
        }
        return device
    }

    /// When a connection's last packet came.
    package func latestPacket(of number: ConnectionNumber) -> Instant { connections[Int(number)].latestPacket }
}

/// What the management says and is asked.
enum ManagementTopic {
    static let requests = Array("$CONTROL/fleet/v1".utf8)
    static let all = ["$SYS/devices/", "$SYS/rollouts/", "$SYS/activity", "$CONTROL/"].map { Array($0.utf8) }
}

extension Span where Element == UInt8 {
    fileprivate func begins(with prefix: [UInt8]) -> Bool {
        count >= prefix.count && extracting(0..<prefix.count).isEqual(to: prefix.span)
    }
}

/// A topic on which devices report: `devices/{deviceId}/health`, `.../status`, `.../ota/status`, `.../telemetry/#`.
struct DeviceTopic {
    static let prefix = Array("devices/".utf8)
    private static let kinds: [(suffix: [UInt8], kind: DeviceMessage.Kind)] = [
        (Array("health".utf8), .health), (Array("status".utf8), .status), (Array("ota/status".utf8), .otaStatus),
    ]
    private static let telemetry = Array("telemetry".utf8)

    let device: Range<Int>
    let kind: DeviceMessage.Kind

    /// Nil: it is another topic.
    init?(_ topic: Span<UInt8>) {
        let start = Self.prefix.count
        guard topic.count > start, topic.extracting(0..<start).isEqual(to: Self.prefix.span) else { return nil }
        var end = start
        while end < topic.count, topic[end] != UInt8(ascii: "/") { end += 1 }
        // Longer than any deviceId, or empty.
        guard end > start, end - start <= 64, end + 1 < topic.count else { return nil }
        device = start..<end
        let rest = topic.extracting((end + 1)..<topic.count)
        for (suffix, kind) in Self.kinds where rest.isEqual(to: suffix.span) {
            self.kind = kind
            return
        }
        // The filter's parent too (4.7.1.2).
        let head = Self.telemetry.count
        guard rest.count >= head, rest.extracting(0..<head).isEqual(to: Self.telemetry.span),
            rest.count == head || rest[head] == UInt8(ascii: "/")
        else { return nil }
        kind = .other
    }
}
