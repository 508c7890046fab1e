// A libFuzzer target for the codec, compiled together with Sources/MQTT by Tests/Support/fuzz.
//
// Goal: whatever bytes come, the broker's decoders end with a value, an error or the wish for more; what they say of
// where fields lie is true; and what is decoded and encoded decodes to the same again. Method: the input is a client's
// stream, of which the first byte picks MQTT 3.1 or 3.1.1. Each packet is decoded in place as the broker does it, and
// once more as a value. Whatever is not as it must be is a trap, which libFuzzer reports together with the input.

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzCodec(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = input.first else { return 0 }
    decode(Array(input[1...]), first & 1 == 0 ? .mqtt311 : .mqtt31)
    return 0
}

/// Packet by packet, until one is malformed or incomplete.
private func decode(_ stream: [UInt8], _ version: ProtocolVersion) {
    var offset = 0
    while let header = try? FixedHeader(stream.span, at: offset), stream.count - offset >= header.packetLength {
        precondition((2...5).contains(header.length) && header.remainingLength >= 0, "the header is \(header)")
        precondition(header.remainingLength <= FixedHeader.maximumRemainingLength, "the header is \(header)")
        let body = (offset + header.length)..<(offset + header.packetLength)
        decode(header, stream.span.extracting(body), version)
        decodeAsValue(stream, offset, header, version)
        offset += header.packetLength
    }
}

/// As the broker does it: each decoder, whether or not the header names it, for none may trust it.
private func decode(_ header: FixedHeader, _ body: Span<UInt8>, _ version: ProtocolVersion) {
    _ = try? header.type(for: version)
    _ = try? Connect.decode(body)
    _ = try? Acknowledgement.packetIdentifier(of: body)
    if let publish = try? Publish(header, body) {
        let topic = body.extracting(publish.topic)
        precondition(!topic.isEmpty && topic.isWellFormedUTF8, "a topic that is none")
        precondition(publish.payload.upperBound == body.count, "a payload that ends elsewhere")
        precondition((publish.packetIdentifier == 0) == (publish.qos == .atMostOnce), "one identifier too few or many")
    }
    if let subscribe = try? Subscribe(body) {
        for request in subscribe.requests { checkFilter(body.extracting(request.filter)) }
    }
    if let unsubscribe = try? Unsubscribe(body) {
        for filter in unsubscribe.filters { checkFilter(body.extracting(filter)) }
    }
    // Names and filters by themselves, of which most packets are too long to have any.
    let isName = (try? body.validateTopicName()) != nil
    let isFilter = (try? body.validateTopicFilter()) != nil
    if isFilter { checkFilter(body) }
    let isUTF8 = String(validating: body.copied(), as: UTF8.self) != nil
    precondition(body.isWellFormedUTF8 == isUTF8, "UTF-8 is judged differently from the standard library")
    precondition(isUTF8 || !(isName || isFilter), "a name or filter that is no UTF-8")
}

private func checkFilter(_ filter: Span<UInt8>) {
    precondition(!filter.isEmpty && filter.isWellFormedUTF8, "a filter that is none")
    guard let shared = try? filter.sharedSubscription() else { return }
    precondition(!shared.group.isEmpty && shared.filter < filter.count, "a shared subscription to nothing")
    precondition(shared.filter == shared.group.upperBound + 1, "the group does not end where the filter begins")
}

/// Decoded, encoded, decoded: the same.
private func decodeAsValue(_ stream: [UInt8], _ start: Int, _ header: FixedHeader, _ version: ProtocolVersion) {
    var end = start
    guard let packet = try? ControlPacket.next(in: stream, at: &end, version: version) else { return }
    precondition(end == start + header.packetLength, "the packet ends at \(end)")
    var encoded: [UInt8] = []
    packet.encode(into: &encoded)
    var encodedEnd = 0
    let again = try? ControlPacket.next(in: encoded, at: &encodedEnd)
    precondition(again == packet && encodedEnd == encoded.count, "\(packet) becomes \(encoded)")
    // Who has sent no longer a Remaining Length than needed, and no bit that is no longer there, gets the same bytes.
    if version == .mqtt311, !packet.isLossy, encoded.count == header.packetLength {
        precondition(encoded.elementsEqual(stream[start..<end]), "\(packet) becomes \(encoded)")
    }
}

extension ControlPacket {
    /// Of a CONNECT that is refused for its level only the level is kept.
    fileprivate var isLossy: Bool { if case .unacceptableConnect = self { true } else { false } }
}
