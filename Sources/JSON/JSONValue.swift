/// A JSON value (RFC 8259): what requests, answers and messages of devices are made of.
package enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    /// A name that comes twice counts as it was last.
    case object([String: JSONValue])
    /// Written already. Whoever looks into it has it read each time.
    case text(JSONText)

    /// Lists and objects within each other; reading one goes down the stack.
    package static let depth = 16

    /// Null where it is nil.
    package static func optional(_ text: String?) -> JSONValue { text.map { .string($0) } ?? .null }

    package subscript(member: String) -> JSONValue? {
        object?[member]
    }

    package var string: String? { if case .string(let text) = self { text } else { nil } }
    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
    package var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }
    package var object: [String: JSONValue]? {
        switch self {
        case .object(let members): members
        case .text(let text): JSONValue(parsing: text.bytes)?.object
        default: nil
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    package init(stringLiteral text: String) { self = .string(text) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(arrayLiteral values: JSONValue...) { self = .array(values) }
    package init(dictionaryLiteral members: (String, JSONValue)...) {
        self = .object(Dictionary(members) { _, last in last })
    }
}
