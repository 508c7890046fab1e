/// The 512 bytes before a file in a tar archive, in the format ustar (POSIX.1-2017, pax, "ustar Interchange Format"): of it
/// what a backup uses, which is plain files.
package struct TarHeader: Equatable, Sendable {
    /// Of a header, and what everything is filled up to.
    package static let blockBytes = 512
    /// The longest that the fields hold, where a slash stands in the right place.
    package static let longestName = 256

    /// With slashes, relative; UTF-8.
    package var name: String
    /// Bytes.
    package var size: Int
    /// Permission bits.
    package var mode: UInt32
    /// Seconds since 1970.
    package var modified: Int

    package init(name: String, size: Int, mode: UInt32, modified: Int) {
        self.name = name
        self.size = size
        self.mode = mode
        self.modified = modified
    }

    /// Bytes after the file up to the next header.
    package static func padding(after size: Int) -> Int { (blockBytes - size % blockBytes) % blockBytes }
}

/// Why 512 bytes are no header that a backup has. For a sentence that begins with the archive's name.
package enum TarProblem: Error, Equatable, CustomStringConvertible {
    case checksum
    /// Not ustar.
    case format
    /// Something else than a plain file.
    case kind(name: String)
    case name
    case number

    package var description: String {
        switch self {
        case .checksum: "the checksum of a header is wrong"
        case .format: "it is no tar archive in the format ustar"
        case .kind(let name): "\(printable(name)) is not a plain file"
        case .name: "a name in it can't be a file's here"
        case .number: "a number in a header is malformed"
        }
    }
}

// The fields, by their place.
private let (nameField, modeField, userField, groupField) = (0..<100, 100..<108, 108..<116, 116..<124)
private let (sizeField, timeField, sumField, kindField) = (124..<136, 136..<148, 148..<156, 156)
private let (magicField, majorField, minorField, prefixField) = (257..<265, 329..<337, 337..<345, 345..<500)
private let magic = Array("ustar\u{0}00".utf8)

// MARK: - Writing

extension TarHeader {
    /// Nil: the name is longer than the fields hold.
    package var bytes: [UInt8]? {
        var block = [UInt8](repeating: 0, count: Self.blockBytes)
        let name = Array(self.name.utf8)
        if name.count <= nameField.count {
            block.replaceSubrange(0..<name.count, with: name)
        } else {
            // The first slash that leaves a short enough rest.
            let rest = nameField.count + 1
            guard let slash = name[max(0, name.count - rest)...].firstIndex(of: UInt8(ascii: "/")),
                slash <= prefixField.count, slash > 0, slash < name.count - 1
            else { return nil }
            block.replaceSubrange(prefixField.lowerBound..<prefixField.lowerBound + slash, with: name[..<slash])
            block.replaceSubrange(0..<name.count - slash - 1, with: name[(slash + 1)...])
        }
        Self.put(Int(mode), in: modeField, of: &block)
        Self.put(0, in: userField, of: &block)
        Self.put(0, in: groupField, of: &block)
        Self.put(size, in: sizeField, of: &block)
        Self.put(max(0, modified), in: timeField, of: &block)
        block[kindField] = UInt8(ascii: "0")
        block.replaceSubrange(magicField, with: magic)
        Self.put(0, in: majorField, of: &block)
        Self.put(0, in: minorField, of: &block)
        let sum = Self.sum(block)
        Self.put(sum, in: sumField.lowerBound..<sumField.upperBound - 1, of: &block)  // Six digits, NUL, space.
        block[sumField.upperBound - 1] = UInt8(ascii: " ")
        return block
    }

    /// Octal digits and a NUL; what does not fit, in binary, marked by the highest bit, as GNU's tar does.
    private static func put(_ number: Int, in field: Range<Int>, of block: inout [UInt8]) {
        let digits = Array(String(number, radix: 8).utf8)
        guard digits.count < field.count else {
            var rest = number
            for index in field.reversed() {
                block[index] = UInt8(rest & 0xFF)
                rest >>= 8
            }
            block[field.lowerBound] |= 0x80
            return
        }
        for index in field.dropLast() { block[index] = UInt8(ascii: "0") }
        block.replaceSubrange((field.upperBound - 1 - digits.count)..<(field.upperBound - 1), with: digits)
    }

    /// All bytes, those of the sum itself taken as spaces.
    private static func sum(_ block: [UInt8]) -> Int {
        block.indices.reduce(0) { $0 + Int(sumField.contains($1) ? UInt8(ascii: " ") : block[$1]) }
    }
}

// MARK: - Reading

extension TarHeader {
    /// `block` has `blockBytes`. A header that says anything but a plain file with a name that is safe to make is refused;
    /// see `isSafe`.
    package init(parsing block: [UInt8]) throws(TarProblem) {
        precondition(block.count == Self.blockBytes, "a header is one block")
        guard try Self.number(block[sumField]) == Self.sum(block) else { throw .checksum }
        guard Array(block[magicField]) == magic else { throw .format }
        let (name, prefix) = (block[nameField].prefix { $0 != 0 }, block[prefixField].prefix { $0 != 0 })
        let whole = prefix.isEmpty ? Array(name) : prefix + [UInt8(ascii: "/")] + name
        guard let text = String(validating: whole, as: UTF8.self), Self.isSafe(text) else { throw .name }
        guard block[kindField] == UInt8(ascii: "0") else { throw .kind(name: text) }
        self.name = text
        size = try Self.number(block[sizeField])
        mode = UInt32(truncatingIfNeeded: try Self.number(block[modeField]) & 0o7777)
        modified = try Self.number(block[timeField])
    }

    /// Whether a file of this name stays below the directory that it is unpacked in: relative, no empty part, no `.` and
    /// `..`, nothing that a terminal would take for an order.
    package static func isSafe(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= longestName, !name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F })
        else { return false }
        let parts = name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        return parts.count <= 16
            && parts.allSatisfy { part in
                !part.isEmpty && !part.elementsEqual(".".utf8) && !part.elementsEqual("..".utf8)
            }
    }

    private static func number(_ field: ArraySlice<UInt8>) throws(TarProblem) -> Int {
        if let first = field.first, first & 0x80 != 0 {
            var number = Int(first & 0x7F)
            for byte in field.dropFirst() {
                guard number < 1 << 54 else { throw .number }
                number = number << 8 | Int(byte)
            }
            return number
        }
        let digits = field.prefix { $0 != 0 && $0 != UInt8(ascii: " ") }
        guard !digits.isEmpty, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "7")).contains($0) }) else {
            throw .number
        }
        return digits.reduce(0) { $0 << 3 | Int($1 & 7) }
    }
}

/// Fits a name from outside into a line for a person.
func printable(_ name: String) -> String {
    let scalars = name.unicodeScalars.prefix(100).map { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse: "\u{FFFD}"
        default: String(scalar)
        }
    }
    return scalars.joined()
}
