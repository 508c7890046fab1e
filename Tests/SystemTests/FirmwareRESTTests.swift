import FirmwareImages
import Foundation
import Glibc
import Testing

extension System {
    /// How a release comes to devices: by administrators over HTTP, and by whoever edits the tree.
    @Suite struct `Firmware over REST` {
        typealias Image = ImageBuilder

        // MARK: - From the upload to production

        @Test func `a release goes from upload to production, and the log says who did what`() throws {
            let martlet = try RESTMartlet(people: [])
            let client = martlet.client
            let (one, two) = (RESTMartlet.image("1.0.0"), RESTMartlet.image("1.1.0"))
            let uploaded = try martlet.upload("m/v1.0.0", one, query: "?description=first%20light")
            #expect(uploaded.status == 201 && uploaded["firmware", "state"] as? String == "UPLOADED")
            for (name, value) in [
                ("model", "m"), ("version", "1.0.0"), ("description", "first light"), ("uploadedBy", "admin@x"),
                ("sha256", hexadecimalDigest(one)), ("fileUrl", "/firmware/m/1.0.0/firmware.bin"),
            ] { #expect(uploaded["firmware", name] as? String == value, "\(uploaded.text)") }
            #expect(uploaded["firmware", "size"] as? Int == one.count)
            #expect(uploaded["firmware", "analysis", "isSound"] as? Bool == true)
            #expect(martlet.firmwareBytes("m/releases/v1.0.0/firmware.bin") == one)
            #expect(martlet.firmwareBytes("m/production/firmware.bin") == nil)

            // One after the other, and none left out.
            for name in ["approve", "promote"] {
                let answer = try martlet.step(name, "m/1.0.0")
                #expect(answer.status == 409 && answer.code == "wrong_state", "\(name): \(answer.text)")
            }
            for (name, state) in [("verify", "VERIFIED"), ("approve", "APPROVED"), ("promote", "PROMOTED")] {
                if name == "promote" { #expect(try martlet.step("promote", "m/2").code == "not_found") }
                let answer = try martlet.step(name, "m/1.0.0")
                #expect(answer.status == 200 && answer["firmware", "state"] as? String == state, "\(answer.text)")
            }
            #expect(martlet.firmwareBytes("m/production/version.txt") == Array("1.0.0\n".utf8))
            #expect(martlet.firmwareBytes("m/production/firmware.bin") == one)
            let shown = try martlet.firmware("m/1.0.0")
            #expect(shown["firmware", "approvedBy"] as? String == "admin@x" && shown.status == 200)
            for name in ["createdAt", "verifiedAt", "approvedAt", "promotedAt"] {
                #expect((shown["firmware", name] as? String)?.hasSuffix("Z") == true, "\(name)")
            }

            // Another takes its place.
            try martlet.release("m/1.1.0", ["verify", "approve", "promote"])
            #expect(try martlet.states() == ["m/1.0.0": "RETIRED", "m/1.1.0": "PROMOTED"])
            #expect(martlet.firmwareBytes("m/production/firmware.bin") == two)
            let model = try client.get("GET", "/api/models/m", token: martlet.admin)
            #expect(model["model", "production"] as? String == "1.1.0")
            let refused = try client.ask("DELETE", "/api/firmware/m/1.1.0", token: martlet.admin)
            #expect(refused.status == 409 && refused.code == "wrong_state", "devices shall run it")

            // And back; what is blocked is no longer given to anybody.
            let blocked = try martlet.step("block", "m/v1.1.0", body: #"{"reason":"boot loop"}"#)
            #expect(blocked.status == 200 && blocked["blocked"] as? Bool == true)
            #expect(try martlet.states() == ["m/1.0.0": "RETIRED", "m/1.1.0": "BLOCKED"])
            #expect(try martlet.firmware("m/1.1.0")["firmware", "blockedReason"] as? String == "boot loop")
            for name in ["verify", "approve", "promote"] {
                let answer = try martlet.step(name, "m/1.1.0")
                #expect(answer.code == "wrong_state" && answer.text.contains("blocked"), "\(name): \(answer.text)")
            }
            try martlet.step("promote", "m/1.0.0")
            #expect(try martlet.states() == ["m/1.0.0": "PROMOTED", "m/1.1.0": "BLOCKED"])
            #expect(try martlet.step("unblock", "m/1.1.0")["blocked"] as? Bool == false)
            #expect(try martlet.step("unblock", "m/1.1.0").status == 200, "twice is no mistake")
            #expect(try martlet.states() == ["m/1.0.0": "PROMOTED", "m/1.1.0": "RETIRED"])
            try client.get("DELETE", "/api/firmware/m/1.1.0", token: martlet.admin)
            #expect(try martlet.states() == ["m/1.0.0": "PROMOTED"])
            #expect(!martlet.firmwareFiles().contains { $0.contains("v1.1.0") })
            for method in ["GET", "DELETE"] {
                #expect(try client.ask(method, "/api/firmware/m/1.1.0", token: martlet.admin).code == "not_found")
            }

            let story = [
                "UPLOADED m/1.0.0", "VERIFIED m/1.0.0", "APPROVED m/1.0.0", "PROMOTED m/1.0.0", "UPLOADED m/1.1.0",
                "VERIFIED m/1.1.0", "APPROVED m/1.1.0", "PROMOTED m/1.1.0", "BLOCKED m/1.1.0", "PROMOTED m/1.0.0",
                "UNBLOCKED m/1.1.0", "DELETED m/1.1.0",
            ].map { $0.split(separator: " ") }
            let said = story.map { "FIRMWARE_\($0[0]) admin@x \($0[1])" }
            #expect(try martlet.firmwareActivity().reversed() == said)

            // Whatever ends the process.
            try martlet.step("block", "m/0.9", body: #"{"reason":"never was here"}"#)
            try martlet.release("m/2.0.0", ["verify"])
            let before = try (martlet.states(), martlet.firmware("m/1.0.0").text, martlet.firmwareActivity())
            try martlet.stop()
            try martlet.restart()
            #expect(try (martlet.states(), martlet.firmware("m/1.0.0").text, martlet.firmwareActivity()) == before)
            martlet.program.signal(SIGKILL)
            _ = try martlet.program.waitForEnd()
            try martlet.restart()
            #expect(try (martlet.states(), martlet.firmware("m/1.0.0").text, martlet.firmwareActivity()) == before)
            let list = try client.get("GET", "/api/models/m", token: martlet.admin)["model", "blockedVersions"]
            #expect(list as? [String] == ["0.9"])
            try martlet.stop()
        }

        @Test func `where there are several administrators, another than who uploaded it approves`() throws {
            let martlet = try RESTMartlet(people: [.other])
            let client = martlet.client
            // The first administrator is there too, and nobody has made that account theirs.
            try martlet.release("m/1", ["verify", "approve"])
            try client.get("POST", "/api/admin/user/other@x/role", token: martlet.admin, body: #"{"role":"admin"}"#)
            try martlet.release("m/2", ["verify"])
            let own = try martlet.step("approve", "m/2")
            #expect(own.status == 403 && own.code == "forbidden" && own.text.contains("another administrator"))
            #expect(try martlet.state("m/2") == "VERIFIED")
            let others = try martlet.step("approve", "m/2", token: martlet.other)
            #expect(others["firmware", "approvedBy"] as? String == "other@x", "\(others.text)")
            // A blocked one is none.
            try martlet.release("m/3", ["verify"])
            try client.get("POST", "/api/admin/user/other@x/block", token: martlet.admin)
            #expect(try martlet.step("approve", "m/3").status == 200)
            try martlet.stop()
        }

        // MARK: - Uploads

        @Test func `an upload is taken whole or not at all, and a version once`() throws {
            let martlet = try RESTMartlet(people: [])
            let image = RESTMartlet.image("1.0.0")
            let large = Image.large(codeBytes: 1_000_000).bytes()

            // As it comes.
            for (version, type) in [
                ("1.1", "application/octet-stream"), ("1.2", "Application/Octet-Stream; x=1"),
                ("1.3", "application/x-www-form-urlencoded"),
            ] { #expect(try martlet.upload("m/\(version)", image, type: type).status == 201, "\(type)") }
            for type in ["application/json", "text/plain", "image/png"] {
                #expect(try martlet.upload("m/2", image, type: type).code == "unsupported_media_type", "\(type)")
            }
            let bare = try WebClient(port: martlet.port)
            let head = { (version: String, lines: [String]) in
                ([
                    "POST /api/firmware/m/\(version) HTTP/1.1", "Host: localhost",
                    "Authorization: Bearer \(martlet.admin)",
                ]
                    + lines).joined(separator: "\r\n") + "\r\n\r\n"
            }
            try bare.send(Array(head("1.4", ["Content-Length: \(image.count)"]).utf8) + image)
            #expect(try bare.wholeAnswer().0.status == 201, "without a type")
            try bare.send(head("1.5", ["Transfer-Encoding: chunked"]))
            for part in stride(from: 0, to: large.count, by: 50_000) {
                let bytes = Array(large[part..<min(part + 50_000, large.count)])
                try bare.send(Array("\(String(bytes.count, radix: 16))\r\n".utf8) + bytes + Array("\r\n".utf8))
            }
            try bare.send("0\r\n\r\n")
            #expect(try bare.wholeAnswer().0.status == 201, "in pieces")
            #expect(martlet.firmwareBytes("m/releases/v1.5/firmware.bin") == large)
            try martlet.directory.write("", "image")
            try Data(large).write(to: URL(filePath: "\(martlet.directory.path)/image"))
            let curl = try Program(
                "curl",
                [
                    "-sS", "-o", "/dev/null", "-w", "%{http_code}\n", "-H", "Authorization: Bearer \(martlet.admin)",
                    "--data-binary", "@\(martlet.directory.path)/image",
                    "http://127.0.0.1:\(martlet.port)/api/firmware/m/1.6?description=by%20curl",
                ])
            #expect(try curl.waitForEnd() == .exited(0) && curl.output == "201\n", "\(curl.output)")
            #expect(martlet.firmwareBytes("m/releases/v1.6/firmware.bin") == large)

            // A version once.
            for version in ["1.6", "v1.6", "V1.6"] {
                let answer = try martlet.upload("m/\(version)", large)
                #expect(answer.status == 409 && answer.code == "already_exists", "\(answer.text)")
            }
            #expect(try martlet.upload("M/1.6", image).status == 201, "another model")
            let first = try WebClient(port: martlet.port)
            try first.send(Array(head("1.7", ["Content-Length: \(large.count)"]).utf8) + large.prefix(100_000))
            #expect(eventually { martlet.firmwareFiles().contains { $0.hasPrefix("m/releases/.draft-") } })
            #expect(try martlet.upload("m/1.7", image).code == "already_exists", "the first is on its way")
            try first.send(Array(large.dropFirst(100_000)))
            #expect(try first.wholeAnswer().0.status == 201)
            #expect(martlet.firmwareBytes("m/releases/v1.7/firmware.bin") == large)

            // Nothing of what comes to no end.
            let known = try martlet.states()
            let files = martlet.firmwareFiles()
            #expect(!files.contains { $0.contains("draft") })
            let empty = try martlet.upload("other/1", [])
            #expect(empty.status == 400 && empty.code == "invalid_request", "\(empty.text)")
            #expect(martlet.firmwareFiles() == files)
            for ending in [{ (client: WebClient) in client.finish() }, { client in client.reset() }] {
                let cut = try WebClient(port: martlet.port)
                try cut.send(Array(head("1", ["Content-Length: \(large.count)"]).replacing("/m/", with: "/new/").utf8))
                try cut.send(Array(large.prefix(300_000)))
                #expect(eventually { martlet.firmwareFiles().contains { $0.hasPrefix("new/releases/.draft-") } })
                ending(cut)
                #expect(eventually { martlet.firmwareFiles() == files }, "\(martlet.firmwareFiles())")
            }
            #expect(try martlet.states() == known && martlet.models() == ["M", "m"])
            let late = try WebClient(port: martlet.port)
            try late.send(Array(head("1", ["Content-Length: \(large.count)"]).replacing("/m/", with: "/new/").utf8))
            try late.send(Array(large.prefix(300_000)))
            #expect(eventually { martlet.firmwareFiles().contains { $0.hasPrefix("new/releases/.draft-") } })
            martlet.program.signal(SIGKILL)
            _ = try martlet.program.waitForEnd()
            try martlet.restart()
            #expect(
                try martlet.firmwareFiles() == files && martlet.states() == known && martlet.models() == ["M", "m"])

            // As many at once as may.
            var slow: [WebClient] = []
            for number in 0..<8 {
                let client = try WebClient(port: martlet.port)
                let head = head("8.\(number)", ["Content-Length: \(image.count)"])
                try client.send(Array(head.utf8) + image.dropLast())
                slow.append(client)
            }
            #expect(
                eventually { martlet.firmwareFiles().count { $0.contains("/.draft-") && $0.hasSuffix("bin") } == 8 })
            let busy = try martlet.upload("m/8.8", image)
            #expect(busy.status == 503 && busy.code == "busy", "\(busy.text)")
            for client in slow {
                try client.send([image.last ?? 0])
                #expect(try client.wholeAnswer().0.status == 201)
            }
            #expect(try martlet.upload("m/8.8", image).status == 201)
            try martlet.stop()
        }

        @Test func `names are of few characters, and lead nowhere else`() throws {
            let martlet = try RESTMartlet(people: [])
            let image = RESTMartlet.image("1")
            let long = String(repeating: "a", count: 33)
            for name in [
                ".", "..", "%2e", "%2e%2e", ".x", "a%2Fb", "..%2F..%2Fx", long, "a%20b", "%00", "a%00", "%C3%BC",
                "a%5Cb", "a:b", "~", "*",
            ] {
                for (release, code) in [("\(name)/1", "invalid_model"), ("m/\(name)", "invalid_version")] {
                    let answer = try martlet.upload(release, image)
                    #expect(answer.status == 400 && answer.code == code, "\(release): \(answer.text)")
                    for (method, end) in [("GET", ""), ("DELETE", ""), ("POST", "/block"), ("POST", "/promote")] {
                        let answer = try martlet.client.ask(
                            method, "/api/firmware/\(release)\(end)", token: martlet.admin)
                        #expect(answer.status == 400 && answer.code == code, "\(method) \(release): \(answer.text)")
                    }
                }
            }
            for path in ["m/1/2", "m", "m/", "", "/1", "m/../../x"] {
                let answer = try martlet.upload(path, image)
                #expect(answer.status == 404 || answer.status == 405, "\(path): \(answer.text)")
            }
            #expect(try martlet.upload("m/%", image).code == "invalid_request")
            for query in ["?x=1", "?description=a&description=b", "?signature=%21", "?description=%00"] {
                #expect(try martlet.upload("m/1", image, query: query).code == "invalid_request", "\(query)")
            }
            #expect(try martlet.states().isEmpty && martlet.firmwareFiles().isEmpty, "\(martlet.firmwareFiles())")
            let widest = "Aa0._+-" + String(repeating: "z", count: 25)
            #expect(try martlet.upload("\(widest)/\(widest)", image).status == 201)
            #expect(try martlet.upload("%6D/%31%2E0", image).status == 201)
            #expect(try martlet.states() == ["\(widest)/\(widest)": "UPLOADED", "m/1.0": "UPLOADED"])
            try martlet.stop()
        }

        @Test func `of more releases than shall be kept the oldest go, unless somebody needs them`() throws {
            let martlet = try RESTMartlet(["firmware_releases 2"], people: [])
            let all = ["verify", "approve", "promote"]
            try martlet.release("other/0.9.0")
            for version in ["1.0.0", "1.1.0"] { try martlet.release("m/\(version)", all) }
            // Its device is away, and waits for 1.1.0.
            let device = try martlet.addDevice(model: "m").id
            try martlet.client.get("POST", "/api/ota/\(device)/start", token: martlet.admin)
            for version in ["1.2.0", "1.3.0", "1.4.0"] { try martlet.release("m/\(version)", ["verify", "approve"]) }
            func left() throws -> [String] { try martlet.states().keys.sorted() }
            #expect(try left() == ["m/1.0.0", "m/1.1.0", "m/1.3.0", "m/1.4.0", "other/0.9.0"], "1.0.0: the way back")
            for version in ["1.3.0", "1.4.0"] { try martlet.step("promote", "m/\(version)") }
            try martlet.release("m/1.5.0")
            try martlet.release("m/1.6.0")
            #expect(try left() == ["m/1.1.0", "m/1.3.0", "m/1.4.0", "m/1.5.0", "m/1.6.0", "other/0.9.0"])
            try martlet.client.get("POST", "/api/ota/\(device)/cancel", token: martlet.admin)
            try martlet.release("m/1.7.0")
            #expect(try left() == ["m/1.3.0", "m/1.4.0", "m/1.6.0", "m/1.7.0", "other/0.9.0"])
            #expect(martlet.firmwareFiles().filter { $0.hasSuffix("releases/v1.1.0") } == [])
            // Where nobody can tell what devices shall run, all stay.
            try Data("1.3.0 or 1.4.0".utf8).write(
                to: URL(filePath: "\(martlet.data)/firmware/m/production/version.txt"))
            try martlet.release("m/1.8.0")
            #expect(try left().count == 6)
            try martlet.stop()
        }

        @Test(.disabled(if: isSanitized, "a sanitizer wants to be loaded first"))
        func `a full disk takes nothing, and says so`() throws {
            let martlet = try RESTMartlet(people: [], withFaults: true)
            let faults = try #require(martlet.faults)
            let large = Image.large(codeBytes: 300_000).bytes()
            try martlet.release("m/1", ["verify", "approve"])
            let files = martlet.firmwareFiles()
            for call in [Faults.Call.write, .makeDirectory, .create] {
                faults.begin(.fail, only: [call], errno: ENOSPC)
                let answer = try martlet.upload("m/2", large)
                faults.end()
                #expect(answer.status == 507 && answer.code == "storage_failed", "\(call): \(answer.text)")
                #expect(martlet.firmwareFiles() == files, "\(call)")
            }
            faults.begin(.fail, only: [.write], errno: ENOSPC)
            for (name, body) in [("promote", nil), ("block", #"{"reason":"x"}"#)] as [(String, String?)] {
                let answer = try martlet.step(name, "m/1", body: body)
                #expect(answer.status == 507 && answer.code == "storage_failed", "\(name): \(answer.text)")
            }
            faults.end()
            #expect(try martlet.states() == ["m/1": "APPROVED"])
            #expect(try martlet.upload("m/2", large).status == 201)
            #expect(try martlet.step("promote", "m/1").status == 200)
            try martlet.stop()
        }

        // MARK: - Verifying

        private static let defects: [(@Sendable (inout Image) -> Void, String)] = [
            ({ $0.segmentCount = 0 }, "it has 0 segments"), ({ $0.segmentCount = 17 }, "it has 17 segments"),
            ({ $0.segments[1].data.removeLast() }, "a multiple of 4 below 16 MB"),
            ({ $0.hashFlag = 2 }, "its header says 2 where 0 or 1"),
            ({ $0.minimumRevision = 200 }, "for chip revisions v2.0 to v1.99"),
            ({ $0.minimumBlockRevision = 100 }, "for eFuse block revisions"),
            ({ $0.segments[0].address += 4 }, "can't be mapped to"),
            ({ $0.chip = 0 }, "it is for ESP32, not for ESP32-S3"), ({ $0.chip = 0xFFFF }, "its header names no chip"),
            ({ $0.segments[1].data += [UInt8](repeating: 0, count: 4 << 20) }, "don't fit 4 MB of flash"),
        ]

        @Test func `what is wrong with an image is said, and keeps it from devices`() throws {
            let martlet = try RESTMartlet(people: [])
            let client = martlet.client
            try client.get(
                "PUT", "/api/models/m", token: martlet.admin, body: #"{"chip":"esp32s3","flashSize":"4M"}"#)
            var wrong: [([UInt8], String)] = Self.defects.map { defect, text in
                var builder = Image()
                defect(&builder)
                return (builder.bytes(), text)
            }
            let sound = Image().bytes()
            for (offset, text) in [(0x150, "its checksum is"), (440, "its appended SHA-256")] {
                var bytes = sound
                bytes[offset] ^= 0x10
                wrong.append((bytes, text))
            }
            wrong.append((Array(sound.dropLast(33)), "33 bytes missing"))
            wrong.append((Array(sound.prefix(10)), "cut off in its header"))
            wrong.append((Array("#!/bin/sh\n".utf8), "no application for an ESP32"))
            var bootloader = Image()
            bootloader.hasDescriptor = false
            bootloader.segments.removeFirst()
            wrong.append((bootloader.bytes(), "but a bootloader"))
            for (number, (bytes, text)) in wrong.enumerated() {
                let uploaded = try martlet.upload("m/\(number)", bytes)
                let isSound = uploaded["firmware", "analysis", "isSound"] as? Bool
                #expect(uploaded.status == 201 && isSound == false, "\(text): \(uploaded.text)")
                let answer = try martlet.step("verify", "m/\(number)")
                #expect(answer.status == 422 && answer.code == "unsound_firmware", "\(text): \(answer.text)")
                #expect((answer["detail"] as? String)?.contains(text) == true, "\(text): \(answer.text)")
                #expect(try martlet.step("approve", "m/\(number)").code == "wrong_state")
            }
            #expect(try Set(martlet.states().values) == ["UPLOADED"])
            #expect(try martlet.firmwareActivity().count { $0.hasPrefix("FIRMWARE_VERIFIED") } == wrong.count)

            // What is only odd does not keep it.
            try martlet.upload("m/9.9.9", sound)
            #expect(try martlet.step("verify", "m/9.9.9")["firmware", "state"] as? String == "VERIFIED")

            // What is known of the model counts when it is verified.
            try martlet.release("n/1.2.3", ["verify"], image: sound)
            try client.get("PUT", "/api/models/n", token: martlet.admin, body: #"{"chip":"esp32c6"}"#)
            let other = try martlet.step("verify", "n/1.2.3")
            #expect(other.status == 422 && other.text.contains("it is for ESP32-S3, not for ESP32-C6"), "\(other.text)")
            #expect(try martlet.state("n/1.2.3") == "UPLOADED")
            try martlet.stop()
        }

        @Test func `where a model has keys, one of them has signed it`() throws {
            let martlet = try RESTMartlet(people: [])
            let client = martlet.client
            let image = RESTMartlet.image("1")
            let directory = martlet.directory.path
            try Data(image).write(to: URL(filePath: "\(directory)/image"))
            func openssl(_ arguments: String) throws {
                let all = arguments.replacing("DIR", with: directory).split(separator: " ").map(String.init)
                let run = try Program("openssl", all)
                guard try run.waitForEnd() == .exited(0) else {
                    throw Unexpected("openssl \(arguments): \(run.output)")
                }
            }
            for name in ["ours", "strange"] {
                try openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out DIR/\(name).key")
                try openssl("pkey -in DIR/\(name).key -pubout -out DIR/\(name).pem")
                try openssl("dgst -sha256 -sign DIR/\(name).key -out DIR/\(name).signature DIR/image")
            }
            func signature(_ name: String) throws -> String {
                try Data(contentsOf: URL(filePath: "\(directory)/\(name).signature")).base64EncodedString()
            }
            // In a query, as either alphabet has it.
            let ours = try signature("ours").replacing("=", with: "%3D")
            let others = ours.replacing("+", with: "-").replacing("/", with: "_")
            let body = try JSONSerialization.data(withJSONObject: ["keys": [martlet.directory.text("ours.pem")]])
            try client.get("PUT", "/api/models/m", token: martlet.admin, body: String(decoding: body, as: UTF8.self))
            for (version, query, problem) in [
                ("1", "", "no key that is trusted has signed it"),
                (
                    "2", "?signature=\(try signature("strange").replacing("+", with: "%2B"))",
                    "its detached signature is broken"
                ),
                ("3", "?signature=\(ours.replacing("+", with: "%2B"))", nil), ("4", "?signature=\(others)", nil),
                ("5", "?signature=\(others.replacing("%3D", with: ""))", nil),
            ] as [(String, String, String?)] {
                let uploaded = try martlet.upload("m/\(version)", image, query: query)
                #expect(uploaded.status == 201, "\(uploaded.text)")
                let answer = try martlet.step("verify", "m/\(version)")
                #expect(answer.status == (problem == nil ? 200 : 422), "\(version): \(answer.text)")
                if let problem { #expect(answer.text.contains(problem), "\(answer.text)") }
            }
            // It lies beside the image, for whoever finds it without a database.
            try martlet.stop()
            try martlet.sql("DELETE FROM firmware")
            try martlet.restart()
            #expect(try martlet.step("verify", "m/3").status == 200)
            #expect(try martlet.step("verify", "m/1").status == 422)
            try martlet.stop()
        }

        @Test func `what has changed on the disk since is found out, and has to be approved again`() throws {
            let martlet = try RESTMartlet(people: [])
            let image = try martlet.release("m/1.0.0", ["verify", "approve", "promote"])
            let file = "m/releases/v1.0.0/firmware.bin"
            var other = Image()
            other.project = "another"
            try martlet.edit(file, other.bytes())
            let answer = try martlet.step("verify", "m/1.0.0")
            #expect(answer.status == 422 && answer.text.contains("not the one that was uploaded"), "\(answer.text)")
            #expect(try martlet.state("m/1.0.0") == "UPLOADED")
            #expect(try martlet.firmware("m/1.0.0")["firmware", "approvedBy"] is NSNull)
            #expect(try martlet.step("promote", "m/1.0.0").code == "wrong_state")
            let (device, secret) = try martlet.addDevice(model: "m")
            #expect(try martlet.check(device, secret)["updateAvailable"] as? Bool == false)
            try martlet.edit(file, image)
            #expect(try martlet.step("verify", "m/1.0.0")["firmware", "state"] as? String == "VERIFIED")
            #expect(try martlet.step("approve", "m/1.0.0").status == 200)
            #expect(try martlet.check(device, secret)["updateAvailable"] as? Bool == true)
            // Gone altogether.
            unlink(martlet.firmwarePath(file))
            for name in ["verify", "promote"] {
                let gone = try martlet.step(name, "m/1.0.0")
                #expect(gone.status == 422 && gone.text.contains("gone from the disk"), "\(name): \(gone.text)")
            }
            try martlet.stop()
        }
    }
}
