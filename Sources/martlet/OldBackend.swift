/// Variables of the Node backend that Martlet replaces: found set, each gives a line that names its successor.
enum OldBackend {
    private static let successors: [(variable: String, successor: String)] = [
        ("AWS_REGION", "firmware lies under data_dir, not in S3"),
        ("JWT_SECRET", "keys are made and kept under data_dir; how long a log-in lasts is jwt_lifetime"),
        ("MONGO_URI", "records are kept under data_dir, without a database server"),
        ("MQTT_PASS", "a program signs in as a service, with a secret of its own; see 'martlet service'"),
        ("MQTT_USER", "a program signs in as a service, with a name of its own; see 'martlet service'"),
        ("MQTT_WS_URL", "this is the broker; where it is reached says listener, with 'protocol websockets'"),
        ("S3_BUCKET", "firmware lies under data_dir, not in S3"),
    ]

    /// PORT alone is anybody's.
    static func found(in environment: [String: String]) -> [(variable: String, successor: String)] {
        let found = successors.filter { environment[$0.variable] != nil }
        guard !found.isEmpty, environment["PORT"] != nil else { return found }
        return found + [("PORT", "the port for HTTP is that of a listener with 'protocol http'")]
    }
}
