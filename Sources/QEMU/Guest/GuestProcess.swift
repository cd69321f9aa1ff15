import Glibc
import Hypervisor
import LinuxSystem
import Model

/// The QEMU of a running guest: its process and its monitor, and what a failure of the monitor means.
final class GuestProcess {
    let vm: VMName
    let pid: Int32
    let monitor: QMPConnection
    private let handle: PidDescriptor
    /// It was seen without its memory.
    private var isDying = false

    /// The monitor answers within this, or QEMU counts as stuck.
    static let timeout = Duration.seconds(10)

    init(_ vm: VMName, _ pid: Int32, _ monitor: QMPConnection) throws(SystemError) {
        self.vm = vm
        self.pid = pid
        self.monitor = monitor
        handle = try PidDescriptor(pid)
    }

    // MARK: - Life and death

    /// False once it is certain that the guest runs no more. A process that is killed gives its memory and its files back
    /// first, which takes the kernel seconds for a large one, and counts as ended only then.
    var isAlive: Bool { !isDying && !handle.hasExited() && (monitor.isOpen || hasMemory) }
    /// The first word of this file is 0 for a process whose memory was taken from it (proc(5)), which is never undone.
    private var hasMemory: Bool { (try? Files.text(of: "/proc/\(pid)/statm"))?.first != "0" }
    var exitDescriptor: Int32 { handle.number }
    /// A signal or a debugger keeps it from running (proc(5): T and t).
    var isHalted: Bool { ["T", "t"].contains(ProcessFiles.statistics(of: pid)?.first ?? "") }

    func kill() { try? handle.kill() }

    func end(by body: (borrowing PidDescriptor) -> Void) { body(handle) }

    /// True as soon as the process has ended, or has no memory any more, which is waited for for so many nanoseconds.
    func hasEnded(within timeout: UInt64) -> Bool {
        if !hasMemory { isDying = true }
        if isDying { return true }
        return (try? handle.waitForExit(timeout: timeout)) ?? !isAlive
    }

    /// A process that is killed closes its sockets some time before it counts as ended.
    private func hasDied(_ monitorClosed: Bool) -> Bool {
        monitorClosed ? hasEnded(within: 2_000_000_000) : !isAlive
    }

    // MARK: - What its failures mean

    func failed(to what: String, _ error: QMPError) -> SessionError {
        if hasDied(error.reason == .closed) { return .gone(pid) }
        return SessionError(.qemu, "the QEMU of \(vm) did not \(what): \(error)")
    }

    func failed(with what: String, _ error: DeviceError) -> SessionError {
        if hasDied(error.isClosed) { return .gone(pid) }
        return SessionError(.qemu, "\(what) of \(vm): \(error)")
    }

    /// Executes one command; `what` says what QEMU did not do should it fail.
    func execute(_ command: String, to what: String) throws(SessionError) -> JSONValue {
        do throws(QMPError) {
            return try monitor.execute(command, timeout: Self.timeout)
        } catch {
            throw failed(to: what, error)
        }
    }

    /// Its disks did not end within `patience` what they had begun.
    func diskHangs(_ patience: DiskPatience) -> SessionError {
        let seconds = Double(patience.bound?.limit ?? 0) / 1e9
        return SessionError(
            .diskHangs, "the disks of \(vm) did not end what they had begun within \(seconds) s")
    }

    // MARK: - Its files

    /// Has the host write out what its page cache holds of QEMU's files, with the guest running: QEMU flushes its disks when it
    /// stops, and the guest would stand still for all that was gathered.
    func flushFiles() {
        for number in (try? ProcessFiles.descriptors(of: pid)) ?? [] {
            let path = "/proc/\(pid)/fd/\(number)"
            var status = stat()
            guard stat(path, &status) == 0, [S_IFREG, S_IFBLK].contains(status.st_mode & S_IFMT),
                let file = try? OwnedDescriptor.open(path, O_RDONLY)
            else { continue }
            fdatasync(file.number)
        }
    }
}
