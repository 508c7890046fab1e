import Certificates
import Testing

@Suite struct `Certificates` {
}
