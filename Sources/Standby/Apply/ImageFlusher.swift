import LinuxSystem
import Model
import Storage

/// Has a standby's images written out now and then, on a thread of its own: storage that does not take what was applied is found
/// out while the guest runs elsewhere, and not when it is to go on here.
///
/// The kernel tells of a page that it could not write once, to whoever flushes next (fs/sync.c, errseq_t): an image that failed
/// is not flushed again (I22).
package final class ImageFlusher: Sendable {
    private let isEnded = Monitor(false)

    /// - Parameters:
    ///   - period: between two flushes of all images, in nanoseconds.
    ///   - failed: called once, on that thread, which ends.
    package init(
        _ vm: VMName, _ disks: [StagedDisk], period: UInt64 = 5_000_000_000,
        failed: @escaping @Sendable (SessionError) -> Void
    ) throws(SystemError) {
        let images = disks.map(\.image)
        guard !images.isEmpty else { return }
        _ = try NamedThread.start("flush-\(vm)") { [isEnded] in
            while isEnded.wait(nanoseconds: period, for: { $0 ? true : nil }) == nil {
                do throws(StorageError) {
                    for image in images { try image.writeOut() }
                } catch {
                    // Closed images are the guest's, or nobody's any more.
                    if case .closed = error { return }
                    return failed(SessionError(.storage, "what was applied cannot be kept: \(error)"))
                }
            }
        }
    }

    /// A flush that is under way goes on by itself.
    deinit { isEnded.change { $0 = true } }
}
