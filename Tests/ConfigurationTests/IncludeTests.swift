import Configuration
import Testing

@Suite struct `Including a directory` {
    private func parse(_ text: String, _ directories: [String: [String: String]]) throws -> Configuration {
        let files = Configuration.IncludedFiles(
            names: { (directory) throws(ConfigurationError) -> [String] in
                guard let files = directories[directory] else {
                    throw ConfigurationError(file: directory, reason: "No such file or directory")
                }
                return files.keys.sorted().reversed()
            },
            bytes: { (path) throws(ConfigurationError) -> [UInt8] in
                for (directory, files) in directories {
                    for (name, text) in files where path == "\(directory)/\(name)" { return Array(text.utf8) }
                }
                throw ConfigurationError(file: path, reason: "no such file")
            })
        return try Configuration.parse(Array(text.utf8), file: "f.conf", including: files)
    }

    @Test func `reads files in Mosquitto's order`() throws {
        let names = ["00", "01", "A", "a", "B", "b", "b0", "Ba", "ba"]
        let files = Dictionary(
            uniqueKeysWithValues: names.map { ("\($0).conf", "log_dest file /\($0)") }
                + [("x.conf~", "no_key"), (".conf", "no_key"), ("conf", "no_key"), ("y.CONF", "no_key")])
        let read = try parse("include_dir d", ["d": files]).logDestinations
        #expect(read == ["00", "01", "A", "a", "B", "Ba", "b", "b0", "ba"].map { .file(path: "/\($0)") })
    }

    @Test func `stands for its files where it is, directory after directory`() throws {
        let configuration = try parse(
            "shards 1\ninclude_dir two\ninclude_dir one\nmax_inflight_messages 3",
            ["one": ["b.conf": "shards 3"], "two": ["a.conf": "shards 2\nmax_inflight_messages 2"]])
        #expect(configuration.shards == 3 && configuration.maxInflightMessages == 3)
        #expect(
            configuration.warnings.map(\.description) == [
                "two/a.conf:1: warning: 'shards' a second time; this one counts, and no longer f.conf:1",
                "one/b.conf:1: warning: 'shards' a second time; this one counts, and no longer two/a.conf:1",
                "f.conf:4: warning: 'max_inflight_messages' a second time; this one counts, and no longer two/a.conf:2",
            ])
    }

    @Test func `begins each file above its first listener, and goes back to the one before it`() throws {
        let configuration = try parse(
            "listener 1\ninclude_dir d\nmax_qos 1", ["d": ["a.conf": "listener 2\nmax_qos 0", "b.conf": "listener 3"]])
        #expect(configuration.listeners.map(\.port) == [1, 2, 3])
        #expect(configuration.listeners.map(\.maxQoS) == [1, 0, 2])
    }

    @Test func `may be empty`() throws {
        #expect(try parse("include_dir d/", ["d/": [:]]) == .defaults())
    }

    @Test(arguments: [
        ("include_dir x", "f.conf:1: 'include_dir' x: No such file or directory"),
        ("include_dir", "f.conf:1: 'include_dir' without a value"),
        ("\ninclude_dir d", "d/a.conf:2: 'shards' takes a number from 1 to 64, not '0'"),
    ])
    func `that is wrong stops the start, with file and line`(_ text: String, _ expected: String) {
        let error = #expect(throws: ConfigurationError.self) { try parse(text, ["d": ["a.conf": "\nshards 0"]]) }
        #expect(error?.description == expected)
    }

    @Test func `needs somebody who reads files`() {
        let error = #expect(throws: ConfigurationError.self) {
            try Configuration.parse(Array("include_dir d".utf8), file: "f.conf")
        }
        #expect(error?.description == "f.conf:1: 'include_dir' d: there are no directories here")
    }
}
