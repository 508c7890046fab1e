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
        // `Deque`, the queue of a session.
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        .target(name: "CLinux"),
        .target(name: "Locks", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "MQTT", swiftSettings: settings),
        .target(
            name: "Broker",
            dependencies: ["Locks", "MQTT", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: settings
        ),
        .target(name: "Transport", dependencies: ["CLinux", "Locks"], swiftSettings: settings),
        .target(name: "Configuration", swiftSettings: settings),
        .target(
            name: "Logs", dependencies: ["Locks", "Transport", .product(name: "Logging", package: "swift-log")],
            swiftSettings: settings),
        .target(
            name: "Server",
            dependencies: [
                "Broker", "Configuration", "CLinux", "Locks", "MQTT", "Transport",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        // Repeatable numbers, for tests and fuzzing.
        .target(name: "Seeded", swiftSettings: settings),
        .target(name: "ConformanceCases"),
        .target(
            name: "Conformance", dependencies: ["CLinux", "ConformanceCases", "Locks", "Seeded", "Transport"],
            swiftSettings: settings),
        .executableTarget(
            name: "martlet",
            dependencies: [
                "Configuration", "Conformance", "Logs", "Server", "Transport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .testTarget(name: "MQTTTests", dependencies: ["MQTT", "Seeded"], swiftSettings: testSettings),
        // What a broker must do, and random programs to ask it: for two of the suites.
        .target(
            name: "ReferenceModel", dependencies: ["Conformance", "Seeded"], path: "Tests/ReferenceModel",
            swiftSettings: testSettings),
        .testTarget(
            name: "BrokerTests", dependencies: ["Broker", "Conformance", "Locks", "MQTT", "ReferenceModel", "Seeded"],
            swiftSettings: testSettings),
        .testTarget(name: "ConformanceTests", dependencies: ["Conformance"], swiftSettings: testSettings),
        .testTarget(
            name: "ConfigurationTests", dependencies: ["Configuration", "Seeded"], exclude: ["Samples"],
            swiftSettings: testSettings),
        .testTarget(
            name: "LogsTests", dependencies: ["Logs", "Transport", .product(name: "Logging", package: "swift-log")],
            swiftSettings: testSettings),
        .testTarget(name: "TransportTests", dependencies: ["Seeded", "Transport"], swiftSettings: testSettings),
        .testTarget(
            name: "ServerTests",
            dependencies: [
                "Broker", "Configuration", "MQTT", "Server", "Transport",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: testSettings),
        .testTarget(
            name: "SystemTests", dependencies: ["Conformance", "ReferenceModel", "Transport"], exclude: ["paho"],
            swiftSettings: testSettings),
    ]
)
