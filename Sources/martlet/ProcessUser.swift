internal import Glibc
internal import Logs

/// Whom root becomes once the listeners are bound.
struct ProcessUser {
    let name: String
    let user: uid_t
    let group: gid_t

    var logOwner: LogFileOwner { LogFileOwner(user: user, group: group) }

    /// Nil where the process stays who it is: not root, or told to stay root. Without Mosquitto's own user it is nobody,
    /// as in Mosquitto; any other name has to exist.
    static func find(_ name: String) throws(Failure) -> (user: ProcessUser?, warning: String?) {
        guard geteuid() == 0, name != "root" else { return (nil, nil) }
        if let user = ProcessUser(name) { return (user, nil) }
        guard name == "mosquitto" else { throw Failure(.failed, "user \(name): there is no such user") }
        guard let nobody = ProcessUser("nobody") else {
            throw Failure(.failed, "there is neither a user mosquitto nor nobody to become; see 'user'")
        }
        return (nobody, "there is no user mosquitto, so the broker becomes nobody; see 'user'")
    }

    /// The corresponding C function is `getpwnam`.
    private init?(_ name: String) {
        guard let entry = unsafe getpwnam(name) else { return nil }
        self.name = name
        user = unsafe entry.pointee.pw_uid
        group = unsafe entry.pointee.pw_gid
    }

    /// All threads change, and for good. The corresponding C functions are `initgroups`, `setgid` and `setuid`.
    func become() throws(Failure) {
        guard unsafe initgroups(name, group) == 0, setgid(group) == 0, setuid(user) == 0 else {
            throw Failure(.failed, unsafe "user \(name): \(String(cString: strerror(errno)))")
        }
    }
}
