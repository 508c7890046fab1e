internal import Cryptography
internal import Glibc

/// `firmware/` in the data directory: a plain tree that an administrator may look into.
///
///     MODEL/production/{firmware.bin,version.txt,metadata.json}      what devices shall run; version.txt decides
///     MODEL/releases/vVERSION/{firmware.bin,metadata.json}           written once, never changed; downloads come from here
///     MODEL/rollback/blocked_versions.json
///
/// Of one owner, whose thread waits for the disk. Everything throws `FirmwareTreeError`.
package struct FirmwareTree: ~Copyable {
    private static let image = "firmware.bin"
    private static let metadata = "metadata.json"
    private static let versionFile = "version.txt"
    private static let blockedFile = "blocked_versions.json"
    /// Bytes of a `metadata.json`.
    private static let mostMetadata = 1 << 20
    /// What an upload has before it is a release begins so.
    private static let draftPrefix = ".draft-"

    private let root: Folder

    /// Makes the directory where there is none, and takes away what uploads have left that came to no end.
    package init(in dataDirectory: String) throws(FirmwareTreeError) {
        let root = try Folder(dataDirectory, path: dataDirectory).makeFolder("firmware")
        try Self.removeDrafts(in: root)
        self.root = root
    }

    private static func removeDrafts(in root: borrowing Folder) throws(FirmwareTreeError) {
        for model in try root.names() where ModelName(model) != nil {
            guard let releases = try root.folder(model)?.folder("releases") else { continue }
            let drafts = try releases.names().filter { $0.hasPrefix(draftPrefix) }
            for name in drafts { try releases.removeFolder(name) }
            if !drafts.isEmpty { try removeIfEmpty(model, in: root) }
        }
    }

    /// A model of which nothing has come to its end is none.
    private static func removeIfEmpty(_ model: String, in root: borrowing Folder) throws(FirmwareTreeError) {
        try root.folder(model)?.removeFolderIfEmpty("releases")
        try root.removeFolderIfEmpty(model)
    }

    // MARK: - What there is

    package func models() throws(FirmwareTreeError) -> [ModelName] {
        var models: [ModelName] = []
        for name in try root.names() {
            if let model = ModelName(name), try root.hasFolder(name) { models.append(model) }
        }
        return models
    }

    package func versions(of model: ModelName) throws(FirmwareTreeError) -> [FirmwareVersion] {
        guard let releases = try root.folder(model.text)?.folder("releases") else { return [] }
        return try releases.names().filter { $0.hasPrefix("v") }.compactMap { FirmwareVersion(String($0.dropFirst())) }
    }

    /// What is known of a release that somebody has put there.
    package func setMetadata(_ metadata: [UInt8], of release: ReleaseName) throws(FirmwareTreeError) {
        try folder(of: release)?.write(metadata, to: Self.metadata)
    }

    /// Nil: there is no such release, or it has no image.
    package func image(of release: ReleaseName) throws(FirmwareTreeError) -> OpenFile? {
        try folder(of: release)?.open(Self.image)
    }

    /// What was known when it came, as JSON; nil: nothing is.
    package func metadata(of release: ReleaseName) throws(FirmwareTreeError) -> [UInt8]? {
        try folder(of: release)?.read(Self.metadata, atMost: Self.mostMetadata)
    }

    private func folder(of release: ReleaseName) throws(FirmwareTreeError) -> Folder? {
        try root.folder(release.model.text)?.folder("releases")?.folder(release.version.directoryName)
    }

    // MARK: - Releases

    /// An upload begins.
    package func draft(for model: ModelName) throws(FirmwareTreeError) -> FirmwareDraft {
        let name = Self.draftPrefix + hexadecimal(randomBytes(8))
        do throws(FirmwareTreeError) {
            return try makeDraft(name, for: model)
        } catch {
            try? discard(name, of: model)
            throw error
        }
    }

    private func makeDraft(_ name: String, for model: ModelName) throws(FirmwareTreeError) -> FirmwareDraft {
        let folder = try root.makeFolder(model.text).makeFolder("releases").makeFolder(name)
        guard let file = try folder.open(Self.image, O_RDWR | O_CREAT | O_EXCL) else {
            throw .system(folder.path(of: Self.image), ENOENT)
        }
        return FirmwareDraft(model: model, name: name, file: file)
    }

    /// What has come of an upload, to be looked at.
    package func image(of draft: borrowing FirmwareDraft) throws(FirmwareTreeError) -> OpenFile? {
        try root.folder(draft.model.text)?.folder("releases")?.folder(draft.name)?.open(Self.image)
    }

    /// A whole upload becomes a release, at once and on the disk. Throws `.exists` where the version was used before; the draft is
    /// there still then.
    package func add(
        _ draft: borrowing FirmwareDraft, as version: FirmwareVersion, metadata: [UInt8]
    ) throws(FirmwareTreeError) {
        let release = ReleaseName(model: draft.model, version: version)
        guard let releases = try root.folder(draft.model.text)?.folder("releases"),
            let folder = try releases.folder(draft.name)
        else { throw .missing(release) }
        try draft.file.synchronize()
        try folder.write(metadata, to: Self.metadata)
        // What has lost its image is no release, and not in the way of one.
        if try image(of: release) == nil { try self.folder(of: release)?.remove(Self.metadata) }
        do throws(FirmwareTreeError) {
            try releases.rename(draft.name, to: version.directoryName)
        } catch {
            if case .system(_, ENOTEMPTY) = error { throw .exists(release) }
            if case .system(_, EEXIST) = error { throw .exists(release) }
            throw error
        }
    }

    /// Nothing of an upload stays.
    package func discard(_ draft: borrowing FirmwareDraft) throws(FirmwareTreeError) {
        try discard(draft.name, of: draft.model)
    }

    package func remove(_ release: ReleaseName) throws(FirmwareTreeError) {
        try discard(release.version.directoryName, of: release.model)
    }

    private func discard(_ name: String, of model: ModelName) throws(FirmwareTreeError) {
        try root.folder(model.text)?.folder("releases")?.removeFolder(name)
        try Self.removeIfEmpty(model.text, in: root)
    }

    // MARK: - What devices shall run

    /// What `version.txt` says, without blanks around it; nil: there is none, or nothing in it.
    package func production(of model: ModelName) throws(FirmwareTreeError) -> FirmwareVersion? {
        guard let folder = try root.folder(model.text)?.folder("production"),
            let bytes = try folder.read(Self.versionFile, atMost: 256)
        else { return nil }
        let words = bytes.split(whereSeparator: " \t\r\n".utf8.contains)
        guard let word = words.first else { return nil }
        guard words.count == 1, let version = FirmwareVersion(String(decoding: word, as: UTF8.self)) else {
            throw .malformed(folder.path(of: Self.versionFile), "it has one version in it, such as 1.2.0")
        }
        return version
    }

    /// Devices shall run that release from now on. `version.txt` comes last, for it decides.
    package func promote(_ release: ReleaseName) throws(FirmwareTreeError) {
        try refreshProduction(release)
        try root.makeFolder(release.model.text).makeFolder("production")
            .write(Array("\(release.version.name)\n".utf8), to: Self.versionFile)
    }

    /// The copies beside `version.txt` are of that release, and are made so where they are not.
    package func refreshProduction(_ release: ReleaseName) throws(FirmwareTreeError) {
        guard let source = try image(of: release), let metadata = try metadata(of: release) else {
            throw .missing(release)
        }
        if try isProductionFresh(release) { return }
        let folder = try root.makeFolder(release.model.text).makeFolder("production")
        let draft = ".\(Self.image).new"
        try folder.remove(draft)
        guard let copy = try folder.open(draft, O_WRONLY | O_CREAT | O_EXCL) else { return }
        var part: [UInt8] = []
        for offset in stride(from: 0, to: source.count, by: Limits.readBytes) {
            do throws(ReadFailure) {
                part = try source.read(offset..<min(source.count, offset + Limits.readBytes))
            } catch {
                throw .unreadable(source.path, error)
            }
            try copy.append(part.span)
        }
        try copy.synchronize()
        try folder.rename(draft, to: Self.image)
        try folder.write(metadata, to: Self.metadata)
    }

    /// Whether the copies are of that release, by what lies beside them.
    package func isProductionFresh(_ release: ReleaseName) throws(FirmwareTreeError) -> Bool {
        guard let source = try image(of: release), let metadata = try metadata(of: release),
            let folder = try root.folder(release.model.text)?.folder("production")
        else { return false }
        let current = try? folder.read(Self.metadata, atMost: Self.mostMetadata)
        guard current == metadata else { return false }
        return try folder.open(Self.image)?.count == source.count
    }

    // MARK: - What no device gets any more

    package func blockedVersions(of model: ModelName) throws(FirmwareTreeError) -> BlockedVersions {
        guard let folder = try root.folder(model.text)?.folder("rollback"),
            let bytes = try folder.read(Self.blockedFile, atMost: BlockedVersions.most)
        else { return BlockedVersions() }
        guard let blocked = BlockedVersions(parsing: bytes) else {
            throw .malformed(
                folder.path(of: Self.blockedFile), #"it is {"blocked_versions":["1.1.0"],"reason":{"1.1.0":"why"}}"#)
        }
        return blocked
    }

    package func setBlockedVersions(
        _ blocked: BlockedVersions, of model: ModelName
    ) throws(FirmwareTreeError) {
        try root.makeFolder(model.text).makeFolder("rollback").write(blocked.bytes, to: Self.blockedFile)
    }
}

/// An image on its way into the tree. Ends as a release, or is discarded; what is neither when the process ends is taken away at
/// the next start.
package struct FirmwareDraft: ~Copyable {
    package let model: ModelName
    let name: String
    let file: OpenFile
    package private(set) var size = 0
    private var digest: RunningDigest? = RunningDigest()

    init(model: ModelName, name: String, file: OpenFile) {
        self.model = model
        self.name = name
        self.file = file
    }

    package mutating func append(_ bytes: [UInt8]) throws(FirmwareTreeError) {
        try file.append(bytes.span)
        digest?.update(bytes.span)
        size += bytes.count
    }

    /// The SHA-256 of all of it, once.
    package mutating func finishDigest() -> [UInt8] { digest.take()?.finish() ?? [] }
}
