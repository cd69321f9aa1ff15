import Foundation
import Hypervisor
import Model

/// Makes waiting guests without a hypervisor. Used by one thread, as the tests that have it.
package final class FakeStandbys: StandbyGuestSource, @unchecked Sendable {
    // SAFETY: a test and what it calls are one thread.
    package enum Step: String, Sendable, CaseIterable {
        case derive, obstacle, memoryFile, start, outlet, manifest, load, run, boot
    }

    /// What does not go well.
    package var failing: Set<Step> = []
    /// Of those that are adopted.
    package var isLoaded = false
    package private(set) var guests: [FakeStandbyGuest] = []
    /// Guests that were not ended when one was booted.
    package private(set) var runningAtBoot = 0
    /// The length of each memory file that was there when one was booted.
    package private(set) var memoryAtBoot: [UInt64] = []
    /// None of them had anything in it.
    package private(set) var memoryWasFresh = true
    /// Pids of leftovers that were ended.
    package private(set) var ended: [Int32] = []

    package func command(
        for guest: GuestDescription, _ options: StandbyOptions
    ) throws(StandbyCommandError) -> StandbyCommand {
        if failing.contains(.derive) { throw StandbyCommandError(["the fake refuses to derive", "twice"]) }
        let files = guest.blocks.filter { $0.backend != nil && !failing.contains(.memoryFile) }.map { block in
            StandbyCommand.MemoryFile(
                block: block.name, path: "\(options.memoryDirectory ?? "")/\(block.name).memory", length: block.length)
        }
        return StandbyCommand(
            program: "/bin/fake", options: [CommandOption("-m", "1"), CommandOption("-S")], workingDirectory: "/",
            monitorPath: options.monitorPath, memoryFiles: files,
            requiredFiles: [StandbyCommand.RequiredFile(path: "/dev/null", purpose: "-kernel")], notes: ["a note"])
    }

    package func tap(of nic: GuestNIC, in command: StandbyCommand) -> String? { nil }

    package func obstacles(
        to command: StandbyCommand, of guest: GuestDescription, at node: NodeName, primary: NodeName
    ) -> [String] {
        failing.contains(.obstacle) ? ["the fake has an obstacle at \(node) for \(primary)"] : []
    }

    package func start(
        _ command: StandbyCommand, of guest: GuestDescription, logPath: String
    ) throws(SessionError) -> any StandbyGuest {
        if failing.contains(.start) { throw SessionError(.refused, "the fake refuses to start") }
        if failing.contains(.manifest), let file = command.memoryFiles.first {
            // A directory in the place of the file.
            let directory = (file.path as NSString).deletingLastPathComponent
            try? FileManager.default.createDirectory(
                atPath: "\(directory)/manifest.json/x", withIntermediateDirectories: true)
        }
        return make(pid: Int32(4000 + guests.count), isLoaded: false)
    }

    package func adopt(
        _ pid: Int32, _ command: StandbyCommand, of guest: GuestDescription, logPath: String
    ) throws(SessionError) -> any StandbyGuest {
        if failing.contains(.start) { throw SessionError(.refused, "the fake is gone") }
        return make(pid: pid, isLoaded: isLoaded)
    }

    package func boot(_ command: StandbyCommand, logPath: String) throws(SessionError) -> any StandbyGuest {
        runningAtBoot = guests.filter { $0.ending == nil }.count
        memoryAtBoot = command.memoryFiles.compactMap { file in
            let attributes = try? FileManager.default.attributesOfItem(atPath: file.path)
            return (attributes?[.size] as? NSNumber)?.uint64Value
        }
        memoryWasFresh = command.memoryFiles.allSatisfy { file in
            (try? Data(contentsOf: URL(fileURLWithPath: file.path)))?.allSatisfy { $0 == 0 } ?? true
        }
        if failing.contains(.boot) { throw SessionError(.qemu, "the fake refuses to boot") }
        return make(pid: Int32(4000 + guests.count), isLoaded: false)
    }

    package func endLeftover(_ pid: Int32, _ command: StandbyCommand) { ended.append(pid) }

    private func make(pid: Int32, isLoaded: Bool) -> FakeStandbyGuest {
        let guest = FakeStandbyGuest(pid: pid, isLoaded: isLoaded)
        guest.failing = failing
        guests.append(guest)
        return guest
    }
}
