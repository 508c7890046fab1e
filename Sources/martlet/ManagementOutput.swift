internal import Glibc
internal import JSON
internal import Management

/// What the managing subcommands print.
enum ManagementOutput {
    static func print(_ line: String) { write(line, to: STDOUT_FILENO) }

    /// A list for programs, or a table for people. `columns`: heads, and the members under them.
    static func print(_ elements: [JSONValue], json: Bool, columns: [(head: String, member: String)]) {
        if json { return print(JSONValue.array(elements).text) }
        let rows =
            [columns.map(\.head)]
            + elements.map { element in columns.map { text(element[$0.member] ?? .null) } }
        let widths = columns.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        let lines = rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            return String(cells.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }
        print(lines.joined(separator: "\n"))
    }

    private static func text(_ value: JSONValue) -> String {
        switch value {
        case .string(let text): text.isEmpty ? "-" : text
        case .bool(let flag): flag ? "yes" : "no"
        case .integer(let number): "\(number)"
        case .null: "-"
        default: value.text
        }
    }

    /// User name and secret, which nobody will see again.
    static func print(credentials data: JSONValue, json: Bool, hint: [String] = []) {
        if json { return print(data.text) }
        let credentials = data["credentials"]
        let lines = [
            "user name  \(credentials?["username"]?.string ?? "")",
            "password   \(credentials?["password"]?.string ?? "")",
            "The password is shown this once.",
        ]
        print((lines + hint).joined(separator: "\n"))
    }
}
