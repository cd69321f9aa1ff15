import Hypervisor

/// Everything Romulus knows about QEMU: its monitor, its memory map, its device state, its command line, its migration
/// stream, and the few objects that are added to a running VM and taken away again.
///
/// Owns: monitor sockets, standby QEMU processes, and what these add to a VM (file-descriptor sets, mirror jobs, NBD
/// nodes, chardevs, filter-redirectors). May call: LinuxSystem, Model, `/proc` of the QEMU process, the monitor socket.
/// Knows nothing of epochs, links or policy. Facts about QEMU stated here were observed with QEMU 7.2 unless a comment
/// names another source.
///
/// - `QMP/`: the monitor (`QMPConnection`), one thread at a time.
/// - `Inspect/`: what runs (`GuestInspector` to `GuestDescription`), and why it cannot be protected (`RefusalError`).
/// - `CommandLine/`: options and their values, as QEMU reads them.
/// - `Standby/`: what a standby is started with (`Derivation`), its process and its resume (`QEMUStandbys`, `StandbyProcess`,
///   `ResumeStream`).
/// - `State/`: device state (`DeviceState`, `DeviceStateCapture`, `DeviceStatePipe`).
/// - `Devices/`: what is added to a running VM (`MirrorJob`, `OutputFilter`).
public enum QEMUSupport {
    /// The oldest QEMU whose monitor offers what is used here (`yank`, `blockdev-mirror` with `copy-mode`, JSON
    /// `-object`), as major, minor.
    public static let oldest = QEMUVersion(major: 6, minor: 0, micro: 0, package: "")
}
