internal import Access
internal import Cryptography
internal import Firmware
internal import Fleet
internal import HTTP
internal import HTTPTypes
internal import JSON
internal import Store

extension API {
    // MARK: - Uploads

    /// `POST /api/firmware/{model}/{version}`: the body is the image, as it comes, and what can't be told in it goes into the
    /// query; or it is a form with the image as its file. Nothing stays of one that does not come to its end.
    func uploadFirmware(_ call: Call) async throws -> Answer {
        let release = ReleaseName(
            model: try Fields.modelName(call.parameter("model")), version: try Fields.version(call.parameter("version"))
        )
        var fields = UploadFields()
        for (name, value) in try call.query() { try fields.set(name, value.string ?? "") }
        let reader: MultipartReader?
        do throws(MultipartReader.Malformed) {
            reader = try MultipartReader(contentType: call.request.fields[.contentType] ?? "")
        } catch {
            throw ManagementProblem(.invalidRequest, error.reason)
        }
        let type = call.request.fields[.contentType]?.lowercased().prefix { $0 != ";" }.filter { $0 != " " } ?? ""
        // What curl says of --data-binary is no type either.
        let plainTypes = ["", "application/octet-stream", "application/x-www-form-urlencoded"]
        guard reader != nil || plainTypes.contains(type) else {
            throw ManagementProblem(
                .unsupportedMediaType, "an image comes as application/octet-stream or in multipart/form-data")
        }
        let desk = management.firmware
        let upload = try await desk.begin(release)
        do {
            if let reader {
                try await take(call.request.body, reader, upload, &fields)
            } else {
                while let part = try await call.request.body.next() { try await desk.append(part, to: upload) }
            }
            let firmware = try await management.finishUpload(upload, of: release, fields, call.requester)
            return Answer(firmware, ["message": "uploaded"])
        } catch {
            await desk.abandon(upload)
            throw error
        }
    }

    /// A form: one part is a file, the others are the names of the query.
    private func take(
        _ body: BodyPipe, _ reader: MultipartReader, _ upload: UInt64, _ fields: inout UploadFields
    ) async throws {
        var reader = reader
        var part: MultipartReader.Part?
        var value: [UInt8] = []
        var hasFile = false
        while let chunk = try await body.next() {
            reader.push(chunk)
            while let event = try Self.event(&reader) {
                switch event {
                case .part(let begun):
                    guard begun.fileName == nil || !hasFile else {
                        throw ManagementProblem(.invalidRequest, "the form has more than one file")
                    }
                    hasFile = hasFile || begun.fileName != nil
                    (part, value) = (begun, [])
                case .bytes(let bytes) where part?.fileName != nil:
                    try await management.firmware.append(bytes, to: upload)
                case .bytes(let bytes):
                    value += bytes
                    guard value.count <= Self.bodyBytes else {
                        throw ManagementProblem(.tooLarge, "a field of the form has at most \(Self.bodyBytes) bytes")
                    }
                case .partEnd:
                    if let part, part.fileName == nil {
                        try fields.set(part.name, String(decoding: value, as: UTF8.self))
                    }
                case .end: break
                }
            }
        }
        do throws(MultipartReader.Malformed) {
            try reader.finish()
        } catch {
            throw ManagementProblem(.invalidRequest, error.reason)
        }
        guard hasFile else { throw ManagementProblem(.invalidRequest, "the form has no file") }
    }

    private static func event(_ reader: inout MultipartReader) throws(ManagementProblem) -> MultipartReader.Event? {
        do throws(MultipartReader.Malformed) {
            return try reader.event()
        } catch {
            throw ManagementProblem(.invalidRequest, error.reason)
        }
    }

    // MARK: - Downloads

    /// `GET /firmware/{model}/{version}/firmware.bin`, by an address that was made for one device.
    func downloadFirmware(_ call: Call) async throws -> Response {
        let request = call.request
        let address: FirmwareURL
        do throws(FirmwareURL.Refusal) {
            address = try FirmwareURL(
                path: request.rawPath, query: request.query, keys: management.urlKeys.keys,
                now: management.milliseconds() / 1000)
        } catch {
            switch error {
            case .wrong: throw ManagementProblem(.forbidden, "this address was not made here")
            case .expired: throw ManagementProblem(.expired, "this address has had its time")
            }
        }
        guard accounts().devices[address.device]?.isBlocked == false, !wasCanceled(address),
            let (file, record) = try await management.firmware.open(address.release)
        else { throw ManagementProblem(.forbidden, "nobody gets this any more by this address") }
        let eTag = "\"\(hexadecimal(record.digest.prefix(16)))\""
        return .content(
            ofFile: file, size: file.count, type: "application/octet-stream", eTag: eTag, for: request,
            [.cacheControl: "private, no-transform"])
    }

    /// Whether the update that it was made for has been canceled since.
    private func wasCanceled(_ address: FirmwareURL) -> Bool {
        guard let latest = management.fleet.state(of: address.device)?.deployment, latest.state == .canceled,
            latest.model == address.release.model.text, latest.version == address.release.version.name
        else { return false }
        let made = (address.expires - management.settings().firmwareURLSeconds) * 1000
        return made <= latest.ended ?? 0
    }

