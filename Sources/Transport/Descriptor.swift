import Glibc

/// An open file descriptor: owned by one value, closed when that value goes away.
package struct Descriptor: ~Copyable, Sendable {
    package let rawValue: CInt

    package init(adopting rawValue: CInt) {
        precondition(rawValue >= 0, "not a descriptor")
        self.rawValue = rawValue
    }

    /// Adopts what a C function returned, or throws its `errno`.
    package init(adopting result: CInt, from function: String) throws(SystemError) {
        guard result >= 0 else { throw SystemError(errno, during: function) }
        self.init(adopting: result)
    }

    deinit { close(rawValue) }
}

/// The machine's refusal: an `errno` and the C function that gave it.
package struct SystemError: Error, Equatable, CustomStringConvertible {
    package let code: CInt
    package let function: String

    package init(_ code: CInt, during function: String) {
        self.code = code
        self.function = function
    }

    /// Whether an address can't be used because this machine doesn't have it, or not its family.
    package var isMissingAddress: Bool { code == EADDRNOTAVAIL || code == EAFNOSUPPORT }

    /// Whether a socket can't be tied to a network interface because only root may do that here.
    package var isForbiddenInterface: Bool { code == EPERM && function == "SO_BINDTODEVICE" }

    /// The system's own words.
    package var reason: String { unsafe String(cString: strerror(code)) }

    package var description: String { "\(function): \(reason)" }
}

/// Raises the limit of open files to what the system allows. Returns the limit.
@discardableResult
package func raiseOpenFileLimit() -> UInt64 {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    limit.rlim_cur = limit.rlim_max
    guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    return UInt64(limit.rlim_cur)
}

/// The first descriptor that no connection may have. Descriptors are given out lowest first, so from here on they are
/// left for the log, a reload and whatever else opens a file. The corresponding C function is `getrlimit`.
func connectionDescriptorBound() -> CInt {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
    let most = CInt(clamping: limit.rlim_cur)
    return max(most - reservedDescriptors, most / 2)
}

private let reservedDescriptors: CInt = 16
