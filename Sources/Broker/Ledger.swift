/// Which commits of the store a shard's acknowledgements wait for. What changes belongs to the open batch; while one is on
/// its way to the disk the next collects, so that one commit serves everything that came in meanwhile.
struct Ledger: Sendable {
    /// Whether anybody waits at all (`durability`).
    let waits: Bool
    private var open: CommitTicket = 1
    private var hasChanges = false
    private var isUnderWay = false

    init(waits: Bool) { self.waits = waits }

    /// Something has changed that has to be on the disk. Returns the commit to wait for.
    mutating func note() -> CommitTicket? {
        hasChanges = true
        return waits ? open : nil
    }

    /// The last commit that anything waits for; nil when all of it is on the disk.
    var latest: CommitTicket? {
        guard waits else { return nil }
        return hasChanges ? open : isUnderWay ? open - 1 : nil
    }

    /// Whether there is something for a commit, and none is under way.
    var isDue: Bool { hasChanges && !isUnderWay }

    /// Closes the open batch, where there is something in it and none is under way.
    mutating func begin() -> CommitTicket? {
        guard isDue else { return nil }
        defer { open += 1 }
        (hasChanges, isUnderWay) = (false, true)
        return open
    }

    /// The batch that was under way is on the disk.
    mutating func end() { isUnderWay = false }
}
