import MQTT

/// Packet Identifiers of QoS 2 messages that await their PUBREL (4.3.3). A few are kept in a list, many in a bitmap.
struct PacketIdentifierSet: Sendable {
    private static let listed = 32

    private var list: [PacketIdentifier] = []
    private var bitmap: [UInt64] = []
    private(set) var count = 0

    func contains(_ identifier: PacketIdentifier) -> Bool {
        if bitmap.isEmpty { return list.contains(identifier) }
        return bitmap[Int(identifier) / 64] & Self.bit(identifier) != 0
    }

    /// Adds an identifier; false if it was there.
    mutating func insert(_ identifier: PacketIdentifier) -> Bool {
        guard !contains(identifier) else { return false }
        count += 1
        if bitmap.isEmpty, list.count == Self.listed {
            bitmap = [UInt64](repeating: 0, count: 65_536 / 64)
            for listed in list { bitmap[Int(listed) / 64] |= Self.bit(listed) }
            list = []
        }
        if bitmap.isEmpty { list.append(identifier) } else { bitmap[Int(identifier) / 64] |= Self.bit(identifier) }
        return true
    }

    /// Takes an identifier out; false if it was not there.
    @discardableResult
    mutating func remove(_ identifier: PacketIdentifier) -> Bool {
        guard contains(identifier) else { return false }
        count -= 1
        if bitmap.isEmpty {
            list.removeAll { $0 == identifier }
        } else {
            bitmap[Int(identifier) / 64] &= ~Self.bit(identifier)
        }
        if count == 0 { self = PacketIdentifierSet() }
        return true
    }

    private static func bit(_ identifier: PacketIdentifier) -> UInt64 { 1 << UInt64(identifier % 64) }
}
