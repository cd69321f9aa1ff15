/// Whether an epoch's pages are copied just before its pause, while the guest still runs, so that only what it writes again
/// is left for the pause.
///
/// That pays for pages that are written once (a file that streams through the page cache writes 17 % of its pages again
/// within 25 ms), and costs a second fault and a second copy for those that are written all the time (a hash table: 90 %).
/// So it is tried, and left alone for a while where it did not pay.
package struct PrecopyChoice: Sendable, Equatable {
    /// Fewer pages are copied while QEMU saves its devices, in no time of their own.
    package static let worthPages: UInt64 = 512
    /// How many epochs pass before it is tried again after it did not pay; twice as many after each further time.
    package static let restMin = 16
    package static let restMax = 512

    private var expected: UInt64 = 0
    private var rest = PrecopyChoice.restMin
    private var resting = 0

    package init() {}

    /// Whether to copy before the pause of the epoch that ends now.
    package mutating func isWorthwhile() -> Bool {
        guard expected >= Self.worthPages else { return false }
        guard resting == 0 else {
            resting -= 1
            return false
        }
        return true
    }

    /// An epoch is over: `precopied` pages were copied before its pause (0: none were), and `left` within it.
    package mutating func record(precopied: UInt64, left: UInt64) {
        expected = max(precopied, left)
        guard precopied > 0 else { return }
        if left > precopied / 2 {
            resting = rest
            rest = min(rest * 2, Self.restMax)
        } else {
            rest = Self.restMin
        }
    }
}
