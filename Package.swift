// swift-tools-version: 6.2
import PackageDescription

/// For tests, which call C freely.
let testSettings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let settings = testSettings + [.strictMemorySafety()]

let package = Package(
    name: "martlet",
    products: [.executable(name: "martlet", targets: ["martlet"])],
    dependencies: [
        // The command line: subcommands, help and usage errors as people know them.
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        // The front end of logging; where lines go and how they look is ours.
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        // Requests, responses and their fields, as the field's servers and clients have them.
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        // `Deque`, the queue of a session, and `Heap`, who is missed next.
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        // SQLite for the fleet: migrations, statements and rows as values; and its C interface for the broker's own store.
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        .target(name: "CLinux"),
        .target(name: "Locks", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "MQTT", swiftSettings: settings),
        // OpenSSL's headers, and a line for each of its macros that Swift does not import.
        .target(
            name: "COpenSSL", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        // zlib: what HTTP compresses, and the CRC of signatures.
        .target(name: "CZlib", linkerSettings: [.linkedLibrary("z")]),
        .target(name: "Cryptography", dependencies: ["COpenSSL"], swiftSettings: settings),
        .target(name: "JSON", swiftSettings: settings),
        // The files of acl/, in the binary.
        .target(name: "AccessPolicies"),
        .target(
            name: "Access", dependencies: ["AccessPolicies", "Cryptography", "JSON", "MQTT"], swiftSettings: settings),
        .target(name: "Certificates", dependencies: ["COpenSSL", "Cryptography"], swiftSettings: settings),
        .target(name: "Firmware", dependencies: ["CZlib", "Cryptography", "JSON"], swiftSettings: settings),
        .target(
            name: "Store",
            dependencies: [
                "Access", "Cryptography", "Fleet", "JSON", "Locks", .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: settings),
        .target(
            name: "Fleet",
            dependencies: [
                "Firmware", "JSON", "Locks", .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: settings),
        .target(
            name: "Management",
            dependencies: [
                "Access", "Certificates", "Configuration", "Cryptography", "Firmware", "Fleet", "HTTP", "JSON", "Locks",
                "Store", .product(name: "HTTPTypes", package: "swift-http-types"),
            ],
            swiftSettings: settings),
        .target(
            name: "Broker",
            dependencies: ["Access", "Locks", "MQTT", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: settings
        ),
        .target(
            name: "Durability",
            dependencies: [
                "Access", "Broker", "Locks", "MQTT", "Store", .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ],
            swiftSettings: settings),
        .target(
            name: "Transport", dependencies: ["CLinux", "COpenSSL", "Cryptography", "Locks"], swiftSettings: settings),
        .target(
            name: "HTTP",
            dependencies: ["CZlib", "Cryptography", "Locks", .product(name: "HTTPTypes", package: "swift-http-types")],
            swiftSettings: settings),
        .target(
            name: "Backup",
            dependencies: [
                "CLinux", "Certificates", "Cryptography", "Store",
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ],
            swiftSettings: settings),
        .target(name: "Configuration", swiftSettings: settings),
        .target(
            name: "Logs", dependencies: ["Locks", "Transport", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings),
        .target(
            name: "Server",
            dependencies: [
                "Access", "Broker", "Configuration", "CLinux", "Cryptography", "Durability", "Fleet", "HTTP", "Locks",
                "Management",
                "MQTT", "Transport", .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        // Repeatable numbers, for tests and fuzzing.
        .target(name: "Seeded", swiftSettings: settings),
        .target(name: "ConformanceCases"),
        .target(
            name: "Conformance",
            dependencies: ["CLinux", "COpenSSL", "ConformanceCases", "Locks", "Seeded", "Transport"],
            swiftSettings: settings),
        .executableTarget(
            name: "martlet",
            dependencies: [
                "Access", "Backup", "Broker", "Certificates", "Configuration", "Conformance", "Cryptography",
                "Durability", "Firmware", "Fleet", "HTTP", "JSON", "Locks", "Logs", "MQTT", "Management", "Server",
                "Store", "Transport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AccessTests", dependencies: ["Access", "Cryptography", "MQTT", "Seeded"], swiftSettings: testSettings
        ),
        .testTarget(
            name: "CertificatesTests", dependencies: ["CLinux", "Certificates", "Seeded"],
            swiftSettings: testSettings),
        .testTarget(
            name: "StoreTests",
            dependencies: [
                "Access", "Broker", "Certificates", "Durability", "Fleet", "JSON", "Locks", "MQTT", "Management",
                "Seeded",
                "Server",
                "Store", "Transport",
                .product(name: "GRDB", package: "GRDB.swift"), .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Releases"], swiftSettings: testSettings),
        .testTarget(
            name: "BackupTests",
            dependencies: [
                "Backup", "Cryptography", "Seeded", "Store",
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ], swiftSettings: testSettings),
        // Images for ESP32 chips, sound and broken, for two of the suites.
        .target(
            name: "FirmwareImages", dependencies: ["Cryptography"], path: "Tests/FirmwareImages",
            swiftSettings: testSettings),
        .testTarget(
            name: "FirmwareTests",
            dependencies: ["COpenSSL", "CZlib", "Cryptography", "Firmware", "FirmwareImages", "JSON", "Seeded"],
            swiftSettings: testSettings),
        .testTarget(name: "FleetTests", dependencies: ["Fleet", "JSON", "Seeded"], swiftSettings: testSettings),
        .testTarget(name: "MQTTTests", dependencies: ["MQTT", "Seeded"], swiftSettings: testSettings),
        // What a broker must do, and random programs to ask it: for two of the suites.
        .target(
            name: "ReferenceModel", dependencies: ["Conformance", "Seeded"], path: "Tests/ReferenceModel",
            swiftSettings: testSettings),
        .testTarget(
            name: "BrokerTests",
            dependencies: ["Access", "Broker", "Conformance", "Locks", "MQTT", "ReferenceModel", "Seeded"],
            swiftSettings: testSettings),
        .testTarget(name: "ConformanceTests", dependencies: ["Conformance"], swiftSettings: testSettings),
        .testTarget(
            name: "ConfigurationTests", dependencies: ["Configuration", "Seeded"], exclude: ["Samples"],
            swiftSettings: testSettings),
        .testTarget(
            name: "LogsTests", dependencies: ["Logs", "Transport", .product(name: "Logging", package: "swift-log")],
            swiftSettings: testSettings),
        .testTarget(
            name: "TransportTests", dependencies: ["COpenSSL", "Seeded", "Transport"], swiftSettings: testSettings),
        .testTarget(
            name: "ServerTests",
            dependencies: [
                "Access", "Broker", "COpenSSL", "Configuration", "HTTP", "MQTT", "Server", "Transport",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: testSettings),
        .testTarget(
            name: "HTTPTests",
            dependencies: ["HTTP", "Seeded", .product(name: "HTTPTypes", package: "swift-http-types")],
            swiftSettings: testSettings),
        .testTarget(
            name: "SystemTests",
            dependencies: ["Conformance", "Cryptography", "FirmwareImages", "ReferenceModel", "Seeded", "Transport"],
            exclude: ["firmware", "paho", "rest"],
            swiftSettings: testSettings),
    ]
)
