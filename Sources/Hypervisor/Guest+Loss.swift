import Model

extension Guest {
    /// What is thrown once its process has ended.
    package var gone: SessionError { .gone(pid) }
}

extension SessionError {
    /// The guest whose process had this number runs no more.
    package static func gone(_ pid: Int32) -> SessionError {
        SessionError(.guestLost, "the guest's QEMU (pid \(pid)) is gone")
    }
}
