import Foundation
import Glibc
import Testing

extension System {
    /// Updates that people want no more, or whose release or device is another meanwhile.
    @Suite struct `Updates that do not go on` {
        private static let release = "m/1.1.0"

        @Test func `are canceled until the device says that it is done`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            for stage in UpdatedDevice.Stage.allCases {
                let device = try UpdatedDevice(martlet)
                let url = try device.reach(stage)?.url
                if let url { #expect(try martlet.fetch(url) == 200) }
                let answer = try martlet.cancel(device.id, token: martlet.owner)
                guard stage != .done else {
                    #expect(answer.status == 409 && answer.code == "wrong_state", "\(answer.text)")
                    #expect(try martlet.settled(device.id).status == "IN_PROGRESS")
                    if let url { #expect(try martlet.fetch(url) == 200) }
                    continue
                }
                let canceled = try #require(ShownDeployment(answer["deployment"]), "\(answer.text)")
                #expect(canceled.status == "CANCELED" && canceled.hasEnded && !canceled.isDue)
                #expect(try martlet.history(device.id) == [canceled])
                if let url { #expect(try martlet.fetch(url) == 403, "\(stage)") }
                #expect(try martlet.cancel(device.id).code == "wrong_state")
                if stage == .away { try device.connect() } else { try device.says("IN_PROGRESS") }
                #expect(try martlet.settled(device.id) == canceled)
                #expect(try martlet.updateActivity(device.id).last == "OTA_CANCELED")

                // It is asked for again.
                let next = try martlet.started(device.id)
                let offer = try device.offer()
                #expect(offer.deployment == next.id && next.id != canceled.id, "the first that it hears")
                #expect(try martlet.fetch(offer.url) == 200)
                #expect(try martlet.cancel(device.id).status == 200)
                // Whatever it comes up with.
                try device.says(version: "1.1.0", uptime: 1)
                #expect(try martlet.settled(device.id).status == "CANCELED")
            }
            try martlet.stop()
        }

        @Test func `fail when their version is blocked, and nobody fetches it any more`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            var devices: [(UpdatedDevice.Stage, UpdatedDevice, UpdatedDevice.Offer?)] = []
            for stage in UpdatedDevice.Stage.allCases {
                let device = try UpdatedDevice(martlet)
                devices.append((stage, device, try device.reach(stage)))
            }
            #expect(try martlet.step("block", Self.release, body: #"{"reason":"boot loop"}"#).status == 200)
            for (stage, device, offer) in devices {
                let failed = try martlet.awaits(device.id, "FAILED")
                #expect(failed.reason?.isEmpty == false && failed.hasEnded, "\(stage)")
                if let offer { #expect(try martlet.fetch(offer.url) == 403, "\(stage)") }
                #expect(try martlet.start(device.id).code == "wrong_state")
                #expect(try martlet.updateActivity(device.id).last == "OTA_FAILED")
            }
            // What comes too late changes nothing, and the version may be had again by who asks anew.
            try martlet.step("unblock", Self.release)
            for (stage, device, offer) in devices {
                if stage == .away { try device.connect() }
                if stage == .told, let offer { try device.acknowledge(offer) }
                try device.says("IN_PROGRESS")
                #expect(try martlet.settled(device.id).status == "FAILED", "\(stage)")
                try martlet.started(device.id)
            }
            try martlet.stop()
        }

        @Test func `end with the device, and another one by its name knows nothing of them`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            for stage in UpdatedDevice.Stage.allCases {
                let device = try UpdatedDevice(martlet)
                let offer = try device.reach(stage)
                try martlet.client.get("DELETE", "/api/device/\(device.id)", token: martlet.owner)
                #expect(stage == .away || device.isClosed)
                if let offer { #expect(try martlet.fetch(offer.url) == 403, "\(stage)") }
                #expect(try martlet.start(device.id).status == 404)
                #expect(try martlet.cancel(device.id).status == 404)
                let heir = try UpdatedDevice(martlet, id: device.id)
                #expect(try martlet.history(heir.id).isEmpty)
                #expect(try martlet.record(heir.id)["device", "otaStatus"] as? String == "IDLE")
                try heir.says("SUCCESS")
                #expect(try martlet.cancel(heir.id).code == "wrong_state", "\(stage): nothing is under way")
                #expect(try martlet.history(heir.id).isEmpty && !heir.wasTold())
                let started = try martlet.started(heir.id)
                #expect(try heir.offer().deployment == started.id)
                #expect(try martlet.updateActivity(heir.id).last == "OTA_STARTED")
            }
            try martlet.stop()
        }

        @Test func `go to their end when another version is promoted, and fail when theirs is deleted`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            var devices: [(UpdatedDevice.Stage, UpdatedDevice, UpdatedDevice.Offer?)] = []
            for stage in UpdatedDevice.Stage.allCases {
                let device = try UpdatedDevice(martlet)
                devices.append((stage, device, try device.reach(stage)))
            }
            let last = try UpdatedDevice(martlet)
            let begun = try #require(try last.reach(.started))
            try martlet.release("m/1.2.0", ["verify", "approve", "promote"])
            #expect(try martlet.settled(last.id).status == "STARTED")
            #expect(try martlet.client.ask("GET", target(begun.url)).body == RESTMartlet.image("1.1.0"))
            try last.says(version: "1.1.0")
            try martlet.awaits(last.id, "SUCCESS")
            #expect(try martlet.started(last.id).toVersion == "1.2.0")

            #expect(try martlet.client.ask("DELETE", "/api/firmware/m/1.1.0", token: martlet.admin).status == 200)
            for (stage, device, offer) in devices {
                let failed = try martlet.awaits(device.id, "FAILED")
                #expect(failed.reason == "m 1.1.0 is deleted", "\(stage)")
                if let offer { #expect(try martlet.fetch(offer.url) == 403, "\(stage)") }
            }
            #expect(try martlet.settled(last.id).status == "QUEUED", "that is about another one")
            try martlet.stop()
        }

        @Test func `come by a lasting session as by any other, and not once they are canceled`() throws {
            let martlet = try RESTMartlet(promoting: Self.release)
            let device = try UpdatedDevice(martlet, isLasting: true)
            let first = try #require(try device.reach(.told))
            try device.loseConnection()
            try device.connect(listens: nil)
            // Only with a fresh address, though the session had it still.
            let again = try device.offer()
            #expect(again.deployment == first.deployment && !again.packet.isDuplicate)
            try martlet.settle()
            #expect(try !device.wasTold())
            try device.loseConnection()
            #expect(try martlet.cancel(device.id).status == 200)
            try device.connect(listens: nil)
            try martlet.settle()
            #expect(try !device.wasTold())
            let next = try martlet.started(device.id)
            #expect(try device.offer().deployment == next.id)
            try martlet.stop()
        }

        @Test(.disabled(if: isSanitized, "a sanitizer wants to be loaded first"))
        func `are neither begun nor canceled while the disk takes nothing, and what devices say is kept for later`()
            throws
        {
            let martlet = try RESTMartlet(promoting: Self.release, withFaults: true)
            let faults = try #require(martlet.faults)
            let (device, loading) = (try UpdatedDevice(martlet), try UpdatedDevice(martlet))
            let offer = try #require(try loading.reach(.started))
            faults.begin(.fail, only: [.write], errno: ENOSPC)
            let refused = try martlet.start(device.id)
            #expect(refused.status == 507 && refused.code == "storage_failed", "\(refused.text)")
            let kept = try martlet.cancel(loading.id)
            #expect(kept.status == 507 && kept.code == "storage_failed", "\(kept.text)")
            #expect(try !device.wasTold())
            #expect(try martlet.fetch(offer.url) == 200)
            try loading.says("IN_PROGRESS")
            #expect(try martlet.record(loading.id)["device", "otaStatus"] as? String == "IN_PROGRESS")
            faults.end()
            try martlet.awaits(loading.id, "IN_PROGRESS")
            #expect(try martlet.history(device.id).isEmpty)
            #expect(try martlet.updateActivity(device.id).isEmpty)
            #expect(try martlet.updateActivity(loading.id) == ["OTA_STARTED", "OTA_PROGRESS"])
            let started = try martlet.started(device.id)
            #expect(try device.offer().deployment == started.id)
            #expect(try martlet.cancel(loading.id).status == 200)
            try martlet.stop()
        }
    }
}
