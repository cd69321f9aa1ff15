import Glibc
import LinuxSystem
import Testing

@Suite struct KernelAbilitiesTests {
    @Test(.enabled(if: geteuid() == 0, "needs root: the right to trace every process")) func thisHostHasThemAll() {
        #expect(KernelAbilities.ofThisHost.missing.isEmpty, "\(KernelAbilities.ofThisHost.missing)")
    }

    @Test(
        .enabled(if: geteuid() == 0, "needs root: the right to trace every process"),
        arguments: [
            (
                FaultInjections.oldKernel, KernelAbility.release,
                "the kernel is 6.1.0-44-amd64, Romulus needs 6.7 or newer"
            ),
            (.withoutUserfaultfd, .userfaultfd, "CONFIG_USERFAULTFD"),
            (.withoutAsynchronousProtection, .asynchronousProtection, "feature bits 0x8000"),
            (.withoutPagemapScan, .pagemapScan, "which has the PAGEMAP_SCAN call"),
            (.withoutTraceRight, .tracing, "run it with CAP_SYS_PTRACE"),
        ])
    func eachOneLackingHasItsSentence(fault: FaultInjections, ability: KernelAbility, words: String) {
        let missing = KernelAbilities.probe(faults: fault).missing
        #expect(missing.map(\.ability) == [ability])
        #expect(missing.first?.description.contains(words) == true, "\(missing)")
    }
}
