/// A disk of a guest at level `component` whose copy at the guest's host is lost.
package struct LostDisk: Sendable, Hashable {
    /// As the operator knows it.
    package var disk: String
    package var reason: String
    /// In seconds of the wall clock, to be shown.
    package var since: Int?
    /// The standby wrote it down: the guest goes on with its copy.
    package var isNoted: Bool
    package var isRejoining: Bool
    /// At most so many bytes are to be copied.
    package var staleBytes: UInt64
}
