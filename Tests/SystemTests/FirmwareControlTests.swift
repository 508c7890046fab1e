import FirmwareImages
import Foundation
import Glibc
import Testing

extension System {
    /// What is said to devices about an update, and who else may ask for one.
    @Suite struct `Messages about updates` {
        private static let release = "m/1.1.0"

        private func setModel(_ martlet: RESTMartlet, _ members: String) throws {
            try martlet.client.get("PUT", "/api/models/m", token: martlet.admin, body: "{\(members)}")
        }

        /// Of the whole packet (MQTT 2.2.3).
        private func bytes(of packet: Received) -> Int {
            let length = packet.body.count
            return 1 + (length < 128 ? 1 : length < 16_384 ? 2 : 3) + length
        }

        // MARK: - What is said

        @Test(arguments: ["json", "url"]) func `have the form of the model, and are as long as it takes`(
            _ form: String
        ) throws {
            let martlet = try RESTMartlet(promoting: Self.release, people: [])
            let device = try UpdatedDevice(martlet)
            try setModel(martlet, #""otaPayload":"\#(form)""#)
            let offer = try #require(try device.reach(.told))
            let isBare = offer.members.isEmpty
            #expect(isBare == (form == "url"))
            #expect(
                offer.url.hasPrefix("http://127.0.0.1:\(martlet.port)/firmware/m/1.1.0/firmware.bin?d=\(device.id)&"))
            #expect(try martlet.client.ask("GET", target(offer.url)).body == RESTMartlet.image("1.1.0"))
            // A device that has nothing but the address can still say how it goes.
            try device.acknowledge(offer)
            try device.says("IN_PROGRESS")
            try device.says("FAILED")
            try martlet.awaits(device.id, "FAILED")

            let size = bytes(of: offer.packet)
            let known = try martlet.history(device.id)
            let entries = try martlet.updateActivity(device.id)
            try setModel(martlet, #""otaPayload":"\#(form)","packetLimit":\#(size - 1)"#)
            let refused = try martlet.start(device.id)
            #expect(refused.status == 422 && refused.code == "packet_limit", "\(refused.text)")
            #expect(try martlet.history(device.id) == known && martlet.updateActivity(device.id) == entries)
            #expect(try martlet.cancel(device.id).code == "wrong_state", "nothing was begun")
            #expect(try !device.wasTold())
            try setModel(martlet, #""otaPayload":"\#(form)","packetLimit":\#(size)"#)
            try martlet.started(device.id)
            #expect(try bytes(of: device.offer().packet) == size)

            // Until it comes it has become too long.
            #expect(try martlet.cancel(device.id).status == 200)
            try device.reach(.away)
            try setModel(martlet, #""otaPayload":"\#(form)","packetLimit":\#(size - 1)"#)
            try device.connect()
            let failed = try martlet.awaits(device.id, "FAILED")
            #expect(failed.reason?.contains("\(size) bytes") == true, "\(failed)")
            #expect(try !device.wasTold())
            try martlet.stop()
        }

        @Test func `have the address of base_url where there is one`() throws {
            let base = "https://updates.example.org:8443"
            let martlet = try RESTMartlet(promoting: Self.release, ["base_url \(base)"], people: [])
            let device = try UpdatedDevice(martlet)
            let offer = try #require(try device.reach(.told))
            #expect(offer.url.hasPrefix("\(base)/firmware/m/1.1.0/firmware.bin?d=\(device.id)&"))
            #expect(try martlet.fetch(offer.url) == 200)
            try martlet.stop()
        }

        @Test func `go to a device as it listens`() throws {
            let martlet = try RESTMartlet(promoting: Self.release, people: [])
            // At QoS 0 there is nothing to wait for.
            let plain = try UpdatedDevice(martlet, runs: nil)
            try plain.connect(listens: 0)
            try plain.says(version: "1.0.0")
            let known = try martlet.started(plain.id)
            let offer = try plain.offer()
            #expect(offer.packet.first == 0x30 && offer.deployment == known.id)
            try martlet.awaits(plain.id, "STARTED")

            // One that does not listen is told once it does.
            let deaf = try UpdatedDevice(martlet, runs: nil)
            try deaf.connect(listens: nil)
            try deaf.says(version: "1.0.0")
            let waiting = try martlet.started(deaf.id)
            #expect(try martlet.settled(deaf.id).status == "QUEUED")
            try deaf.listen()
            let late = try deaf.offer()
            #expect(late.deployment == waiting.id && late.packet.first == 0x32)
            try deaf.acknowledge(late)
            #expect(try martlet.awaits(deaf.id, "STARTED").attempts == 1)

            // Nobody else is told, whatever they listen to.
            let chief = try martlet.signedIn("admin@x", martlet.admin)
            try chief.subscribe([("devices/#", 1)])
            let device = try UpdatedDevice(martlet)
            try device.reach(.told)
            let mark = martlet.next()
            try chief.send(Packet.publish("devices/mark", "\(mark)", qos: 1))
            var heard: [String] = []
            while heard.last != "devices/mark" {
                let packet = try chief.receive()
                guard packet.type == 3 else { continue }
                heard.append(String(decoding: packet.topic, as: UTF8.self))
                if packet.qos > 0 { try chief.send(Packet.acknowledge(0x40, packet.identifier)) }
            }
            #expect(heard.contains("devices/\(device.id)/health"))
            #expect(!heard.contains("devices/\(device.id)/ota"), "\(heard)")
            try martlet.stop()
        }

        @Test func `are not for a device that is blocked, or has no model`() throws {
            let martlet = try RESTMartlet(promoting: Self.release, people: [])
            let bare = try UpdatedDevice(martlet, model: nil)
            let other = try UpdatedDevice(martlet, model: "other")
            for device in [bare, other] {
                let answer = try martlet.start(device.id)
                #expect(answer.status == 409 && answer.code == "wrong_state", "\(answer.text)")
            }
            let device = try UpdatedDevice(martlet)
            let path = "/api/admin/device/\(device.id)/block"
            try martlet.client.get("POST", path, token: martlet.admin, body: #"{"blocked":true}"#)
            #expect(device.isClosed)
            let refused = try martlet.start(device.id)
            #expect(refused.status == 403 && refused.code == "blocked", "\(refused.text)")
            #expect(try martlet.history(device.id).isEmpty)
            try martlet.client.get("POST", path, token: martlet.admin, body: #"{"blocked":false}"#)

            // One that is under way waits for it to be let in again.
            try device.connect()
            let offer = try #require(try device.reach(.told))
            try martlet.client.get("POST", path, token: martlet.admin, body: #"{"blocked":true}"#)
            #expect(device.isClosed)
            #expect(try martlet.fetch(offer.url) == 403)
            #expect(try martlet.settled(device.id).status == "QUEUED")
            try martlet.client.get("POST", path, token: martlet.admin, body: #"{"blocked":false}"#)
            #expect(try martlet.fetch(offer.url) == 200)
            try device.connect()
            #expect(try device.offer().deployment == offer.deployment)
            try martlet.stop()
        }

        // MARK: - Over MQTT

        /// An administrator's connection by which the fleet is managed.
        private struct Control {
            static let topic = "$CONTROL/fleet/v1"
            let connection: RawClient

            init(_ martlet: RESTMartlet) throws {
                connection = try martlet.signedIn("admin@x", martlet.admin)
                try connection.subscribe([("\(Self.topic)/response", 0)])
            }

            static func request(_ command: String, _ members: String) -> String {
                #"{"commands":[{"command":"\#(command)",\#(members)}]}"#
            }

            /// The answer to one command.
            func ask(_ command: String, _ members: String) throws -> [String: Any] {
                let text = Self.request(command, #""correlationData":"\#(command)",\#(members)"#)
                try connection.send(Packet.publish(Self.topic, text, qos: 1))
                while true {
                    let packet = try connection.receive()
                    guard packet.type == 3 else { continue }
                    let responses = packet.members["responses"] as? [[String: Any]] ?? []
                    guard responses.count == 1, responses[0]["command"] as? String == command,
                        responses[0]["correlationData"] as? String == command
                    else { throw Unexpected("\(command): \(packet.text)") }
                    return responses[0]
                }
            }
        }

        /// Whether that answers over MQTT as that does over HTTP.
        private func expectSame(
            _ response: [String: Any], _ answer: RESTClient.Answer, location: SourceLocation = #_sourceLocation
        ) {
            if answer.status < 400 {
                var members = answer.members
                members["success"] = nil
                let data = response["data"] as? [String: Any] ?? [:]
                #expect(data as NSDictionary == members as NSDictionary, sourceLocation: location)
                #expect(response["error"] == nil, sourceLocation: location)
            } else {
                let error = response["error"] as? [String: Any] ?? [:]
                #expect(error["code"] as? String == answer.code, "\(answer.text)", sourceLocation: location)
                #expect(error["message"] as? String == answer["detail"] as? String, sourceLocation: location)
                #expect(response["data"] == nil, sourceLocation: location)
            }
        }

        @Test func `are asked for over MQTT as over HTTP`() throws {
            let martlet = try RESTMartlet(promoting: Self.release, people: [])
            let control = try Control(martlet)
            let device = try UpdatedDevice(martlet)
            let which = #""deviceId":"\#(device.id)""#
            func ask(_ method: String, _ path: String) throws -> RESTClient.Answer {
                try martlet.client.ask(method, "/api/ota/\(device.id)/\(path)", token: martlet.admin)
            }
            expectSame(try control.ask("checkForUpdate", which), try ask("GET", "check"))
            let response = try control.ask("startDeployment", which)
            let started = try #require(response["data"] as? [String: Any], "\(response)")
            #expect(Set(started.keys) == ["deployment", "message"], "an address is a secret")
            let offer = try device.offer()
            #expect(ShownDeployment(started["deployment"])?.id == offer.deployment)
            expectSame(try control.ask("listDeployments", which), try ask("GET", "history"))
            #expect(try martlet.history(device.id).first == ShownDeployment(started["deployment"]))
            #expect(try martlet.history(device.id).first?.triggeredBy == "admin@x")
            expectSame(try control.ask("startDeployment", which), try ask("POST", "start"))
            let canceled = try control.ask("cancelDeployment", which)["data"] as? [String: Any]
            #expect(ShownDeployment(canceled?["deployment"])?.status == "CANCELED")
            #expect(try martlet.fetch(offer.url) == 403)
            expectSame(try control.ask("cancelDeployment", which), try ask("POST", "cancel"))
            for number in 1...3 {
                try martlet.started(device.id)
                let members = #"\#(which),"page":\#(number),"limit":1"#
                expectSame(
                    try control.ask("listDeployments", members), try ask("GET", "history?page=\(number)&limit=1"))
                #expect(try martlet.cancel(device.id).status == 200)
            }
            for name in ["none", "%"] {
                for (command, path) in [("startDeployment", "start"), ("cancelDeployment", "cancel")] {
                    expectSame(
                        try control.ask(command, #""deviceId":"\#(name)""#),
                        try martlet.client.ask(
                            "POST", "/api/ota/\(name == "%" ? "%25" : name)/\(path)", token: martlet.admin))
                }
            }
            let unwanted = try control.ask("startDeployment", #"\#(which),"version":"1.0.0""#)["error"]
            #expect((unwanted as? [String: Any])?["code"] as? String == "invalid_request")
            try martlet.stop()
        }

        @Test func `are about releases that go their way over MQTT as over HTTP`() throws {
            let martlet = try RESTMartlet(promoting: Self.release, people: [])
            let control = try Control(martlet)
            let steps = [
                ("verify", "VERIFIED"), ("approve", "APPROVED"), ("promote", "PROMOTED"), ("block", "BLOCKED"),
                ("unblock", nil),
            ]
            try martlet.upload("m/1.2.0", RESTMartlet.image("1.2.0"))
            try martlet.upload("m/1.3.0", Array("#!/bin/sh\n".utf8))
            for (step, state) in steps {
                for release in ["m/1.3.0", "m/9"] where !["block", "unblock"].contains(step) {
                    let version = release.dropFirst(2)
                    expectSame(
                        try control.ask("\(step)Firmware", #""model":"m","version":"\#(version)""#),
                        try martlet.step(step, release))
                }
                let response = try control.ask("\(step)Firmware", #""model":"m","version":"1.2.0""#)
                let data = try #require(response["data"] as? [String: Any], "\(response)")
                let shown = try martlet.firmware("m/1.2.0")
                if let state { #expect(shown["firmware", "state"] as? String == state) }
                if let firmware = data["firmware"] as? [String: Any] {
                    #expect(firmware as NSDictionary == (shown["firmware"] as? NSDictionary), "\(step)")
                } else {
                    #expect(Set(data.keys) == ["model", "version", "blocked"])
                    #expect(data["blocked"] as? Bool == (step == "block"))
                }
                if step == "promote" {
                    let device = try UpdatedDevice(martlet)
                    let offer = try #require(try device.reach(.told))
                    #expect(offer.version == "1.2.0")
                }
            }
            let kinds = try martlet.firmwareActivity().filter { $0.hasSuffix("m/1.2.0") }.reversed()
            #expect(
                kinds.map { $0.split(separator: " ").first } == [
                    "FIRMWARE_UPLOADED", "FIRMWARE_VERIFIED", "FIRMWARE_APPROVED", "FIRMWARE_PROMOTED",
                    "FIRMWARE_BLOCKED", "FIRMWARE_UNBLOCKED",
                ])
            try martlet.stop()
        }

        @Test func `are no business of devices and of other people`() throws {
            let martlet = try RESTMartlet(promoting: Self.release, people: [.owner, .other])
            let control = try Control(martlet)
            let (device, neighbour) = (try UpdatedDevice(martlet), try UpdatedDevice(martlet))
            let which = #""deviceId":"\#(device.id)""#
            let (ofRelease, next) = (#""model":"m","version":"1.1.0""#, #""model":"m","version":"1.2.0""#)
            try martlet.upload("m/1.2.0", RESTMartlet.image("1.2.0"))
            let offer = try #require(try neighbour.reach(.loading))
            for (name, password) in [
                (device.id, device.secret), (neighbour.id, neighbour.secret), ("owner@x", martlet.owner),
                ("other@x", martlet.other),
            ] {
                let stranger = try martlet.signedIn(name, password, client: "stranger-\(name)")
                #expect(try stranger.subscribe([("\(Control.topic)/response", 0)]).count == 1)
                for (command, members) in [
                    ("startDeployment", which), ("cancelDeployment", #""deviceId":"\#(neighbour.id)""#),
                    ("listDeployments", which), ("checkForUpdate", which), ("verifyFirmware", next),
                    ("blockFirmware", ofRelease),
                ] {
                    let request = Control.request(command, members)
                    try stranger.send(Packet.publish(Control.topic, request, qos: 1))
                    #expect(try stranger.receive().type == 4, "\(name): taken, and no more than that")
                }
                // The next answer is to what was asked after it.
                expectSame(
                    try control.ask("checkForUpdate", which),
                    try martlet.client.ask("GET", "/api/ota/\(device.id)/check", token: martlet.admin))
                try stranger.ping()
            }
            #expect(try martlet.history(device.id).isEmpty && !device.wasTold())
            #expect(try martlet.settled(neighbour.id).status == "IN_PROGRESS")
            #expect(try martlet.fetch(offer.url) == 200)
            #expect(try martlet.states() == ["m/1.1.0": "PROMOTED", "m/1.2.0": "UPLOADED"])
            for (path, method) in [("start", "POST"), ("cancel", "POST"), ("history", "GET"), ("check", "GET")] {
                let answer = try martlet.client.ask(
                    method, "/api/ota/\(device.id)/\(path)", token: martlet.other)
                #expect(answer.status == 404 && answer.code == "not_found", "\(path): as one that is not there")
            }
            try martlet.stop()
        }

        // MARK: - Somebody else has to approve of an image

        @Test func `are only about images that firmware_verifier has nothing against`() throws {
            let directory = try TemporaryDirectory()
            let script = "\(directory.path)/verifier"
            try directory.write(
                """
                #!/bin/sh
                # $1 is the configuration's own; then image, model and version.
                printf '%s\\n' "$@" > '\(directory.path)/arguments'
                cmp -s "$2" '\(directory.path)/image' || { echo 'this is another image'; exit 1; }
                case "$4" in
                *-said) echo 'not this one'; echo 'and more of that'; exit 1 ;;
                *-error) echo 'not that one' >&2; exit 3 ;;
                *-mute) exit 7 ;;
                *-killed) kill -KILL $$ ;;
                *-long) head -c 100000 /dev/zero | tr '\\0' x; exit 1 ;;
                *) echo 'nothing against it' ;;
                esac

                """, "verifier")
            chmod(script, 0o755)
            let martlet = try RESTMartlet(["firmware_verifier \(script) 'its own'"], people: [])
            let image = RESTMartlet.image("1")
            try Data(image).write(to: URL(filePath: "\(directory.path)/image"))
            for (version, reason) in [
                ("1-said", "not this one"), ("1-error", "not that one"), ("1-mute", "status 7"),
                ("1-killed", "Killed"), ("1-long", "xxxxxxxx"),
            ] {
                try martlet.upload("m/\(version)", image)
                let refused = try martlet.step("verify", "m/\(version)")
                #expect(refused.status == 422 && refused.code == "unsound_firmware", "\(version): \(refused.text)")
                let detail = refused["detail"] as? String ?? ""
                #expect(detail.contains("firmware_verifier") && detail.contains(reason), "\(detail)")
                #expect(!detail.contains("and more") && detail.utf8.count < 1_000)
                #expect(try martlet.state("m/\(version)") == "UPLOADED")
                #expect(try martlet.step("approve", "m/\(version)").code == "wrong_state")
            }
            try martlet.release("m/1-fine", ["verify", "approve"], image: image)
            let arguments = directory.text("arguments").split(separator: "\n").map(String.init)
            #expect(arguments == ["its own", martlet.firmwarePath("m/releases/v1-fine/firmware.bin"), "m", "1-fine"])
            try martlet.stop()
        }

        @Test func `are about no image at all where firmware_verifier can't be started`() throws {
            let martlet = try RESTMartlet(["firmware_verifier /nonexistent/verifier"], people: [])
            try martlet.upload("m/1", RESTMartlet.image("1"))
            let refused = try martlet.step("verify", "m/1")
            #expect(refused.status == 422 && refused.code == "unsound_firmware", "\(refused.text)")
            #expect((refused["detail"] as? String)?.contains("/nonexistent/verifier: not found") == true)
            #expect(try martlet.state("m/1") == "UPLOADED")
            try martlet.stop()
        }
    }
}
