/// What a firmware has to be, for it to be right.
package struct Expectations: Sendable {
    /// The chip of the model.
    package var chip: Chip?
    /// What its smallest partition for applications holds, bytes.
    package var partitionBytes: Int?
    /// What its flash holds, bytes.
    package var flashBytes: Int?
    /// What whoever hands it in calls it.
    package var declaredVersion: FirmwareVersion?
    /// What it has to be signed with, by itself or beside it; empty where it need not be.
    package var keys = TrustedKeys()
    /// A signature of the whole file, at most `Limits.signatureBytes`.
    package var detachedSignature: [UInt8]?

    package init() {}
}

/// All that is known about a file that somebody hands in as firmware: a value to be shown, stored and decided by.
package struct ImageAnalysis: Sendable, Equatable {
    package internal(set) var kind: FileKind
    /// Of the whole file.
    package let bytes: Int
    package internal(set) var digest: [UInt8] = []
    /// Of an application, as far as it could be followed.
    package internal(set) var layout: ImageLayout?
    package internal(set) var descriptor: AppDescriptor?
    /// What is stored behind the segments, and what they come to.
    package internal(set) var checksum: Comparison<UInt8>?
    package internal(set) var hash: Comparison<[UInt8]>?
    /// Behind the image; nil where it is not signed, and where that can't be looked at.
    package internal(set) var signature: ImageSignature?
    /// Nil where there is none.
    package internal(set) var detachedSignature: DetachedSignature?
    /// What the descriptor calls it, where that can be a version and is the application's own.
    package internal(set) var embeddedVersion: FirmwareVersion?
    package internal(set) var declaredVersion: FirmwareVersion?
    package internal(set) var findings: [Finding] = []

    /// Something that is written down, and what it should be.
    package struct Comparison<Value: Sendable & Equatable>: Sendable, Equatable {
        package let stored: Value
        package let computed: Value
        package var isRight: Bool { stored == computed }
    }

    /// What it is called: as whoever hands it in says, or as it says itself.
    package var version: FirmwareVersion? { declaredVersion ?? embeddedVersion }

    /// No finding is an error.
    package var isSound: Bool { firstError == nil }

    package var firstError: Finding? { findings.first { $0.severity == .error } }

    /// Reads the file once, by `Limits.readBytes` at a time. Throws only where it can't be read; what is wrong with it
    /// are findings.
    package init(
        of source: borrowing some ImageSource & ~Copyable, expecting: Expectations = Expectations()
    ) throws(ReadFailure) {
        bytes = source.count
        declaredVersion = expecting.declaredVersion
        kind = try FileKind(source)
        if kind == .application { try readImage(source) }
        try measure(source, expecting.keys)
        if let signature = expecting.detachedSignature {
            detachedSignature = try DetachedSignature(signature, of: source, digest: digest, keys: expecting.keys)
        }
        guard kind.isFirmware else {
            findings = [.error(.wrongKind, "no application for an ESP32, but \(kind.description)")]
            return
        }
        switch kind {
        case .deltaPatch: checkDeltaPatch()
        case .encryptedImage(let bytes): checkEncryptedImage(bytes)
        default: checkImage(expecting)
        }
        checkSignatures(isWanted: !expecting.keys.isEmpty)
        checkSize(expecting)
        checkVersion()
    }

    /// Follows the headers. An image that nothing of is mapped, or that begins with a bootloader's descriptor, is a
    /// bootloader.
    private mutating func readImage(_ source: borrowing some ImageSource & ~Copyable) throws(ReadFailure) {
        layout = try ImageLayout(source, &findings)
        let start = try source.readUpTo(AppDescriptor.bytes, at: AppDescriptor.offset)
        // It lies in the first segment, or is something else that looks like it.
        let isInFirst = layout?.segments.first.map { $0.data.count >= AppDescriptor.bytes } ?? false
        descriptor = isInFirst ? AppDescriptor(start) : nil
        guard descriptor == nil, let layout, layout.ending != nil, layout.header.chip != nil else { return }
        let bootloaderMagic: UInt8 = 0x50
        if start.first == bootloaderMagic || !layout.segments.contains(where: \.isMapped) {
            (kind, self.layout, findings) = (.bootloader, nil, [])
        }
    }

    /// Goes through the file from its beginning to its end: its hash, that of the image, the checksum, what lies behind.
    private mutating func measure(
        _ source: borrowing some ImageSource & ~Copyable, _ keys: TrustedKeys
    ) throws(ReadFailure) {
        var place: SignaturePlace?
        if let layout, let ending = layout.ending {
            place = try SignaturePlace(source, behind: ending.end, of: layout.header.chip, &findings)
        }
        var pass = ImagePass(layout, place)
        var offset = 0
        while offset < source.count {
            let end = pass.nextCut(behind: offset, notBeyond: min(source.count, offset + Limits.readBytes))
            pass.take(try source.read(offset..<end), at: offset)
            offset = end
        }
        if let ending = layout?.ending {
            let stored = try source.read(ending.checksum..<ending.end)
            checksum = Comparison(stored: stored[0], computed: pass.checksum)
            hash = pass.imageDigest.map { Comparison(stored: Array(stored.dropFirst()), computed: $0) }
            signature = place?.check(pass.signedDigest, pass.longSignedDigest, against: keys)
            checkTrailing(source.count - (place?.end ?? ending.end), isErased: pass.isErasedBehind)
        }
        digest = pass.finish()
    }
}
