import Glibc
import QEMU
import Testing

@Suite(.serialized, .timeLimit(.minutes(2))) struct StandbyProcessTests {
    private func start(
        _ extra: [String], in directory: TestDirectory, program: String = "qemu-system-x86_64",
        timeout: Duration = .seconds(20)
    ) throws -> StandbyProcess {
        let path = "\(directory.path)/qmp.sock"
        let common = [
            program, "-display", "none", "-nodefaults", "-incoming", "defer", "-qmp", "unix:\(path),server=on,wait=off",
        ]
        return try StandbyProcess(
            arguments: common + extra, monitorPath: path, logPath: "\(directory.path)/log", timeout: timeout)
    }

    private func failure(_ body: () throws -> StandbyProcess) -> StandbyError? {
        do {
            try body().kill()
            return nil
        } catch {
            return error as? StandbyError
        }
    }

    @Test func givesQEMUsWordsWhenItDoesNotStart() throws {
        let directory = TestDirectory()
        let error = try #require(failure { try start(["-device", "nonsense"], in: directory) })
        #expect(error.description.contains("ended with status 1"))
        #expect(error.description.contains("QEMU said: -device nonsense: 'nonsense' is not a valid device model name"))
    }

    @Test func saysWhenThereIsNoSuchProgram() throws {
        let directory = TestDirectory()
        let error = try #require(failure { try start([], in: directory, program: "/nowhere/qemu") })
        #expect(error.reason == .spawn(program: "/nowhere/qemu", errno: ENOENT))
    }

    @Test func takesThePlaceOfAWaitingOneAndOfNoOther() throws {
        let directory = TestDirectory()
        let left = try start([], in: directory)
        // As an agent that ended would leave it: nobody at its monitor.
        left.monitor.close()
        let next = try start([], in: directory)
        #expect(left.ending?.contains("signal 9") == true)
        #expect(next.ending == nil)
        next.kill()

        let other = try RunningQEMU(["-S", "-machine", "none", "-display", "none"], in: directory, name: "other")
        try other.connect().close()
        let error = failure {
            try StandbyProcess(
                arguments: ["qemu-system-x86_64"], monitorPath: other.monitorPath, logPath: "\(directory.path)/log")
        }
        #expect(error?.reason == .occupied(path: other.monitorPath, pid: other.pid, status: "prelaunch"))
        #expect(kill(other.pid, 0) == 0)
    }

    @Test func noticesAnotherMachine() throws {
        let directory = TestDirectory()
        let primary = try RunningQEMU(
            ["-S", "-display", "none", "-nodefaults", "-m", "64", "-device", "virtio-rng-pci,id=r"], in: directory)
        let guest = try GuestInspector.inspect(try primary.connect())
        let cases: [(arguments: [String], words: String)] = [
            (["-m", "64", "-M", "q35", "-device", "virtio-rng-pci,id=r"], "machine type"),
            (["-m", "64", "-smp", "2", "-device", "virtio-rng-pci,id=r"], "2 vCPUs instead of 1"),
            (["-m", "64"], "without the device /machine/peripheral/r (virtio-rng-pci)"),
            (["-m", "64", "-device", "virtio-rng-pci,id=r", "-device", "virtio-rng-pci,id=s"], "additional device"),
            (["-m", "128", "-device", "virtio-rng-pci,id=r"], "memory block “pc.ram” instead of 67108864"),
        ]
        for (arguments, words) in cases {
            let standby = try start(arguments, in: directory)
            defer { standby.kill() }
            do {
                try standby.verify(against: guest)
                Issue.record("\(arguments) was taken for the same machine")
            } catch {
                #expect(error.description.contains(words), "\(error)")
            }
        }
        let same = try start(["-m", "64", "-device", "virtio-rng-pci,id=r"], in: directory)
        defer { same.kill() }
        try same.verify(against: guest)
    }

    @Test func givesQEMUsWordsWhenItRefusesTheState() throws {
        let directory = TestDirectory()
        let standby = try start(["-m", "64"], in: directory)
        defer { standby.kill() }
        let block = ResumeBlock(name: "pc.ram", length: 64 << 20, regionAddress: 0)
        do {
            _ = try standby.resume(machineType: "pc-q35-7.2", blocks: [block], timeout: .seconds(10)) {
                stream throws(ResumeStreamError) in
                let state = DeviceStateTests.head + [0]
                try state.span.withUnsafeBytes { bytes throws(ResumeStreamError) in
                    try stream.finish(deviceState: bytes)
                }
            }
            Issue.record("it took another machine's state")
        } catch {
            #expect(error.description.contains("Machine type received is 'pc-q35-7.2'"), "\(error)")
        }
    }

    @Test func refusesWhatIsNoDeviceState() throws {
        let directory = TestDirectory()
        let file = open(try directory.file("stream", size: 0), O_WRONLY)
        defer { close(file) }
        for state in [[], Array("QEVM".utf8), [UInt8](repeating: 0, count: 64)] {
            var stream = ResumeStream(descriptor: file, blocks: [])
            try stream.begin(machineType: "x")
            #expect(throws: ResumeStreamError.self) {
                try state.span.withUnsafeBytes { bytes throws(ResumeStreamError) in
                    try stream.finish(deviceState: bytes)
                }
            }
        }
    }
}
