import Access
import Testing

@Suite struct `Access` {
}
