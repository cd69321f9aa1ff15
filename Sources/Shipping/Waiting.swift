import LinuxSystem

/// Waits until one of `descriptors` can be read, or the time is over. Negative descriptors are passed over.
package func waitReadable(_ descriptors: [Int32], nanoseconds: UInt64) {
    var poller = Poller(capacity: descriptors.count)
    for descriptor in descriptors where descriptor >= 0 { _ = poller.add(descriptor) }
    // A failing poll is as good as one that timed out: whoever waits looks for itself what there is.
    _ = try? poller.wait(timeout: nanoseconds)
}
