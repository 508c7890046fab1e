import FirmwareImages
import Foundation
import Glibc
import Synchronization
import Testing

extension System {
    /// Updates of devices from the start to their end, as REST, the log and `$SYS` tell it, with a device that does as its
    /// firmware would.
    @Suite struct `Updates of devices` {
        private static let release = "m/1.1.0"

        // MARK: - As it should be

        @Test func `go from the start to the version that the device shows, each step seen`() throws {
            let (authority, securePort) = (try Authority(), try freePort())
            let martlet = try RESTMartlet(
                [
                    "listener \(securePort) 127.0.0.1", "protocol http", "certfile \(authority.file("server.crt"))",
                    "keyfile \(authority.file("server.key"))",
                ], people: [.owner])
            var builder = ImageBuilder.large(codeBytes: 300_000)
            builder.version = "1.1.0"
            let image = builder.bytes()
            try martlet.release(Self.release, ["verify", "approve", "promote"], image: image)
            let modes: [HTTPSUpdateClient.Mode] = [
                .whole, .resumed(from: Array(image.prefix(70_000))), .partial(bytes: 64 << 10),
            ]
            for mode in modes {
                let device = try UpdatedDevice(martlet)
                let watcher = try martlet.signedIn("owner@x", martlet.owner)
                try watcher.subscribe([("$SYS/devices/\(device.id)", 0)])
                func isTold(_ state: String, _ progress: Int?) throws {
                    var told: [String: Any] = [:]
                    while told["otaStatus"] as? String != state || told["otaProgress"] as? Int != progress {
                        told = try watcher.receive().members
                    }
                    #expect(told["targetVersion"] as? String == "1.1.0" && told["online"] as? Bool == true)
                    #expect(told["firmwareVersion"] as? String == "1.0.0")
                }
                #expect(try martlet.check(device.id, device.secret)["updateAvailable"] as? Bool == true)

                let answer = try martlet.start(device.id.lowercased(), token: martlet.owner)
                let queued = try #require(ShownDeployment(answer["deployment"]), "\(answer.text)")
                #expect(queued.status == "QUEUED" && queued.attempts == 1 && queued.isDue && !queued.hasStarted)
                #expect(queued.fromVersion == "1.0.0" && queued.toVersion == "1.1.0")
                #expect(queued.triggeredBy == "owner@x")
                let offer = try device.offer()
                #expect(offer.packet.first == 0x32, "QoS 1, neither retained nor a duplicate")
                #expect(Set(offer.members.keys) == ["deployment", "version", "url", "size", "sha256"])
                #expect(offer.deployment == queued.id && offer.version == "1.1.0")
                #expect(offer.members["size"] as? Int == image.count)
                #expect(offer.members["sha256"] as? String == hexadecimalDigest(image))
                #expect(offer.url.hasPrefix("https://127.0.0.1:\(securePort)/firmware/\(Self.release)/"))
                let own = try martlet.check(device.id, device.secret)
                #expect(own["deployment"] as? String == queued.id && own["updateAvailable"] as? Bool == true)
                #expect(try martlet.settled(device.id) == queued, "it has not acknowledged it")
                try isTold("QUEUED", nil)

                try device.acknowledge(offer)
                #expect(try martlet.awaits(device.id, "STARTED").hasStarted)
                try isTold("STARTED", nil)
                for progress in [0, 40] {
                    try device.says(#"{"status":"IN_PROGRESS","progress":\#(progress),"deployment":"\#(queued.id)"}"#)
                    try martlet.awaits(device.id, "IN_PROGRESS", progress: progress)
                    try isTold("IN_PROGRESS", progress)
                }
                let client = try HTTPSUpdateClient(offer.url, trusting: authority)
                #expect(try client.download(mode) == image, "\(mode)")
                try device.says("SUCCESS")
                let done = try martlet.awaits(device.id, "IN_PROGRESS", progress: 100)
                try isTold("IN_PROGRESS", 100)
                try device.says(version: "1.0.0")
                #expect(try martlet.settled(device.id) == done, "it has not started anew yet")
                try device.comeBack()
                try device.says(version: "v1.1.0", uptime: 1)
                let ended = try martlet.awaits(device.id, "SUCCESS", progress: 100)
                #expect(ended.id == queued.id && ended.hasEnded && !ended.isDue && !ended.isOnItsWord)
                #expect(try martlet.history(device.id) == [ended])
                #expect(try !device.wasTold(), "nothing more")

                #expect(try martlet.check(device.id, device.secret)["updateAvailable"] as? Bool == false)
                #expect(try martlet.start(device.id).code == "wrong_state")
                #expect(
                    try martlet.updateActivity(device.id) == ["OTA_STARTED", "OTA_PROGRESS 3", "OTA_SUCCESS"])
                // As it is told to who comes later.
                let later = try martlet.signedIn("owner@x", martlet.owner)
                let isRetained = try eventually {
                    try later.subscribe([("$SYS/devices/\(device.id)", 0)])
                    let packet = try later.receive()
                    let told = packet.members
                    return packet.isRetained && told["otaStatus"] as? String == "SUCCESS"
                        && told["otaProgress"] as? Int == 100 && told["firmwareVersion"] as? String == "v1.1.0"
                }
                #expect(isRetained)
            }
            try martlet.stop()
        }

