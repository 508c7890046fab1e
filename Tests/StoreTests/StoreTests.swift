import Store
import Testing

@Suite struct `Store` {
}
