import Glibc

/// A second thread that copies part of a process's memory while its owner copies the rest. With two threads a scattered
/// page takes 0.5 to 0.7 us instead of 1.1, so some hundred pages are worth waking it.
///
/// Used by one thread at a time; `begin` and `finish` alternate.
// SAFETY: everything mutable belongs to the thread while `step` is `begun`, to the owner otherwise.
public final class ReadingHelper: @unchecked Sendable {
    private enum Step { case begun, done, closing }

    private let step = Monitor(Step.begun)
    private var reader: MemoryReader
    private var runs: RunBuffer
    private var addresses: [UInt64] = []
    private var target = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var failure: SystemError?
    private var thread: NamedThread?
    /// With a single processor two threads are slower than one.
    public static let pays = sysconf(Int32(_SC_NPROCESSORS_ONLN)) > 1
    /// The thread's number, as the kernel's files have it.
    public private(set) var threadID: pid_t = 0

    /// Starts the thread; `runsMax` bounds what one `begin` takes.
    public init(pid: pid_t, name: String, runsMax: Int) throws(SystemError) {
        reader = MemoryReader(pid: pid)
        runs = RunBuffer(capacity: runsMax)
        // The thread must not keep its owner alive.
        let pointer = Unmanaged.passUnretained(self)
        thread = try NamedThread.start(name) { pointer._withUnsafeGuaranteedRef { $0.work() } }
        _ = finishStep()
    }

    deinit {
        step.change { $0 = .closing }
        if let thread = thread.take() { thread.join() }
    }

    /// Has the thread copy the pages of `part`, without the first `skipped` pages of its first run, into `buffer`, which
    /// must stay valid until `finish`.
    func begin(
        _ part: UnsafeBufferPointer<TrackedRun>, skipping skipped: UInt32, addresses: borrowing [UInt64],
        views: borrowing [SharedView?], into buffer: UnsafeMutableRawBufferPointer
    ) {
        runs.removeAll()
        for (index, var run) in part.enumerated() {
            if index == 0 {
                run.first += skipped
                run.count -= skipped
            }
            runs.append(run)
        }
        self.addresses = copy addresses
        reader.views = copy views
        target = buffer
        step.change { $0 = .begun }
    }

    /// Waits until all of it is copied.
    func finish() throws(SystemError) {
        if let failure = finishStep() { throw failure }
    }

    private func finishStep() -> SystemError? {
        step.await { $0 != .begun }
        defer { failure = nil }
        return failure
    }

    private func work() {
        threadID = NamedThread.currentID
        while true {
            step.change { if $0 == .begun { $0 = .done } }
            let isClosing = step.wait { step -> Bool? in
                switch step {
                case .done: nil
                case .begun: false
                case .closing: true
                }
            }
            if isClosing { return }
            do throws(SystemError) {
                _ = try reader.copy(runs.runs, addresses: addresses, into: target)
            } catch {
                failure = error
            }
        }
    }
}
