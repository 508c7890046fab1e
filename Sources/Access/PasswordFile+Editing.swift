/// Changes to the text of a password file. Every line that is not meant stays byte for byte, comments and endings too.
extension PasswordFile {
    /// Why no line can have this user name.
    package enum NameProblem: Error, Equatable, CustomStringConvertible {
        case empty, tooLong, notUTF8, forbiddenCharacter, blankAround, comment

        package var description: String {
            switch self {
            case .empty: "the user name is empty"
            case .tooLong: "the user name is longer than \(Limits.nameBytes) bytes"
            case .notUTF8: "the user name is not UTF-8"
            case .forbiddenCharacter: "a user name has no ':' and no control characters"
            case .blankAround: "a user name neither begins nor ends with a blank"
            case .comment: "a user name does not begin with '#': its line would be a comment"
            }
        }
    }

    package static func check(name: [UInt8]) throws(NameProblem) {
        guard let first = name.first, let last = name.last else { throw .empty }
        guard name.count <= Limits.nameBytes else { throw .tooLong }
        guard isUTF8(name) else { throw .notUTF8 }
        guard name.allSatisfy({ $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: ":") }) else {
            throw .forbiddenCharacter
        }
        guard first != UInt8(ascii: " "), last != UInt8(ascii: " ") else { throw .blankAround }
        guard first != UInt8(ascii: "#") else { throw .comment }
    }

    /// `hash` for `name`: in the place of its line, where there is one, else behind all others. Further lines of the same
    /// user go, for the last one would count.
    package static func setting(_ name: [UInt8], to hash: PasswordHash, in bytes: [UInt8]) -> [UInt8] {
        var (result, isThere): ([UInt8], Bool) = ([], false)
        let ending = CredentialLines(bytes).first { _ in true }.map {
            Array(bytes[$0.content.endIndex..<$0.range.upperBound])
        }
        let newline = ending == [0x0D, 0x0A] ? [0x0D, 0x0A] : [UInt8(0x0A)]
        let entry = name + [UInt8(ascii: ":")] + Array(hash.text.utf8)
        for line in CredentialLines(bytes) {
            guard isLine(line, of: name) else {
                result += bytes[line.range]
                continue
            }
            if !isThere { result += entry + bytes[line.content.endIndex..<line.range.upperBound] }
            isThere = true
        }
        guard !isThere else { return result }
        if let last = result.last, last != 0x0A { result += newline }
        return result + entry + newline
    }

    /// Nil: there is no such user.
    package static func removing(_ name: [UInt8], from bytes: [UInt8]) -> [UInt8]? {
        var (result, isThere): ([UInt8], Bool) = ([], false)
        for line in CredentialLines(bytes) {
            if isLine(line, of: name) { isThere = true } else { result += bytes[line.range] }
        }
        return isThere ? result : nil
    }

    /// Puts a hash in the place of every password that is plain text. What has the form of a hash stays, where
    /// `mosquitto_passwd -U` would hash it once more.
    package static func hashingPlainText<Failure>(
        in bytes: [UInt8], file: String, with make: ([UInt8]) throws(Failure) -> PasswordHash
    ) throws -> (bytes: [UInt8], count: Int) {
        var (result, count): ([UInt8], Int) = ([], 0)
        for line in CredentialLines(bytes) {
            guard !line.isPassedOver else {
                result += bytes[line.range]
                continue
            }
            switch line.fields {
            case .failure(let problem):
                throw AccessFileError(file: file, line: line.number, reason: problem.description)
            case .success((let name, let value)):
                do throws(PasswordHashProblem) {
                    _ = try PasswordHash(parsing: value)
                    result += bytes[line.range]
                } catch .plainText {
                    guard !value.isEmpty else {
                        throw AccessFileError(file: file, line: line.number, reason: "the password is empty")
                    }
                    let hash = try make(Array(value))
                    result += name + [UInt8(ascii: ":")] + Array(hash.text.utf8)
                    result += bytes[line.content.endIndex..<line.range.upperBound]
                    count += 1
                } catch {
                    throw AccessFileError(file: file, line: line.number, reason: error.description)
                }
            }
        }
        return (result, count)
    }

    private static func isLine(_ line: CredentialLines.Line, of name: [UInt8]) -> Bool {
        guard !line.isPassedOver, case .success((let other, _)) = line.fields else { return false }
        return other == name
    }
}
