internal import JSON
internal import Locks
internal import Store

/// Reads the store for answers: where requests are handled, which may wait for a disk, and not behind whoever writes.
struct FleetReader: Sendable {
    private struct Texts {
        /// Of the store, when they were read.
        var version: UInt64 = 0
        var texts: [String: JSONText] = [:]
    }

    /// Devices as answers have them, kept until anything is written. Some 400 bytes each.
    private static let mostTexts = 10_000

    private let store: FleetStore
    private let texts = Lock(Texts())

    init(_ store: FleetStore) { self.store = store }

    func read<Value: Sendable>(_ body: @Sendable (FleetStore) throws -> Value) async throws -> Value { try body(store) }

    /// Those of them that are there, in this order, as `text` makes them.
    func devices(_ ids: ArraySlice<String>, _ text: @Sendable (DeviceRecord) -> JSONText) async throws -> [(
        id: String, text: JSONText
    )] {
        let version = store.version
        var found = texts.withLock { kept in kept.version == version ? ids.map { kept.texts[$0] } : ids.map { _ in nil }
        }
        let missing = zip(ids, found).filter { $0.1 == nil }.map(\.0)
        guard !missing.isEmpty else { return zip(ids, found).compactMap { id, text in text.map { (id, $0) } } }
        var read: [String: JSONText] = [:]
        for record in try store.devices(missing) { read[record.deviceId] = text(record) }
        for (place, id) in zip(found.indices, ids) where found[place] == nil { found[place] = read[id] }
        texts.withLock { [read] kept in
            guard store.version == version else { return }
            if kept.version != version || kept.texts.count + read.count > Self.mostTexts {
                kept = Texts(version: version)
            }
            guard read.count <= Self.mostTexts else { return }
            kept.texts.merge(read) { _, new in new }
        }
        return zip(ids, found).compactMap { id, text in text.map { (id, $0) } }
    }
}
