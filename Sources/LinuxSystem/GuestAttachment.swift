import CLinux
import Glibc

/// The hold on a running process's memory: its userfaultfd (as our copy), its pagemap, its pidfd.
///
/// This file is where the right to trace (CAP_SYS_PTRACE) is used: once, to have the process make a userfaultfd, and to
/// open its pagemap. The process keeps nothing of it: the descriptor is closed over there within the same stop, and when
/// ours are closed, in order or by our death, the kernel takes all protections off.
public struct GuestAttachment: ~Copyable, Sendable {
    public let process: PidDescriptor
    let userfault: OwnedDescriptor
    let pagemap: OwnedDescriptor
    /// How long the main thread of the process stood still for this, in nanoseconds.
    public let stoppedFor: UInt64

    public var pid: pid_t { process.pid }

    /// The longest wait for the main thread to stop, in nanoseconds. A thread deep in the kernel (a flush of a slow disk)
    /// may take a while; the process runs on meanwhile.
    static let stopLimit: UInt64 = 5_000_000_000

    /// Attaches to a process. It goes on within a few milliseconds, with registers, signal mask, descriptors and an
    /// interrupted system call as before.
    public init(
        to pid: pid_t, abilities: KernelAbilities = .ofThisHost, faults: FaultInjections = []
    ) throws(AttachError) {
        if let lacking = abilities.missing.first(where: { $0.ability != .tracing }) { throw .lacking(lacking) }
        let process = try Self.open(pid)
        try Self.refuseEarly(pid, process)

        let instruction = try Self.syscallInstruction(in: pid, process, faults)
        let (descriptor, stoppedFor) = try Self.inject(into: pid, process, at: instruction, faults)
        let userfault = OwnedDescriptor(owning: descriptor)

        var offered: UInt64 = 0
        let agreed = rml_userfault_agree(userfault.number, rml_tracking_features(), &offered)
        if agreed < 0 {
            throw .system(
                SystemError(operation: "agree on write tracking with", errno: -agreed, subject: "process \(pid)"))
        }
        let pagemap = try Self.openPagemap(pid, process)
        // The pagemap was opened by number: it is the right one if the process still exists now.
        if process.hasExited() { throw .diedMeanwhile(pid) }
        self.process = process
        self.userfault = userfault
        self.pagemap = pagemap
        self.stoppedFor = stoppedFor
    }

    private static func open(_ pid: pid_t) throws(AttachError) -> PidDescriptor {
        do throws(SystemError) {
            return try PidDescriptor(pid)
        } catch {
            if let leader = leader(of: pid), leader != pid { throw .notAProcess(pid, leader: leader) }
            if error.errno == ESRCH || error.errno == EINVAL { throw .noSuchProcess(pid) }
            throw .system(error)
        }
    }

    private static func openPagemap(
        _ pid: pid_t, _ process: borrowing PidDescriptor
    ) throws(AttachError) -> OwnedDescriptor {
        do throws(SystemError) {
            return try OwnedDescriptor.open("/proc/\(pid)/pagemap", O_RDONLY)
        } catch {
            throw judge(error, pid, process)
        }
    }

    /// The process that thread `pid` belongs to.
    private static func leader(of pid: pid_t) -> pid_t? {
        (try? ProcessFiles.status("Tgid", of: pid)).flatMap { $0 }.flatMap { pid_t($0) }
    }

    /// What can be told without stopping anything.
    private static func refuseEarly(_ pid: pid_t, _ process: borrowing PidDescriptor) throws(AttachError) {
        if process.hasExited() { throw .noSuchProcess(pid) }
        if let tracer = tracer(of: pid) { throw tracer }
        let obstacle: String?
        do throws(SystemError) {
            let program = try OwnedDescriptor.open("/proc/\(pid)/exe", O_RDONLY)
            obstacle = try ProgramHeader.obstacle(in: program)
        } catch {
            // No program: a kernel thread, or a process about to end.
            let ends = error.errno != ENOENT || (try? process.waitForExit(timeout: 1_000_000_000)) == true
            if !ends { throw .wrongClass(pid, found: "a kernel thread") }
            throw judge(error, pid, process)
        }
        if let obstacle { throw .wrongClass(pid, found: obstacle) }
    }

    private static func tracer(of pid: pid_t) -> AttachError? {
        guard let text = try? ProcessFiles.status("TracerPid", of: pid), let tracer = pid_t(text), tracer != 0 else {
            return nil
        }
        return .secondTracer(pid, tracer: tracer, name: ProcessFiles.name(of: tracer) ?? "unknown")
    }

    /// What a failed step on a process means.
    private static func judge(_ error: SystemError, _ pid: pid_t, _ process: borrowing PidDescriptor) -> AttachError {
        if error.errno == ESRCH || process.hasExited() { return .diedMeanwhile(pid) }
        guard error.errno == EPERM || error.errno == EACCES else {
            // A process that is ending has no program and no memory any more, though it can still be waited for.
            let state = (try? ProcessFiles.status("State", of: pid)).flatMap { $0 } ?? ""
            if state.hasPrefix("Z") || state.hasPrefix("X") { return .diedMeanwhile(pid) }
            return .system(error)
        }
        return tracer(of: pid) ?? .notPermitted(pid, error)
    }

