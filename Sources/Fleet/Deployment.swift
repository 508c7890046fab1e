internal import Firmware
internal import JSON

/// The way of one release to one device: what is known of it, and all that is needed to go on after a restart. Times are
/// milliseconds since 1970.
package struct Deployment: Sendable, Equatable {
    /// The raw value is its name in the API.
    package enum State: String, Sendable, CaseIterable {
        /// The device is away, or it is not its turn, or it has not acknowledged what it was told.
        case queued = "QUEUED"
        /// The device knows of it: it has acknowledged the message, or says so.
        case started = "STARTED"
        /// The device loads it, or has said that it is done and is awaited with it.
        case inProgress = "IN_PROGRESS"
        /// The device runs it.
        case success = "SUCCESS"
        /// The device says so, or it can't be given the release any more.
        case failed = "FAILED"
        /// The device said that it was done, and came back with another version.
        case rolledBack = "ROLLED_BACK"
        /// Nothing came of it in its time, as often as it was tried.
        case timedOut = "TIMED_OUT"
        /// Somebody did not want it any more.
        case canceled = "CANCELED"

        package var isOver: Bool {
            switch self {
            case .queued, .started, .inProgress: false
            case .success, .failed, .rolledBack, .timedOut, .canceled: true
            }
        }
    }

    /// UUIDv7.
    package let id: String
    package let device: String
    package let model: String
    package let version: String
    /// What the device said then that it runs; nil: nothing.
    package let previousVersion: String?
    /// Who has started it, as the activity log names them.
    package let actor: String
    package let created: Int64

    package var state = State.queued
    /// Since when.
    package var since: Int64
    /// When it is not left as it is any longer, unless something happens.
    package var due: Int64
    /// Percent, as the device says; 100 once it says that it is done.
    package var progress: Int?
    package var reason: String?
    /// How often the device was told.
    package var attempts = 0
    /// It was told, and has not acknowledged it.
    package var isOffered = false
    /// It says that it is done.
    package var isReportedDone = false
    /// It reports no version, and is believed.
    package var isOnItsWord = false
    package var started: Int64?
    package var ended: Int64?

    package init(
        id: String, device: String, model: String, version: String, previousVersion: String?, actor: String,
        created: Int64
    ) {
        self.id = id
        self.device = device
        self.model = model
        self.version = version
        self.previousVersion = previousVersion
        self.actor = actor
        self.created = created
        (since, due) = (created, created)
    }

    /// Whether that is the version it is about: `v1.2.0` is `1.2.0`.
    func isFor(_ text: String) -> Bool {
        guard let version = FirmwareVersion(version), let other = FirmwareVersion(text) else { return version == text }
        return version == other
    }
}

/// What a device says on `devices/{deviceId}/ota/status`: a word, or an object with it.
struct DeploymentReport: Equatable, Sendable {
    enum Status: String, Sendable {
        case started = "STARTED"
        case inProgress = "IN_PROGRESS"
        case success = "SUCCESS"
        case failed = "FAILED"
    }

    /// Characters of a reason that are kept.
    static let reasonLength = 256

    let status: Status
    /// Percent.
    var progress: Int?
    var reason: String?
    /// Which one it is about; nil: it does not say.
    var deployment: String?

    /// Nil: it is none.
    init?(_ payload: [UInt8]) {
        if let status = Self.status(String(decoding: payload.prefix(32), as: UTF8.self)), payload.count <= 32 {
            self.status = status
            return
        }
        guard payload.count <= FleetTable.Limits.reportBytes, let members = JSONValue(parsing: payload),
            let status = members["status"]?.string.flatMap(Self.status)
        else { return nil }
        self.status = status
        progress = members["progress"].flatMap(Self.percent)
        reason = members["reason"]?.string.map { String($0.prefix(Self.reasonLength)) }
        deployment = members["deployment"]?.string
    }

    private static func percent(_ value: JSONValue) -> Int? {
        switch value {
        case .integer(let number): Int(min(max(number, 0), 100))
        case .number(let number) where number.isFinite: Int(min(max(number, 0), 100))
        default: nil
        }
    }

    /// In any case, with blanks around it.
    private static func status(_ text: String) -> Status? {
        Status(rawValue: text.uppercased().filter { !$0.isWhitespace })
    }
}
