import Glibc

/// The side of a keyboard and screen, and the name of the other. `grantpt` and its like are not imported.
func openTerminal() throws -> (descriptor: Int32, name: String) {
    let (getNumber, setLock): (UInt, UInt) = (0x8004_5430, 0x4004_5431)  // TIOCGPTN, TIOCSPTLCK
    let descriptor = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    var (number, lock): (Int32, Int32) = (0, 0)
    guard descriptor >= 0, ioctl(descriptor, getNumber, &number) == 0, ioctl(descriptor, setLock, &lock) == 0
    else { throw Unexpected(errno: errno, during: "/dev/ptmx") }
    return (descriptor, "/dev/pts/\(number)")
}
