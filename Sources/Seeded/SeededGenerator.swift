/// SplitMix64: the same seed gives the same numbers, on every machine. For tests and fuzzing, where a run must be
/// repeatable; not for secrets.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    /// A number from 0 up to `bound`, which is not 0.
    package mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    package mutating func element<Element>(of array: [Element]) -> Element { array[below(array.count)] }

    /// True `times` times out of a hundred.
    package mutating func happens(_ times: Int) -> Bool { below(100) < times }
}
