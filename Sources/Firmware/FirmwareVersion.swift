/// What a firmware is called. It names a directory, a part of an address and an entry of the block list, so it is made
/// of few characters. `v1.2.0` and `1.2.0` are the same version: tags have the `v`, people leave it out.
package struct FirmwareVersion: Sendable, CustomStringConvertible {
    package static let longest = 32

    /// As it was written.
    package let text: String

    /// Nil unless `[A-Za-z0-9._+-]{1,32}`, without a dot at its beginning.
    package init?(_ text: String) {
        guard isPlainName(text) else { return nil }
        self.text = text
    }

    /// Without the `v` before a digit: what versions are compared and stored by.
    package var name: String {
        let rest = text.dropFirst()
        guard text.first == "v" || text.first == "V", let next = rest.utf8.first, isDigit(next) else { return text }
        return String(rest)
    }

    /// Of its release: `v1.2.0`. Never a path: there is no `/` in it, and no `.` at its beginning.
    package var directoryName: String { "v\(name)" }

    package var description: String { text }

    package enum Order: Sendable { case older, same, newer }

    /// How this one stands to another, where their form tells: numbers with dots between them, then what SemVer 2.0.0
    /// (11) says, then what `git describe` adds (`1.2.0-5-gabc1234` is five commits newer than 1.2.0). Nil: it doesn't.
    package func order(against other: FirmwareVersion) -> Order? {
        if self == other { return .same }
        guard let mine = Precedence(name), let its = Precedence(other.name) else { return nil }
        return mine.isLess(its) ? .older : its.isLess(mine) ? .newer : nil
    }
}

extension FirmwareVersion: Hashable {
    package static func == (one: FirmwareVersion, other: FirmwareVersion) -> Bool { one.name == other.name }
    package func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// What the order of versions goes by. Numbers are digits of any length, without zeros in front.
private struct Precedence {
    private var numbers: [Substring]
    /// Nil: a release, which comes after all that precede it.
    private var preRelease: [Substring]?
    private var commits: Substring

    /// Nil where the text doesn't begin with numbers.
    init?(_ name: String) {
        let parts = name.prefix { $0 != "+" }.split(separator: "-", omittingEmptySubsequences: false)
        numbers = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        guard numbers.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(isDigit) }) else { return nil }
        numbers = numbers.map(Self.withoutZeros)
        while numbers.last?.isEmpty == true { numbers.removeLast() }
        var rest = parts.dropFirst()
        if rest.last == "dirty" { rest.removeLast() }
        commits = ""
        if rest.count >= 2, let hash = rest.last, hash.hasPrefix("g"), hash.dropFirst().allSatisfy(\.isHexDigit),
            let count = rest.dropLast().last, !count.isEmpty, count.utf8.allSatisfy(isDigit)
        {
            commits = Self.withoutZeros(count)
            rest.removeLast(2)
        }
        guard !rest.isEmpty else { return }
        preRelease = rest.joined(separator: "-")[...].split(separator: ".", omittingEmptySubsequences: false)
    }

    func isLess(_ other: Precedence) -> Bool {
        if numbers != other.numbers {
            return numbers.lexicographicallyPrecedes(other.numbers, by: Self.isLowerNumber)
        }
        switch (preRelease, other.preRelease) {
        case (nil, nil): break
        case (nil, _): return false
        case (_, nil): return true
        case (let mine?, let its?) where mine != its:
            return mine.lexicographicallyPrecedes(its, by: Self.isLowerIdentifier)
        default: break
        }
        return Self.isLowerNumber(commits, other.commits)
    }

    private static func withoutZeros(_ digits: Substring) -> Substring { digits.drop { $0 == "0" } }

    private static func isLowerNumber(_ one: Substring, _ other: Substring) -> Bool {
        one.utf8.count == other.utf8.count ? one < other : one.utf8.count < other.utf8.count
    }

    /// SemVer 2.0.0, 11.4: numbers by their value and before words, words by their bytes.
    private static func isLowerIdentifier(_ one: Substring, _ other: Substring) -> Bool {
        switch (one.utf8.allSatisfy(isDigit), other.utf8.allSatisfy(isDigit)) {
        case (true, true): isLowerNumber(withoutZeros(one), withoutZeros(other))
        case (true, false): true
        case (false, true): false
        case (false, false): one.utf8.lexicographicallyPrecedes(other.utf8)
        }
    }
}

private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
