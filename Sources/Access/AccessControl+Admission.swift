package import MQTT

/// Who may connect, and as whom. First the certificate or the key, where the listener goes by them; then the password
/// file; then devices, people and services.
extension AccessControl {
    /// Whether a client may connect, and as whom.
    package func admission(of signIn: SignIn) -> Admission {
        let password = signIn.password ?? []
        let refusal = refusal(at: signIn.listener)
        switch claim(of: signIn) {
        case .proven(let principal): return .accepted(principal)
        case .refused(let code): return .refused(code)
        case .secret(let digest, let principal, let isBlocked):
            guard digest.matches(password), principal.credential != 0 else { return .refused(refusal) }
            return isBlocked ? .refused(.notAuthorized) : .accepted(principal)
        case .password(let hash, let principal, let isDecoy):
            let check = PasswordCheck(password, against: hash, of: principal, refusal: refusal, isDecoy: isDecoy)
            guard !hash.isCostly else { return .unproven(check) }
            return admission(after: check, proven: check.run())
        }
    }

    /// What comes of a check that has been done meanwhile: who was blocked, removed or given another password since is
    /// refused after all.
    package func admission(after check: PasswordCheck, proven principal: Principal?) -> Admission {
        guard let principal else { return .refused(check.refusal) }
        return isCurrent(principal) ? .accepted(principal) : .refused(.notAuthorized)
    }

    /// What is counted when passwords are tried: the name that a person's or a password file's password is to prove, as
    /// it is stored, or one that does not exist. Nil where nothing can be guessed: certificates, keys, the random secrets
    /// of devices and services, and where no proof is asked for.
    package func guessedName(of signIn: SignIn) -> [UInt8]? {
        switch claim(of: signIn) {
        case .password(_, let principal, _): principal.userName
        case .secret(_, let principal, _): principal.credential == 0 ? principal.userName : nil
        case .proven, .refused: nil
        }
    }

    /// The user name that a sign-in will have if it is accepted, else the one that it shows: what
    /// `use_username_as_clientid` goes by, before anything is proved.
    package func userName(of signIn: SignIn) -> [UInt8]? {
        switch claim(of: signIn) {
        case .proven(let principal), .secret(_, let principal, _), .password(_, let principal, _): principal.userName
        case .refused: signIn.userName
        }
    }
}

extension AccessControl {
    /// Whom a sign-in claims to be, and what is to prove it.
    private enum Claim {
        case proven(Principal)
        case refused(ConnectReturnCode)
        /// A principal without a credential: nobody of that name, whatever the secret.
        case secret(SecretDigest, Principal, isBlocked: Bool)
        case password(PasswordHash, Principal, isDecoy: Bool)
    }

    /// What somebody is told whose user name or password is wrong.
    package func refusal(at listener: Int) -> ConnectReturnCode {
        listeners[listener].followsMosquitto ? .notAuthorized : .badUserNameOrPassword
    }

    private func claim(of signIn: SignIn) -> Claim {
        let listener = listeners[signIn.listener]
        let goesByTLS = listener.usesCertificateName || listener.usesCertificateSubject
        if listener.requiresCertificate, signIn.certificate == nil, signIn.keyIdentity == nil {
            return .refused(goesByTLS ? .badUserNameOrPassword : .notAuthorized)
        }
        if listener.admitsAccounts, let certificate = signIn.certificate {
            guard !accounts.revokedCertificates.contains(certificate.serial) else { return .refused(.notAuthorized) }
            if !listener.usesCertificateSubject, let device = device(named: certificate.commonName) {
                return claim(of: signIn, with: certificate, toBe: device)
            }
        }
        if goesByTLS { return claimByTLS(of: signIn) }
        // An empty user name is none, as in Mosquitto.
        guard let name = signIn.userName, !name.isEmpty else { return anonymousClaim(of: signIn) }
        if let claim = claim(toBe: name, inPasswordFileFor: signIn) { return claim }
        if listener.admitsAccounts, let claim = claim(toBeAccount: name, at: signIn.listener, signIn.password) {
            return claim
        }
        if takesAtItsWord(listener) {
            return .proven(Principal(.user(name), userName: name, listener: signIn.listener, proof: .none))
        }
        return claim(toBeNobody: name, at: signIn.listener)
    }

    /// What Mosquitto does with user names where it has nothing to check them with.
    private func takesAtItsWord(_ listener: Listener) -> Bool {
        listener.allowsAnonymous && listener.passwordFile == nil && listener.followsMosquitto
    }

