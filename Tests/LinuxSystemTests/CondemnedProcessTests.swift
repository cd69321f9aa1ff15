import Glibc
import LinuxSystem
import Synchronization
import Testing

@Suite struct CondemnedProcessTests {
    /// What the reader of the memory found.
    private final class Found: Sendable {
        struct Values: Sendable {
            var calls = 0
            var state = ""
            var tracer = ""
            var byte: UInt8 = 0
        }
        let values = Mutex(Values())
        var now: Values { values.withLock { $0 } }
    }

    private func end(_ toy: Toy) throws -> Found.Values {
        let found = Found()
        let address = toy.block.address + 3 * UInt64(trackedPageSize)
        let process = try PidDescriptor(toy.pid)
        try CondemnedProcess.end(process) { pid in
            found.values.withLock { values in
                values.calls += 1
                values.state = (try? ProcessFiles.status("State", of: pid)) ?? ""
                values.tracer = (try? ProcessFiles.status("TracerPid", of: pid)) ?? ""
                var reader = MemoryReader(pid: pid)
                withUnsafeMutableBytes(of: &values.byte) { try? reader.copy(address: address, into: $0) }
            }
        }
        #expect(try process.waitForExit(timeout: 5_000_000_000))
        return found.now
    }

    @Test func itStandsStillWhileItsMemoryIsReadAndIsGoneAfterwards() throws {
        let toy = try Toy()
        _ = try toy.ask("write 77 3")
        let found = try end(toy)
        #expect(found.calls == 1 && found.byte == 77)
        #expect(found.state.lowercased().hasPrefix("t"), "\(found.state)")
        #expect(!["", "0"].contains(found.tracer), "the kernel ends it with this program")
    }

    @Test func oneThatSomebodyElseTracesIsEndedAllTheSame() throws {
        let toy = try Toy()
        let tracer = try Toy()
        #expect(try tracer.ask("trace \(toy.pid)") == "0")
        #expect(try end(toy).calls == 0)
        // In this order: a traced process can be reaped only once its tracer is gone.
        kill(tracer.pid, SIGKILL)
        _ = tracer.process.waitForEnd()
    }

    @Test func oneThatHasEndedIsNoError() throws {
        let toy = try Toy()
        kill(toy.pid, SIGKILL)
        #expect(try end(toy).calls == 0)
    }
}
