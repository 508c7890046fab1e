extension CaseRun {
    /// Leaves nothing behind on the broker: sessions that would last, retained messages. Whatever fails here is not the
    /// case's failure.
    func tidyUp() {
        for client in clients.values where !client.isOver { leave(client) }  // With DISCONNECT: wills would come late.
        for (identifier, login) in transcript.lastingSessions {
            if let client = visitor(identifier, login) { leave(client) }
        }
        guard !transcript.retainedTopics.isEmpty else { return }
        for login in transcript.logins.union([Transcript.Login()]) {
            guard let client = visitor([], login) else { continue }
            for topic in transcript.retainedTopics {
                client.send(
                    Wire.frame(
                        of: Packet.Publication(topic: topic, payload: [], isRetained: true)))
            }
            leave(client)
        }
    }

    /// A connection that has nothing to do with the case. Nil if the broker does not let it in.
    private func visitor(_ identifier: [UInt8], _ login: Transcript.Login) -> Client? {
        guard let stream = try? connect() else { return nil }
        let client = Client("tidy", stream, Transcript(), elsewhere: connect)
        var packet = Wire.Connect(clientIdentifier: identifier)
        packet.userName = login.userName
        packet.password = login.password
        client.send(Frame(.connect, packet.body))
        guard case .packet(.connack(_, 0), _) = client.receive(until: .now + tidyPatience) else {
            client.reset()
            return nil
        }
        return client
    }

    private func leave(_ client: Client) {
        client.send(Frame(.disconnect))
        client.finish()
        let deadline = ContinuousClock.now + tidyPatience
        while case .packet = client.receive(until: deadline) {}
        if !client.isOver { client.reset() }
    }

    private var tidyPatience: Duration { .seconds(2 * options.patience) }
}
