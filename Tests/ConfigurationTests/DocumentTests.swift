import Configuration
import Foundation
import Testing

/// docs/configuration.md beside the table in the code.
@Suite struct `The document of keys` {
    private static let text: String = {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return (try? String(contentsOf: root.appending(path: "docs/configuration.md"), encoding: .utf8)) ?? ""
    }()

    /// Rows as their cells, of the tables that have a column "today".
    private static let rows: [[String]] = {
        var rows: [[String]] = []
        var isInside = false
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            if cells.first == "key" { isInside = cells.last == "today" }
            if isInside, line.hasPrefix("| `") { rows.append(cells) }
            if line.isEmpty { isInside = false }
        }
        return rows
    }()

    private static func words(_ status: Configuration.Key.Status) -> String {
        switch status {
        case .honoured: "honoured"
        case .accepted: "no effect"
        }
    }

    @Test func `has each key once, with what the server does with it`() {
        let documented = Self.rows.map { row in
            let name = row[0].trimmingCharacters(in: CharacterSet(charactersIn: "`"))
            return "\(name): \(row.last ?? "")"
        }
        let known = Configuration.Key.allCases.map { "\($0.rawValue): \(Self.words($0.status))" }
        #expect(documented.sorted() == known.sorted())
        #expect(Self.rows.allSatisfy { $0.count == 5 && !$0[2].isEmpty && !$0[3].isEmpty })
    }

    @Test(arguments: Configuration.Key.aliases.keys.sorted()) func `names the other name`(_ name: String) {
        #expect(Self.text.contains("`\(name)`"))
    }

    @Test func `has defaults that the parser takes, and that change nothing`() throws {
        for row in Self.rows {
            let name = row[0].trimmingCharacters(in: CharacterSet(charactersIn: "`"))
            guard let key = Configuration.Key(name: name), let value = Self.literal(row[1]) else { continue }
            let addsUp = [.logDest, .logType, .listener].contains(key)
            let text = "listener 1883\nallow_anonymous true\n"
            let before = try Configuration.parse(Array(text.utf8), file: "f.conf")
            guard !addsUp, key != .allowAnonymous, key != .perListenerSettings else { continue }
            let after = try Configuration.parse(
                Array("\(text)\(name) \(value)\n".utf8), file: "f.conf")
            #expect(Self.meaning(after) == Self.meaning(before), "\(name) \(value)")
        }
    }

    /// The default where it is a value: digits, or a word as code and nothing else.
    private static func literal(_ cell: String) -> String? {
        if let first = cell.first, first.isNumber || first == "-" { return cell }
        guard cell.count > 2, cell.hasPrefix("`"), cell.hasSuffix("`") else { return nil }
        let word = cell.dropFirst().dropLast()
        return word.contains("`") || Configuration.Key(name: String(word)) != nil ? nil : String(word)
    }

    private static func meaning(_ configuration: Configuration) -> Configuration {
        var meaning = configuration
        let access = configuration.listeners.map { configuration.access(at: $0) }
        for (index, access) in access.enumerated() { meaning.listeners[index].access = access }
        meaning.access = Configuration.Access()
        if meaning.deniedSubscription == .silent { meaning.deniedSubscription = nil }
        return meaning
    }

    @Test func `has examples that can be used`() throws {
        let parts = Self.text.components(separatedBy: "```conf\n").dropFirst()
        #expect(parts.count >= 5)
        for part in parts {
            let example = part.components(separatedBy: "```")[0]
            let configuration = try Configuration.parse(
                Array(example.utf8), file: "example.conf")
            #expect(configuration.warnings == [], "\(example)")
        }
    }

    @Test func `has the refused names`() {
        guard let section = Self.text.components(separatedBy: "## Refused").last else { return }
        let names = section.split(separator: "`").enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) }
            .filter { !$0.contains(" ") && !["password_file", "acl_file"].contains($0) }
        #expect(names.count > 30)
        for name in names {
            let name = name.replacing("...", with: "x")
            let error = #expect(throws: ConfigurationError.self) {
                try Configuration.parse(Array("\(name) x".utf8), file: "f.conf")
            }
            #expect(error?.reason.contains(" is about ") == true, "\(name)")
        }
    }
}
