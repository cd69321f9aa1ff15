import Hypervisor
import LinuxSystem
import Model
import TapDetour

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

    func servingThreads() throws(SessionError) -> [Int32] {
        do {
            return try process.monitor.servingThreads()
        } catch {
            throw SessionError(.qemu, "\(error)")
        }
    }

    func outlet(of nic: GuestNIC, index: UInt16) throws(SessionError) -> any NICOutlet {
        do {
            let own = try process.nic(like: nic)
            let interface = ProcessFiles.sharesNetwork(with: pid) ? own.interface : nil
            if nic.holding == .tap {
                guard let interface else {
                    throw SessionError(
                        .refused,
                        "the primary holds what NIC \(nic.name) sends at its tap, and here that NIC is on no tap of the agent's"
                            + " network: give it one in the VM's standby taps")
                }
                return try DetouredOutlet(of: interface)
            }
            // Of a session in which this host was the primary.
            if let interface { _ = try? Detour.removeLeftovers(of: interface) }
            return QEMUOutlet(
                try OutputFilter.install(
                    process.monitor, netdev: own.netdev ?? "", index: Int(index), holding: false),
                process.monitor)
        } catch let error as SessionError {
            throw error
        } catch {
            throw SessionError(.refused, "\(error)")
        }
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
