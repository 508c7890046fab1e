import Foundation
import Glibc
import Seeded

/// What faults.c wrote down, in the order in which it was done.
struct Journal {
    struct Record: CustomStringConvertible {
        let kind: Faults.Call
        let call: Int
        /// Of the file; of the directory where a name changes.
        let inode: UInt64
        let offset: Int
        let size: Int
        let length: Int
        let name: String
        /// Of a rename.
        let newName: String
        /// What was there.
        let old: ArraySlice<UInt8>

        var description: String {
            let detail =
                switch kind {
                case .write: "\(length) bytes at \(offset)"
                case .truncate: "from \(size) to \(offset)"
                case .sync: length == 0 ? "" : "error \(length)"
                case .rename: "to \(newName)"
                case .create, .remove, .makeDirectory: ""
                }
            return "\(call): \(kind) \(name.isEmpty ? "the directory" : name) \(detail)"
        }
    }

    let records: [Record]

    init(_ faults: Faults) throws {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(faults.directory)/journal")))
        var records: [Record] = []
        var offset = 0
        while offset < bytes.count {
            func number(_ at: Int, _ count: Int) -> UInt64 {
                bytes[offset + at..<offset + at + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
            }
            let (nameLength, oldLength) = (Int(number(36, 4)), Int(number(40, 8)))
            let names = bytes[offset + 48..<offset + 48 + nameLength].split(
                separator: 0, omittingEmptySubsequences: false)
            guard let kind = Faults.Call(rawValue: Int64(number(0, 4))) else { throw Unexpected("journal") }
            records.append(
                Record(
                    kind: kind, call: Int(number(4, 4)), inode: number(8, 8), offset: Int(number(16, 8)),
                    size: Int(number(24, 8)), length: Int(number(32, 4)),
                    name: String(decoding: names[0], as: UTF8.self),
                    newName: names.count > 1 ? String(decoding: names[1], as: UTF8.self) : "",
                    old: bytes[offset + 48 + nameLength..<offset + 48 + nameLength + oldLength]))
            offset += 48 + nameLength + oldLength
        }
        self.records = records
    }
}

/// Takes from a directory what a disk may have lost when the power went, once its process is dead.
///
/// What POSIX and the journalling file systems of Linux promise: what was written before an fsync that succeeded is there, and
/// so are the names of a directory that was synchronised. Of the rest each sector may be as at any moment since, whatever
/// became of its neighbours; a file may have any of its sizes; of the changes of names, and of a file's truncations with what
/// came after, the first few are there. After an fsync that failed the pages count as clean: only a write to the same page
/// brings them to the disk, by the next fsync.
struct PowerCut {
    enum Survival {
        case nothing
        /// Each sector for itself, of so many bytes.
        case some(sectorBytes: Int)
    }

    /// A file whose name may have changed since.
    private struct File {
        struct Page {
            /// Indices of writes that may be lost.
            var pending: [Int] = []
            /// Whether the next fsync writes it.
            var isDirty = false
        }

        static let pageBytes = 4096

        var changes: [Journal.Record] = []
        var pages: [Int: Page] = [:]
        var truncations: [Int] = []
        var growths: [Int] = []

        mutating func write(_ record: Journal.Record) {
            let index = changes.count
            changes.append(record)
            guard record.length > 0 else { return }
            for page in record.offset / Self.pageBytes...(record.offset + record.length - 1) / Self.pageBytes {
                pages[page, default: Page()].pending.append(index)
                pages[page, default: Page()].isDirty = true
            }
            if record.offset + record.length > record.size { growths.append(index) }
        }

        mutating func truncate(_ record: Journal.Record) {
            truncations.append(changes.count)
            changes.append(record)
        }

        /// What was there before it, past its new end, can't come back.
        mutating func settle(truncation index: Int) {
            let end = changes[index].offset
            growths.removeAll { $0 < index }
            for page in pages.keys where page * Self.pageBytes >= end {
                pages[page] = pages[page].map { Page(pending: $0.pending.filter { $0 >= index }, isDirty: $0.isDirty) }
            }
        }

        mutating func synchronize(before call: Int) {
            pages = pages.mapValues { page in
                guard page.isDirty else { return page }
                let pending = page.pending.filter { changes[$0].call >= call }
                return Page(pending: pending, isDirty: !pending.isEmpty)
            }
            for index in truncations where changes[index].call < call { settle(truncation: index) }
            truncations.removeAll { changes[$0].call < call }
            growths.removeAll { changes[$0].call < call }
        }

        mutating func failToSynchronize() {
            for page in pages.keys { pages[page]?.isDirty = false }
        }