        // MARK: - The server starts anew

        /// Devices in every state that an update can have, those that are over included.
        private struct Fleet {
            typealias Stage = UpdatedDevice.Stage

            var underWay: [(stage: Stage, device: UpdatedDevice)] = []
            /// They have said that they are done.
            let returning: UpdatedDevice
            let restarting: UpdatedDevice
            /// It loads.
            let interrupted: UpdatedDevice
            /// Nobody has seen it for a week.
            let lost: UpdatedDevice
            var over: [(state: String, device: UpdatedDevice)] = []

            init(_ martlet: RESTMartlet) throws {
                func device(_ stage: Stage) throws -> UpdatedDevice {
                    let device = try UpdatedDevice(martlet)
                    try device.reach(stage)
                    return device
                }
                for stage in Stage.allCases { underWay.append((stage, try device(stage))) }
                (returning, restarting) = (try device(.done), try device(.done))
                (interrupted, lost) = (try device(.loading), try device(.away))
                for state in ["SUCCESS", "FAILED", "ROLLED_BACK", "CANCELED"] {
                    let ending = try device(state == "ROLLED_BACK" ? .done : .loading)
                    switch state {
                    case "SUCCESS": try ending.says(version: "1.1.0")
                    case "FAILED": try ending.says(#"{"status":"FAILED","reason":"no room"}"#)
                    case "ROLLED_BACK":
                        try ending.comeBack()
                        try ending.says(version: "1.0.0")
                    default: #expect(try martlet.cancel(ending.id).status == 200)
                    }
                    try martlet.awaits(ending.id, state)
                    over.append((state, ending))
                }
            }

            var all: [UpdatedDevice] {
                underWay.map(\.device) + [returning, restarting, interrupted, lost] + over.map(\.device)
            }
        }

