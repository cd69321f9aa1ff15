import Disk
import Hypervisor
import LinuxSystem
import Memory
import Model
import Output
import Protocol
import Shipping

/// What a session is made of, tied to its shell.
extension PrimarySession {
    static func shipper(
        of guest: any Guest, _ sender: FrameSender, _ shell: PrimaryShell
    ) throws(SystemError) -> Shipper {
        try Shipper(
            vm: shell.options.vm,
            references: try PageReferences(
                guest.blocks, pagesMax: shell.options.referenceMebibytes.map { $0 << 20 / pageSize }),
            sender: sender,
            sealed: { [shell] in shell.expectAcknowledgement(of: $0, digest: $1, timings: $2, waited: $3) },
            failed: { [shell] error in shell.tell { $0.fail(error) } },
            linkRate: { [shell, sender] in
                let seen = shell.state.withLock { $0.duty.connection.ledger.linkBytesPerSecond }
                return sender.capBytesPerSecond.map { seen > 0 ? min($0, seen) : $0 } ?? seen
            })
    }

    static func disks(
        of guest: any Guest, through sender: FrameSender, _ shell: PrimaryShell, _ level: Level
    ) -> DiskCarrier {
        // For the test bed only.
        var loses: (@Sendable (Int) -> Bool)?
        if shell.options.planted.contains(.skipDiskWrite) {
            loses = { [shell] writes in writes % 16 == 0 && shell.status.phase == .protected }
        }
        let parts = shell.state.withLock { $0.parts }
        return DiskCarrier(
            of: guest, answers: parts.disks, sender: sender, log: shell.log,
            tell: { [shell] in shell.report(.event(.state, $0)) }, loses: loses,
            writes: parts.writes, goesThrough: !level.holdsOutput)
    }

    static func memory(
        of guest: any Guest, through shipper: Shipper, _ shell: PrimaryShell, hasBase: Bool
    ) throws(SessionError) -> MemoryCarrier {
        let (session, base) = shell.state.withLock { state in
            (state.duty.connection.session, hasBase ? state.parts.pageDigests : nil)
        }
        var faults = MemoryCarrier.Faults()
        faults.forgetsPins = shell.options.planted.contains(.forgetPins)
        faults.losesPages = shell.options.planted.contains(.skipDirtyPage)
        faults.spoilsLastState = shell.options.planted.contains(.spoilLastState)
        faults.spoilsStates = shell.options.planted.contains(.spoilStates)
        return try MemoryCarrier(
            of: guest, for: session, through: shipper, base: base, verification: shell.verification,
            MemoryCarrier.Hooks(
                waits: { [shell] in shell.expectBack(after: 0) },
                tell: { [shell] in shell.report(.event(.state, $0)) },
                copied: { [shell] in shell.report(.memoryCopied(sentPages: $0, presentPages: $1)) }),
            faults)
    }

    static func output(of guest: any Guest, through shipper: Shipper, _ shell: PrimaryShell) -> OutputCarrier {
        OutputCarrier(
            of: guest, log: shell.log, hand: { [shipper] in shipper.push(.output($0.epoch, $0)) },
            firstHeld: { [shell] in shell.wake.signal() })
    }
}
