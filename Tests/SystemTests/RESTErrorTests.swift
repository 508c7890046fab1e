import Foundation
import Testing

extension System {
    /// What the REST interface refuses, and how it says so.
    @Suite struct `REST errors` {
        private static let long = String(repeating: "x", count: 129)

        /// By an administrator, who owns OWN; a service "there" and a session "there" exist.
        private static let rows: [(Int, String, String, String?)] = [
            // Any body.
            (400, "invalid_request", "POST /api/auth/login", ""), (400, "invalid_request", "POST /api/auth/login", nil),
            (400, "invalid_request", "POST /api/auth/login", "{"),
            (400, "invalid_request", "POST /api/auth/login", "[]"),
            (400, "invalid_request", "POST /api/auth/login", "null"),
            (400, "invalid_request", "POST /api/auth/login", "\u{FEFF}{}"),
            (400, "invalid_request", "POST /api/auth/login", "{} {}"),
            (400, "invalid_request", "POST /api/auth/login", String(repeating: "[", count: 40_000)),
            (413, "too_large", "POST /api/auth/login", "{\(String(repeating: " ", count: 64 << 10))}"),
            (413, "too_large", "POST /api/device/register", "{\(String(repeating: " ", count: 64 << 10))}"),
            // Accounts.
            (400, "invalid_request", "POST /api/auth/login", #"{"email":"admin@x"}"#),
            (400, "invalid_request", "POST /api/auth/login", #"{"password":"secret 1"}"#),
            (400, "invalid_request", "POST /api/auth/login", #"{"email":1,"password":"secret 1"}"#),
            (400, "invalid_request", "POST /api/auth/login", #"{"email":"admin@x","password":["secret 1"]}"#),
            (400, "invalid_request", "POST /api/auth/login", #"{"email":"admin@x","password":null}"#),
            (400, "invalid_request", "POST /api/auth/login", #"{"email":"admin@x","password":"secret 1","more":1}"#),
            (
                400, "invalid_request", "POST /api/auth/login",
                #"{"email":"a@x","email":"admin@x","password":"secret 1"}"#
            ),
            (
                400, "invalid_request", "POST /api/auth/login",
                #"{"email":"\#(String(repeating: "a", count: 300))","password":"secret 1"}"#
            ),
            (
                400, "invalid_request", "POST /api/auth/login",
                #"{"email":"admin@x","password":"\#(String(repeating: "a", count: 1_100))"}"#
            ),
            (401, "invalid_credentials", "POST /api/auth/login", #"{"email":"admin@x","password":"wrong 1"}"#),
            (401, "invalid_credentials", "POST /api/auth/login", #"{"email":"nobody@x","password":"secret 1"}"#),
            (401, "invalid_credentials", "POST /api/auth/login", #"{"email":"","password":""}"#),
            (400, "invalid_email", "POST /api/auth/register", #"{"email":"x","password":"123456"}"#),
            (400, "invalid_email", "POST /api/auth/register", #"{"email":"a/b@x","password":"123456"}"#),
            (400, "invalid_email", "POST /api/auth/register", #"{"email":"a@x..y","password":"123456"}"#),
            (400, "invalid_password", "POST /api/auth/register", #"{"email":"a@x","password":"12345"}"#),
            (400, "invalid_password", "POST /api/auth/register", #"{"email":"a@x","password":"\#(long)"}"#),
            (
                400, "invalid_name", "POST /api/auth/register",
                #"{"email":"a@x","password":"123456","username":"\#(long)"}"#
            ),
            (
                400, "invalid_name", "POST /api/auth/register",
                #"{"email":"a@x","password":"123456","username":"a\u0000"}"#
            ),
            (400, "invalid_request", "POST /api/auth/register", #"{"email":"a@x","password":"123456","username":1}"#),
            (400, "invalid_request", "POST /api/auth/register", #"{"email":"a@x","password":"123456","role":"admin"}"#),
            (400, "invalid_request", "POST /api/auth/register", #"{"email":"a@x"}"#),
            (409, "already_exists", "POST /api/auth/register", #"{"email":"OWNER@x","password":"123456"}"#),
            (400, "invalid_request", "POST /api/auth/password", #"{"currentPassword":"secret 1"}"#),
            (400, "invalid_password", "POST /api/auth/password", #"{"currentPassword":"secret 1","newPassword":"x"}"#),
            (
                401, "invalid_credentials", "POST /api/auth/password",
                #"{"currentPassword":"wrong 1","newPassword":"123456"}"#
            ),
            // Devices.
            (400, "invalid_request", "POST /api/device/register", "{}"),
            (400, "invalid_device_id", "POST /api/device/register", #"{"deviceId":""}"#),
            (400, "invalid_device_id", "POST /api/device/register", #"{"deviceId":"a b"}"#),
            (400, "invalid_device_id", "POST /api/device/register", #"{"deviceId":"esp32_1"}"#),
            (400, "invalid_device_id", "POST /api/device/register", #"{"deviceId":"\#(long)"}"#),
            (400, "invalid_request", "POST /api/device/register", #"{"deviceId":7}"#),
            (400, "invalid_request", "POST /api/device/register", #"{"deviceId":"n","owner":"owner@x"}"#),
            (400, "invalid_name", "POST /api/device/register", #"{"deviceId":"n","name":"\#(long)"}"#),
            (400, "invalid_model", "POST /api/device/register", #"{"deviceId":"n","model":".x"}"#),
            (400, "invalid_mac_address", "POST /api/device/register", #"{"deviceId":"n","macAddress":"x"}"#),
            (400, "invalid_request", "POST /api/device/register", #"{"deviceId":"n","tags":"x"}"#),
            (400, "invalid_request", "POST /api/device/register", #"{"deviceId":"n","tags":[1]}"#),
            (400, "invalid_tag", "POST /api/device/register", #"{"deviceId":"n","tags":[""]}"#),
            (
                400, "invalid_tag", "POST /api/device/register",
                #"{"deviceId":"n","tags":[\#((0..<33).map { "\"\($0)\"" }.joined(separator: ","))]}"#
            ),
            (409, "already_exists", "POST /api/device/register", #"{"deviceId":"own"}"#),
            (409, "already_exists", "POST /api/device/register", #"{"deviceId":"THERE"}"#),
            (404, "not_found", "GET /api/device/NONE", nil), (400, "invalid_device_id", "GET /api/device/a%20b", nil),
            (400, "invalid_request", "GET /api/device/%FF", nil), (400, "invalid_request", "GET /api/device/%zz", nil),
            (400, "invalid_request", "PATCH /api/device/OWN", #"{"owner":"owner@x"}"#),
            (400, "invalid_request", "PATCH /api/device/OWN", #"{"deviceId":"NEW"}"#),
            (400, "invalid_request", "PATCH /api/device/OWN", #"{"blocked":false}"#),
            (400, "invalid_model", "PATCH /api/device/OWN", #"{"model":""}"#),
            (404, "not_found", "PATCH /api/device/NONE", "{}"), (404, "not_found", "DELETE /api/device/NONE", nil),
            (404, "not_found", "POST /api/device/NONE/credentials", nil),
            (400, "invalid_request", "GET /api/device?page=0", nil),
            (400, "invalid_request", "GET /api/device?limit=501", nil),
            (400, "invalid_request", "GET /api/device?x=1", nil),
            // Administration.
            (404, "not_found", "POST /api/admin/user/none@x/block", nil),
            (404, "not_found", "POST /api/admin/user/01a2048e-8d00-7245-bd61-a2b13248a4af/block", nil),
            (409, "own_account", "POST /api/admin/user/admin@x/block", nil),
            (409, "own_account", "POST /api/admin/user/admin@x/block", #"{"blocked":true}"#),
            (400, "invalid_request", "POST /api/admin/user/owner@x/block", #"{"blocked":"yes"}"#),
            (400, "invalid_request", "POST /api/admin/user/owner@x/block", #"{"block":true}"#),
            (400, "invalid_request", "POST /api/admin/user/owner@x/role", "{}"),
            (400, "invalid_role", "POST /api/admin/user/owner@x/role", #"{"role":"root"}"#),
            (400, "invalid_request", "POST /api/admin/user/owner@x/role", #"{"role":"admin","email":"other@x"}"#),
            (404, "not_found", "POST /api/admin/user/none/role", #"{"role":"user"}"#),
            (404, "not_found", "DELETE /api/admin/user/none@x", nil),
            (404, "not_found", "POST /api/admin/device/NONE/block", nil),
            (400, "invalid_device_id", "POST /api/admin/device/a.b/block", nil),
            (400, "invalid_request", "POST /api/admin/device/OWN/block", #"{"blocked":1}"#),
            (404, "not_found", "DELETE /api/admin/sessions/none", nil),
            (400, "invalid_policy", "POST /api/admin/services", #"{"name":"n","policy":"device"}"#),
            (400, "invalid_name", "POST /api/admin/services", #"{"name":"A"}"#),
            (400, "invalid_name", "POST /api/admin/services", #"{"name":"esp32_a"}"#),
            (400, "invalid_request", "POST /api/admin/services", "{}"),
            (409, "already_exists", "POST /api/admin/services", #"{"name":"there"}"#),
            (404, "not_found", "DELETE /api/admin/services/none", nil),
            (404, "not_found", "POST /api/admin/services/none/credentials", nil),
            (400, "invalid_request", "GET /api/admin/users?page=x", nil),
            (400, "invalid_request", "GET /api/admin/users?page=-1", nil),
            (400, "invalid_request", "GET /api/admin/users?page=99999999999999999999", nil),
            (400, "invalid_request", "GET /api/admin/users?page=1000001", nil),
            (400, "invalid_request", "GET /api/admin/users?page=1&page=2", nil),
            (400, "invalid_request", "GET /api/admin/users?limit=0", nil),
            (400, "invalid_request", "GET /api/admin/users?limit=501", nil),
            (400, "invalid_request", "GET /api/admin/users?limit=1.5", nil),
            (400, "invalid_request", "GET /api/admin/users?email=a", nil),
            (400, "invalid_request", "GET /api/admin/users?page=%zz", nil),
            (400, "invalid_request", "GET /api/admin/activity?kind=login", nil),
            (400, "invalid_request", "GET /api/admin/activity?from=yesterday", nil),
            (400, "invalid_device_id", "GET /api/admin/activity?deviceId=a%20b", nil),
            // No such thing.
            (404, "not_found", "GET /", nil), (404, "not_found", "GET /api", nil),
            (404, "not_found", "GET /api/nothing", nil),
            (404, "not_found", "GET /API/device", nil), (404, "not_found", "GET /api/device/OWN/x", nil),
            (404, "not_found", "POST /api/admin/..%2Fdevice", nil), (405, "method_not_allowed", "PUT /api/device", nil),
            (405, "method_not_allowed", "GET /api/auth/login", nil), (405, "method_not_allowed", "POST /healthz", nil),
            (405, "method_not_allowed", "DELETE /api/openapi.json", nil),
        ]

        @Test func `each mistake has its status and its code, and changes nothing`() throws {
            let martlet = try RESTMartlet()
            let client = martlet.client
            try client.get("POST", "/api/device/register", token: martlet.admin, body: #"{"deviceId":"OWN"}"#)
            try client.get("POST", "/api/admin/services", token: martlet.admin, body: #"{"name":"there"}"#)
            let state = { () throws -> String in
                try ["users", "devices", "services", "sessions"].map {
                    try client.get("GET", "/api/admin/\($0)", token: martlet.admin).text
                }.joined()
            }
            let before = try state()
            for (status, code, request, body) in Self.rows {
                let words = request.split(separator: " ").map(String.init)
                let answer = try client.ask(words[0], words[1], token: martlet.admin, body: body)
                let what: Comment = "\(request) \(body?.prefix(100) ?? ""): \(answer.text)"
                #expect(answer.status == status && answer.code == code, what)
                checkForm(answer, what)
                if status == 405 { #expect(answer.head["Allow"]?.contains("OPTIONS") == true, what) }
            }
            #expect(try state() == before)
            for type in [
                "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data",
            ] {
                let answer = try client.ask(
                    "POST", "/api/auth/login", body: #"{"email":"admin@x","password":"secret 1"}"#,
                    fields: ["Content-Type: \(type)"])
                #expect(answer.status == 415 && answer.code == "unsupported_media_type", "\(type)")
                checkForm(answer)
            }
            for type in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"] {
                let answer = try client.ask(
                    "POST", "/api/auth/login", body: #"{"email":"admin@x","password":"secret 1"}"#,
                    fields: ["Content-Type: \(type)"])
                #expect(answer.status == 200, "\(type)")
            }
            for word in ["secret 1", "wrong 1", martlet.admin] { #expect(!martlet.program.output.contains(word)) }
            try martlet.stop()
        }

        @Test func `lists come in pages, and what is filtered is counted`() throws {
            let martlet = try RESTMartlet(["max_devices_per_user 60"])
            let client = martlet.client
            for number in 1...60 {
                try client.get(
                    "POST", "/api/device/register", token: martlet.owner, body: #"{"deviceId":"D\#(number)"}"#)
            }
            let more = try client.ask(
                "POST", "/api/device/register", token: martlet.owner, body: #"{"deviceId":"D61"}"#)
            #expect(more.status == 409 && more.code == "too_many")
            for (path, count, page, limit) in [
                ("/api/device", 60, 1, 60), ("/api/device?page=1", 50, 1, 50), ("/api/device?page=2", 10, 2, 50),
                ("/api/device?page=3", 0, 3, 50), ("/api/device?limit=7", 7, 1, 7),
                ("/api/device?limit=500", 60, 1, 500),
                ("/api/device?page=9&limit=7", 4, 9, 7), ("/api/device?page=1000000&limit=500", 0, 1_000_000, 500),
            ] {
                let answer = try client.get("GET", path, token: martlet.owner)
                let devices = answer["devices"] as? [[String: Any]] ?? []
                #expect(devices.count == count && answer["count"] as? Int == count, "\(path)")
                #expect(answer["page"] as? Int == page && answer["limit"] as? Int == limit, "\(path)")
                #expect(answer["total"] as? Int == 60, "\(path)")
            }
            var seen: [String] = []
            for page in 1...9 {
                let answer = try client.get("GET", "/api/admin/devices?page=\(page)&limit=7", token: martlet.admin)
                seen += (answer["devices"] as? [[String: Any]] ?? []).compactMap { $0["deviceId"] as? String }
            }
            #expect(seen.count == 60 && Set(seen).count == 60, "each once")
            #expect(try client.get("GET", "/api/device", token: martlet.other)["total"] as? Int == 0)

            try client.get("PATCH", "/api/device/D7", token: martlet.owner, body: #"{"name":"seven"}"#)
            func total(_ query: String) throws -> Int? {
                try client.get("GET", "/api/admin/activity?\(query)", token: martlet.admin)["total"] as? Int
            }
            #expect(try total("kind=DEVICE_REGISTERED") == 60)
            #expect(try total("kind=DEVICE_REGISTERED&deviceId=d7") == 1)
            #expect(try total("deviceId=D7") == 2)
            #expect(try total("kind=DEVICE_REGISTERED&actor=owner@x") == 60)
            #expect(try total("kind=DEVICE_REGISTERED&actor=other@x") == 0)
            let entries = try client.get("GET", "/api/admin/activity?deviceId=D7&limit=1", token: martlet.admin)
            let latest = try #require((entries["activity"] as? [[String: Any]])?.first)
            #expect(latest["kind"] as? String == "DEVICE_UPDATED" && latest["address"] as? String == "127.0.0.1")
            let time = try #require(latest["time"] as? String)
            #expect(try total("deviceId=D7&from=\(time)") == 1, "the start is in it")
            #expect(try total("deviceId=D7&to=\(time)") == 1, "the end is not")
            #expect(try total("from=2099-01-01T00:00:00Z") == 0)
            #expect(try total("to=2099-01-01T00:00:00%2B02:00") ?? 0 > 60)
            try martlet.stop()
        }

        @Test func `pages of other sites may ask where cors_origins says so`() throws {
            let martlet = try RESTMartlet(["cors_origins https://a.example"], withPeople: false)
            for (origin, isAllowed) in [("https://a.example", true), ("https://b.example", false), ("null", false)] {
                for (method, fields) in [
                    ("GET", []), ("OPTIONS", ["Access-Control-Request-Method: PATCH"]), ("PUT", []),
                ] as [(String, [String])] {
                    let path = method == "PUT" ? "/api/device" : "/healthz"
                    let answer = try martlet.client.ask(method, path, fields: ["Origin: \(origin)"] + fields)
                    #expect(answer.status == (method == "GET" ? 200 : method == "PUT" ? 405 : 204))
                    #expect(answer.head["Access-Control-Allow-Origin"] == (isAllowed ? origin : nil), "\(origin)")
                    #expect(answer.head["Access-Control-Allow-Credentials"] == nil)
                    #expect(answer.head["Vary"]?.contains("Origin") == true)
                    let isPreflight = isAllowed && method == "OPTIONS"
                    #expect(
                        answer.head["Access-Control-Allow-Methods"]?.contains("PATCH") == (isPreflight ? true : nil))
                    #expect(
                        answer.head["Access-Control-Allow-Headers"]
                            == (isPreflight ? "Authorization, Content-Type" : nil))
                    checkForm(answer)
                }
            }
            let options = try martlet.client.ask("OPTIONS", "/api/device")
            #expect(options.status == 204 && options.head["Allow"]?.contains("GET") == true && options.body.isEmpty)
            try martlet.stop()
        }

        @Test func `the loopback answers to its own names, and others get no privilege by it`() throws {
            let martlet = try RESTMartlet(["registration local"], withPeople: false)
            for (host, status) in [
                ("127.0.0.1", 200), ("localhost:\(martlet.port)", 200), ("LOCALHOST", 200), ("[::1]:1", 200),
                ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.nip.example:80", 421),
                ("1.2.3.4", 421),
            ] {
                let answer = try martlet.client.ask("GET", "/healthz", host: host)
                #expect(answer.status == status, "\(host)")
                #expect(answer.code == (status == 421 ? "misdirected" : nil))
                checkForm(answer)
            }
            let body = { (name: String) in #"{"email":"\#(name)@x","password":"123456"}"# }
            for field in [
                "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1", "X-Forwarded-Host: a",
                "X-Forwarded-Proto: https", "Via: 1.1 proxy", "Origin: https://other.example", "Origin: null",
                "Origin: http://127.0.0.1:1",
            ] {
                let answer = try martlet.client.ask(
                    "POST", "/api/auth/register", body: body("a"), fields: [field])
                #expect(answer.status == 403 && answer.code == "registration_closed", "\(field)")
            }
            for (name, fields) in [("a", []), ("b", ["Origin: http://127.0.0.1:\(martlet.port)"])] {
                let answer = try martlet.client.ask("POST", "/api/auth/register", body: body(name), fields: fields)
                #expect(answer.status == 201, "\(fields)")
            }
            try martlet.stop()
            for mode in ["closed"] {
                let closed = try RESTMartlet(["registration \(mode)"], withPeople: false)
                let answer = try closed.client.ask("POST", "/api/auth/register", body: body("b"))
                #expect(answer.status == 403 && answer.code == "registration_closed", "\(mode)")
                try closed.stop()
            }
        }

        @Test func `a proxy that is trusted names who asks`() throws {
            let martlet = try RESTMartlet(["trusted_proxies 127.0.0.1"])
            let body = #"{"email":"owner@x","password":"secret 1"}"#
            for (fields, address) in [
                (["X-Forwarded-For: 192.0.2.7"], "192.0.2.7"), (["X-Forwarded-For: [2001:db8::1]:99"], "2001:db8::1"),
                (["X-Forwarded-For: 198.51.100.9, 192.0.2.8"], "192.0.2.8"), ([], "127.0.0.1"),
            ] {
                let answer = try martlet.client.ask("POST", "/api/auth/login", body: body, fields: fields)
                #expect(answer.status == 200)
                let log = try martlet.client.get("GET", "/api/admin/activity?kind=LOGIN&limit=1", token: martlet.admin)
                let entry = (log["activity"] as? [[String: Any]])?.first
                #expect(entry?["address"] as? String == address, "\(fields)")
            }
            try martlet.stop()
        }

        @Test func `the description is kept by who has it, and comes small`() throws {
            let martlet = try RESTMartlet(withPeople: false)
            let whole = try martlet.client.get("GET", "/api/openapi.json")
            let tag = try #require(whole.head["ETag"])
            #expect(whole["openapi"] as? String == "3.1.0")
            for (field, status) in [(tag, 304), ("W/\(tag)", 304), ("\"x\", \(tag)", 304), ("*", 304), ("\"x\"", 200)] {
                let answer = try martlet.client.ask("GET", "/api/openapi.json", fields: ["If-None-Match: \(field)"])
                #expect(answer.status == status && answer.body.isEmpty == (status == 304), "\(field)")
                #expect(answer.head["ETag"] == tag)
            }
            let small = try martlet.client.ask("GET", "/api/openapi.json", fields: ["Accept-Encoding: gzip"])
            #expect(small.head["Content-Encoding"] == "gzip" && small.body.count * 3 < whole.body.count)
            #expect(small.head["Vary"]?.contains("Accept-Encoding") == true && small.body.starts(with: [0x1F, 0x8B]))
            let file = temporaryFile("gz")
            defer { try? FileManager.default.removeItem(atPath: file) }
            try Data(small.body).write(to: URL(fileURLWithPath: file))
            let unpacked = try Program("gzip", ["-dc", file])
            #expect(try unpacked.waitForEnd() == .exited(0))
            #expect(unpacked.output == whole.text)
            let plain = try martlet.client.ask("GET", "/api/openapi.json", fields: ["Accept-Encoding: gzip;q=0"])
            #expect(plain.head["Content-Encoding"] == nil && plain.body == whole.body)
            try martlet.stop()
        }
    }
}
