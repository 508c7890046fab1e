import Foundation
import Testing

extension System {
    /// Each operation of the REST interface, and who may.
    @Suite struct `REST roles` {
        typealias Role = RESTMartlet.Role

        /// What an operation answers to somebody who may not, or does.
        enum Access {
            case everybody
            /// Also who has to change the password first.
            case signedIn
            case people
            /// The owner and administrators; to others it is not there.
            case owners
            case administrators
        }

        /// An operation with one request to it. Names in braces are made for each case: `{device}`, of the owner, and `{present}`, which is online; `{new}`, a
        /// number; `{user}`, an id, and `{person}`, an e-mail address; `{service}`, `{session}`, `{client}`, `{retained}` and `{invite}`;
        /// `{model}`, and `{release}` of one.
        struct Row {
            let operation: String
            let access: Access
            let request: String
            var body: String?
            let status: Int
            /// Of a problem that whoever may ask has all the same.
            let code: String?
            var mediaType = "application/json"

            init(
                _ operation: String, _ access: Access, _ request: String, _ body: String? = nil, _ status: Int = 200,
                code: String? = nil, mediaType: String = "application/json"
            ) {
                self.mediaType = mediaType
                self.code = code
                self.operation = operation
                self.access = access
                self.request = request
                self.body = body
                self.status = status
            }
        }

