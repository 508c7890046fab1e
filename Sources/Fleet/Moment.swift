/// A point in time by two clocks: what lasts is measured by the one that never jumps, what is shown and kept by the other.
package struct Moment: Sendable, Equatable {
    /// Milliseconds of a clock that never jumps.
    package var monotonic: Int64
    /// Milliseconds since 1970, UTC, as the machine believes it to be.
    package var wall: Int64

    package init(monotonic: Int64, wall: Int64) {
        self.monotonic = monotonic
        self.wall = wall
    }
}
