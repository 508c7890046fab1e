internal import HTTP
internal import HTTPTypes
internal import JSON

/// One operation of the REST interface: what it is called, who may, what goes in and what comes out. What answers requests and
/// what `/api/openapi.json` says are both made from it, so neither can say anything else than the other.
struct Route: Sendable {
    enum Access: Sendable {
        case everybody
        /// With a log-in, whose password need not be changed first.
        case people
        /// The same, changed or not.
        case peopleToChange
        case administrators
        /// The handler asks who it is.
        case peopleAndDevices
    }

    /// A parameter of the query.
    struct QueryParameter: Sendable {
        let name: String
        let schema: JSONValue
        let about: String
    }

    /// Types of bodies that are no JSON, and come in parts.
    struct Media: Sendable {
        /// Nil: none goes in.
        var body: String?
        /// Nil: JSON comes out all the same.
        var answer: String?
    }

    typealias Handler = @Sendable (API, Call) async throws -> Answer

    let method: HTTPRequest.Method
    /// `/api/device/{deviceId}`.
    let path: String
    /// The parts of the path between slashes; a parameter without its braces.
    let segments: [(text: String, isParameter: Bool)]
    let operation: String
    let summary: String
    let access: Access
    var query: [QueryParameter] = []
    /// Nil: there is no body.
    var body: Schema?
    var isBodyOptional = false
    var media: Media?
    let success: HTTPResponse.Status
    /// What the answer has besides `success`.
    var answer: [String: JSONValue] = [:]
    /// Besides those that follow from who may and what goes in.
    var problems: [ManagementProblem.Code] = []
    let handler: Handler

    init(
        _ method: HTTPRequest.Method, _ path: String, _ operation: String, _ summary: String, _ access: Access,
        query: [QueryParameter] = [], body: Schema? = nil, isBodyOptional: Bool = false,
        media: Media? = nil,
        success: HTTPResponse.Status = .ok, answer: [String: JSONValue] = [:], problems: [ManagementProblem.Code] = [],
        _ handler: @escaping Handler
    ) {
        self.method = method
        self.path = path
        segments = path.split(separator: "/").map { part in
            part.hasPrefix("{") ? (String(part.dropFirst().dropLast()), true) : (String(part), false)
        }
        self.operation = operation
        self.summary = summary
        self.access = access
        self.query = query
        self.body = body
        self.isBodyOptional = isBodyOptional
        self.media = media
        self.success = success
        self.answer = answer
        self.problems = problems
        self.handler = handler
    }

    /// What stands in its path's braces where it is `path`; nil: it is another path.
    func parameters(in path: [String]) -> [String: String]? {
        guard segments.count == path.count else { return nil }
        for (segment, part) in zip(segments, path) where !segment.isParameter && segment.text != part { return nil }
        var parameters: [String: String] = [:]
        for (segment, part) in zip(segments, path) where segment.isParameter { parameters[segment.text] = part }
        return parameters
    }
}

/// An object that goes in.
struct Schema: Sendable {
    /// Any JSON, which `Call.anyBody` gives.
    static let anything = Schema([:], required: [], isAnything: true)

    let members: [String: JSONValue]
    let required: [String]
    let isAnything: Bool

    init(_ members: [String: JSONValue], required: [String], isAnything: Bool = false) {
        self.members = members
        self.required = required
        self.isAnything = isAnything
    }

    /// What is not looked at was perhaps meant to change something, and what has another type says nothing.
    func check(_ given: [String: JSONValue], of operation: String) throws(ManagementProblem) {
        if let name = given.keys.filter({ members[$0] == nil }).min() {
            throw ManagementProblem(.invalidRequest, "\(operation) does not take '\(name.prefix(64))'")
        }
        if let name = required.first(where: { given[$0] ?? .null == .null }) {
            throw ManagementProblem(.invalidRequest, "'\(name)' is missing")
        }
        for (name, value) in given.sorted(by: { $0.key < $1.key }) {
            // Null is as good as nothing.
            guard let type = members[name]?["type"]?.string, value != .null else { continue }
            let isOfType =
                switch type {
                case "string": value.string != nil
                case "boolean": value.bool != nil
                case "integer": value.integer != nil
                case "array": value.array != nil
                default: value.object != nil
                }
            guard isOfType else { throw ManagementProblem(.invalidRequest, "'\(name)' is of the type \(type)") }
        }
    }
}

/// What comes out: an object, which gets `success`.
struct Answer: Sendable {
    var members: [String: JSONValue] = [:]

    init(_ members: [String: JSONValue] = [:]) { self.members = members }

    /// Of what a command has answered.
    init(_ value: JSONValue?, _ more: [String: JSONValue] = [:]) {
        members = (value?.object ?? [:]).merging(more) { _, new in new }
    }
}