    // MARK: - Devices that ask

    /// `GET /api/ota/{deviceId}/check`: a device is also told where to fetch what it shall run.
    func checkForUpdate(_ call: Call) async throws -> Answer {
        guard let device = try device(asking: call) else {
            var call = call
            call.caller = try caller(call.request, .people)
            return Answer(
                try await perform("checkForUpdate", ["deviceId": .string(call.parameter("deviceId"))], call))
        }
        let id = try DeviceId(call.parameter("deviceId"))
        guard id.text == device else { throw ManagementProblem(.notFound, "there is no device \(id.text)") }
        let (answer, offer) = try await management.update(of: device)
        guard let offer else { return Answer(answer) }
        let url = management.firmwareURL(of: offer.release, for: device, from: origin(askedBy: call.request))
        return Answer(
            answer.merging([
                "deployment": .optional(management.fleet.activeDeployment(of: device)), "url": .string(url),
                "size": .integer(offer.size),
                "sha256": .string(hexadecimal(offer.digest)),
            ]) { $1 })
    }

    /// Which device it is, by what it signs in to MQTT with: its secret (RFC 7617), or its certificate where nothing else is
    /// said. Nil: nobody says to be one. Throws where it is not.
    private func device(asking call: Call) throws -> String? {
        let values = call.request.fields[values: .authorization]
        if values.isEmpty { return try call.request.peer.certificate.flatMap(device(with:)) }
        guard values.count == 1, values[0].lowercased().hasPrefix("basic ") else { return nil }
        guard let pair = Base64.standard.decode(values[0].dropFirst("basic ".count).utf8),
            let colon = pair.firstIndex(of: UInt8(ascii: ":"))
        else { throw Self.wrongDevice }
        let name = Array(pair[..<colon])
        guard management.passwords?.permits(name, from: call.source) ?? true else {
            throw ManagementProblem(.tooManyAttempts, "too many wrong passwords lately")
        }
        let device = DeviceName.canonical(name).flatMap { accounts().devices[$0] }
        let isRight = (device?.secret ?? .nobody).matches(Array(pair[pair.index(after: colon)...]))
        management.passwords?.note(isRight && device != nil ? .proven : .wrong, name, from: call.source)
        guard isRight, let device else { throw Self.wrongDevice }
        return try Self.admitted(device)
    }

    /// The rules of MQTT's listeners.
    private func device(with certificate: Peer.Certificate) throws -> String? {
        let accounts = accounts()
        guard let name = certificate.commonName.flatMap(DeviceName.canonical), let device = accounts.devices[name]
        else {
            return nil
        }
        guard certificate.isForClients, !accounts.revokedCertificates.contains(certificate.serial) else {
            throw Self.wrongDevice
        }
        return try Self.admitted(device)
    }

    private static func admitted(_ device: Accounts.Device) throws -> String {
        guard !device.isBlocked else { throw ManagementProblem(.blocked, "\(device.deviceId) is blocked") }
        return device.deviceId
    }

    private static let wrongDevice = ManagementProblem(.invalidCredentials, "the device or its secret is wrong")

    /// Scheme, host and port by which whoever asks would reach this server.
    private func origin(askedBy request: Request) -> String {
        let settings = management.settings()
        if let base = settings.baseURL { return base }
        let host = request.head.request.authority ?? "\(request.peer.host):\(request.peer.port)"
        if request.peer.isSecure { return "https://\(host)" }
        guard let port = settings.httpsPort, let place = HostAndPort(host) else { return "http://\(host)" }
        return "https://\(place.host):\(port)"
    }
}

/// What somebody says of an image besides it.
struct UploadFields: Sendable, Equatable {
    var text = ""
    /// Detached.
    var signature: [UInt8]?

    mutating func set(_ name: String, _ value: String) throws(ManagementProblem) {
        switch name {
        case "description": text = try Fields.remark(value)
        case "signature": signature = try Fields.signature(value)
        default: throw ManagementProblem(.invalidRequest, "an upload does not take '\(name.prefix(64))'")
        }
    }
}

extension Management {
    /// Whoever began it may not be an administrator any more.
    func finishUpload(
        _ upload: UInt64, of release: ReleaseName, _ fields: UploadFields, _ requester: Requester
    ) async throws -> JSONValue {
        try refuseUnlessAdministrator(requester)
        _ = try await firmware.finish(upload, text: fields.text, signature: fields.signature, by: requester.doer)
        // It is there; what stands in the way of the others' end the next hour's attempt reports.
        try? await deleteOldReleases(of: release.model)
        return try await shown(release)
    }

    /// An address that works from now on for `firmware_url_ttl`. `origin`: scheme, host and port.
    nonisolated func firmwareURL(of release: ReleaseName, for device: String, from origin: String) -> String {
        let expires = milliseconds() / 1000 + settings().firmwareURLSeconds
        let address = FirmwareURL(release: release, device: device, expires: expires)
        return origin + address.signed(with: urlKeys.latest)
    }
}

extension OpenFile: ServedFile {}