        @Test(arguments: [SIGKILL, SIGTERM]) func `go on where they were when the server starts anew`(
            _ signal: Int32
        ) throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            var fleet = try Fleet(martlet)
            func states() throws -> [[ShownDeployment]] { try fleet.all.map { try martlet.history($0.id) } }
            var before = try states()
            try martlet.restart(by: signal)
            #expect(try states() == before)
            for (device, deployment) in zip(fleet.all, before) {
                let record = try martlet.record(device.id)
                #expect(record["device", "otaStatus"] as? String == deployment.first?.status)
            }
            for (_, device) in fleet.underWay + [(.done, fleet.returning)] { try device.connect() }
            for (stage, device) in fleet.underWay {
                if [.away, .told].contains(stage) {
                    let offer = try device.offer()
                    let known = try #require(martlet.history(device.id).first)
                    #expect(offer.deployment == known.id && known.status == "QUEUED" && known.attempts == 1)
                    #expect(offer.url.hasPrefix("http://127.0.0.1:\(martlet.port)/"), "as it has come now")
                    #expect(try martlet.fetch(offer.url) == 200)
                    try device.acknowledge(offer)
                    try martlet.awaits(device.id, "STARTED")
                }
                let known = try martlet.settled(device.id)
                try device.says(version: "1.0.0")
                #expect(try martlet.settled(device.id) == known, "\(stage): everybody comes back to a new server")
                #expect(try !device.wasTold(), "\(stage)")
                if stage == .loading {
                    try device.says(#"{"status":"IN_PROGRESS","progress":60}"#)
                    try martlet.awaits(device.id, "IN_PROGRESS", progress: 60)
                }
                try device.says(version: "1.1.0")
                let ended = try martlet.awaits(device.id, "SUCCESS")
                #expect(ended.id == known.id && ended.attempts == 1 && !ended.isOnItsWord, "\(stage)")
                fleet.over.append(("SUCCESS", device))
            }
            fleet.underWay = []
            // This time it was its own doing.
            let returning = fleet.returning
            try returning.says(version: "1.0.0")
            #expect(try martlet.settled(returning.id).status == "IN_PROGRESS")
            try returning.comeBack()
            try returning.says(version: "1.0.0")
            #expect(try martlet.awaits(returning.id, "ROLLED_BACK").reason?.contains("1.0.0") == true)

            // A minute, and for one of them eight days, without a server.
            try martlet.restart(by: signal, away: .seconds(60))
            for device in [fleet.restarting, fleet.interrupted] {
                try device.connect()
                try device.says(version: "1.0.0", uptime: 1)
            }
            try martlet.awaits(fleet.restarting.id, "ROLLED_BACK")
            let again = try martlet.awaits(fleet.interrupted.id, "QUEUED")
            #expect(again.reason?.contains("started anew") == true && again.attempts == 1 && again.progress == 0)
            #expect(try !fleet.interrupted.wasTold(), "not at once")
            try martlet.restart(by: signal, away: .seconds(8 * 86_400), only: fleet.lost.id)
            #expect(try martlet.awaits(fleet.lost.id, "TIMED_OUT").reason == "the device has not come")
            #expect(try martlet.updateActivity(fleet.lost.id).last == "OTA_TIMED_OUT")
            try martlet.restart(by: signal, away: .seconds(60))
            try fleet.interrupted.connect()
            let offer = try fleet.interrupted.offer()
            #expect(offer.deployment == again.id)
            #expect(try martlet.history(fleet.interrupted.id).first?.attempts == 2)
            try fleet.interrupted.says(version: "1.1.0")
            try martlet.awaits(fleet.interrupted.id, "SUCCESS")

            // Now all are over, and stay so.
            before = try states()
            try martlet.restart(by: signal)
            #expect(try states() == before)
            let expected =
                fleet.over + [
                    ("ROLLED_BACK", fleet.returning), ("ROLLED_BACK", fleet.restarting), ("SUCCESS", fleet.interrupted),
                    ("TIMED_OUT", fleet.lost),
                ]
            for (state, device) in expected {
                try device.connect()
                for word in ["IN_PROGRESS", "FAILED", "SUCCESS"] { try device.says(word) }
                try device.says(version: "1.0.0", uptime: 1)
                #expect(try martlet.settled(device.id).status == state)
            }
            #expect(try states() == before)
            try martlet.stop()
        }

        // MARK: - Devices that do otherwise