    private func anonymousClaim(of signIn: SignIn) -> Claim {
        guard listeners[signIn.listener].allowsAnonymous else { return .refused(.notAuthorized) }
        guard let proof = keyProof(of: signIn) else { return .refused(.notAuthorized) }
        return .proven(Principal(.anonymous, userName: nil, listener: signIn.listener, proof: proof))
    }

    /// Nil: the key that it came with has been taken away meanwhile.
    private func keyProof(of signIn: SignIn) -> Credential? {
        guard let identity = signIn.keyIdentity else { return Credential.none }
        return listeners[signIn.listener].keys?[identity].map { .key($0, identity: identity) }
    }

    /// `use_identity_as_username`, `use_subject_as_username`: no password is asked for, and a user name is not looked at.
    private func claimByTLS(of signIn: SignIn) -> Claim {
        if let identity = signIn.keyIdentity {
            guard let proof = keyProof(of: signIn), !identity.isEmpty, isUTF8(identity) else {
                return .refused(.badUserNameOrPassword)
            }
            return .proven(Principal(.user(identity), userName: identity, listener: signIn.listener, proof: proof))
        }
        guard let certificate = signIn.certificate else { return .refused(.badUserNameOrPassword) }
        let usesSubject = listeners[signIn.listener].usesCertificateSubject
        guard let name = usesSubject ? certificate.subject : certificate.commonName, !name.isEmpty, !name.contains(0),
            isUTF8(name)
        else { return .refused(.badUserNameOrPassword) }
        return .proven(
            Principal(
                .user(name), userName: name, listener: signIn.listener, proof: .certificate(serial: certificate.serial))
        )
    }

    private func device(named name: [UInt8]?) -> Accounts.Device? {
        name.flatMap(DeviceName.canonical).flatMap { accounts.devices[$0] }
    }

    /// The certificate decides; a password beside it is not looked at.
    private func claim(
        of signIn: SignIn, with certificate: ClientCertificate, toBe device: Accounts.Device
    ) -> Claim {
        guard certificate.isForClients, !device.isBlocked else { return .refused(.notAuthorized) }
        if let name = signIn.userName, !name.isEmpty, !listeners[signIn.listener].usesCertificateName,
            DeviceName.canonical(name) != device.deviceId
        {
            return .refused(refusal(at: signIn.listener))
        }
        return .proven(
            Principal(
                .device(device.deviceId), userName: Array(device.deviceId.utf8), listener: signIn.listener,
                proof: .certificate(serial: certificate.serial)))
    }

    /// Nil: the listener's file does not have that name.
    private func claim(toBe name: [UInt8], inPasswordFileFor signIn: SignIn) -> Claim? {
        guard let hash = listeners[signIn.listener].passwordFile?[name] else { return nil }
        guard signIn.password != nil else { return .refused(refusal(at: signIn.listener)) }
        let principal = Principal(.user(name), userName: name, listener: signIn.listener, proof: .hash(hash))
        return .password(hash, principal, isDecoy: false)
    }

    /// Nil: nobody of that name.
    private func claim(toBeAccount name: [UInt8], at listener: Int, _ password: [UInt8]? = nil) -> Claim? {
        guard let text = String(validating: name, as: UTF8.self) else { return nil }
        if name.contains(UInt8(ascii: "@")) {
            let email = text.lowercased()
            guard let person = accounts.people[email], let hash = try? PasswordHash(parsing: person.passwordHash.utf8)
            else { return nil }
            if let password, let claim = claim(of: person, withToken: password, at: listener) { return claim }
            let principal = Principal(
                .person(person.id), userName: Array(email.utf8), listener: listener, proof: .hash(hash))
            return .password(hash, principal, isDecoy: false)
        }
        if let service = accounts.services[text] {
            let principal = Principal(
                .service(service.name), userName: name, listener: listener, proof: .secret(service.secret))
            return .secret(service.secret, principal, isBlocked: service.isBlocked)
        }
        guard let device = device(named: name) else { return nil }
        let userName = Array(device.deviceId.utf8)
        guard let secret = device.secret else {
            let principal = Principal(.device(device.deviceId), userName: userName, listener: listener, proof: .none)
            return .secret(.nobody, principal, isBlocked: device.isBlocked)
        }
        let principal = Principal(
            .device(device.deviceId), userName: userName, listener: listener, proof: .secret(secret))
        return .secret(secret, principal, isBlocked: device.isBlocked)
    }

