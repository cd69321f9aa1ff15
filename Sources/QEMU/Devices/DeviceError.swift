import LinuxSystem

/// Why something could not be added to, or taken away from, a running VM.
public struct DeviceError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        case monitor(QMPError)
        case system(SystemError)
        /// A block job ended by itself: which, and QEMU's reason.
        case jobFailed(job: String, reason: String)
        case timedOut(String)
    }
    public var reason: Reason

    public init(_ reason: Reason) { self.reason = reason }
    init(_ error: QMPError) { reason = .monitor(error) }
    init(_ error: SystemError) { reason = .system(error) }

    /// Runs `body` and folds its failure; a function because an owned value cannot be initialised within a `do`.
    static func folding<Result: ~Copyable>(
        _ body: () throws(SystemError) -> Result
    ) throws(DeviceError) -> Result {
        do throws(SystemError) { return try body() } catch { throw DeviceError(error) }
    }

    /// True when QEMU is gone.
    public var isClosed: Bool {
        if case .monitor(let error) = reason { error.reason == .closed } else { false }
    }

    public var description: String {
        switch reason {
        case .monitor(let error): error.description
        case .system(let error): error.description
        case .jobFailed(let job, let reason): "the copy job \(job) failed: QEMU said: \(reason)"
        case .timedOut(let what): "QEMU did not finish in time: \(what)"
        }
    }
}