    /// The address of a `syscall` instruction (0f 05) in the process: in the vdso, which every process has, else in any
    /// other executable mapping. The injection looks again once the process stands still.
    private static func syscallInstruction(
        in pid: pid_t, _ process: borrowing PidDescriptor, _ faults: FaultInjections
    ) throws(AttachError) -> UInt64 {
        let isGone: Bool
        do throws(SystemError) {
            let mappings = try ProcessFiles.mappings(of: pid)
            if !faults.contains(.withoutSyscallInstruction),
                let found = try syscallInstruction(in: pid, mappings)
            {
                return found
            }
            // A process that ends while its mappings are read has a short list of them, and soon none; it may take a
            // moment more until it counts as ended.
            isGone = try ProcessFiles.mappings(of: pid).isEmpty
        } catch {
            throw judge(error, pid, process)
        }
        throw isGone ? .diedMeanwhile(pid) : .noSyscallInstruction(pid)
    }

    private static func syscallInstruction(in pid: pid_t, _ mappings: [MappedRegion]) throws(SystemError) -> UInt64? {
        let code = mappings.filter { $0.executable && $0.readable }
        var reader = MemoryReader(pid: pid)
        let chunk = try Mapping.anonymous(length: 1 << 20)
        for mapping in code.filter({ $0.path == "[vdso]" }) + code.filter({ $0.path != "[vdso]" }) {
            var start = mapping.start
            while start < mapping.end {
                let bytes = UnsafeMutableRawBufferPointer(
                    rebasing: chunk.bytes[..<Int(min(UInt64(chunk.bytes.count), mapping.end - start))])
                do throws(SystemError) {
                    try reader.copy(address: start, into: bytes)
                } catch {
                    // Listed and yet unreadable, as what lies past the end of a truncated file is.
                    if error.errno == EFAULT { break }
                    throw error
                }
                // An instruction across two chunks is missed; there are plenty.
                for offset in 0..<(bytes.count - 1) where bytes[offset] == 0x0f && bytes[offset + 1] == 0x05 {
                    return start + UInt64(offset)
                }
                start += UInt64(bytes.count)
            }
        }
        return nil
    }

    private struct Injected: Sendable {
        var descriptor: Int32
        var report: rml_injection
    }

    private static func inject(
        into pid: pid_t, _ process: borrowing PidDescriptor, at instruction: UInt64, _ faults: FaultInjections
    ) throws(AttachError) -> (descriptor: Int32, stoppedFor: UInt64) {
        let limit = faults.contains(.shortStopLimit) ? 1_000_000 : stopLimit
        let pidfd = process.number
        let outcome: Injected
        do throws(SystemError) {
            // The kernel ties a seizure to its thread, and ends it with the thread: whatever happens, none is left over.
            outcome = try NamedThread.run("romulus-tracer") {
                var report = rml_injection()
                let descriptor = rml_inject_userfaultfd(pid, pidfd, instruction, limit, &report)
                return Injected(descriptor: descriptor, report: report)
            }
        } catch {
            throw .system(error)
        }
        if outcome.descriptor >= 0 {
            return (outcome.descriptor, outcome.report.stopped_for)
        }
        let errno = -outcome.descriptor
        let subject = "process \(pid)"
        switch outcome.report.step {
        case rml_step_stop where errno == ETIMEDOUT, rml_step_call where errno == ETIMEDOUT:
            let state = (try? ProcessFiles.status("State", of: pid)).flatMap { $0 } ?? "unknown"
            throw .doesNotStop(pid, milliseconds: limit / 1_000_000, state: state)
        case rml_step_mode:
            throw .wrongClass(pid, found: "running 32-bit code")
        case rml_step_instruction where errno == EFAULT:
            throw .noSyscallInstruction(pid)
        case rml_step_call where errno == EMFILE || errno == ENFILE:
            throw .outOfDescriptors(pid)
        case rml_step_call where errno != ESRCH:
            let filter = (try? ProcessFiles.status("Seccomp", of: pid)).flatMap { $0 } ?? "0"
            throw .userfaultfdRefused(pid, errno: errno, filtered: filter != "0")
        case rml_step_seize:
            throw judge(SystemError(operation: "trace", errno: errno, subject: subject), pid, process)
        case rml_step_take:
            throw judge(
                SystemError(operation: "copy a descriptor of", errno: errno, subject: subject), pid, process)
        default:
            throw judge(
                SystemError(
                    operation: "attach (step \(outcome.report.step.rawValue)) to", errno: errno, subject: subject),
                pid, process)
        }
    }
}

/// The first bytes of a program file.
enum ProgramHeader {
    /// What is wrong with a program for attaching to it, or nil for 64-bit x86 ELF.
    static func obstacle(in program: borrowing OwnedDescriptor) throws(SystemError) -> String? {
        // e_ident (16 bytes), e_type, e_machine: elf(5).
        let header = UnsafeMutableRawBufferPointer.allocate(byteCount: 20, alignment: 8)
        defer { header.deallocate() }
        guard try program.readAll(into: header, at: 0), header.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else {
            return "no ELF program"
        }
        if header[4] != 2 { return "a 32-bit program" }
        let machine = UInt16(header[18]) | UInt16(header[19]) << 8
        return machine == 62 ? nil : "a program for another processor (ELF machine \(machine))"
    }
}
