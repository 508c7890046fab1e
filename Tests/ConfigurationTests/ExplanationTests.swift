import Configuration
import Testing

@Suite struct `The explanation of a configuration` {
    @Test(
        arguments: [
            (
                "",
                [
                    "Port 1883 on the loopback, 127.0.0.1 and ::1: MQTT over TCP, not encrypted. Anyone may connect, "
                        + "without user name and password. Every topic is open to them."
                ]
            ),
            (
                "listener 1883",
                [
                    "Port 1883 on all addresses: MQTT over TCP, not encrypted. Nobody may connect: 'allow_anonymous' "
                        + "is false, and there is no 'password_file'."
                ]
            ),
            (
                "password_file /p\nacl_file /a\nlistener 8883 10.0.0.1\ncertfile c\nkeyfile k\nmax_connections 5\nmax_qos 1",
                [
                    "Port 8883 at 10.0.0.1: MQTT over TLS, version 1.2 or newer. Who connects needs a user name and "
                        + "its password in /p. Topics are open as /a says. At most 5 connections. QoS up to 1."
                ]
            ),
            (
                "listener 8883\ncertfile c\nkeyfile k\ncafile ca.pem\nrequire_certificate true\ntls_version tlsv1.3\n"
                    + "use_identity_as_username true\naccept_protocol_versions 3,4\nlistener 0 /s\npsk_hint h\n"
                    + "use_identity_as_username true\nmount_point m/",
                [
                    "Port 8883 on all addresses: MQTT over TLS, version 1.3 or newer. A client certificate from ca.pem "
                        + "is required. Its name is the user name. Every topic is open to them. "
                        + "Only MQTT 3.1 and 3.1.1.",
                    "Unix socket /s: MQTT over TLS with pre-shared keys, version 1.2 or newer. Nobody may connect: "
                        + "there is no 'psk_file'. All their topics lie under m/.",
                ]
            ),
            (
                "allow_anonymous true\npassword_file p\nallow_zero_length_clientid false\nclientid_prefixes d-\n"
                    + "listener 9001\nprotocol websockets\nsocket_domain ipv4\nbind_interface eth0\n"
                    + "websockets_origin https://a\nwebsockets_origin https://b\nenable_proxy_protocol 2\n"
                    + "proxy_protocol_v2_require_tls true\nuse_username_as_clientid true\nlistener 80\nprotocol http",
                [
                    "Port 9001 on all addresses: MQTT over WebSocket, not encrypted. IPv4 only. Interface eth0 only. "
                        + "Only through a proxy that sends the PROXY header, version 2, for clients that use TLS. Web "
                        + "pages only from https://a or https://b. Anyone may connect without a user name; who gives "
                        + "one needs its password in p, or is a device, a person or a service of ./martlet-data. "
                        + "Client identifiers begin with d-. The user name is the client identifier. An empty client "
                        + "identifier is refused. Every topic but the management's is open to them; to devices, people "
                        + "and services, as their policies say.",
                    "Port 80 on all addresses: HTTP, not encrypted, and MQTT over WebSocket at /mqtt. Anyone may "
                        + "connect without a user name; who gives one needs its password in p, or is a device, a person "
                        + "or a service of ./martlet-data. Client identifiers begin with d-. An empty client identifier "
                        + "is refused. Every topic but the management's is open to them; to devices, people and "
                        + "services, as their policies say.",
                ]
            ),
            (
                "listener 8883\npsk_hint h\npsk_file /k\nuse_identity_as_username true\nlistener 8884\npsk_hint h\n"
                    + "allow_anonymous true",
                [
                    "Port 8883 on all addresses: MQTT over TLS with pre-shared keys, version 1.2 or newer. A pre-shared "
                        + "key in /k is required. Its identity is the user name. Every topic is open to them.",
                    "Port 8884 on all addresses: MQTT over TLS with pre-shared keys, version 1.2 or newer. A pre-shared "
                        + "key in /k is required. Anyone may connect, without user name and password. Every topic is "
                        + "open to them.",
                ]
            ),
        ] as [(String, [String])])
    func `says of each listener what it will allow`(_ text: String, _ expected: [String]) throws {
        let configuration = try Configuration.parse(Array(text.utf8), file: "f.conf")
        #expect(configuration.explanation == expected)
    }

