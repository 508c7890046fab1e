import FirmwareImages
import Foundation
import Glibc
import Testing

extension System {
    /// What an administrator does below `firmware/` by hand.
    @Suite struct `The tree of firmware, edited by hand` {
        @Test func `version txt says what devices shall run, from the next check on`() throws {
            let martlet = try RESTMartlet(people: [])
            let one = try martlet.release("m/1.0.0")
            let two = try martlet.release("m/1.1.0", ["verify", "approve", "promote"])
            try martlet.release("m/1.2.0", ["verify"])
            try martlet.release("m/1.3.0")
            try martlet.step("block", "m/1.3.0", body: #"{"reason":"boot loop"}"#)
            let (device, secret) = try martlet.addDevice(model: "m")
            func latest() throws -> String? {
                let answer = try martlet.check(device, secret)
                guard answer.status == 200 else { throw Unexpected(answer.text) }
                return answer["latestVersion"] as? String
            }
            #expect(try latest() == "1.1.0")
            for (text, version, image) in [
                ("1.0.0", "1.0.0", one), ("1.1.0\n", "1.1.0", two), ("v1.0.0\r\n", "1.0.0", one),
                (" \t1.1.0  \n\n", "1.1.0", two), ("V1.0.0", "1.0.0", one),
            ] {
                try martlet.edit("m/production/version.txt", text)
                for _ in 1...2 { #expect(try latest() == version, "\(text)") }
                #expect(martlet.firmwareBytes("m/production/firmware.bin") == image, "\(text)")
                let beside = martlet.firmwareBytes("m/releases/v\(version)/metadata.json")
                #expect(martlet.firmwareBytes("m/production/metadata.json") == beside && beside != nil)
                #expect(martlet.firmwareBytes("m/production/version.txt") == Array(text.utf8), "what is there stays")
                let states = try martlet.states()
                #expect(states["m/\(version)"] == "PROMOTED")
                #expect(states["m/\(version == "1.0.0" ? "1.1.0" : "1.0.0")"] == "RETIRED")
            }
            let promotions = try martlet.firmwareActivity().filter { $0.contains("file:version.txt") }
            #expect(promotions.count == 5 && promotions.allSatisfy { $0.hasPrefix("FIRMWARE_PROMOTED") })

            // What is no version of ours, or none that devices may have.
            for (text, why) in [
                ("9.9.9\n", "m 9.9.9 shall be run, and there is no such release"),
                ("1.2.0\n", "m 1.2.0 shall be run, and nobody has approved of it"),
                ("1.3.0\n", "m 1.3.0 shall be run, and is blocked"),
                ("1.0.0 1.1.0\n", "version.txt: it has one version in it"),
                ("../../x", "version.txt: it has one version in it"), ("\u{0}\u{1}", "version.txt: it has one version"),
                (String(repeating: "1", count: 300), "version.txt: longer than"),
            ] {
                let before = martlet.logged(why)
                try martlet.edit("m/production/version.txt", text)
                for _ in 1...3 { #expect(try latest() == nil, "\(text)") }
                #expect(eventually { martlet.logged(why) > before })
                #expect(martlet.logged(why) == before + 1, "once: \(why)")
                #expect(martlet.firmwareBytes("m/production/firmware.bin") == one, "that stays as it was")
                try martlet.edit("m/production/version.txt", "1.0.0\n")
                #expect(try latest() == "1.0.0")
            }
            let broken = try martlet.firmwareActivity()
            #expect(broken.count { $0.contains("file:version.txt") } == 5, "nothing was promoted by that")

            // Nothing at all is nothing to run, and no mistake.
            let lines = martlet.logged("firmware needs a look")
            for text in ["", "\n"] {
                try martlet.edit("m/production/version.txt", text)
                #expect(try latest() == nil)
                #expect(try martlet.states()["m/1.0.0"] == "RETIRED")
            }
            unlink(martlet.firmwarePath("m/production/version.txt"))
            #expect(try latest() == nil && martlet.logged("firmware needs a look") == lines)

            // What can't be read is said to whoever wants to change something by it.
            try martlet.edit("m/production/version.txt", "a b")
            let refused = try martlet.client.ask("DELETE", "/api/firmware/m/1.0.0", token: martlet.admin)
            #expect(
                refused.status == 409 && refused.text.contains("version.txt: it has one version"), "\(refused.text)")
            #expect(try martlet.step("promote", "m/1.1.0").status == 200, "which mends it")
            #expect(try latest() == "1.1.0")
            try martlet.stop()
        }

        @Test func `blocked_versions json keeps versions from devices, from the next check on`() throws {
            let martlet = try RESTMartlet(people: [])
            try martlet.release("m/1.0.0", ["verify", "approve", "promote"])
            try martlet.release("m/1.1.0")
            let (device, secret) = try martlet.addDevice(model: "m")
            let url = try martlet.address(device, secret)
            let file = "m/rollback/blocked_versions.json"
            func isOffered() throws -> Bool? { try martlet.check(device, secret)["updateAvailable"] as? Bool }
            for text in [
                #"{"blocked_versions":["1.0.0"],"reason":{"1.0.0":"boot loop"}}"#,
                #"{"blocked_versions":["0.1","v1.0.0"],"reason":{"1.0.0":"boot loop"},"who":"ops"}"#,
                #"{"blocked_versions":["1.0.0"],"reason":{"v1.0.0":"boot loop"}}"#,
            ] {
                try martlet.edit(file, text)
                #expect(try isOffered() == false, "\(text)")
                #expect(try martlet.client.ask("GET", target(url)).status == 403, "\(text)")
                let shown = try martlet.firmware("m/1.0.0")
                #expect(shown["firmware", "state"] as? String == "BLOCKED", "\(text)")
                #expect(shown["firmware", "blockedReason"] as? String == "boot loop", "\(text)")
                try martlet.edit(file, #"{"blocked_versions":[]}"#)
                #expect(try isOffered() == true && martlet.client.ask("GET", target(url)).status == 200)
            }
            #expect(eventually { martlet.logged("m 1.0.0 shall be run, and is blocked") == 3 }, "each time once")

            // What can't be read blocks everything, is told once, and is not overwritten.
            for text in ["", "{", "[]", "{}", #"{"blocked_versions":[1]}"#, #"{"blocked_versions":["../x"]}"#] {
                let before = martlet.logged("blocked_versions.json: it is")
                try martlet.edit(file, text)
                for _ in 1...3 { #expect(try isOffered() == false, "\(text)") }
                let answer = try martlet.client.ask("GET", target(url))
                #expect(answer.status == 403, "\(text): \(answer.text)")
                #expect(eventually { martlet.logged("blocked_versions.json: it is") > before }, "\(text)")
                #expect(martlet.logged("blocked_versions.json: it is") == before + 1, "\(text)")
                for (name, release) in [("block", "m/1.1.0"), ("unblock", "m/1.0.0"), ("promote", "m/1.1.0")] {
                    let answer = try martlet.step(name, release)
                    #expect(answer.status == 409 && answer.code == "wrong_state", "\(name): \(answer.text)")
                    #expect(answer.text.contains("blocked_versions.json: it is"), "\(name): \(answer.text)")
                    #expect(!answer.text.contains(martlet.directory.path), "\(name): \(answer.text)")
                }
                #expect(martlet.firmwareBytes(file) == Array(text.utf8), "\(text)")
                try martlet.edit(file, #"{"blocked_versions":[]}"#)
                #expect(try isOffered() == true)
            }
            // What others have put there stays.
            try martlet.edit(
                file, #"{"blocked_versions":["v0.1","0.2"],"reason":{"0.1":"too old"},"who":"ops"}"#)
            try martlet.step("block", "m/1.1.0", body: #"{"reason":"no Wi-Fi"}"#)
            let bytes = try #require(martlet.firmwareBytes(file))
            let members = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
            #expect(members["blocked_versions"] as? [String] == ["0.1", "0.2", "1.1.0"])
            #expect(members["reason"] as? [String: String] == ["0.1": "too old", "1.1.0": "no Wi-Fi"])
            #expect(members["who"] as? String == "ops")
            try martlet.stop()
        }

        @Test func `what is there at the start is taken over, and what is gone is forgotten`() throws {
            let martlet = try RESTMartlet(people: [])
            let image = try martlet.release("m/1.0.0", ["verify", "approve", "promote"])
            try martlet.release("m/1.1.0")
            try martlet.release("m/1.2.0")
            try martlet.release("gone/1")
            let (device, secret) = try martlet.addDevice(model: "m")
            try martlet.stop()
            // By hand, and from another server.
            try martlet.edit("n/releases/v3.0.0/firmware.bin", RESTMartlet.image("3.0.0"))
            try martlet.edit("m/releases/v2.0.0/firmware.bin", RESTMartlet.image("2.0.0"))
            try martlet.edit(
                "m/releases/v2.0.0/metadata.json",
                #"{"description":"by hand","uploadedBy":"ops@x","createdAt":"2026-01-02T03:04:05Z"}"#)
            // A copy, of which only the image was replaced.
            let copied = try #require(martlet.firmwareBytes("m/releases/v1.0.0/metadata.json"))
            try martlet.edit("m/releases/v2.2.0/metadata.json", copied)
            try martlet.edit("m/releases/v2.2.0/firmware.bin", RESTMartlet.image("2.2.0"))
            try martlet.edit("m/releases/v2.1.0/firmware.bin", [1, 2, 3])
            try FileManager.default.removeItem(atPath: martlet.firmwarePath("m/releases/v1.1.0"))
            try FileManager.default.removeItem(atPath: martlet.firmwarePath("gone"))
            unlink(martlet.firmwarePath("m/releases/v1.2.0/firmware.bin"))
            // What is none of ours.
            for name in [
                "README.txt", ".hidden", "a b/x", "m/notes.txt", "m/releases/notes.txt", "m/releases/v1.5.0",
                "m/releases/1.6.0/firmware.bin", "m/releases/v1.7.0/notes.txt", "m/releases/v../x",
                "m/releases/.draft-00/sub/x", "m/releases/v1.8.0/firmware.bin/x", "file/releases",
            ] { try martlet.edit(name, "x") }
            try FileManager.default.createSymbolicLink(
                atPath: martlet.firmwarePath("link"), withDestinationPath: martlet.firmwarePath("n"))
            try FileManager.default.createSymbolicLink(
                atPath: martlet.firmwarePath("m/releases/v1.9.0"), withDestinationPath: "/etc")
            try martlet.restart()
            let states = [
                "m/1.0.0": "PROMOTED", "m/2.0.0": "UPLOADED", "m/2.1.0": "UPLOADED", "m/2.2.0": "UPLOADED",
                "n/3.0.0": "UPLOADED",
            ]
            #expect(try martlet.states() == states)
            #expect(try martlet.models().filter { ["README.txt", "link", "gone"].contains($0) } == [])
            let adopted = try martlet.firmware("m/2.0.0")
            #expect(adopted["firmware", "description"] as? String == "by hand")
            #expect(adopted["firmware", "uploadedBy"] as? String == "ops@x")
            #expect((adopted["firmware", "createdAt"] as? String)?.hasPrefix("2026-01-02T03:04:05") == true)
            #expect(try martlet.firmware("n/3.0.0")["firmware", "uploadedBy"] as? String == "server")
            #expect(eventually { martlet.logged("m 2.0.0 lay under firmware/ and was not known") == 1 })
            #expect(martlet.logged("the image of m 1.1.0 is gone from firmware/") == 1)
            for entry in [
                "FIRMWARE_UPLOADED server m/2.0.0", "FIRMWARE_UPLOADED server n/3.0.0",
                "FIRMWARE_DELETED server m/1.1.0", "FIRMWARE_DELETED server gone/1",
            ] { #expect(try martlet.firmwareActivity().contains(entry), "\(entry)") }

            // It goes the way of all.
            #expect(try martlet.step("promote", "n/3.0.0").code == "wrong_state")
            for name in ["verify", "approve", "promote"] { #expect(try martlet.step(name, "n/3.0.0").status == 200) }
            #expect(martlet.firmwareBytes("n/production/firmware.bin") == RESTMartlet.image("3.0.0"))
            #expect(try martlet.step("verify", "m/2.1.0").status == 422)
            for version in ["2.2.0", "2.0.0"] {
                for name in ["verify", "approve", "promote"] {
                    #expect(try martlet.step(name, "m/\(version)").status == 200)
                }
                #expect(try martlet.check(device, secret)["latestVersion"] as? String == version)
                #expect(martlet.firmwareBytes("m/production/firmware.bin") == RESTMartlet.image(version))
            }
            // What was there once may come again.
            for version in ["1.1.0", "1.2.0"] {
                let answer = try martlet.upload("m/\(version)", RESTMartlet.image(version))
                #expect(answer.status == 201, "\(version): \(answer.text)")
            }
            let before = try martlet.states()
            try martlet.stop()
            try martlet.restart()
            #expect(try martlet.states() == before)

            // Put there while the server runs: known at the next start, and in the way of an upload until then.
            try martlet.edit("m/releases/v5.0.0/firmware.bin", image)
            #expect(try martlet.upload("m/5.0.0", image).code == "already_exists")
            try martlet.stop()
            try martlet.restart()
            #expect(try martlet.state("m/5.0.0") == "UPLOADED")
            try martlet.stop()
        }
    }
}