        @Test func `go on when the device has lost its connection, and are told anew until it acknowledges`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            let device = try UpdatedDevice(martlet)
            let first = try #require(try device.reach(.told))
            try device.comeBack()
            let second = try device.offer()
            #expect(second.deployment == first.deployment && second.packet.first == 0x32, "as a new message")
            let told = try #require(try martlet.history(device.id).first)
            #expect(told.status == "QUEUED" && told.attempts == 1, "which counts as no attempt")
            for url in [first.url, second.url] { #expect(try martlet.fetch(url) == 200) }
            try device.acknowledge(second)
            let started = try martlet.awaits(device.id, "STARTED")

            func losesNothing(_ known: ShownDeployment) throws {
                try device.comeBack()
                try device.says(version: "1.0.0")
                #expect(try martlet.settled(device.id) == known)
                #expect(try !device.wasTold())
            }
            try losesNothing(started)
            try device.says(#"{"status":"IN_PROGRESS","progress":7}"#)
            try losesNothing(try martlet.awaits(device.id, "IN_PROGRESS", progress: 7))
            try device.says("SUCCESS")
            try martlet.awaits(device.id, "IN_PROGRESS", progress: 100)
            try device.loseConnection()
            #expect(try martlet.settled(device.id).status == "IN_PROGRESS")
            try device.connect()
            try device.says(version: "1.1.0")
            try martlet.awaits(device.id, "SUCCESS")
            #expect(try martlet.history(device.id).count == 1)
            try martlet.stop()
        }

        @Test func `end as the device says, or shows that it could not keep it`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            let device = try UpdatedDevice(martlet)
            let first = try #require(try device.reach(.done)).deployment
            try device.comeBack()
            try device.says(version: "1.0.0")
            let rolledBack = try martlet.awaits(device.id, "ROLLED_BACK")
            #expect(rolledBack.reason == "the device has come back with 1.0.0" && rolledBack.hasEnded)

            // The next one is another.
            let second = try #require(try device.reach(.loading)).deployment
            #expect(second != first)
            try device.says(#"{"status":"FAILED","reason":"no room","deployment":"\#(first)"}"#)
            #expect(try martlet.settled(device.id).status == "IN_PROGRESS", "that was about the one before")
            try device.says(#"{"status":"FAILED","reason":"no room","deployment":"\#(second)"}"#)
            #expect(try martlet.awaits(device.id, "FAILED").reason == "no room")
            #expect(try martlet.record(device.id)["device", "otaReason"] as? String == "no room")
            #expect(try martlet.history(device.id).map(\.id) == [second, first])
            #expect(
                try martlet.updateActivity(device.id) == [
                    "OTA_STARTED", "OTA_PROGRESS 2", "OTA_ROLLED_BACK", "OTA_STARTED", "OTA_PROGRESS", "OTA_FAILED",
                ])
            let log = try martlet.client.get("GET", "/api/device/\(device.id)/activity?limit=1", token: martlet.owner)
            let detail = (log["activity"] as? [[String: Any]])?.first?["detail"] as? [String: Any]
            #expect(detail?["reason"] as? String == "no room" && detail?["deployment"] as? String == second)
            #expect(detail?["version"] as? String == "1.1.0")

            // It never says what it runs.
            let silent = try UpdatedDevice(martlet, runs: nil)
            try silent.connect()
            try silent.reach(.loading)
            try silent.says("success")
            let believed = try martlet.awaits(silent.id, "SUCCESS", progress: 100)
            #expect(believed.isOnItsWord && believed.fromVersion == nil)
            try martlet.stop()
        }

        @Test func `of a device that something else speaks for are what that says`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            let device = try UpdatedDevice(martlet, runs: nil)
            let gateway = try martlet.signedIn("admin@x", martlet.admin)
            func says(_ topic: String, _ text: String) throws {
                try gateway.send(Packet.publish("devices/\(device.id)/\(topic)", text, qos: 1))
                #expect(try gateway.receive().type == 4)
                try martlet.settle()
            }
            // It has no connection by which it could be seen to come back.
            for (version, state) in [("1.0.0", "ROLLED_BACK"), ("1.1.0", "SUCCESS")] {
                try says("health", #"{"fw":"1.0.0"}"#)
                #expect(try martlet.started(device.id).status == "QUEUED")
                #expect(try martlet.settled(device.id).status == "QUEUED", "nobody could be told")
                try says("ota/status", "STARTED")
                try martlet.awaits(device.id, "STARTED")
                try says("ota/status", "SUCCESS")
                try martlet.awaits(device.id, "IN_PROGRESS", progress: 100)
                try says("health", #"{"fw":"\#(version)"}"#)
                try martlet.awaits(device.id, state)
            }
            try martlet.stop()
        }

        @Test func `are not moved by what can't be read, by what is late, or by others`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            func unreadable() throws -> Int? {
                let name = "martlet_device_messages_unreadable_total "
                let lines = try martlet.client.get("GET", "/metrics").text.split(separator: "\n")
                return lines.first { $0.hasPrefix(name) }.flatMap { Int($0.dropFirst(name.count)) }
            }
            let garbage = [
                "", "{", "DONE", "null", "[]", #"{"status":1}"#, #"{"status":"DONE"}"#, "\u{0}", "FAILED!",
                String(repeating: "[", count: 10_000),
                #"{"status":"FAILED","x":"\#(String(repeating: "x", count: 20_000))"}"#,
            ]
            var count = 0
            let thief = try UpdatedDevice(martlet)
            for stage in UpdatedDevice.Stage.allCases where stage != .away {
                let device = try UpdatedDevice(martlet)
                try device.reach(stage)
                let known = try martlet.settled(device.id)
                for text in garbage { try device.says(text) }
                try device.says(#"{"status":"FAILED","deployment":"0"}"#)
                try thief.says(#"{"status":"FAILED","deployment":"\#(known.id)"}"#)
                #expect(try martlet.settled(device.id) == known, "\(stage)")
                count += garbage.count
                #expect(try unreadable() == count, "\(stage)")
            }
            #expect(try martlet.history(thief.id).isEmpty)
            try martlet.stop()
        }

        @Test func `are one at a time`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            let device = try UpdatedDevice(martlet)
            let statuses = Mutex<[Int]>([])
            let (port, admin, path) = (martlet.port, martlet.admin, "/api/ota/\(device.id)/start")
            try concurrently(
                (0..<6).map { _ in
                    {
                        let answer = try RESTClient(port: port).ask("POST", path, token: admin)
                        guard answer.status == 200 || answer.code == "update_under_way" else {
                            throw Unexpected(answer.text)
                        }
                        statuses.withLock { $0.append(answer.status) }
                    }
                })
            #expect(statuses.withLock { $0.sorted() } == [200, 409, 409, 409, 409, 409])
            let first = try device.offer()
            for word in ["", "STARTED", "IN_PROGRESS", "SUCCESS"] {
                if !word.isEmpty { try device.says(word) }
                let refused = try martlet.start(device.id)
                #expect(refused.status == 409 && refused.code == "update_under_way", "\(word): \(refused.text)")
            }
            #expect(try martlet.history(device.id).map(\.id) == [first.deployment])
            #expect(try !device.wasTold())
            #expect(try martlet.updateActivity(device.id).count { $0 == "OTA_STARTED" } == 1)
            try martlet.stop()
        }

        @Test func `are not begun for a device that has just said that it runs the version`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            let device = try UpdatedDevice(martlet, runs: nil)
            try device.connect()
            for _ in 0..<5 {
                // What comes right after another is looked at later.
                for version in ["1.0.0", "1.1.0"] { try device.says(version: version, isAwaited: false) }
                let answer = try martlet.start(device.id)
                #expect(answer.status == 409 && answer.code == "wrong_state", "\(answer.text)")
                try device.says(version: "1.0.0")
            }
            #expect(try martlet.history(device.id).isEmpty && !device.wasTold())
            try martlet.stop()
        }
    }
}