    /// A log-in in the place of the password. Nil: it is none.
    private func claim(of person: Accounts.Person, withToken password: [UInt8], at listener: Int) -> Claim? {
        guard password.count(where: { $0 == UInt8(ascii: ".") }) == 2, password.starts(with: "eyJ".utf8),
            let token = accounts.token(String(decoding: password, as: UTF8.self)), token.subject == person.id
        else { return nil }
        guard !person.isBlocked, !person.mustChangePassword else { return .refused(.notAuthorized) }
        return .proven(
            Principal(
                .person(person.id), userName: Array(person.email.utf8), listener: listener, proof: .token(token.id)))
    }

    /// Checked like somebody who exists, so that neither the answer nor its time tells who does.
    private func claim(toBeNobody name: [UInt8], at number: Int) -> Claim {
        let listener = listeners[number]
        let nobody = Principal(.user(name), userName: name, listener: number, proof: .none)
        if listener.admitsAccounts, name.contains(UInt8(ascii: "@")), !accounts.people.isEmpty {
            return .password(.nobody, nobody, isDecoy: true)
        }
        if let hash = listener.passwordFile?.costliest { return .password(hash, nobody, isDecoy: true) }
        return .secret(.nobody, nobody, isBlocked: false)
    }
}

extension AccessControl {
    /// Whether somebody who has signed in would still be accepted, as the same and with the same proof. Cheap enough to be
    /// asked for every connection whenever something has changed.
    package func isCurrent(_ principal: Principal) -> Bool {
        guard listeners.indices.contains(principal.listener) else { return false }
        let listener = listeners[principal.listener]
        let proof = Credential(principal.credential)
        let isRevoked = listener.admitsAccounts && accounts.revokedCredentials.contains(proof)
        switch principal.identity {
        case .anonymous:
            return listener.allowsAnonymous && !listener.usesCertificateName && !listener.usesCertificateSubject
                && isKeyCurrent(proof, at: listener)
        case .user(let name):
            switch proof.kind {
            case .some(.none): return isTakenAtItsWord(name, at: principal.listener)
            case .passwordHash:
                // Where no proof is asked for any more, whoever has given one stays.
                return listener.passwordFile?[name].map(Credential.hash) == proof
                    || isTakenAtItsWord(name, at: principal.listener)
            case .certificate:
                guard !isRevoked else { return false }
                return listener.usesCertificateSubject
                    || listener.usesCertificateName && !(listener.admitsAccounts && device(named: name) != nil)
            case .key:
                return (listener.usesCertificateName || listener.usesCertificateSubject)
                    && isKeyCurrent(proof, at: listener)
            case .secret, .token, nil: return false
            }
        case .device(let deviceId):
            guard listener.admitsAccounts, let device = accounts.devices[deviceId], !device.isBlocked else {
                return false
            }
            return proof.kind == .certificate ? !isRevoked : device.secret.map(Credential.secret) == proof
        case .person(let id):
            guard listener.admitsAccounts, let name = principal.userName,
                let person = accounts.people[String(decoding: name, as: UTF8.self)], person.id == id,
                !person.isBlocked, !person.mustChangePassword
            else { return false }
            if proof.kind == .token { return accounts.tokenCredentials.contains(proof) }
            guard let hash = try? PasswordHash(parsing: person.passwordHash.utf8)
            else { return false }
            return .hash(hash) == proof
        case .service(let name):
            guard listener.admitsAccounts, let service = accounts.services[name], !service.isBlocked else {
                return false
            }
            return .secret(service.secret) == proof
        }
    }

    private func isTakenAtItsWord(_ name: [UInt8], at number: Int) -> Bool {
        let listener = listeners[number]
        return takesAtItsWord(listener) && !listener.usesCertificateName && !listener.usesCertificateSubject
            && !(listener.admitsAccounts && claim(toBeAccount: name, at: number) != nil)
    }

    private func isKeyCurrent(_ proof: Credential, at listener: Listener) -> Bool {
        proof.kind != .key || listener.keys?.credentials.contains(proof) == true
    }
}

extension PasswordHash {
    /// Nobody's, at the cost of a person's: for checking a name that does not exist.
    static let nobody = PasswordHash(
        scheme: .forPeople, salt: [UInt8](repeating: 0, count: 16), digest: [UInt8](repeating: 0, count: 32))
}
