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

    /// `POST /api/firmware/{model}/{version}`: the body is the image, as it comes; what can't be told in it goes into the
    /// query. Nothing stays of one that does not come to its end.
    func uploadFirmware(_ call: Call) async throws -> Answer {
        let release = ReleaseName(
            model: try Fields.modelName(call.parameter("model")), version: try Fields.version(call.parameter("version"))
        )
        let query = try call.query()
        var fields = UploadFields()
        fields.text = try query["description"]?.string.map(Fields.remark) ?? ""
        fields.signature = try query["signature"]?.string.map(Fields.signature)
        let type = call.request.fields[.contentType]?.lowercased().prefix { $0 != ";" }.filter { $0 != " " } ?? ""
        // What curl says of --data-binary is none either.
        guard ["", "application/octet-stream", "application/x-www-form-urlencoded"].contains(type) else {
            throw ManagementProblem(.unsupportedMediaType, "an image comes as application/octet-stream")
        }
        let desk = management.firmware
        let upload = try await desk.begin(release)
        do {
            while let part = try await call.request.body.next() { try await desk.append(part, to: upload) }
            let firmware = try await management.finishUpload(upload, of: release, fields, call.requester)
            return Answer(firmware, ["message": "uploaded"])
        } catch {
            await desk.abandon(upload)
            throw error
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
        return .content(of: file, eTag: eTag, for: request)
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

    /// Which device it is, by what it signs in to MQTT with (RFC 7617). Nil: nobody says to be one. Throws where it is not.
    private func device(asking call: Call) throws -> String? {
        let values = call.request.fields[values: .authorization]
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
}

extension Management {
    /// Whoever began it may not be an administrator any more.
    func finishUpload(
        _ upload: UInt64, of release: ReleaseName, _ fields: UploadFields, _ requester: Requester
    ) async throws -> JSONValue {
        try refuseUnlessAdministrator(requester)
        _ = try await firmware.finish(upload, text: fields.text, signature: fields.signature, by: requester.doer)
        return try await shown(release)
    }

    /// An address that works from now on for `firmware_url_ttl`. `origin`: scheme, host and port.
    nonisolated func firmwareURL(of release: ReleaseName, for device: String, from origin: String) -> String {
        let expires = milliseconds() / 1000 + settings().firmwareURLSeconds
        let address = FirmwareURL(release: release, device: device, expires: expires)
        return origin + address.signed(with: urlKeys.latest)
    }
}

extension Response {
    /// A release: the part of it that a GET or HEAD asks for.
    fileprivate static func content(of file: OpenFile, eTag: String, for request: Request) -> Response {
        var fields: HTTPFields = [
            .eTag: eTag, .acceptRanges: "bytes", .contentType: "application/octet-stream",
            .cacheControl: "private, no-transform",
        ]
        guard !isUnchanged(request.fields, eTag: eTag) else { return Response(.notModified, fields) }
        let range = request.method == .get ? ByteRange(request.fields, of: file.count, eTag: eTag) : .whole
        switch range {
        case .whole: return Response(.ok, fields, body: .file(file, 0..<file.count))
        case .part(let part):
            fields[.contentRange] = "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(file.count)"
            return Response(.partialContent, fields, body: .file(file, part))
        case .unsatisfiable:
            fields[.contentRange] = "bytes */\(file.count)"
            return Response(.rangeNotSatisfiable, fields)
        }
    }
}

extension Response.Body {
    fileprivate static func file(_ file: OpenFile, _ range: Range<Int>) -> Response.Body {
        .stream(length: range.count) { writer in
            for start in stride(from: range.lowerBound, to: range.upperBound, by: Firmware.Limits.readBytes) {
                let end = min(range.upperBound, start + Firmware.Limits.readBytes)
                try await writer.write(try file.read(start..<end))
            }
        }
    }
}