        /// A line for each operation: one more than the description has fails, and so does one fewer.
        static let rows = [
            Row(
                "registerAccount", .everybody, "POST /api/auth/register",
                #"{"username":"N","email":"n{new}@x","password":"123456"}"#, 201),
            Row("logIn", .everybody, "POST /api/auth/login", #"{"email":"{person}","password":"secret 1"}"#),
            Row("logOut", .people, "POST /api/auth/logout"),
            Row(
                "changePassword", .signedIn, "POST /api/auth/password",
                #"{"currentPassword":"{password}","newPassword":"other {password}"}"#),
            Row("getAccount", .people, "GET /api/auth/me"),
            Row("registerDevice", .people, "POST /api/device/register", #"{"deviceId":"new-{new}"}"#, 201),
            Row("listOwnDevices", .people, "GET /api/device"),
            Row("getDevice", .owners, "GET /api/device/{device}"),
            Row("updateDevice", .owners, "PATCH /api/device/{device}", #"{"name":"another"}"#),
            Row("deleteDevice", .owners, "DELETE /api/device/{device}"),
            Row("rotateDeviceCredentials", .owners, "POST /api/device/{device}/credentials"),
            Row("setLed", .owners, "POST /api/device/{present}/led", #"{"state":"ON"}"#),
            Row("sendCommand", .owners, "POST /api/device/{device}/command?queue=60", #"{"reboot":true}"#),
            Row("getDeviceHealth", .owners, "GET /api/device/{device}/health"),
            Row("listDeviceActivity", .owners, "GET /api/device/{device}/activity"),
            Row("getDashboard", .people, "GET /api/dashboard"),
            Row("listModels", .administrators, "GET /api/models"),
            Row("getModel", .administrators, "GET /api/models/{model}"),
            Row("setModel", .administrators, "PUT /api/models/m{new}", #"{"chip":"esp32"}"#),
            Row("listFirmware", .administrators, "GET /api/firmware"),
            Row(
                "uploadFirmware", .administrators, "POST /api/firmware/m/{new}", "no image", 201,
                mediaType: "application/octet-stream"),
            Row("getFirmware", .administrators, "GET /api/firmware/{release}"),
            Row("deleteFirmware", .administrators, "DELETE /api/firmware/{release}"),
            Row(
                "verifyFirmware", .administrators, "POST /api/firmware/{release}/verify", nil, 422,
                code: "unsound_firmware"),
            Row(
                "approveFirmware", .administrators, "POST /api/firmware/{release}/approve", nil, 409,
                code: "wrong_state"),
            Row(
                "promoteFirmware", .administrators, "POST /api/firmware/{release}/promote", nil, 409,
                code: "wrong_state"),
            Row("blockFirmware", .administrators, "POST /api/firmware/{release}/block"),
            Row("unblockFirmware", .administrators, "POST /api/firmware/{release}/unblock"),
            Row("checkForUpdate", .owners, "GET /api/ota/{device}/check"),
            Row("startDeployment", .owners, "POST /api/ota/{device}/start", nil, 409, code: "wrong_state"),
            Row("cancelDeployment", .owners, "POST /api/ota/{device}/cancel", nil, 409, code: "wrong_state"),
            Row("listDeployments", .owners, "GET /api/ota/{device}/history"),
            Row("downloadFirmware", .everybody, "GET /firmware/m/1/firmware.bin", nil, 403, code: "forbidden"),
            Row("rotateURLKey", .administrators, "POST /api/admin/keys/url", nil, 201),
            Row("listUsers", .administrators, "GET /api/admin/users"),
            Row("listDevices", .administrators, "GET /api/admin/devices"),
            Row("blockUser", .administrators, "POST /api/admin/user/{user}/block"),
            Row("setUserRole", .administrators, "POST /api/admin/user/{user}/role", #"{"role":"admin"}"#),
            Row("deleteUser", .administrators, "DELETE /api/admin/user/{user}"),
            Row("blockDevice", .administrators, "POST /api/admin/device/{device}/block"),
            Row("listActivity", .administrators, "GET /api/admin/activity"),
            Row("listSessions", .administrators, "GET /api/admin/sessions"),
            Row("deleteSession", .administrators, "DELETE /api/admin/sessions/{session}"),
            Row("listCertificates", .administrators, "GET /api/admin/certificates"),
            Row("listServices", .administrators, "GET /api/admin/services"),
            Row("addService", .administrators, "POST /api/admin/services", #"{"name":"new-{new}"}"#, 201),
            Row("removeService", .administrators, "DELETE /api/admin/services/{service}"),
            Row("rotateServiceCredentials", .administrators, "POST /api/admin/services/{service}/credentials"),
            Row(
                "importDevices", .administrators, "POST /api/admin/devices/import", "deviceId\nnew-{new}\n",
                mediaType: "text/csv"),
            Row("listInvites", .administrators, "GET /api/admin/invites"),
            Row("createInvite", .administrators, "POST /api/admin/invites", #"{"email":"n{new}@x"}"#, 201),
            Row("deleteInvite", .administrators, "DELETE /api/admin/invites/{invite}"),
            Row("listClients", .administrators, "GET /api/admin/clients"),
            Row("disconnectClient", .administrators, "DELETE /api/admin/clients/{client}"),
            Row("listRetained", .administrators, "GET /api/admin/retained?topic=devices%2F%23"),
            Row("deleteRetained", .administrators, "DELETE /api/admin/retained/{retained}"),
            Row("listJobs", .administrators, "GET /api/admin/jobs"),
            Row("listKeys", .administrators, "GET /api/admin/keys"),
            Row("rotateKey", .administrators, "POST /api/admin/keys/jwt", nil, 201),
            Row("getDescription", .everybody, "GET /api/openapi.json"),
            Row("getMetrics", .everybody, "GET /metrics"),
            Row("isAlive", .everybody, "GET /healthz"),
            Row("isReady", .everybody, "GET /readyz"),
        ]

        private func expected(_ row: Row, _ role: Role) -> (status: Int, code: String?) {
            switch (row.access, role) {
            case (.everybody, _): (row.status, row.code)
            case (_, .nobody), (_, .blocked): (401, "not_authenticated")
            case (.signedIn, _): (row.status, row.code)
            case (_, .newAdmin): (403, "password_change_required")
            case (.owners, .other): (404, "not_found")
            case (.administrators, .owner), (.administrators, .other): (403, "forbidden")
            case (.people, _), (.owners, _), (.administrators, _): (row.status, row.code)
            }
        }

        /// The text with what it needs made.
        private func filled(
            _ text: String, _ martlet: RESTMartlet, _ role: Role, keeping connected: inout [RawClient]
        ) throws -> String {
            var text = text
            func fill(_ name: String, _ make: () throws -> String) rethrows {
                if text.contains("{\(name)}") { text = text.replacing("{\(name)}", with: try make()) }
            }
            try fill("device") { try martlet.addDevice().id }
            try fill("model") {
                let name = "m\(martlet.next())"
                try martlet.client.get("PUT", "/api/models/\(name)", token: martlet.admin, body: "{}")
                return name
            }
            try fill("release") {
                let name = "m/\(martlet.next())"
                let uploaded = try martlet.client.ask(
                    "POST", "/api/firmware/\(name)", token: martlet.admin, body: "no image",
                    fields: ["Content-Type: application/octet-stream"])
                guard uploaded.status == 201 else { throw Unexpected(uploaded.text) }
                return name
            }
            try fill("present") {
                let (device, secret) = try martlet.addDevice()
                let (client, code) = try martlet.mqtt(device, secret, client: device)
                guard code == 0 else { throw Unexpected("\(device) is refused") }
                connected.append(client)
                let isThere = try eventually {
                    try martlet.client.get("GET", "/api/device/\(device)", token: martlet.admin)["device", "online"]
                        as? Bool == true
                }
                guard isThere else { throw Unexpected("\(device) is not online") }
                return device
            }
            try fill("service") {
                let name = "service-\(martlet.next())"
                try martlet.client.get(
                    "POST", "/api/admin/services", token: martlet.admin, body: #"{"name":"\#(name)"}"#)
                return name
            }
            try fill("session") {
                let (device, secret) = try martlet.addDevice()
                let (client, code) = try martlet.mqtt(
                    device, secret, client: "session of \(device)", cleanSession: false)
                guard code == 0 else { throw Unexpected("\(device) is refused") }
                try client.send(Packet.disconnect)
                guard client.isClosed() else { throw Unexpected("\(device) stays") }
                return "session%20of%20\(device)"
            }
            try fill("client") {
                let (device, secret) = try martlet.addDevice()
                let (client, code) = try martlet.mqtt(device, secret, client: "client of \(device)")
                guard code == 0 else { throw Unexpected("\(device) is refused") }
                connected.append(client)
                return "client%20of%20\(device)"
            }
            try fill("retained") {
                let (device, secret) = try martlet.addDevice()
                let (client, _) = try martlet.mqtt(device, secret, client: "publisher \(device)")
                let topic = "devices/\(device)/status"
                try client.send(Packet.publish(topic, "ON", qos: 1, retain: true))
                guard try client.receive().type == 4 else { throw Unexpected("PUBACK expected") }
                return topic.replacing("/", with: "%2F")
            }
            try fill("invite") {
                let answer = try martlet.client.get("POST", "/api/admin/invites", token: martlet.admin)
                return (answer["invite"] as? [String: Any])?["id"] as? String ?? ""
            }
            // Others than administrators get no farther, whoever it is about.
            try fill("user") {
                role == .admin ? try martlet.addPerson("u\(martlet.next())@x") : martlet.ids[.owner] ?? ""
            }
            try fill("person") {
                let email = "p\(martlet.next())@x"
                _ = try martlet.addPerson(email)
                return email
            }
            fill("new") { "\(martlet.next())" }
            fill("password") { role == .newAdmin ? martlet.firstPassword : RESTMartlet.password }
            return text
        }

        @Test func `each operation answers each role as it should`() throws {
            let martlet = try RESTMartlet()
            let description = try martlet.client.get("GET", "/api/openapi.json")
            let paths = description["paths"] as? [String: [String: [String: Any]]] ?? [:]
            let operations = Set(paths.values.flatMap { $0.values.compactMap { $0["operationId"] as? String } })
            #expect(Set(Self.rows.map(\.operation)) == operations, "a row for each operation")
            let responses = Dictionary(
                uniqueKeysWithValues: paths.values.flatMap(\.values).map {
                    ($0["operationId"] as? String ?? "", $0["responses"] as? [String: Any] ?? [:])
                })
            for role in Role.allCases {
                // Who has changed the password need not any more.
                let last = Self.rows.filter { $0.operation == "changePassword" }
                for row in Self.rows.filter({ $0.operation != "changePassword" }) + last {
                    var connected: [RawClient] = []
                    let words = try filled(row.request, martlet, role, keeping: &connected).split(separator: " ")
                        .map(String.init)
                    let body = try row.body.map { try filled($0, martlet, role, keeping: &connected) }
                    let token = row.operation == "logOut" ? try martlet.freshToken(role) : martlet.token(role)
                    let answer = try martlet.client.ask(
                        words[0], words[1], token: token, body: body, fields: ["Content-Type: \(row.mediaType)"])
                    withExtendedLifetime(connected) {}
                    let (status, code) = expected(row, role)
                    let what: Comment = "\(row.operation) by \(role): \(answer.text)"
                    #expect(answer.status == status, what)
                    #expect(answer.code == code, what)
                    checkForm(answer, what)
                    #expect(responses[row.operation]?["\(answer.status)"] != nil, "not described: \(what)")
                }
            }
            try martlet.stop()
        }

        @Test func `others' devices answer as those that do not exist`() throws {
            let martlet = try RESTMartlet()
            let requests = [
                ("GET", "", nil), ("PATCH", "", #"{"name":"x"}"#), ("DELETE", "", nil), ("POST", "/credentials", nil),
            ]
            for (method, path, body) in requests {
                let id = "ID-\(martlet.next())"
                let before = try martlet.client.ask(
                    method, "/api/device/\(id)\(path)", token: martlet.other, body: body)
                try martlet.client.get(
                    "POST", "/api/device/register", token: martlet.owner, body: #"{"deviceId":"\#(id)"}"#)
                let after = try martlet.client.ask(method, "/api/device/\(id)\(path)", token: martlet.other, body: body)
                #expect(before.status == 404 && before.code == "not_found")
                #expect(before.body == after.body)
                #expect(withoutDate(before) == withoutDate(after))
                try martlet.client.get("GET", "/api/device/\(id.lowercased())", token: martlet.owner)
            }
            try martlet.stop()
        }

        private func withoutDate(_ answer: RESTClient.Answer) -> [Substring] {
            answer.head.head.split(separator: "\r\n").filter { !$0.hasPrefix("Date:") }
        }

        @Test func `an answer to HEAD is that to GET without its body`() throws {
            let martlet = try RESTMartlet()
            let client = RESTClient(port: martlet.port)
            // What the server counts is more each time.
            for row in Self.rows where row.request.hasPrefix("GET ") && row.operation != "getMetrics" {
                var connected: [RawClient] = []
                let path = try filled(row.request, martlet, .owner, keeping: &connected).dropFirst(4)
                for token in [martlet.admin, nil] {
                    let answers = try ["GET", "HEAD"].map { try client.ask($0, String(path), token: token) }
                    #expect(withoutDate(answers[0]) == withoutDate(answers[1]), "\(path)")
                    #expect(!answers[0].body.isEmpty && answers[1].body.isEmpty)
                }
            }
            try martlet.stop()
        }
    }
}

/// What all answers have in common.
func checkForm(_ answer: RESTClient.Answer, _ comment: Comment? = nil) {
    let head = answer.head
    #expect(head["X-Content-Type-Options"] == "nosniff", comment)
    #expect(head["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'", comment)
    #expect(head["Referrer-Policy"] == "no-referrer", comment)
    #expect(["no-store", "no-cache"].contains(head["Cache-Control"]), comment)
    #expect(head["Server"] == nil && head["Date"] != nil, comment)
    guard answer.status != 204, answer.status != 304 else { return }
    guard answer.status >= 400 else {
        let type = head["Content-Type"]?.prefix { $0 != ";" }
        #expect(["application/json", "application/x-ndjson", "text/plain"].contains(type), comment)
        #expect(type != "application/json" || !answer.members.isEmpty, comment)
        return
    }
    #expect(head["Content-Type"] == "application/problem+json", comment)
    let members = answer.members
    #expect(Set(members.keys) == ["type", "title", "status", "detail", "code", "success", "message"], comment)
    #expect(members["type"] as? String == "about:blank", comment)
    #expect((members["title"] as? String)?.isEmpty == false && members["title"] as? String != "Error", comment)
    #expect(members["status"] as? Int == answer.status, comment)
    #expect(members["success"] as? Bool == false, comment)
    let detail = members["detail"] as? String ?? ""
    #expect(!detail.isEmpty && members["message"] as? String == detail, comment)
    #expect(answer.status != 401 || head["WWW-Authenticate"] == "Bearer", comment)
}
