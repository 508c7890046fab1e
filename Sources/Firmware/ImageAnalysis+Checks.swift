internal import Cryptography

/// The rules, each where its facts are known.
extension ImageAnalysis {
    mutating func checkImage(_ expecting: Expectations) {
        guard let layout else { return }
        checkHeader(layout.header)
        checkChip(layout.header, expecting.chip)
        checkSegments(layout)
        if let checksum, !checksum.isRight {
            let (stored, computed) = (address(checksum.stored, digits: 2), address(checksum.computed, digits: 2))
            report(.error(.checksum, "its checksum is \(stored), its segments come to \(computed)"))
        }
        if let hash, !hash.isRight { report(.error(.hash, "it is not what its appended SHA-256 says")) }
        if layout.header.hashFlag == 0 {
            report(.warning(.noHash, "it has no SHA-256 appended: damage may go unnoticed"))
        }
        checkDescriptor(layout.header)
        if let flash = layout.header.flashBytes, let expected = expecting.flashBytes, flash > expected {
            let text = "it was built for \(sizeText(flash)) of flash, the model has \(sizeText(expected))"
            report(.warning(.flashSize, text))
        }
    }

    private mutating func checkHeader(_ header: ImageHeader) {
        if header.hashFlag > 1 {
            let text = "its header says \(header.hashFlag) where 0 or 1 tells whether a SHA-256 is appended"
            report(.error(.hashFlag, text))
        }
        if header.flashModeName == nil {
            report(.warning(.headerField, "its header has an unknown flash mode, \(header.flashMode)"))
        }
        if header.flashDivider == nil {
            report(.warning(.headerField, "its header has an unknown flash speed, \(header.flashSpeed)"))
        }
        if header.flashBytes == nil {
            report(.warning(.headerField, "its header has an unknown flash size, \(header.flashSize)"))
        }
        if let most = header.maximumRevision, most < header.minimumRevision {
            let range = "\(revisionText(header.minimumRevision)) to \(revisionText(most))"
            report(.error(.chipRevisions, "it is for chip revisions \(range), which none is"))
        }
    }

    private mutating func checkChip(_ header: ImageHeader, _ expected: Chip?) {
        if header.chipNumber == Chip.invalid {
            report(.error(.chipInvalid, "its header names no chip"))
        } else if let expected, header.chip != expected {
            report(.error(.chipMismatch, "it is for \(header.chipName), not for \(expected.name)"))
        } else if header.chip == nil {
            report(.warning(.chipUnknown, "it is for a chip that is not known here, number \(header.chipNumber)"))
        }
    }

    /// What is mapped keeps its place within a page, as flash is mapped by pages.
    private mutating func checkSegments(_ layout: ImageLayout) {
        guard let least = layout.header.chip?.leastPageBytes else { return }
        let page = max(descriptor?.pageBytes ?? 0, least)
        for (number, segment) in layout.segments.enumerated() where segment.isMapped {
            guard segment.data.lowerBound % page != Int(segment.address) % page else { continue }
            let text =
                "segment \(number) at \(address(segment.data.lowerBound)) can't be mapped to "
                + "\(address(segment.address)): its place in a page of \(page >> 10) KB would be another"
            report(.error(.segmentAlignment, text))
        }
    }

    private mutating func checkDescriptor(_ header: ImageHeader) {
        guard layout?.segments.isEmpty == false else { return }
        guard let descriptor else {
            return report(.warning(.noDescriptor, "it has no application descriptor: nothing tells its version"))
        }
        if let chip = header.chip, descriptor.secureVersion > chip.highestSecureVersion {
            let most = "\(chip.name) counts to \(chip.highestSecureVersion)"
            report(.warning(.secureVersion, "its secure version is \(descriptor.secureVersion), but \(most)"))
        }
        if let most = descriptor.maximumBlockRevision, most < descriptor.minimumBlockRevision {
            let range = "\(revisionText(descriptor.minimumBlockRevision)) to \(revisionText(most))"
            report(.error(.chipRevisions, "it is for eFuse block revisions \(range), which none is"))
        }
    }

    /// `count`: bytes behind the image.
    mutating func checkTrailing(_ count: Int, isErased: Bool) {
        guard count > 0 else { return }
        let text = "behind the image there are \(bytesText(count))"
        report(isErased ? .note(.trailingData, "\(text), all 0xFF") : .warning(.trailingData, text))
    }

