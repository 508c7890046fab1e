/// What is in a backup, and where: read from the headers alone, and believed of none of them before all have been read.
package struct ArchiveIndex: Sendable {
    package struct Entry: Equatable, Sendable {
        /// Below the directory that it is unpacked in.
        package var name: String
        package var size: Int
        package var mode: UInt32
        /// Of its first byte.
        package var offset: Int
        package var sha256: String
    }

    package let manifest: Manifest
    package let entries: [Entry]

    /// Why it can't be used: ends a sentence that begins with the archive's name.
    package struct Problem: Error, Equatable {
        package let reason: String
    }

    /// `read`: so many bytes from an offset on, fewer at the end. A backup is one as `ArchiveWriter` writes it: plain files
    /// with different names below one folder, the manifest last, which has all of them in the same order, two blocks of
    /// zeros, and nothing behind them. Throws `Problem`, and what `read` throws.
    package init(length: Int, read: (_ offset: Int, _ count: Int) throws -> [UInt8]) throws {
        var (found, offset): ([(header: TarHeader, offset: Int)], Int) = ([], 0)
        while true {
            let block = try read(offset, TarHeader.blockBytes)
            guard block.count == TarHeader.blockBytes else { throw Self.cutOff(found.last?.header.name) }
            if block.allSatisfy({ $0 == 0 }) { break }
            var header: TarHeader
            do throws(TarProblem) {
                header = try TarHeader(parsing: block)
            } catch {
                throw Problem(reason: found.isEmpty ? "it is no backup (\(error))" : "it is damaged (\(error))")
            }
            let folder = Contents.folder + "/"
            guard header.name.hasPrefix(folder) else {
                throw Problem(reason: "it is no backup of Martlet's: there is \(printable(header.name)) in it")
            }
            header.name.removeFirst(folder.count)
            guard found.count <= Manifest.mostFiles else { throw Problem(reason: "there are too many files in it") }
            offset += TarHeader.blockBytes
            guard header.size <= length - offset else { throw Self.cutOff(header.name) }
            found.append((header, offset))
            offset += header.size + TarHeader.padding(after: header.size)
        }
        let end = try read(offset, 3 * TarHeader.blockBytes)
        guard end.allSatisfy({ $0 == 0 }), end.count == 2 * TarHeader.blockBytes else {
            throw end.count < 2 * TarHeader.blockBytes
                ? Self.cutOff(nil) : Problem(reason: "there is something behind its end")
        }
        guard let last = found.popLast(), last.header.name == Manifest.fileName, last.header.size <= Manifest.longest
        else {
            throw Problem(reason: "it is no backup, or not a whole one: there is no \(Manifest.fileName) at its end")
        }
        let text = try read(last.offset, last.header.size)
        do throws(ManifestProblem) {
            manifest = try Manifest(parsing: text)
        } catch {
            throw Self.explained(error)
        }
        entries = try Self.matched(found, manifest)
        try Self.checkNames(entries)
    }

    private static func cutOff(_ name: String?) -> Problem {
        Problem(reason: "it is cut off" + (name.map { ", within or behind \(printable($0))" } ?? ""))
    }

    private static func explained(_ problem: ManifestProblem) -> Problem {
        switch problem {
        case .newer(let format, let martlet):
            Problem(
                reason:
                    "made by Martlet \(martlet.map(printable) ?? "of a later version") in format \(format), and this one "
                    + "reads formats up to \(Manifest.newestFormat)")
        case .malformed(let line): Problem(reason: "its \(Manifest.fileName) is malformed, line \(line)")
        }
    }

    private static func matched(
        _ found: [(header: TarHeader, offset: Int)], _ manifest: Manifest
    ) throws(Problem) -> [Entry] {
        guard found.map(\.header.name) == manifest.files.map(\.name) else {
            throw Problem(reason: "it does not have the files that its \(Manifest.fileName) names")
        }
        return zip(found, manifest.files).map { file, listed in
            Entry(
                name: listed.name, size: file.header.size, mode: file.header.mode, offset: file.offset,
                sha256: listed.sha256)
        }
    }

    /// Each name once, none of them also a directory, and nothing that a broker would take for its own.
    private static func checkNames(_ entries: [Entry]) throws(Problem) {
        var names: Set<String> = []
        for entry in entries {
            guard names.insert(entry.name).inserted else {
                throw Problem(reason: "\(printable(entry.name)) is in it twice")
            }
            guard !Contents.isLeftOut(entry.name), entry.name != Manifest.fileName else {
                throw Problem(reason: "\(printable(entry.name)) has no place in a backup")
            }
        }
        for entry in entries {
            for slash in entry.name.utf8.indices where entry.name.utf8[slash] == UInt8(ascii: "/") {
                guard !names.contains(String(entry.name[..<slash])) else {
                    throw Problem(reason: "\(printable(entry.name)) is below a file")
                }
            }
        }
    }
}
