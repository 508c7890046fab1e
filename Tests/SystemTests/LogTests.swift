import Foundation
import Glibc
import Testing

extension System {
    /// What the binary writes into its log, and where.
    @Suite struct `The log` {
        @Test func `says in Mosquitto's words who comes and goes`() throws {
            let broker = try Martlet(["log_timestamp false"])
            let client = try RawClient(port: broker.port)
            try client.connect("kitchen", cleanSession: false, keepAlive: 60)
            try client.send(Packet.disconnect)
            #expect(client.isClosed())
            try broker.client("second").send(Packet.connect("second"))
            try RawClient(port: broker.port).send(Packet.pingRequest)
            try broker.program.waitForLine(containing: "a packet before CONNECT")
            let address = #"127\.0\.0\.1:\d+"#
            for expected in [
                #"New client connected from \#(address) as kitchen \(p2, c0, k60\)\."#,
                #"Client kitchen \[\#(address)\] disconnected\."#,
                #"Client second \[\#(address)\] disconnected: protocol error: a second CONNECT \[MQTT-3.1.0-2\]\."#,
                #"Client <unknown> \[\#(address)\] disconnected: protocol error: a packet before CONNECT .*\."#,
            ] {
                let pattern = try Regex(expected)
                #expect(
                    eventually { broker.program.lines.contains { $0.wholeMatch(of: pattern) != nil } },
                    "\(expected) is missing in:\n\(broker.program.output)")
            }
        }

        @Test func `says who was refused, and why`() throws {
            let broker = try Martlet(["log_timestamp false", "allow_anonymous false"])
            let client = try RawClient(port: broker.port)
            try client.send(Packet.connect("stranger"))
            #expect(client.isClosed())
            try broker.program.waitForLine(containing: "] disconnected: not authorised.")
            #expect(!broker.program.output.contains("New client connected"))
        }

        @Test func `has a line for each subscription where that is wanted`() throws {
            let broker = try Martlet(["log_type subscribe", "log_type unsubscribe", "log_timestamp false"])
            let client = try broker.client("kitchen")
            try client.subscribe([("a/b", 1), ("c d/#", 0)])
            try client.send(Packet.packet(0xA2, [0, 9] + Packet.string("a/b")))
            _ = try client.receive()
            try broker.program.waitForLine(containing: "kitchen a/b")
            #expect(broker.program.lines == ["kitchen 1 a/b", "kitchen 0 c d/#", "kitchen a/b"])
        }

