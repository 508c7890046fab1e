package import HTTPTypes

/// How the end of a response's body is known (RFC 9112, 6.3).
package enum ResponseFraming: Sendable, Equatable {
    /// There is none, whatever the fields say: an answer to HEAD, 204, 304.
    case none
    case length(Int)
    case chunked
    /// By the end of the connection.
    case untilClose
}

extension HTTPResponse {
    /// Appends the status line and all fields. `date` as in RFC 9110, 5.6.7; nil: none is said.
    package func encode(
        _ framing: ResponseFraming, isVersion10: Bool, keepsAlive: Bool, date: String?, into bytes: inout [UInt8]
    ) {
        bytes += "HTTP/1.1 \(status.code) \(status.reasonPhrase)\r\n".utf8
        for field in headerFields {
            bytes += field.name.rawName.utf8
            bytes += ": ".utf8
            bytes += field.value.utf8
            bytes += "\r\n".utf8
        }
        if let date { bytes += "Date: \(date)\r\n".utf8 }
        switch framing {
        case .none, .untilClose: break
        case .length(let length): bytes += "Content-Length: \(length)\r\n".utf8
        case .chunked: bytes += "Transfer-Encoding: chunked\r\n".utf8
        }
        if !keepsAlive {
            bytes += "Connection: close\r\n".utf8
        } else if isVersion10 {
            bytes += "Connection: keep-alive\r\n".utf8
        }
        bytes += "\r\n".utf8
    }

    /// Whether an answer with this status may have a body (RFC 9110, 6.4.1).
    package var mayHaveBody: Bool { status.code >= 200 && status.code != 204 && status.code != 304 }
}

/// A part of a body in chunks; never empty, for that is the end.
package func encodeChunk(_ data: [UInt8], into bytes: inout [UInt8]) {
    guard !data.isEmpty else { return }
    bytes += "\(String(data.count, radix: 16))\r\n".utf8
    bytes += data
    bytes += "\r\n".utf8
}

package let lastChunk = Array("0\r\n\r\n".utf8)
package let continueResponse = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7), from seconds since 1970.
package func httpDate(_ seconds: Int64) -> String {
    let days = seconds / 86_400
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][Int(days % 7)]
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    let (year, month, day) = civilDate(days)
    return "\(weekday), \(two(day)) \(months[Int(month) - 1]) \(year) \(two(hour)):\(two(minute)):\(two(second)) GMT"
}

/// `2026-11-22T10:30:00.000Z` (RFC 3339), from milliseconds since 1970, of the years 1970 to 9999.
package func internetTime(_ milliseconds: Int64) -> String {
    let seconds = milliseconds / 1000
    let (year, month, day) = civilDate(seconds / 86_400)
    let fraction = String(1000 + milliseconds % 1000).dropFirst()
    return
        "\(year)-\(two(month))-\(two(day))T\(two(seconds / 3600 % 24)):\(two(seconds / 60 % 60)):\(two(seconds % 60)).\(fraction)Z"
}

private func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }

/// Of days since 1970-01-01, in the Gregorian calendar: eras of 400 years that begin in March, so that leap days come last.
private func civilDate(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let shifted = days + 719_468
    let era = shifted / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let march = (5 * dayOfYear + 2) / 153
    let month = march < 10 ? march + 3 : march - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * march + 2) / 5 + 1)
}
