internal import COpenSSL
internal import Cryptography

/// The number that an authority knows a certificate by (RFC 5280, 4.1.2.2): upper-case hexadecimal without leading zeros.
package struct SerialNumber: Hashable, Sendable, CustomStringConvertible {
    package let description: String

    /// Nil where it is not a hexadecimal number of at most 20 octets, the most that RFC 5280 allows. Colons between
    /// digits, lower case and leading zeros are accepted, as tools print them.
    package init?(_ text: String) {
        let digits = text.uppercased().filter { $0 != ":" }
        guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
        let significant = digits.drop { $0 == "0" }
        guard significant.count <= 40 else { return nil }
        description = significant.isEmpty ? "0" : String(significant)
    }

    private init(bytes: [UInt8]) {
        let digits = bytes.flatMap { [Self.digits[Int($0 >> 4)], Self.digits[Int($0 & 15)]] }
        let significant = digits.drop { $0 == UInt8(ascii: "0") }
        description = significant.isEmpty ? "0" : String(decoding: significant, as: UTF8.self)
    }

    private static let digits = Array("0123456789ABCDEF".utf8)

    /// Sixteen random octets, of which the first is never so small that digits are missing, nor makes the number negative.
    static func random() -> SerialNumber {
        var bytes = randomBytes(16)
        bytes[0] = bytes[0] & 0x7f | 0x40
        return SerialNumber(bytes: bytes)
    }

    private var bytes: [UInt8] {
        let even = description.utf8.count.isMultiple(of: 2) ? description : "0" + description
        let values = even.map { UInt8($0.hexDigitValue ?? 0) }
        return stride(from: 0, to: values.count, by: 2).map { values[$0] << 4 | values[$0 + 1] }
    }

    /// Nil: none, or negative. The corresponding C functions are `ASN1_STRING_get0_data` and `ASN1_STRING_length`.
    init?(_ number: UnsafePointer<ASN1_INTEGER>?) {
        guard let number = unsafe number, unsafe number.pointee.type == V_ASN1_INTEGER,
            let data = unsafe ASN1_STRING_get0_data(number)
        else { return nil }
        let count = unsafe Int(ASN1_STRING_length(number))
        guard count <= 21 else { return nil }
        self.init(bytes: unsafe Array(UnsafeBufferPointer(start: data, count: count)))
    }

    /// Calls `body` with the number as ASN.1 has it. The corresponding C functions are `BN_bin2bn` and
    /// `BN_to_ASN1_INTEGER`.
    func withASN1(
        _ body: (UnsafeMutablePointer<ASN1_INTEGER>) throws(CertificateError) -> Void
    ) throws(CertificateError) {
        let bytes = bytes
        let number = try unsafe Owned(
            BN_bin2bn(bytes, CInt(bytes.count), nil), from: "BN_bin2bn", free: BN_free)
        guard let integer = unsafe BN_to_ASN1_INTEGER(number.pointer, nil) else {
            throw .openSSL("BN_to_ASN1_INTEGER")
        }
        defer { unsafe ASN1_INTEGER_free(integer) }
        try unsafe body(integer)
    }
}

extension SerialNumber: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let serial = SerialNumber(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a serial number")
        }
        self = serial
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