        /// What is left of what the file holds.
        mutating func remains(of content: [UInt8], _ survival: Survival, _ generator: inout SeededGenerator) -> [UInt8]
        {
            var content = content
            func kept(of count: Int) -> Int {
                if case .some = survival { generator.below(count + 1) } else { 0 }
            }
            let keptTruncations = kept(of: truncations.count)
            let firstLost = keptTruncations < truncations.count ? truncations[keptTruncations] : .max
            for index in truncations.prefix(keptTruncations) { settle(truncation: index) }
            growths.removeAll { $0 > firstLost }
            let sectorBytes = if case .some(let bytes) = survival { bytes } else { Self.pageBytes }
            // For each sector, the first of the writes to it that is lost.
            var lost: [Int: Int] = [:]
            for page in pages.keys.sorted() {
                for sector in 0..<Self.pageBytes / sectorBytes {
                    let start = page * Self.pageBytes + sector * sectorBytes
                    let writes = pages[page]!.pending.filter { index in
                        changes[index].offset < start + sectorBytes
                            && changes[index].offset + changes[index].length > start
                    }
                    let number = kept(of: writes.count)
                    if number < writes.count { lost[start / sectorBytes] = writes[number] }
                }
            }
            for index in changes.indices.reversed() {
                let change = changes[index]
                if change.kind == .truncate {
                    if index >= firstLost { content = Array(content.prefix(change.offset) + change.old) }
                    continue
                }
                var place = change.offset
                while place < change.offset + change.length {
                    let sector = place / sectorBytes
                    let end = min((sector + 1) * sectorBytes, change.offset + change.length)
                    if index > firstLost || lost[sector].map({ index >= $0 }) == true {
                        for byte in place..<min(end, content.count) {
                            let old = change.old.startIndex + byte - change.offset
                            content[byte] = old < change.old.endIndex ? change.old[old] : 0
                        }
                    }
                    place = end
                }
            }
            let keptGrowths = kept(of: growths.count)
            if keptGrowths < growths.count { content = Array(content.prefix(changes[growths[keptGrowths]].size)) }
            return content
        }
    }

    private let faults: Faults
    private var files: [UInt64: File] = [:]
    /// Changes of names that may be lost.
    private var names: [Journal.Record] = []

    init(_ faults: Faults) throws {
        self.faults = faults
        for record in try Journal(faults).records {
            switch record.kind {
            case .write: files[record.inode, default: File()].write(record)
            case .truncate: files[record.inode, default: File()].truncate(record)
            case .sync where record.length == 0:
                files[record.inode]?.synchronize(before: record.offset)
                names.removeAll { $0.inode == record.inode && $0.call < record.offset }
            case .sync: files[record.inode]?.failToSynchronize()
            case .create, .rename, .remove: names.append(record)
            case .makeDirectory: break
            }
        }
    }

    mutating func apply(_ survival: Survival, _ generator: inout SeededGenerator) throws {
        let places = try places()
        for inode in files.keys.sorted() {
            guard let place = places[inode] else { continue }
            let content = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place)))
            let remains = files[inode]!.remains(of: content, survival, &generator)
            guard remains != content else { continue }
            let file = open(place, O_WRONLY | O_TRUNC | O_CLOEXEC)
            guard file >= 0 else { throw Unexpected(errno: errno, during: place) }
            defer { close(file) }
            guard write(file, remains, remains.count) == remains.count else {
                throw Unexpected("\(place): not written")
            }
        }
        let kept = if case .some = survival { generator.below(names.count + 1) } else { 0 }
        for record in names.dropFirst(kept).reversed() {
            let (name, grave) = ("\(faults.data)/\(record.name)", "\(faults.directory)/graves/\(record.call)")
            switch record.kind {
            case .create: unlink(name)
            case .rename:
                rename("\(faults.data)/\(record.newName)", name)
                if record.size == 1 { rename(grave, "\(faults.data)/\(record.newName)") }
            default: if record.size == 1 { rename(grave, name) }
            }
        }
        // Shared memory is nothing that lasts, whatever is left of its file.
        let left = (try? FileManager.default.contentsOfDirectory(atPath: faults.data)) ?? []
        for name in left.sorted() where name.hasSuffix("-shm") {
            if generator.happens(50) { unlink("\(faults.data)/\(name)") }
        }
    }

    /// Where each file is now, by its inode.
    private func places() throws -> [UInt64: String] {
        var places: [UInt64: String] = [:]
        for root in [faults.data, "\(faults.directory)/graves"] {
            for name in FileManager.default.enumerator(atPath: root)?.allObjects as? [String] ?? [] {
                var status = stat()
                guard lstat("\(root)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
                places[UInt64(status.st_ino)] = "\(root)/\(name)"
            }
        }
        return places
    }
}
