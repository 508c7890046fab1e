/// The users of a `password_file`, as `mosquitto_passwd` and `martlet passwd` write it: a line `name:hash` each. Empty
/// lines and lines that begin with `#` are passed over; of two lines with the same name the later one counts, as in
/// Mosquitto. A line of any other form makes the whole file unusable, where Mosquitto leaves it out: a user that is
/// missing should be missed before it matters.
package struct PasswordFile: Sendable {
    package enum Limits {
        package static let fileBytes = 64 << 20
        package static let nameBytes = 65_535
    }

    private let hashes: [[UInt8]: PasswordHash]
    package let warnings: [AccessFileWarning]

    package var count: Int { hashes.count }

    /// The costliest kind of hash in the file, so that checking a name that is not in it can cost the same.
    package let costliest: PasswordHash?

    package static let empty = PasswordFile(hashes: [:], warnings: [], costliest: nil)

    private init(hashes: [[UInt8]: PasswordHash], warnings: [AccessFileWarning], costliest: PasswordHash?) {
        self.hashes = hashes
        self.warnings = warnings
        self.costliest = costliest
    }

    package subscript(name: [UInt8]) -> PasswordHash? { hashes[name] }

    /// `file` is for errors only.
    package static func parse(_ bytes: [UInt8], file: String) throws(AccessFileError) -> PasswordFile {
        guard bytes.count <= Limits.fileBytes else {
            throw AccessFileError(file: file, reason: "longer than \(Limits.fileBytes) bytes")
        }
        var hashes: [[UInt8]: PasswordHash] = [:]
        var warnings: [AccessFileWarning] = []
        var costliest: PasswordHash?
        for line in CredentialLines(bytes) {
            func error(_ reason: String) -> AccessFileError {
                AccessFileError(file: file, line: line.number, reason: reason)
            }
            guard !line.isPassedOver else { continue }
            let name: [UInt8]
            let value: ArraySlice<UInt8>
            switch line.fields {
            case .success(let fields): (name, value) = fields
            case .failure(let problem): throw error(problem.description)
            }
            let hash: PasswordHash
            do throws(PasswordHashProblem) {
                hash = try PasswordHash(parsing: value)
            } catch {
                throw AccessFileError(file: file, line: line.number, reason: error.description)
            }
            if !isUTF8(name) {
                warnings.append(
                    AccessFileWarning(
                        file: file, line: line.number, reason: "a user name that is not UTF-8 can't sign in"))
            }
            if hashes.updateValue(hash, forKey: name) != nil {
                warnings.append(
                    AccessFileWarning(
                        file: file, line: line.number, reason: "takes the place of an earlier line of the same user"))
            }
            if hash.costMicroseconds > costliest?.costMicroseconds ?? 0 { costliest = hash }
        }
        return PasswordFile(hashes: hashes, warnings: warnings, costliest: costliest)
    }
}

func isUTF8(_ bytes: [UInt8]) -> Bool { String(validating: bytes, as: UTF8.self) != nil }

/// What is wrong with a line of a file of credentials.
package enum CredentialLineProblem: Error, Equatable, CustomStringConvertible {
    case noColon, emptyName, nameTooLong, nul, surplusField, byteOrderMark

    package var description: String {
        switch self {
        case .noColon: "a line is NAME:VALUE, and this one has no ':'"
        case .emptyName: "the name before the ':' is empty"
        case .nameTooLong: "the name is longer than \(PasswordFile.Limits.nameBytes) bytes"
        case .nul: "the line has a NUL byte"
        case .surplusField: "there is a second ':' after the value"
        case .byteOrderMark: "the file begins with a byte order mark, which would be part of the first name"
        }
    }
}

/// The lines of a password file or a file of pre-shared keys, each with its place, so that one can be changed and the
/// others kept byte for byte.
package struct CredentialLines: Sequence {
    package struct Line {
        /// Counted from 1.
        package let number: Int
        /// With the end of the line.
        package let range: Range<Int>
        /// Without it.
        package let content: ArraySlice<UInt8>

        /// Empty, or a comment. Only a `#` in the very first place begins one, as in Mosquitto.
        package var isPassedOver: Bool { content.first == UInt8(ascii: "#") || content.allSatisfy(isBlank) }

        /// Name and value without the blanks around them.
        package var fields: Result<([UInt8], ArraySlice<UInt8>), CredentialLineProblem> {
            guard !content.contains(0) else { return .failure(.nul) }
            guard number > 1 || !content.starts(with: [0xEF, 0xBB, 0xBF]) else { return .failure(.byteOrderMark) }
            guard let colon = content.firstIndex(of: UInt8(ascii: ":")) else { return .failure(.noColon) }
            let name = trimmed(content[..<colon])
            let value = trimmed(content[(colon + 1)...])
            guard !name.isEmpty else { return .failure(.emptyName) }
            guard name.count <= PasswordFile.Limits.nameBytes else { return .failure(.nameTooLong) }
            guard !value.contains(UInt8(ascii: ":")) else { return .failure(.surplusField) }
            return .success((Array(name), value))
        }
    }

    private let bytes: [UInt8]

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    package func makeIterator() -> Iterator { Iterator(bytes: bytes) }

    package struct Iterator: IteratorProtocol {
        fileprivate let bytes: [UInt8]
        private var start = 0
        private var number = 0

        fileprivate init(bytes: [UInt8]) { self.bytes = bytes }

        package mutating func next() -> Line? {
            guard start < bytes.count else { return nil }
            let newline = bytes[start...].firstIndex(of: UInt8(ascii: "\n"))
            let end = newline.map { $0 + 1 } ?? bytes.count
            var content = bytes[start..<(newline ?? end)]
            if content.last == UInt8(ascii: "\r") { content.removeLast() }
            defer { start = end }
            number += 1
            return Line(number: number, range: start..<end, content: content)
        }
    }
}

/// As C's `isspace`.
private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

private func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    guard let first = bytes.firstIndex(where: { !isBlank($0) }),
        let last = bytes.lastIndex(where: { !isBlank($0) })
    else { return bytes.prefix(0) }
    return bytes[first...last]
}
