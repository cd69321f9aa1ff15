import Foundation
import Hypervisor
import QEMU
import TestBed
import Testing

/// A guest that is started anew with what its standby was started with.
@Suite(.serialized, .timeLimit(.minutes(2))) struct ColdStartTests {
    // MARK: - The command line

    private func command(_ arguments: [String], disks: [Hypervisor.GuestDisk] = []) throws -> StandbyCommand {
        var guest = StandbyCommandTests.guest(arguments)
        guest.disks = disks
        return try StandbyCommand.derive(guest, StandbyOptions(runDirectory: "/run/vm"))
    }

    @Test func itIsTheSameMachineThatWaitsForNothing() throws {
        let waiting = try command(
            [
                "-m", "128", "-uuid", "6f1c2d9e-0000-4000-8000-000000000001", "-smbios", "type=1,serial=77",
                "-drive", "file=a,,b.img,format=raw,if=virtio", "-netdev", "tap,id=n0,ifname=tap7,script=no",
                "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:07", "-serial", "stdio",
            ], disks: [StandbyCommandTests.disk])
        let booting = ColdStart.command(waiting)
        #expect(
            booting.options.map(\.description) == [
                "-m 128", "-uuid 6f1c2d9e-0000-4000-8000-000000000001", "-smbios type=1,serial=77",
                "-drive file=/home/op/a,,b.img,format=raw,if=virtio,file.drop-cache=off",
                "-netdev tap,id=n0,ifname=tap7,script=no", "-device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:07",
                "-serial file:/run/vm/serial1.log", StandbyCommandTests.ending[0],
                "-machine type=pc-i440fx-7.2,memory-backend=pc.ram", "-display none", "-monitor none",
                "-qmp unix:/run/vm/qmp.sock,server=on,wait=off", "-S",
            ])
        #expect(
            waiting.options.map(\.description).filter { $0 != "-incoming defer" } + ["-S"]
                == booting.options.map(\.description))
        var rest = booting
        rest.options = waiting.options
        #expect(rest == waiting)
    }

    @Test(arguments: [
        ("once=d", nil), ("order=c,once=d", "order=c"), ("c", "c"), ("once=d,menu=on", "menu=on"),
        ("order=c,menu=on", "order=c,menu=on"),
    ])
    func whatWasForTheFirstStartIsLeftOut(given: String, left: String?) throws {
        let options = ColdStart.command(try command(["-boot", given])).options
        #expect(options.filter { $0.name == "-boot" }.map(\.value) == (left.map { [$0] } ?? []))
    }

    // MARK: - QEMU

    private func command(in directory: TestDirectory, _ extra: [String] = []) -> StandbyCommand {
        let path = "\(directory.path)/qmp.sock"
        let words =
            ["-display", "none", "-nodefaults", "-m", "64"] + extra
            + ["-qmp", "unix:\(path),server=on,wait=off", "-incoming", "defer"]
        return StandbyCommand(
            program: "qemu-system-x86_64", options: CommandOption.parse(words), workingDirectory: "/",
            monitorPath: path, memoryFiles: [], requiredFiles: [], notes: [])
    }

    private func status(of path: String) throws -> String? {
        try QMPConnection(path: path).execute("query-status")["status"]?.string
    }

    @Test(arguments: QEMUProgram.allCases) func itStandsStillUntilItIsLetRun(_ qemu: QEMUProgram) throws {
        let directory = TestDirectory()
        let dump = "\(directory.path)/dump"
        var command = command(
            in: directory,
            [
                "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:07,romfile=",
                "-object", "filter-dump,id=d0,netdev=n0,file=\(dump)",
            ])
        command.program = try qemu.path()
        let guest = try QEMUStandbys().boot(command, logPath: "\(directory.path)/log")
        defer { guest.kill() }
        guest.close()
        #expect(try status(of: command.monitorPath) == "prelaunch")
        guest.kill()
        #expect(guest.ending?.contains("signal 9") == true)

        let again = try QEMUStandbys().boot(command, logPath: "\(directory.path)/log")
        defer { again.kill() }
        try again.run()
        again.close()
        #expect(try status(of: command.monitorPath) == "running")
        #expect(again.ending == nil && again.pid != guest.pid)
        // RARP, from its card: the switches know where it is before it says anything.
        let announcement: [UInt8] = [0x52, 0x54, 0, 0, 0, 7, 0x80, 0x35]
        var isAnnounced = false
        for _ in 0..<500 where !isAnnounced {
            usleep(10_000)
            isAnnounced = try Data(contentsOf: URL(fileURLWithPath: dump)).range(of: Data(announcement)) != nil
        }
        #expect(isAnnounced)
    }

    @Test func givesQEMUsWordsWhenItEndsAtOnce() throws {
        let directory = TestDirectory()
        let command = command(in: directory, ["-drive", "file=/nowhere/web.img,format=raw,if=virtio"])
        do {
            try QEMUStandbys().boot(command, logPath: "\(directory.path)/log").kill()
            Issue.record("it was started without its disk")
        } catch {
            #expect(error.code == .qemu && error.message.contains("ended with status 1"), "\(error)")
            #expect(error.message.contains("Could not open '/nowhere/web.img'"), "\(error)")
        }
    }

    /// Of an agent that ended between the start and the word to run; it may not have noted the process.
    @Test(arguments: [true, false]) func oneThatWasNeverLetRunIsALeftover(isNoted: Bool) throws {
        let directory = TestDirectory()
        let command = command(in: directory)
        let guest = try QEMUStandbys().boot(command, logPath: "\(directory.path)/log")
        defer { guest.kill() }
        guest.close()
        var other = command
        other.options.append(CommandOption("-no-reboot"))
        QEMUStandbys().endLeftover(1, other)
        #expect(guest.ending == nil, "another's is left alone")
        QEMUStandbys().endLeftover(isNoted ? guest.pid : 1, command)
        #expect(guest.ending?.contains("signal 9") == true)

        let running = try QEMUStandbys().boot(command, logPath: "\(directory.path)/log")
        defer { running.kill() }
        try running.run()
        running.close()
        QEMUStandbys().endLeftover(running.pid, command)
        #expect(running.ending == nil, "a guest that runs is left alone")
    }
}