    @Test(
        arguments: [
            (
                "allow_anonymous false",
                "Who connects has to be a device, a person or a service of /d. Topics are open as their policies say."
            ),
            (
                "allow_anonymous true",
                "Anyone may connect, without user name and password; who gives the name of a device, a person or a "
                    + "service of /d has to prove it. Every topic but the management's is open to them; to devices, "
                    + "people and services, as their policies say."
            ),
            (
                "password_file /p\nacl_file /a",
                "Who connects needs a user name and its password in /p, or is a device, a person or a service of /d. "
                    + "Topics are open as /a says; to devices, people and services, as their policies say."
            ),
            (
                "allow_anonymous true\npassword_file /p",
                "Anyone may connect without a user name; who gives one needs its password in /p, or is a device, a "
                    + "person or a service of /d. Every topic but the management's is open to them; to devices, people "
                    + "and services, as their policies say."
            ),
            (
                "certfile c\nkeyfile k\ncafile ca\nrequire_certificate true\nuse_identity_as_username true",
                "A client certificate from ca is required. Its name is the user name; a device of /d is known by it. "
                    + "Every topic but the management's is open to them; to devices, people and services, as their "
                    + "policies say."
            ),
            (
                "certfile c\nkeyfile k\ncafile ca\nrequire_certificate true\nuse_subject_as_username true",
                "A client certificate from ca is required. Its subject is the user name. "
                    + "Every topic but the management's is open to them."
            ),
        ] as [(String, String)])
    func `knows that devices, people and services of a data directory sign in too`(_ text: String, _ end: String) throws
    {
        let configuration = try Configuration.parse(
            Array("data_dir /d\nlistener 8883\n\(text)".utf8), file: "f.conf")
        #expect(configuration.explanation.count == 1)
        #expect(configuration.explanation[0].hasSuffix(". " + end), "\(configuration.explanation[0])")
    }

    @Test func `names the limits that are not the defaults`() throws {
        let text = """
            max_queued_messages 0
            max_packet_size 1000
            persistent_client_expiration 1d
            connect_timeout 5
            queue_qos0_messages true
            retain_available false
            max_inflight_messages 20
            """
        let configuration = try Configuration.parse(Array(text.utf8), file: "f.conf")
        #expect(
            configuration.explanation.last
                == "Limits: max_queued_messages without limit, max_packet_size 1000, persistent_client_expiration "
                + "86400 seconds, connect_timeout 5 seconds, QoS 0 is queued for clients that are away, "
                + "nothing is retained.")
    }

    @Test func `comes after the warnings and before the ok`() throws {
        let text = "listener 1883 ::1\nallow_anonymous true\nretry_interval 20\nmax_packet_size 0\n"
        let configuration = try Configuration.parse(Array(text.utf8), file: "m.conf")
        #expect(
            configuration.report(on: "m.conf") == [
                "m.conf:3: warning: 'retry_interval' has no effect: messages are sent again when their client comes back, "
                    + "and only then",
                "Port 1883 at ::1: MQTT over TCP, not encrypted. Anyone may connect, without user name and password. "
                    + "Every topic is open to them.",
                "Limits: max_packet_size 268435460.",
                "m.conf: ok",
            ])
    }

    @Test func `keeps to its lines whatever the file says`() throws {
        let text = "listener 1883\nmount_point a\u{2028}b\u{202E}\npassword_file /p\u{85}q"
        let configuration = try Configuration.parse(Array(text.utf8), file: "f.conf")
        #expect(configuration.explanation.count == 1)
        let isOneLine = !configuration.explanation[0].contains(where: \.isNewline)
        #expect(isOneLine)
    }
}