    /// `isWanted`: there are keys, one of which has to have signed it.
    mutating func checkSignatures(isWanted: Bool) {
        for (number, block) in (signature?.blocks ?? []).enumerated() {
            guard case .broken(let reason) = block.state else { continue }
            report(.error(.brokenSignature, "block \(number) of its signature is broken: \(reason)"))
        }
        switch detachedSignature {
        case .broken(let reason):
            report(.error(.brokenDetachedSignature, "its detached signature is broken: \(reason)"))
        case .unchecked: report(.warning(.unknownKey, "there is no public key to check its detached signature with"))
        case .trusted, nil: break
        }
        let isTrusted = if case .trusted = detachedSignature { true } else { false }
        switch signature?.state {
        case nil where isWanted && (detachedSignature ?? .unchecked) == .unchecked:
            report(.error(.unsigned, "no key that is trusted has signed it"))
        case .unknownKey:
            let digests = signature?.blocks.compactMap { $0.keyDigest.map(hexadecimal) } ?? []
            let signer = digests.isEmpty ? "a key" : digests.joined(separator: ", ")
            let severity: Finding.Severity = isTrusted ? .warning : isWanted ? .error : .note
            let reason = isWanted ? "which is not trusted" : "and there are no keys to hold that against"
            report(Finding(severity: severity, code: .unknownKey, text: "it is signed with \(signer), \(reason)"))
        case nil, .trusted, .broken: break
        }
    }

    mutating func checkDeltaPatch() {
        let text =
            "a delta patch: it is for devices that run the image with that hash, and what it makes is not checked"
        report(.warning(.deltaPatch, text))
    }

    /// `count`: what its header says.
    mutating func checkEncryptedImage(_ count: Int) {
        report(.warning(.encryptedImage, "an encrypted image: only a device can look into it"))
        let rest = bytes - EncryptedHeader.bytes
        if rest < count {
            report(.error(.truncated, "it is cut off: \(bytesText(count - rest)) missing"))
        } else {
            checkTrailing(rest - count, isErased: false)
        }
    }

    mutating func checkSize(_ expecting: Expectations) {
        // How long what a patch makes will be is not known.
        if case .deltaPatch = kind { return }
        var taken = bytes
        if case .encryptedImage(let count) = kind { taken = count }
        if let room = expecting.partitionBytes, taken > room {
            return report(.error(.tooLarge, "\(bytesText(taken)) don't fit a partition of \(room)"))
        }
        guard let flash = expecting.flashBytes else { return }
        if taken > flash {
            report(.error(.tooLarge, "\(bytesText(taken)) don't fit \(sizeText(flash)) of flash"))
        } else if expecting.partitionBytes == nil, taken > flash / 2 {
            report(
                .warning(.tooLarge, "\(bytesText(taken)) don't fit \(sizeText(flash)) of flash twice, as updates want"))
        }
    }

    /// Which version it is, if that can be told.
    mutating func checkVersion() {
        let own = descriptor.flatMap { $0.isArduino ? nil : $0.version }
        embeddedVersion = own.flatMap { FirmwareVersion($0) }
        if descriptor?.isArduino == true {
            report(
                .note(.arduino, "Arduino's libraries speak in its descriptor: it does not tell the sketch's version"))
        }
        if let own, embeddedVersion == nil {
            report(.warning(.versionUnusable, "its own version, '\(own)', is none that can be used here"))
        }
        if let declaredVersion, let embeddedVersion, declaredVersion != embeddedVersion {
            let text = "it is declared as \(declaredVersion), but calls itself \(embeddedVersion)"
            report(.warning(.versionMismatch, "\(text): devices may report that"))
        }
        // Of an image that could not be followed to its end other things are to be said.
        let isWhole = kind != .application || layout?.ending != nil
        if version == nil, isWhole {
            report(.warning(.versionMissing, "its version has to be declared: nothing tells it"))
        }
    }

    mutating func report(_ finding: Finding) { findings.append(finding) }
}

/// `4 MB`, or bytes where that is no round number.
func sizeText(_ bytes: Int) -> String {
    bytes >= 1 << 20 && bytes.isMultiple(of: 1 << 20) ? "\(bytes >> 20) MB" : bytesText(bytes)
}
