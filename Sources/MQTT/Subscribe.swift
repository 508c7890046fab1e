/// A filter and the highest QoS at which the client wants what matches it (3.8.3).
package struct Subscription: Sendable, Equatable {
    package let filter: [UInt8]
    package let maximumQoS: QoS

    package init(filter: [UInt8], maximumQoS: QoS) {
        self.filter = filter
        self.maximumQoS = maximumQoS
    }
}

/// 3.8; the filters are named by where they lie in the packet's body.
package struct Subscribe: Sendable, Equatable {
    package let packetIdentifier: PacketIdentifier
    package let requests: [(filter: Range<Int>, maximumQoS: QoS)]

    /// Decodes all of it before any of it takes effect [MQTT-3-8.3-4].
    package init(_ body: Span<UInt8>) throws(MalformedPacket) {
        var offset = 0
        var requests: [(filter: Range<Int>, maximumQoS: QoS)] = []
        packetIdentifier = try body.packetIdentifier(at: &offset)
        while offset < body.count {
            let filter = try body.binary(at: &offset)
            try body.extracting(filter).validateTopicFilter()
            let requested = try body.uint8(at: &offset)
            guard let qos = QoS(rawValue: requested) else { throw .invalidRequestedQoS(requested) }
            requests.append((filter, qos))
        }
        guard !requests.isEmpty else { throw .noTopicFilters }
        self.requests = requests
    }

    package static func == (left: Subscribe, right: Subscribe) -> Bool {
        left.packetIdentifier == right.packetIdentifier
            && left.requests.elementsEqual(right.requests) { $0.filter == $1.filter && $0.maximumQoS == $1.maximumQoS }
    }

    package static func encode(
        _ subscriptions: [Subscription], packetIdentifier: PacketIdentifier, into bytes: inout [UInt8]
    ) {
        let length = subscriptions.reduce(2) { $0 + 3 + $1.filter.count }
        bytes.append(fixedHeader: ControlPacketType.subscribe.rawValue << 4 | 0b0010, remainingLength: length)
        bytes.append(uint16: packetIdentifier)
        for subscription in subscriptions {
            bytes.append(field: subscription.filter)
            bytes.append(subscription.maximumQoS.rawValue)
        }
    }
}

/// What a SUBACK says about one filter (3.9.3).
package enum SubscribeReturnCode: Sendable, Equatable {
    case granted(QoS)
    case failure

    package init?(rawValue: UInt8) {
        if let qos = QoS(rawValue: rawValue) {
            self = .granted(qos)
        } else if rawValue == 0x80 {
            self = .failure
        } else {
            return nil
        }
    }

    package var rawValue: UInt8 {
        switch self {
        case .granted(let qos): qos.rawValue
        case .failure: 0x80
        }
    }
}

/// 3.9
package struct SubscribeAcknowledgement: Sendable, Equatable {
    package let packetIdentifier: PacketIdentifier
    package let returnCodes: [SubscribeReturnCode]

    package init(packetIdentifier: PacketIdentifier, returnCodes: [SubscribeReturnCode]) {
        self.packetIdentifier = packetIdentifier
        self.returnCodes = returnCodes
    }

    init(_ body: Span<UInt8>) throws(MalformedPacket) {
        var offset = 0
        var codes: [SubscribeReturnCode] = []
        packetIdentifier = try body.packetIdentifier(at: &offset)
        while offset < body.count {
            let byte = try body.uint8(at: &offset)
            guard let code = SubscribeReturnCode(rawValue: byte) else { throw .invalidReturnCode(byte) }
            codes.append(code)
        }
        guard !codes.isEmpty else { throw .truncated }
        returnCodes = codes
    }

    package func encode(into bytes: inout [UInt8]) {
        let first = ControlPacketType.subscribeAcknowledgement.rawValue << 4
        bytes.append(fixedHeader: first, remainingLength: 2 + returnCodes.count)
        bytes.append(uint16: packetIdentifier)
        for code in returnCodes { bytes.append(code.rawValue) }
    }
}

/// 3.10; the filters are named by where they lie in the packet's body.
package struct Unsubscribe: Sendable, Equatable {
    package let packetIdentifier: PacketIdentifier
    package let filters: [Range<Int>]

    package init(_ body: Span<UInt8>) throws(MalformedPacket) {
        var offset = 0
        var filters: [Range<Int>] = []
        packetIdentifier = try body.packetIdentifier(at: &offset)
        while offset < body.count {
            let filter = try body.binary(at: &offset)
            try body.extracting(filter).validateTopicFilter()
            filters.append(filter)
        }
        guard !filters.isEmpty else { throw .noTopicFilters }
        self.filters = filters
    }

    package static func encode(
        _ filters: [[UInt8]], packetIdentifier: PacketIdentifier, into bytes: inout [UInt8]
    ) {
        let length = filters.reduce(2) { $0 + 2 + $1.count }
        bytes.append(fixedHeader: ControlPacketType.unsubscribe.rawValue << 4 | 0b0010, remainingLength: length)
        bytes.append(uint16: packetIdentifier)
        for filter in filters { bytes.append(field: filter) }
    }
}
