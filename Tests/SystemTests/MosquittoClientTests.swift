import Foundation
import Glibc
import Testing

extension System {
    /// What the README shows, with the tools it shows it with.
    @Suite struct `Debian's mosquitto clients` {
        let broker: Martlet

        init() throws { broker = try Martlet() }

        @Test(arguments: 0...2) func `publish to and receive from a wildcard filter`(_ qos: Int) throws {
            let subscriber = try subscribe(["-q", "\(qos)", "-t", "devices/+/health", "-C", "1", "-F", "%t %q %p"])
            let payload = #"{"heap":18000,"fw":"1.0.0"}"#
            try publish(["-q", "\(qos)", "-t", "devices/ABC123/health", "-m", payload])
            try subscriber.waitForLine(containing: "devices/ABC123/health \(qos) \(payload)")
            #expect(try subscriber.waitForEnd() == .exited(0))
            try broker.stop()
        }

        @Test func `get a retained message, until an empty payload deletes it [MQTT-3.3.1-10]`() throws {
            try publish(["-r", "-t", "retained/value", "-m", "first"])
            let before = try subscribe(["-t", "retained/value", "-C", "1", "-F", "%r %p"])
            try before.waitForLine(containing: "1 first")

            try publish(["-r", "-n", "-t", "retained/value"])
            let after = try subscribe(["-t", "retained/value", "-C", "1", "-F", "retain=%r %p"])
            try publish(["-t", "retained/value", "-m", "live"])
            #expect(try after.waitForEnd() == .exited(0))
            #expect(after.lines.contains("retain=0 live"))
            #expect(!after.output.contains("retain=1"))
        }

        @Test func `leave a will when killed [MQTT-3.1.2-8]`() throws {
            let watcher = try subscribe(["-t", "wills/#", "-C", "1", "-F", "%t %p"])
            let dying = try subscribe(
                ["-i", "dying", "-t", "x", "--will-topic", "wills/dying", "--will-payload", "gone", "--will-qos", "1"])
            dying.signal(SIGKILL)
            try watcher.waitForLine(containing: "wills/dying gone")
        }

        @Test func `receive in a persistent session what they missed [MQTT-3.1.2-4]`() throws {
            let session = ["-c", "-i", "keeper", "-q", "1", "-t", "kept/#"]
            #expect(try subscribe(session + ["-E"]).waitForEnd() == .exited(0))
            for number in 1...3 { try publish(["-q", "1", "-t", "kept/\(number)", "-m", "missed \(number)"]) }
            let back = try Program.unbuffered("mosquitto_sub", address + session + ["-C", "3", "-W", "10"])
            #expect(try back.waitForEnd() == .exited(0))
            #expect(back.lines == ["missed 1", "missed 2", "missed 3"])
        }

        @Test func `speak MQTT 3.1 too`() throws {
            let subscriber = try subscribe([
                "-V", "mqttv31", "-i", "old-subscriber", "-q", "2", "-t", "old/+", "-C", "1",
            ])
            try publish(["-V", "mqttv31", "-i", "old-publisher", "-q", "2", "-t", "old/topic", "-m", "from 2010"])
            try subscriber.waitForLine(containing: "from 2010")
            #expect(try subscriber.waitForEnd() == .exited(0))
        }

        @Test func `split the messages of a shared subscription`() throws {
            let workers = try (1...2).map {
                try subscribe(["-q", "1", "-t", "$share/workers/jobs/#", "-F", "job %p", "-i", "w\($0)"])
            }
            let count = 100
            for number in 1...count { try publish(["-q", "1", "-t", "jobs/\(number)", "-m", "\(number)"]) }
            var received: [[String]] = []
            let isComplete = eventually {
                received = workers.map { $0.lines.filter { $0.hasPrefix("job ") } }
                return received.joined().count >= count
            }
            #expect(isComplete)
            #expect(Set(received.joined()).count == count, "each message once")
            #expect(received.joined().count == count, "each message to one member")
            #expect(received.allSatisfy { !$0.isEmpty }, "every member works")
        }

        @Test func `read the broker's version under $SYS`() throws {
            let subscriber = try Program.unbuffered(
                "mosquitto_sub", address + ["-t", "$SYS/broker/version", "-C", "1", "-W", "15"])
            #expect(try subscriber.waitForEnd() == .exited(0))
            #expect(!subscriber.output.isEmpty)
        }

        private var address: [String] { ["-h", "127.0.0.1", "-p", "\(broker.port)"] }

        /// A subscriber that the broker has acknowledged; -d makes it say so.
        private func subscribe(_ arguments: [String]) throws -> Program {
            let program = try Program.unbuffered("mosquitto_sub", address + ["-d"] + arguments)
            try program.waitForLine(containing: "Subscribed (mid: ")
            return program
        }

        private func publish(_ arguments: [String]) throws {
            let program = try Program("mosquitto_pub", address + arguments)
            let end = try program.waitForEnd()
            guard end == .exited(0) else { throw Unexpected("mosquitto_pub \(arguments): \(end) \(program.output)") }
        }
    }
}
