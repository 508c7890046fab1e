import Foundation
import Glibc
import Testing

extension System {
    /// What becomes of log-ins: when their time is over, and when the broker ends.
    @Suite struct `REST log-ins` {
        private func status(_ martlet: RESTMartlet, _ token: String) throws -> Int {
            try martlet.client.ask("GET", "/api/auth/me", token: token).status
        }

        @Test func `outlive the broker, and end in their time with the connections that live by them`() throws {
            let martlet = try RESTMartlet()
            let (short, long) = (martlet.owner, try martlet.logIn("owner@x"))
            try martlet.signedIn("owner@x", short).ping()
            try martlet.stop()
            // The least that can be configured is a minute: this one gets less.
            let end = Int(Date().timeIntervalSince1970 * 1000) + Int(6_000 * patience)
            try martlet.sql(
                "UPDATE token SET expires = \(end) WHERE id = (SELECT min(id) FROM token WHERE user = "
                    + "(SELECT id FROM user WHERE email = 'owner@x'))")
            try martlet.restart()
            #expect(try status(martlet, long) == 200)
            let (ending, staying) = (try martlet.signedIn("owner@x", short), try martlet.signedIn("owner@x", long))
            let byPassword = try martlet.signedIn("owner@x", RESTMartlet.password)
            #expect(try status(martlet, short) == 200)
            #expect(ending.isClosed(within: 30))
            #expect(Int(Date().timeIntervalSince1970 * 1000) >= end, "not before")
            #expect(try status(martlet, short) == 401)
            #expect(try martlet.mqtt("owner@x", short).code != 0)
            try staying.ping()
            try byPassword.ping()
            #expect(try martlet.sql("SELECT count(*) FROM token WHERE expires = \(end)") == "0\n")
            try martlet.stop()
        }

        @Test func `live as long as jwt_lifetime says`() throws {
            let martlet = try RESTMartlet(["jwt_lifetime 60"])
            let parts = martlet.owner.split(separator: ".")
            var text = String(parts[1]).replacing("-", with: "+").replacing("_", with: "/")
            text += String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
            let bytes = try #require(Data(base64Encoded: text))
            let claims = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
            #expect((claims["exp"] as? Int ?? 0) - (claims["iat"] as? Int ?? 0) == 60)
            try martlet.stop()
        }

        /// What has been answered is on the disk, and what has not is whole or not there.
        @Test func `and accounts and devices survive being killed`() throws {
            let martlet = try RESTMartlet()
            var secrets: [(id: String, secret: String)] = []
            for _ in 0..<20 { secrets.append(try martlet.addDevice()) }
            let revoked = try martlet.logIn("other@x")
            try martlet.client.get("POST", "/api/auth/logout", token: revoked)
            try martlet.client.get("POST", "/api/admin/device/\(secrets[0].id)/block", token: martlet.admin)
            try martlet.client.get("DELETE", "/api/device/\(secrets[1].id)", token: martlet.owner)
            let cut = try WebClient(port: martlet.port)
            let body = #"{"deviceId":"CUT","name":"cut"}"#
            try cut.send(
                "POST /api/device/register HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(martlet.owner)\r\n"
                    + "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
            martlet.program.signal(SIGKILL)
            #expect(try martlet.program.waitForEnd() == .killed(by: SIGKILL))
            try martlet.restart()
            #expect(try status(martlet, martlet.owner) == 200)
            #expect(try status(martlet, revoked) == 401)
            for (number, device) in secrets.enumerated() {
                let isIn = try martlet.mqtt(device.id, device.secret).code == 0
                #expect(isIn == (number >= 2), "\(number)")
            }
            let answer = try martlet.client.ask("GET", "/api/device/CUT", token: martlet.owner)
            #expect(answer.status == 404 || answer["device", "name"] as? String == "cut")
            try martlet.stop()
        }

        @Test func `the first administrator's password serves for nothing but changing it`() throws {
            let martlet = try RESTMartlet(withPeople: false)
            let file = "\(martlet.data)/first-admin"
            let lines = martlet.directory.text("data/first-admin").split(separator: "\n").map(String.init)
            #expect(lines.count == 2 && lines[0] == "admin@localhost" && lines[1].utf8.count >= 16)
            var status = stat()
            #expect(stat(file, &status) == 0 && status.st_mode & 0o777 == 0o600)
            #expect(try martlet.mqtt(lines[0], lines[1]).code != 0)
            let token = try martlet.logIn(lines[0], lines[1])
            #expect(try martlet.mqtt(lines[0], token).code != 0)
            let refused = try martlet.client.ask("GET", "/api/admin/users", token: token)
            #expect(refused.status == 403 && refused.code == "password_change_required")
            try martlet.client.get(
                "POST", "/api/auth/password", token: token,
                body: #"{"currentPassword":"\#(lines[1])","newPassword":"my own one"}"#)
            #expect(!FileManager.default.fileExists(atPath: file))
            try martlet.client.get("GET", "/api/admin/users", token: token)
            _ = try martlet.signedIn(lines[0], "my own one")
            _ = try martlet.signedIn(lines[0], token)
            try martlet.stop()
        }
    }
}
