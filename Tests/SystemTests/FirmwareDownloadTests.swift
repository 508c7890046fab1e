import FirmwareImages
import Foundation
import Glibc
import Testing

extension System {
    /// What devices ask for and fetch.
    @Suite struct `Firmware for devices` {
        /// HTTP and HTTPS.
        private struct Place {
            let martlet: RESTMartlet
            let authority: Authority
            let securePort: UInt16

            /// `listenerLines`: about HTTPS.
            init(
                _ lines: [String] = [], _ listenerLines: (Authority) -> [String] = { _ in [] }, withFaults: Bool = false
            ) throws {
                authority = try Authority()
                securePort = try freePort()
                martlet = try RESTMartlet(
                    lines + [
                        "listener \(securePort) 127.0.0.1", "protocol http",
                        "certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))",
                    ] + listenerLines(authority), people: [], withFaults: withFaults)
            }

            func plain(_ url: String) -> String { "http://127.0.0.1:\(martlet.port)\(target(url))" }
        }

        // MARK: - Whether there is something new

        @Test func `a device is told what it shall run, and who has nothing to do with it is not`() throws {
            let martlet = try RESTMartlet(people: [.owner, .other])
            let client = martlet.client
            let (device, secret) = try martlet.addDevice(model: "m")
            let (other, otherSecret) = try martlet.addDevice(model: "m")
            let (bare, bareSecret) = try martlet.addDevice(model: nil)
            let path = "/api/ota/\(device)/check"
            func available(_ answer: RESTClient.Answer) -> Bool? { answer["updateAvailable"] as? Bool }
            #expect(available(try martlet.check(device, secret)) == false)
            let image = try martlet.release("m/1.1.0")
            #expect(available(try martlet.check(device, secret)) == false, "it is not promoted")
            try martlet.step("promote", "m/1.1.0")

            // Its people, without an address.
            for token in [martlet.owner, martlet.admin] {
                let answer = try client.get("GET", path, token: token)
                #expect(available(answer) == true && answer["latestVersion"] as? String == "1.1.0")
                #expect(answer["currentVersion"] is NSNull && answer["url"] == nil, "\(answer.text)")
            }
            #expect(try client.ask("GET", path, token: martlet.other).code == "not_found")
            #expect(try client.ask("GET", path).code == "not_authenticated")
            #expect(try client.ask("GET", path, token: martlet.token(.newAdmin)).code == "password_change_required")

            // Itself, by either of its names.
            for name in [device, device.lowercased(), "esp32_\(device.lowercased())", "ESP32_\(device)"] {
                let answer = try martlet.check(device, as: name, secret)
                #expect(available(answer) == true, "\(name): \(answer.text)")
                #expect(answer["size"] as? Int == image.count)
                #expect(answer["sha256"] as? String == hexadecimalDigest(image))
                let url = try #require(answer["url"] as? String)
                #expect(url.hasPrefix("http://127.0.0.1:\(martlet.port)/firmware/m/1.1.0/firmware.bin?d=\(device)&e="))
            }
            #expect(try martlet.check(device.lowercased(), as: device, secret)["url"] != nil)
            for (name, password) in [
                (device, otherSecret), (device, ""), (device, secret + "x"), ("none", secret), ("", ""),
                ("owner@x", RESTMartlet.password),
            ] {
                let answer = try martlet.check(device, as: name, password)
                #expect(answer.status == 401 && answer.code == "invalid_credentials", "\(name): \(answer.text)")
            }
            let foreign = try martlet.check(device, as: other, otherSecret)
            #expect(foreign.status == 404 && foreign.code == "not_found", "another device's")
            for field in ["Basic", "Basic !", "Basic eA==", "Digest x", "Basic \(secret)"] {
                let answer = try client.ask("GET", path, fields: ["Authorization: \(field)"])
                #expect(answer.status == 401, "\(field)")
            }
            let bareAnswer = try martlet.check(bare, bareSecret)
            #expect(available(bareAnswer) == false && bareAnswer["latestVersion"] is NSNull, "\(bareAnswer.text)")

            // What it runs.
            for (version, isNew) in [
                ("1.0.0", true), ("1.1.0", false), ("v1.1.0", false), ("1.2.0", true), ("1.1", true),
                ("my firmware", true),
            ] {
                try martlet.report(version, by: device, secret)
                let answer = try martlet.check(device, secret)
                #expect(available(answer) == isNew && (answer["url"] != nil) == isNew, "\(version): \(answer.text)")
                #expect(answer["currentVersion"] as? String == version)
                #expect(answer["latestVersion"] as? String == "1.1.0")
            }
            // A rollback is an update too.
            try martlet.release("m/1.2.0", ["verify", "approve", "promote"])
            try martlet.report("1.2.0", by: device, secret)
            #expect(available(try martlet.check(device, secret)) == false)
            try martlet.step("promote", "m/1.1.0")
            #expect(try martlet.check(device, secret)["latestVersion"] as? String == "1.1.0")
            #expect(available(try martlet.check(device, secret)) == true)
            try martlet.step("block", "m/1.1.0")
            #expect(available(try martlet.check(device, secret)) == false)
            try martlet.step("unblock", "m/1.1.0")
            #expect(available(try martlet.check(device, secret)) == true)

            try client.get("POST", "/api/admin/device/\(device)/block", token: martlet.admin)
            let blocked = try martlet.check(device, secret)
            #expect(blocked.status == 403 && blocked.code == "blocked", "\(blocked.text)")
            #expect(try martlet.check(device, otherSecret).code == "invalid_credentials")
            try client.get("DELETE", "/api/device/\(device)", token: martlet.admin)
            #expect(try martlet.check(device, secret).code == "invalid_credentials")
            for word in [secret, otherSecret, bareSecret] { #expect(!martlet.program.output.contains(word)) }
            try martlet.stop()
        }

        @Test func `a device that guesses has to wait`() throws {
            let martlet = try RESTMartlet(["login_attempts 10"], people: [])
            let (device, secret) = try martlet.addDevice(model: "m")
            for _ in 0..<10 { #expect(try martlet.check(device, "wrong").code == "invalid_credentials") }
            for password in ["wrong", secret] {
                let answer = try martlet.check(device, password)
                #expect(answer.status == 429 && answer.code == "too_many_attempts", "\(answer.text)")
            }
            let (other, otherSecret) = try martlet.addDevice(model: "m")
            #expect(try martlet.check(other, otherSecret).status == 200)
            try martlet.stop()
        }

        // MARK: - Addresses

        /// Everything that an address could be made of who knows one. Name and target.
        private func forgeries(of url: String, other device: String) throws -> [(String, String)] {
            let whole = target(url)
            let parts = whole.split(separator: "?").map(String.init)
            let (path, query) = (parts[0], parts[1])
            let parameters = query.split(separator: "&").map(String.init)
            try #require(parameters.count == 4 && parameters.map { $0.prefix(2) } == ["d=", "e=", "k=", "s="])
            func asked(_ parameters: [String]) -> String { "\(path)?\(parameters.joined(separator: "&"))" }
            var all: [(String, String)] = [("no query", path), ("empty query", path + "?")]
            for (number, parameter) in parameters.enumerated() {
                for offset in 2..<parameter.count {
                    var bytes = Array(parameter.utf8)
                    let isLetter = bytes[offset] | 0x20 >= UInt8(ascii: "a")
                    bytes[offset] = isLetter ? bytes[offset] ^ 0x20 : bytes[offset] ^ 1
                    var changed = parameters
                    changed[number] = String(decoding: bytes, as: UTF8.self)
                    all.append(("\(parameter) altered at \(offset)", asked(changed)))
                }
                for value in ["", "0", "-1", "+1", "99999999999", "99999999999999999999", " ", "A"] {
                    var changed = parameters
                    changed[number] = "\(parameter.prefix(2))\(value)"
                    all.append(("\(parameter) is \(value)", asked(changed)))
                }
                var changed = parameters
                changed.remove(at: number)
                all.append(("without \(parameter)", asked(changed)))
                all.append(("\(parameter) at the end again", asked(parameters + [parameter])))
                changed = parameters
                changed.insert(parameter, at: number)
                all.append(("\(parameter) twice", asked(changed)))
                changed = parameters
                changed[number] = parameter.prefix(1).uppercased() + parameter.dropFirst()
                all.append(("\(parameter) in capitals", asked(changed)))
                let first = parameter.utf8[parameter.utf8.index(parameter.startIndex, offsetBy: 2)]
                changed[number] = "\(parameter.prefix(2))%\(String(first, radix: 16))\(parameter.dropFirst(3))"
                all.append(("\(parameter) with an encoded byte", asked(changed)))
                for other in parameters.indices where other > number {
                    var changed = parameters
                    changed.swapAt(number, other)
                    all.append(("\(parameter) swapped", asked(changed)))
                }
            }
            for (name, text) in [
                ("one more", "\(whole)&x=1"), ("one more in front", asked(["x=1"] + parameters)),
                ("an empty one", "\(whole)&"), ("an empty one in front", asked([""] + parameters)),
                ("a semicolon", "\(whole);x=1"), ("padding", "\(whole)="), ("a line", "\(whole)%0A"),
                ("a fragment", "\(whole)#x"), ("encoded &", whole.replacing("&k=", with: "%26k=")),
                ("another device", whole.replacing(parameters[0], with: "d=\(device)")),
                ("a small device", whole.replacing(parameters[0], with: parameters[0].lowercased())),
                ("another version", whole.replacing("/1.0.0/", with: "/1.1.0/")),
                ("a v", whole.replacing("/1.0.0/", with: "/v1.0.0/")),
                ("another model", whole.replacing("/m/", with: "/n/")),
                ("a large model", whole.replacing("/m/", with: "/M/")),
                ("an encoded model", whole.replacing("/m/", with: "/%6D/")),
                ("an encoded point", whole.replacing("/1.0.0/", with: "/1%2E0.0/")),
                ("an encoded slash", whole.replacing("/m/", with: "/m%2F")),
                ("two slashes", whole.replacing("/m/", with: "//m/")), ("two in front", "/\(whole)"),
                ("a slash at the end", whole.replacing("firmware.bin", with: "firmware.bin/")),
                ("a dot segment", whole.replacing("/m/", with: "/./m/")),
                ("a way back", whole.replacing("/m/", with: "/x/../m/")),
                ("an encoded way back", whole.replacing("/m/", with: "/x/%2e%2e/m/")),
                ("capitals", whole.replacing("firmware.bin", with: "FIRMWARE.BIN")),
                ("another file", whole.replacing("firmware.bin", with: "metadata.json")),
                ("the production copy", whole.replacing("/1.0.0/", with: "/production/")),
                ("a plus", whole.replacing("&e=", with: "&e=+")), ("a zero", whole.replacing("&e=", with: "&e=0")),
            ] { all.append((name, text)) }
            return all
        }

        @Test func `an address works for one device, one release and a time, and as it was given only`() throws {
            let martlet = try RESTMartlet(people: [])
            let client = martlet.client
            let image = try martlet.release("m/1.0.0", ["verify", "approve", "promote"])
            try martlet.release("m/1.1.0")
            try martlet.release("n/1.0.0", ["verify", "approve", "promote"], image: image)
            try martlet.release("M/1.0.0", image: image)
            let (device, secret) = try martlet.addDevice(model: "m")
            let (other, _) = try martlet.addDevice(model: "m")
            let url = try martlet.address(device, secret)
            for method in ["GET", "HEAD", "GET"] {
                let answer = try client.ask(method, target(url))
                #expect(answer.status == 200 && answer.head.length == image.count, "\(method)")
                #expect(answer.body == (method == "GET" ? image : []))
            }
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                #expect(try client.ask(method, target(url)).code == "method_not_allowed", "\(method)")
            }
            let absolute = try client.ask("GET", url)
            #expect(absolute.status == 200 && absolute.body == image, "the same in absolute form")
            for (name, forged) in try forgeries(of: url, other: other) {
                try #require(forged != target(url), "\(name)")
                let answer = try client.ask("GET", forged)
                let isRefused = answer.status == 403 || answer.status == 400 || answer.status == 404
                #expect(isRefused && answer.code != nil, "\(name): \(answer.status) to \(forged)")
                let head = try client.ask("HEAD", forged)
                #expect(head.status == answer.status && head.body.isEmpty, "\(name)")
            }
            // Nobody's log-in makes a wrong one right.
            #expect(try client.ask("GET", target(url) + "x", token: martlet.admin).status == 403)

            // Keys follow one another.
            try martlet.stop()
            try martlet.restart()
            #expect(try client.ask("GET", target(url)).status == 200, "after a restart")
            try client.get("POST", "/api/admin/keys/url", token: martlet.admin)
            #expect(try client.ask("GET", target(url)).status == 200, "of a key before the latest")
            let next = try martlet.address(device, secret)
            let key = { (url: String) in url.split(separator: "&").first { $0.hasPrefix("k=") } }
            #expect(key(next) != key(url) && key(next) != nil)
            try client.get("POST", "/api/admin/keys/url", token: martlet.admin, body: #"{"revoke":true}"#)
            for url in [url, next] { #expect(try client.ask("GET", target(url)).status == 403, "it was revoked") }

            // What nobody gets any more.
            let latest = try martlet.address(device, secret)
            func answers(_ status: Int, _ what: Comment, location: SourceLocation = #_sourceLocation) throws {
                for method in ["GET", "HEAD"] {
                    let answer = try client.ask(method, target(latest))
                    #expect(answer.status == status, what, sourceLocation: location)
                }
            }
            try answers(200, "it is new")
            try martlet.step("block", "m/1.0.0")
            try answers(403, "its version is blocked")
            try martlet.step("unblock", "m/1.0.0")
            try answers(200, "it is no more")
            try client.get(
                "POST", "/api/admin/device/\(device)/block", token: martlet.admin, body: #"{"blocked":true}"#)
            try answers(403, "the device is blocked")
            try client.get(
                "POST", "/api/admin/device/\(device)/block", token: martlet.admin, body: #"{"blocked":false}"#)
            try answers(200, "it is no more")
            try martlet.step("promote", "m/1.1.0")
            try answers(200, "it has begun before")
            try client.get("DELETE", "/api/device/\(device)", token: martlet.admin)
            try answers(403, "the device is deleted")
            let (again, _) = try martlet.addDevice(model: "m", id: device)
            #expect(again == device)
            let (fresh, freshSecret) = try martlet.addDevice(model: "m")
            let last = try martlet.address(fresh, freshSecret)
            try martlet.step("promote", "m/1.1.0")
            #expect(try client.ask("GET", target(last)).status == 200)
            try martlet.release("m/2", ["verify", "approve", "promote"])
            try client.get("DELETE", "/api/firmware/m/1.1.0", token: martlet.admin)
            #expect(try client.ask("GET", target(last)).status == 403, "the release is deleted")

            let said = martlet.program.output
            for url in [url, next, latest, last] {
                let signature = try #require(url.split(separator: "=").last)
                #expect(!said.contains(signature), "signatures reach no log")
            }
            #expect(!said.contains("?d=") && !said.contains("&s="))
            try martlet.stop()
        }

        @Test(.disabled(if: isSanitized, "a sanitizer wants to be loaded first"))
        func `an address ends when firmware_url_ttl is over`() throws {
            let martlet = try RESTMartlet(["firmware_url_ttl 600"], people: [], withFaults: true)
            let faults = try #require(martlet.faults)
            try martlet.release("m/1.0.0", ["verify", "approve", "promote"])
            let (device, secret) = try martlet.addDevice(model: "m")
            let url = try martlet.address(device, secret)
            for (seconds, status) in [(0, 200), (500, 200), (601, 410), (86_400 * 400, 410), (0, 200)] {
                faults.moveClock(seconds: seconds)
                let answer = try martlet.client.ask("GET", target(url))
                #expect(answer.status == status && answer.code == (status == 410 ? "expired" : nil), "\(seconds)")
                let wrong = try martlet.client.ask("GET", target(url) + "x")
                #expect(wrong.status == 403, "what is not ours is wrong, and not late")
            }
            try martlet.stop()
        }

        @Test func `a device may ask by its certificate`() throws {
            let place = try Place([]) { ["cafile \($0.file("ca.crt"))", "require_certificate true"] }
            let martlet = place.martlet
            let device = try martlet.addDevice(model: "m").id
            let other = try martlet.addDevice(model: "m").id
            let image = try martlet.release("m/1.1.0", ["verify", "approve", "promote"])
            try place.authority.issue("device", "/CN=\(device.lowercased())")
            try place.authority.issue("server-only", "/CN=\(device)", "extendedKeyUsage=serverAuth")
            try place.authority.issue("stranger", "/CN=STRANGER")
            func ask(_ device: String, as certificate: String, _ fields: [String] = []) throws -> (Int, [String: Any]) {
                let url = "https://127.0.0.1:\(place.securePort)/api/ota/\(device)/check"
                let client = try HTTPSUpdateClient(url, trusting: place.authority, certificate: certificate)
                let answer = try client.ask("GET", fields: fields)
                return (
                    answer.head.status,
                    try JSONSerialization.jsonObject(with: Data(answer.body)) as? [String: Any] ?? [:]
                )
            }
            let (status, members) = try ask(device, as: "device")
            #expect(status == 200 && members["updateAvailable"] as? Bool == true)
            let url = try #require(members["url"] as? String)
            let client = try HTTPSUpdateClient(url, trusting: place.authority, certificate: "device")
            #expect(try client.download(.whole) == image)
            #expect(try ask(other, as: "device").0 == 404)
            #expect(try ask(device, as: "stranger").0 == 401)
            // What is said besides counts instead.
            #expect(try ask(device, as: "device", ["Authorization: Basic eDp5"]).0 == 401)
            try martlet.client.get("POST", "/api/admin/device/\(device)/block", token: martlet.admin)
            let blocked = try ask(device, as: "device")
            #expect(blocked.0 == 403 && blocked.1["code"] as? String == "blocked")
            // OpenSSL itself refuses a certificate that is for servers.
            let isRefused: Bool
            do { isRefused = try ask(device, as: "server-only").0 == 401 } catch { isRefused = true }
            #expect(isRefused)
            try martlet.stop()
        }

        // MARK: - Downloads

        @Test func `esp_https_ota gets the image byte for byte, in each of its modes`() throws {
            let place = try Place()
            let martlet = place.martlet
            let long = String(repeating: "W", count: 32)
            let image = ImageBuilder.large(codeBytes: 300_001 * 4).bytes()
            try martlet.release("\(long)/\(long)", ["verify", "approve", "promote"], image: image)
            let (device, secret) = try martlet.addDevice(model: long, id: String(repeating: "D", count: 32))
            let url = try martlet.address(device, secret)
            #expect(url.hasPrefix("https://127.0.0.1:\(place.securePort)/"), "though it was asked for without TLS")
            let clients = [
                ("HTTPS", try HTTPSUpdateClient(url, trusting: place.authority)),
                ("HTTP", try HTTPSUpdateClient(place.plain(url))),
            ]
            for (scheme, client) in clients {
                for mode in [
                    .whole, .resumed(from: []), .resumed(from: Array(image.prefix(1))),
                    .resumed(from: Array(image.prefix(700_000))), .resumed(from: Array(image.dropLast())),
                    .partial(bytes: 64 << 10), .partial(bytes: image.count), .partial(bytes: image.count - 1),
                    .partial(bytes: image.count + 1),
                ] as [HTTPSUpdateClient.Mode] {
                    #expect(try client.download(mode) == image, "\(scheme), \(mode)")
                }
                // One past the end, as its first part may be.
                let past = try client.ask("GET", range: "0-\(image.count)")
                #expect(past.head.status == 206 && past.body == image, "\(scheme)")
                #expect(past.head["Content-Range"] == "bytes 0-\(image.count - 1)/\(image.count)", "\(scheme)")
                // It holds already all that there is.
                let beyond = try client.ask("GET", range: "\(image.count)-")
                #expect(beyond.head.status == 416, "\(scheme)")
                #expect(beyond.head["Content-Range"] == "bytes */\(image.count)", "\(scheme)")
                let start = try client.ask("GET", range: "0-0")
                #expect(start.head.status == 206 && start.body == [0xE9], "where HEAD is refused")
            }
            try martlet.stop()
        }

        @Test func `ranges and tags are RFC 9110's, and nothing is packed`() throws {
            let martlet = try RESTMartlet(people: [])
            let image = ImageBuilder.large(codeBytes: 100_000).bytes()
            try martlet.release("m/1", ["verify", "approve", "promote"], image: image)
            try martlet.release("m/2", image: image + [0xFF])
            let (device, secret) = try martlet.addDevice(model: "m")
            let path = target(try martlet.address(device, secret))
            func get(_ fields: String..., method: String = "GET") throws -> RESTClient.Answer {
                try martlet.client.ask(method, path, fields: fields)
            }
            let whole = try get()
            let tag = try #require(whole.head["ETag"])
            #expect(tag.hasPrefix("\"") && whole.head["Accept-Ranges"] == "bytes")
            #expect(whole.head["Content-Type"] == "application/octet-stream")
            #expect(whole.head["Cache-Control"]?.contains("private") == true)
            let count = image.count
            for (range, part) in [
                ("0-", 0..<count), ("0-0", 0..<1), ("1-9", 1..<10), ("-1", (count - 1)..<count),
                ("-\(count * 2)", 0..<count),
                ("65536-131071", 65_536..<131_072), ("\(count - 1)-", (count - 1)..<count), ("9-\(count)", 9..<count),
                ("9-99999999999999999999", 9..<count),
            ] {
                let answer = try get("Range: bytes=\(range)")
                #expect(answer.status == 206 && answer.body == Array(image[part]), "\(range)")
                #expect(answer.head["Content-Range"] == "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(count)")
                #expect(answer.head["ETag"] == tag)
            }
            for range in ["\(count)-", "\(count)-\(count + 9)", "-0", "99999999999999999999-"] {
                let answer = try get("Range: bytes=\(range)")
                #expect(answer.status == 416 && answer.head["Content-Range"] == "bytes */\(count)", "\(range)")
                #expect(answer.body.isEmpty)
            }
            for range in ["bytes=", "bytes=-", "bytes=9-1", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1", "bytes 0-1"] {
                let answer = try get("Range: \(range)")
                #expect(answer.status == 200 && answer.body == image, "what can't be read is as if it were not there")
            }
            let other = "\"\(String(repeating: "0", count: 32))\""
            for (condition, status) in [
                (tag, 206), (other, 200), ("W/\(tag)", 200), ("Mon, 23 Nov 2026 00:00:00 GMT", 200),
            ] {
                let answer = try get("Range: bytes=9-", "If-Range: \(condition)")
                #expect(answer.status == status, "\(condition)")
                #expect(answer.body == (status == 206 ? Array(image[9...]) : image))
            }
            for (condition, status) in [
                (tag, 304), ("W/\(tag)", 304), ("\(other), \(tag)", 304), ("*", 304), (other, 200),
            ] {
                for method in ["GET", "HEAD"] {
                    let answer = try get("If-None-Match: \(condition)", method: method)
                    #expect(answer.status == status && answer.head["ETag"] == tag, "\(condition)")
                    #expect(answer.body == (status == 200 && method == "GET" ? image : []))
                }
            }
            let ranged = try get("Range: bytes=5-9", method: "HEAD")
            #expect(ranged.status == 200 && ranged.head.length == count, "a range is GET's")
            for fields in [[], ["Range: bytes=0-70000"]] {
                for method in ["GET", "HEAD"] {
                    let answer = try martlet.client.ask(
                        method, path, fields: fields + ["Accept-Encoding: gzip, deflate, br", "TE: trailers"])
                    #expect(answer.head["Content-Encoding"] == nil && answer.head["Transfer-Encoding"] == nil)
                    #expect(answer.head["Content-Length"] != nil && answer.head["ETag"] == tag)
                }
            }
            try martlet.step("promote", "m/2")
            let second = try martlet.client.ask("GET", target(try martlet.address(device, secret)))
            #expect(second.head["ETag"] != tag && second.body == image + [0xFF], "other bytes, another tag")
            try martlet.stop()
        }

        @Test func `who reads slowly holds up nobody else, and gets all of it`() throws {
            let place = try Place()
            let martlet = place.martlet
            let image = ImageBuilder.large(codeBytes: 2_000_000).bytes()
            try martlet.release("m/1", ["verify", "approve", "promote"], image: image)
            let (device, secret) = try martlet.addDevice(model: "m")
            let url = try martlet.address(device, secret)
            let request = "GET \(target(url)) HTTP/1.1\r\nHost: localhost\r\n\r\n"
            let slow = try (0..<12).map { _ in try WebClient(port: martlet.port, receiveBufferBytes: 4_096) }
            for client in slow { try client.send(request) }
            #expect(eventually { slow.allSatisfy(\.hasInput) })
            let before = martlet.residentMegabytes
            for (scheme, client) in [
                ("HTTPS", try HTTPSUpdateClient(url, trusting: place.authority)),
                ("HTTP", try HTTPSUpdateClient(place.plain(url))),
            ] { #expect(try client.download(.whole) == image, "\(scheme)") }
            #expect(try martlet.check(device, secret).status == 200)
            #expect(try martlet.upload("m/2", image).status == 201)
            #expect(try martlet.step("verify", "m/2").status == 200)
            #expect(martlet.residentMegabytes < before + 24, "an image does not lie in memory for each")
            for client in slow.prefix(2) {
                let (answer, body) = try client.wholeAnswer(within: 30)
                #expect(answer.status == 200 && body == image)
            }
            for client in slow.dropFirst(2) { client.reset() }
            #expect(try martlet.check(device, secret).status == 200)
            try martlet.stop()
        }
    }
}
