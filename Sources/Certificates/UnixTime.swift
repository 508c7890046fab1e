internal import COpenSSL
internal import Glibc

/// A moment of the wall clock: seconds since 1970, without leap seconds. As text it is RFC 3339, UTC.
package struct UnixTime: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let seconds: Int64

    package init(seconds: Int64) { self.seconds = seconds }

    /// Nil where it is not RFC 3339 in UTC with whole seconds, as `description` writes it. The corresponding C function is
    /// `timegm`.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 20 else { return nil }
        for (index, expected) in zip([4, 7, 10, 13, 16, 19], "--T::Z".utf8) where bytes[index] != expected {
            return nil
        }
        func number(_ range: Range<Int>, _ allowed: ClosedRange<CInt>) -> CInt? {
            guard bytes[range].allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
            let value = bytes[range].reduce(0) { $0 * 10 + CInt($1 - UInt8(ascii: "0")) }
            return allowed.contains(value) ? value : nil
        }
        guard let year = number(0..<4, 1970...9999), let month = number(5..<7, 1...12),
            let day = number(8..<10, 1...31),
            let hour = number(11..<13, 0...23), let minute = number(14..<16, 0...59),
            let second = number(17..<19, 0...60)
        else { return nil }
        var parts = unsafe tm()
        unsafe parts.tm_year = year - 1900
        unsafe parts.tm_mon = month - 1
        unsafe parts.tm_mday = day
        unsafe parts.tm_hour = hour
        unsafe parts.tm_min = minute
        unsafe parts.tm_sec = second
        seconds = Int64(unsafe timegm(&parts))
    }

    /// The corresponding C function is `time`.
    package static var now: UnixTime { UnixTime(seconds: Int64(time(nil))) }

    package static func < (one: UnixTime, other: UnixTime) -> Bool { one.seconds < other.seconds }

    package func adding(days: Int) -> UnixTime { UnixTime(seconds: seconds + Int64(days) * 86_400) }

    /// Whole days from here to there, rounded down; negative where that has passed.
    package func days(until other: UnixTime) -> Int {
        Int((Double(other.seconds - seconds) / 86_400).rounded(.down))
    }

    /// The corresponding C function is `gmtime_r`.
    package var description: String {
        var parts = unsafe tm()
        var time = time_t(seconds)
        unsafe gmtime_r(&time, &parts)
        func padded(_ number: CInt, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = unsafe [padded(parts.tm_year + 1900, 4), padded(parts.tm_mon + 1, 2), padded(parts.tm_mday, 2)]
        let clock = unsafe [parts.tm_hour, parts.tm_min, parts.tm_sec].map { padded($0, 2) }
        return "\(date.joined(separator: "-"))T\(clock.joined(separator: ":"))Z"
    }
}

extension UnixTime: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let time = UnixTime(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a time")
        }
        self = time
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension UnixTime {
    /// The corresponding C functions are `ASN1_TIME_to_tm` and `timegm`.
    init(_ time: UnsafePointer<ASN1_TIME>?) throws(CertificateError) {
        var parts = unsafe tm()
        try require(unsafe ASN1_TIME_to_tm(time, &parts), "ASN1_TIME_to_tm")
        seconds = Int64(unsafe timegm(&parts))
    }

    /// Calls `body` with the time as ASN.1 has it. The corresponding C function is `ASN1_TIME_set`.
    func withASN1<Result>(
        _ body: (UnsafeMutablePointer<ASN1_TIME>) throws(CertificateError) -> Result
    ) throws(CertificateError) -> Result {
        guard let time = unsafe ASN1_TIME_set(nil, time_t(seconds)) else { throw .openSSL("ASN1_TIME_set") }
        defer { unsafe ASN1_TIME_free(time) }
        return try unsafe body(time)
    }
}
