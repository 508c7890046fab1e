import Testing

extension System {
    /// Publishers and subscribers spread over event loops; smaller under a sanitizer.
    @Suite struct `Several shards` {
        @Test(arguments: [1, 2] as [UInt8]) func `deliver every message once, in order per publisher [MQTT-4.6.0-6]`(
            _ qos: UInt8
        ) throws {
            let broker = try Martlet(["shards 2", "max_queued_messages 0", "max_queued_bytes 0"])
            let port = broker.port
            let publishers = 8
            let subscribers = 8
            let messages = isSanitized ? 300 : 2_000
            let clients = try (0..<subscribers).map { number in
                let client = try RawClient(port: port)
                try client.connect("subscriber-\(number)")
                try client.subscribe([("load/+", qos)])
                return Handed(client)
            }
            let reading = clients.map { client in
                { @Sendable in try receive(messages, of: publishers, on: client.take()) }
            }
            let writing = (0..<publishers).map { number in
                { @Sendable in try publish(messages, at: qos, as: number, to: port) }
            }
            try concurrently(reading + writing)
            try broker.stop()
        }

        @Test func `survive clients that come, take each other over and go`() throws {
            let broker = try Martlet(["shards 2"])
            let port = broker.port
            let turns = isSanitized ? 60 : 400
            let bodies = (0..<8).map { worker in
                { @Sendable in
                    for turn in 0..<turns {
                        // Two workers share each identifier: each may be thrown out at any step.
                        try? churn(identifier: "shared-\(worker / 2)", turn: turn, port: port)
                    }
                }
            }
            try concurrently(bodies)
            let client = try broker.client("shared-0")
            try client.subscribe([("after", 1)])
            try client.publish("after", "alive")
            #expect(try client.receive().text == "alive")
            try broker.stop()
        }
    }
}

/// Publishes numbered messages with a window of 20, as clients do.
private func publish(_ count: Int, at qos: UInt8, as publisher: Int, to port: UInt16) throws {
    let client = try RawClient(port: port)
    try client.connect("publisher-\(publisher)")
    let window = 20
    for start in stride(from: 0, to: count, by: window) {
        let numbers = start..<min(start + window, count)
        var batch: [UInt8] = []
        for number in numbers {
            batch += Packet.publish(
                "load/\(publisher)", "\(publisher) \(number)", qos: qos, identifier: UInt16(number - start + 1))
        }
        try client.send(batch)
        var finished = 0
        while finished < numbers.count {
            let answer = try client.receive(within: 30)
            if answer.type == 5 {  // PUBREC: the handshake's second half
                try client.send([0x62] + [2] + answer.body)
            } else {
                finished += 1
            }
        }
    }
}

/// Reads `count` messages of each publisher, acknowledges them and expects each publisher's numbers in order.
private func receive(_ count: Int, of publishers: Int, on client: RawClient) throws {
    var next = [Int](repeating: 0, count: publishers)
    var remaining = count * publishers
    while remaining > 0 {
        let packet = try client.receive(within: 30)
        switch packet.type {
        case 3:
            let numbers = packet.text.split(separator: " ").compactMap { Int($0) }
            guard numbers.count == 2, next[numbers[0]] == numbers[1] else {
                throw Unexpected("\(packet.text) came when \(next) were next")
            }
            next[numbers[0]] += 1
            remaining -= 1
            try client.send(Packet.acknowledge(packet.qos == 1 ? 0x40 : 0x50, packet.identifier))
        case 6:
            try client.send([0x70, 2] + packet.body)
        default:
            throw Unexpected("PUBLISH or PUBREL expected, not \(packet)")
        }
    }
    try client.send(Packet.disconnect)
}

private func churn(identifier: String, turn: Int, port: UInt16) throws {
    let client = try RawClient(port: port)
    try client.connect(identifier, cleanSession: turn % 3 == 0, will: ("churn/wills", identifier, 1))
    try client.send(
        Packet.subscribe([(Array("churn/#".utf8), UInt8(turn % 3))])
            + Packet.publish("churn/\(identifier)", "\(turn)", qos: 1, retain: turn % 5 == 0))
    while try client.receive(within: 2).type != 4 {}
    if turn % 2 == 0 { try client.send(Packet.disconnect) }
}
