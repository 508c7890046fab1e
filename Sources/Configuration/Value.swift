/// The text behind a key, and what it can be read as. Every refusal names the key and what would be right.
struct Value {
    /// As the file has it, for the person.
    let name: String
    let text: String

    func refusal(_ right: String) -> Problem { Problem("'\(name)' takes \(right), not '\(printable(text))'") }

    /// Mosquitto reads 1 and 0 as well.
    func flag() throws(Problem) -> Bool {
        switch text {
        case "true", "1": true
        case "false", "0": false
        default: throw refusal("true or false")
        }
    }

    func number(in range: ClosedRange<Int>) throws(Problem) -> Int {
        guard let number = decimal(text), range.contains(number) else {
            throw refusal("a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Nil for 0, which stands for no limit.
    func limit(upTo most: Int = .max) throws(Problem) -> Int? {
        let limit = try number(in: 0...most)
        return limit == 0 ? nil : limit
    }

    /// Nil for -1, and for 0, which both stand for no limit.
    func count() throws(Problem) -> Int? {
        if text == "-1" { return nil }
        guard let count = decimal(text), count <= Int(Int32.max) else {
            throw refusal("a number from 0 to \(Int32.max), or -1 for no limit")
        }
        return count == 0 ? nil : count
    }

    func seconds(in range: ClosedRange<Int>) throws(Problem) -> Duration { .seconds(try number(in: range)) }

    /// Seconds, or a number with a unit. There is no `m`: Mosquitto's is a month, and nobody would guess it.
    func duration(in range: ClosedRange<Int>) throws(Problem) -> Duration {
        let unit = ["s": 1, "h": 3600, "d": 86_400, "w": 7 * 86_400][String(text.suffix(1))]
        let (seconds, overflows) = (decimal(unit == nil ? text[...] : text.dropLast()) ?? -1)
            .multipliedReportingOverflow(by: unit ?? 1)
        guard !overflows, range.contains(seconds) else {
            throw refusal(
                "\(range.lowerBound) to \(range.upperBound) seconds, as a number alone or with s, h, d or w behind it")
        }
        return .seconds(seconds)
    }

    /// Mosquitto's: always with a unit, a month has 30 days and a year 365.
    func expiry() throws(Problem) -> Duration {
        let units = ["s": 1, "h": 3600, "d": 86_400, "w": 7 * 86_400, "m": 30 * 86_400, "y": 365 * 86_400]
        guard let unit = units[String(text.suffix(1))], let number = decimal(text.dropLast()),
            (1...Int(Int32.max)).contains(number)
        else {
            throw refusal("a number from 1 to \(Int32.max) and s, h, d, w, m or y (a month has 30 days)")
        }
        return .seconds(number * unit)
    }

    /// One of the words of an enum.
    func word<Word: CaseIterable & RawRepresentable<String>>(of _: Word.Type = Word.self) throws(Problem) -> Word {
        guard let word = Word(rawValue: text) else {
            throw refusal(Self.list(Word.allCases.map(\.rawValue)))
        }
        return word
    }

    func text(upTo bytes: Int, what: String) throws(Problem) -> String {
        guard text.utf8.count <= bytes else {
            throw Problem("'\(name)' takes \(what) of at most \(bytes) bytes, not \(text.utf8.count)")
        }
        return text
    }

    /// Of a value that is a list: its words, without a comment at its end.
    func words(separatedBy isSeparator: (Character) -> Bool) -> [Substring] {
        Array(text.split(whereSeparator: isSeparator).prefix { !$0.hasPrefix("#") })
    }

    static func list(_ words: [String]) -> String {
        guard let last = words.last, words.count > 1 else { return words.first ?? "" }
        return words.dropLast().joined(separator: ", ") + " or " + last
    }

    private func decimal(_ text: some StringProtocol) -> Int? {
        // `Int` alone would also take a sign.
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
    }
}

/// What is wrong with a key or its value; the caller adds where it stands.
struct Problem: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
}