        @Test func `goes to several places at once, in JSON too`() throws {
            let directory = try TemporaryDirectory()
            let broker = try ConfiguredMartlet(
                [
                    "allow_anonymous true", "log_dest stdout", "log_dest stderr", "log_dest file DIR/m.log",
                    "log_format json",
                ], in: directory)
            _ = try broker.client("ki\"tchen\n")
            try broker.program.waitForLine(containing: "client disconnected")
            #expect(eventually { directory.text("m.log").contains("client disconnected") })
            var messages: [String] = []
            for line in directory.text("m.log").split(separator: "\n") {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                let message = try #require(object?["message"] as? String)
                messages.append(message)
                #expect((object?["time"] as? String)?.wholeMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/#) != nil)
                guard message == "client connected" else { continue }
                #expect(object?["client"] as? String == "ki\"tchen\n")
                #expect(object?["address"] as? String == "127.0.0.1")
                #expect(object?["level"] as? String == "notice")
                #expect(object?["keepAlive"] as? Int == 0)
            }
            #expect(messages.contains("client connected"))
            #expect(
                eventually {
                    broker.program.lines.count { $0.contains("client connected") } == 2
                }, "once on standard output, once on standard error")
        }

        @Test func `is published to those who subscribe to it, and feeds not on itself`() throws {
            let broker = try Martlet(["log_dest topic", "log_type all", "log_timestamp false", "max_queued_messages 1"])
            let watcher = try broker.client("watcher")
            try watcher.subscribe([("$SYS/broker/log/#", 0)])
            let other = try broker.client("kitchen")
            try other.subscribe([("a/b", 1)])
            try other.send(Packet.disconnect)
            var seen: [String] = []
            while seen.last?.hasSuffix("disconnected.") != true {
                let message = try watcher.receive()
                #expect(!message.isRetained)
                seen.append("\(String(decoding: message.topic, as: UTF8.self)) \(message.text)")
            }
            #expect(seen.contains("$SYS/broker/log/M/subscribe kitchen 1 a/b"))
            #expect(seen.contains { $0.hasPrefix("$SYS/broker/log/N New client connected from 127.0.0.1:") })
            #expect(seen.last?.hasPrefix("$SYS/broker/log/N Client kitchen [127.0.0.1:") == true)

            // A queue that is full of log lines makes no more of them.
            let full = try RawClient(port: broker.port)
            try full.connect("full", cleanSession: false)
            try full.subscribe([("$SYS/broker/log/#", 1)])
            try full.send(Packet.disconnect)
            #expect(full.isClosed())
            for number in 0..<20 { _ = try broker.client("c\(number)") }
            #expect(
                eventually { broker.lines(containing: "Client c").filter { $0.contains("disconnected") }.count == 20 })
            try watcher.pingPastMessages()
            // Where the session lives on another shard that it is full is told there, once; and that is all.
            let count = broker.program.lines.count
            try watcher.pingPastMessages()
            poll(nil, 0, 200)
            let more = broker.program.lines.dropFirst(count)
            #expect(more.count <= 1 && more.allSatisfy { $0.contains("queue full") }, "\(more)")
        }

        @Test(.enabled(if: access("/dev/log", F_OK) != 0 && geteuid() == 0))
        func `goes to the system's log`() throws {
            let syslog = try DatagramReceiver("/dev/log")
            let broker = try Martlet(["log_dest syslog", "log_facility 3", "log_timestamp false"])
            _ = try broker.client("kitchen")
            let pattern = #/<157>\w{3} [ \d]\d [\d:]{8} martlet\[(\d+)\]: New client connected from .*/#
            var line = ""
            while !line.contains("New client") { line = try syslog.next(beginning: "<157>") }  // local3, notice
            let match = try #require(try pattern.wholeMatch(in: line))
            #expect(Int32(match.output.1) == broker.program.pid)
            try broker.stop()
        }

        @Test func `begins its lines as it is told`() throws {
            let broker = try Martlet(["log_timestamp_format %Y-%m-%dT%H:%M:%S"])
            try broker.program.waitForLine(containing: "started")
            for line in broker.program.lines {
                #expect(line.prefixMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: /#) != nil, "\(line)")
            }
        }

        @Test func `says nothing of who comes and goes where that is not wanted`() throws {
            let broker = try Martlet(["connection_messages false"])
            _ = try broker.client("kitchen")
            try broker.client("bad").send([0xF0, 0])
            try broker.program.waitForLine(containing: "malformed packet")
            #expect(!broker.program.output.contains("kitchen"))
            #expect(!broker.program.output.contains("New client"))
        }

        @Test func `counts health checks instead of repeating them`() throws {
            let broker = try Martlet()
            for _ in 0..<50 { #expect(accepts(broker.port)) }
            try broker.client("real").ping()
            try broker.stop()
            let told = broker.program.lines.filter { $0.contains("Client <unknown>") }
            #expect(told.count == 2, "\(broker.program.output)")
            #expect(told.last?.contains("(repeated=") == true)
        }

        @Test func `names the file that it can't open`() throws {
            let directory = try TemporaryDirectory()
            try directory.write("log_dest file \(directory.path)/none/m.log\n", "m.conf")
            let program = try Program(Martlet.binary, ["-c", "\(directory.path)/m.conf"])
            #expect(try program.waitForEnd(within: 5) == .exited(1))
            #expect(program.output.hasSuffix("log_dest file \(directory.path)/none/m.log: No such file or directory\n"))
        }

        @Test func `names the successor of the old backend's variables`() throws {
            let directory = try TemporaryDirectory()
            let broker = try ConfiguredMartlet(
                ["log_dest stdout"], in: directory,
                environment: ["MONGO_URI": "mongodb://user:secret@db/x", "PORT": "3000", "JWT_SECRET": "hush"])
            try broker.program.waitForLine(containing: "started")
            for variable in ["MONGO_URI", "PORT", "JWT_SECRET"] {
                #expect(
                    broker.program.lines.count { $0.contains("variable=\(variable)") } == 1, "\(broker.program.output)")
            }
            #expect(!broker.program.output.contains("secret") && !broker.program.output.contains("hush"))
            let alone = try ConfiguredMartlet(
                ["log_dest stdout"], in: try TemporaryDirectory(), environment: ["PORT": "3000"])
            try alone.program.waitForLine(containing: "started")
            #expect(!alone.program.output.contains("old backend"))
        }
    }
}

extension RawClient {
    /// As `ping`, with messages that come before the answer.
    fileprivate func pingPastMessages() throws {
        try send(Packet.pingRequest)
        while try receive(within: 30).type != 13 {}
    }
}
