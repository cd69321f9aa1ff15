import Hypervisor
import Model

/// A waiting QEMU that is the machine described.
final class QEMUStandby: StandbyGuest {
    private let process: StandbyProcess
    private let machineType: String
    private let blocks: [ResumeBlock]

    /// Checks it, which takes some milliseconds.
    init(_ process: StandbyProcess, of guest: GuestDescription) throws(StandbyError) {
        try process.verify(against: guest)
        blocks = try process.resumeBlocks(guest)
        machineType = guest.machineType
        self.process = process
    }

    var pid: Int32 { process.pid }
    var exitDescriptor: Int32 { process.exitDescriptor }
    var ending: String? { process.ending }
    var isLoaded: Bool { process.isLoaded }

    func servingThreads() throws(SessionError) -> [Int32] { try process.servingThreads() }

    func outlet(of nic: GuestNIC, index: UInt16) throws(SessionError) -> any NICOutlet {
        try process.outlet(of: nic, index: index)
    }

    func load(_ memory: [BlockContents], deviceState: [UInt8]) throws(SessionError) {
        do throws(StandbyError) {
            _ = try process.load(
                machineType: machineType, blocks: blocks
            ) { (stream: inout ResumeStream) throws(ResumeStreamError) in
                for contents in memory { try stream.pages(block: contents.block, first: 0, contents: contents.bytes) }
                try deviceState.withUnsafeBufferPointer { (bytes) throws(ResumeStreamError) in
                    try stream.finish(deviceState: UnsafeRawBufferPointer(bytes))
                }
            }
        } catch {
            throw SessionError(.qemu, "\(error)")
        }
    }

    func run() throws(SessionError) {
        do throws(StandbyError) { try process.run() } catch { throw SessionError(.qemu, "\(error)") }
    }

    func forgetSharing() throws(SessionError) {
        do throws(StandbyError) { try process.forgetSharing() } catch { throw SessionError(.qemu, "\(error)") }
    }

    func close() { process.monitor.close() }

    func kill() { process.kill() }
}
