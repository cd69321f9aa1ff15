import CLinux
import Glibc

/// Named faults, so that a test can force a path that the machine at hand would not take.
public struct FaultInjections: OptionSet, Sendable, Hashable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let oldKernel = FaultInjections(rawValue: 1 << 0)
    public static let withoutPagemapScan = FaultInjections(rawValue: 1 << 1)
    public static let withoutUserfaultfd = FaultInjections(rawValue: 1 << 2)
    public static let withoutAsynchronousProtection = FaultInjections(rawValue: 1 << 3)
    public static let withoutTraceRight = FaultInjections(rawValue: 1 << 4)
    public static let withoutSyscallInstruction = FaultInjections(rawValue: 1 << 5)
    /// Gives the main thread of a process 1 ms to stop.
    public static let shortStopLimit = FaultInjections(rawValue: 1 << 6)
}

/// What Romulus needs of the kernel and of its own rights in order to read a running QEMU.
public enum KernelAbility: String, Sendable, Hashable, CaseIterable {
    case release, userfaultfd, asynchronousProtection, pagemapScan, tracing
}

/// An ability that is lacking; the description is one sentence with the way to get it.
public struct MissingAbility: Error, Sendable, Hashable, CustomStringConvertible {
    public var ability: KernelAbility
    public var description: String
}

/// What was found, by trying, on this host. Probe once per process.
public struct KernelAbilities: Sendable, Hashable {
    /// As `uname -r` gives it.
    public let release: String
    /// In the order of `KernelAbility`; empty when this host can be a primary.
    public let missing: [MissingAbility]

    /// The oldest kernel with PAGEMAP_SCAN and asynchronous write protection.
    static let oldestRelease = (6, 7)

    /// Found on first use.
    public static let ofThisHost = probe()

    public static func probe(faults: FaultInjections = []) -> KernelAbilities {
        let release = faults.contains(.oldKernel) ? "6.1.0-44-amd64" : currentRelease()
        var missing: [MissingAbility] = []
        func lacks(_ ability: KernelAbility, _ sentence: String) {
            missing.append(MissingAbility(ability: ability, description: sentence))
        }

        if !isRecent(release) {
            lacks(
                .release,
                "the kernel is \(release), Romulus needs 6.7 or newer to follow a guest's writes: install one "
                    + "(on Debian 12: apt install -t bookworm-backports linux-image-amd64) and reboot")
        }

        switch probeUserfaultfd(faults) {
        case .offered(let features):
            let lacking = rml_tracking_features() & ~features
            if lacking != 0 {
                lacks(
                    .asynchronousProtection,
                    "the kernel's userfaultfd lacks asynchronous write protection (feature bits 0x"
                        + String(lacking, radix: 16)
                        + "): use a kernel 6.7 or newer for x86-64, built with CONFIG_PTE_MARKER_UFFD_WP")
            }
        case .refused(let errno):
            let error = SystemError(operation: "open", errno: errno, subject: "a userfaultfd")
            lacks(
                .userfaultfd,
                "\(error): use a kernel built with CONFIG_USERFAULTFD, and allow the system call where a seccomp "
                    + "filter or container profile holds it back")
        }

        if let errno = pagemapScanFailure(faults) {
            let error = SystemError(operation: "scan", errno: errno, subject: "/proc/self/pagemap")
            lacks(.pagemapScan, "\(error): use a kernel 6.7 or newer, which has the PAGEMAP_SCAN call")
        }

        if let sentence = tracingObstacle(faults) { lacks(.tracing, sentence) }
        return KernelAbilities(release: release, missing: missing)
    }

    /// True for 6.7 and newer; what does not begin with two numbers is taken for old.
    static func isRecent(_ release: String) -> Bool {
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        guard numbers.count == 2 else { return false }
        return (numbers[0], numbers[1]) >= oldestRelease
    }

    private static func currentRelease() -> String {
        let text = (try? Files.text(of: "/proc/sys/kernel/osrelease")) ?? ""
        return String(text.prefix { $0 != "\n" })
    }

    private enum Userfaultfd {
        case offered(UInt64)
        case refused(Int32)
    }

    private static func probeUserfaultfd(_ faults: FaultInjections) -> Userfaultfd {
        let number = faults.contains(.withoutUserfaultfd) ? -ENOSYS : rml_userfault_open()
        if number < 0 { return .refused(-number) }
        let descriptor = OwnedDescriptor(owning: number)
        var offered: UInt64 = 0
        // Without wishes the kernel answers with everything that it has.
        let result = rml_userfault_agree(descriptor.number, 0, &offered)
        if result < 0 { return .refused(-result) }
        if faults.contains(.withoutAsynchronousProtection) { offered &= ~UInt64(UFFD_FEATURE_WP_ASYNC) }
        return .offered(offered)
    }

    private static func pagemapScanFailure(_ faults: FaultInjections) -> Int32? {
        if faults.contains(.withoutPagemapScan) { return ENOTTY }
        do throws(SystemError) {
            let pagemap = try OwnedDescriptor.open("/proc/self/pagemap", O_RDONLY)
            let memory = try Mapping.anonymous(length: trackedPageSize, populated: true)
            let start = UInt64(UInt(bitPattern: memory.bytes.baseAddress!))
            var region = page_region()
            var reached: UInt64 = 0
            let found = rml_scan_populated(
                pagemap.number, start, start + UInt64(trackedPageSize), 0, &region, 1, 0, &reached)
            if found < 0 { return Int32(-found) }
            return found == 1 && region.start == start ? nil : EPROTO
        } catch {
            return error.errno
        }
    }

    private static func tracingObstacle(_ faults: FaultInjections) -> String? {
        // CAP_SYS_PTRACE is bit 19 (linux/capability.h).
        let effective = (try? ProcessFiles.status("CapEff", of: getpid())).flatMap { $0 }.flatMap {
            UInt64($0, radix: 16)
        }
        let capable = (effective ?? 0) >> 19 & 1 == 1
        if capable && !faults.contains(.withoutTraceRight) { return nil }
        return "the agent may not trace other processes, which it does once to attach to a QEMU and then reads its "
            + "memory: run it with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (AmbientCapabilities= in its systemd unit), or as root"
    }
}
