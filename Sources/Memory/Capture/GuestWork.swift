import LinuxSystem

/// The processor time that the guest uses, from epoch to epoch. Lives on the session's thread.
package final class GuestWork {
    private let clock: ProcessorTime
    private let alarm: ProcessorAlarm
    /// When the guest ran again last; nil while nobody knows.
    private var before: (total: UInt64, worked: UInt64)?

    package init(of pid: Int32) throws(SystemError) {
        clock = try ProcessorTime(of: pid)
        alarm = try ProcessorAlarm(of: pid)
    }

    /// Readable once it has used what `wake` was told, all in all.
    package var wakeNumber: Int32 { alarm.number }

    /// Wakes the session's thread once QEMU has used so much since the guest ran again, in nanoseconds.
    package func wake(after work: UInt64) {
        if let before { alarm.set(atTotal: before.total + work) }
    }

    /// It was heard.
    package func takeWake() { alarm.take() }

    /// The guest runs again. Returns what it used in the epoch before, without what QEMU's main thread did, which is busy
    /// with the checkpoint; nil for the first.
    ///
    /// Its processors stood still a moment ago, so all that they used is counted.
    package func resumed() -> UInt64? {
        let now: (total: UInt64, worked: UInt64)? =
            if let total = clock.total(), let worked = clock.besideMainThread() { (total, worked) } else { nil }
        defer { before = now }
        guard let before, let now, now.worked >= before.worked else { return nil }
        return now.worked - before.worked
    }

    /// What its QEMU used since then, all in all.
    package func sinceResumed() -> UInt64 {
        guard let before, let total = clock.total(), total >= before.total else { return .max }
        return total - before.total
    }
}
