import Glibc
import Hypervisor
import LinuxSystem
import Model
import Storage

/// Servers of disks that an earlier run of the agent left, with the guest's writes waiting in them.
package struct LeftServers {
    private let lines: [(disk: UInt16, line: ControlLine)]
    private let guest: any Guest

    /// Throws `storage` when a disk that is served is not known to be whole here, so that the guest cannot go on at this host; anything
    /// else when QEMU could not be asked.
    package init(of guest: any Guest, _ places: ServingPlaces) throws(SessionError) {
        self.guest = guest
        var lines: [(disk: UInt16, line: ControlLine)] = []
        let left = try guest.leftServed()
        Self.endIdle(guest, places, besides: left)
        for index in left {
            let line = try Self.line(guest, index, places)
            guard line.send(ServedOrder.look), let answer = line.nextAnswer() else {
                throw Self.lost(guest, index, "its server does not answer")
            }
            if !answer.report.isWhole {
                throw Self.lost(guest, index, answer.report.lost ?? "it has not all that it lacked")
            }
            lines.append((index, line))
        }
        self.lines = lines
    }

    private static func line(
        _ guest: any Guest, _ index: UInt16, _ places: ServingPlaces
    ) throws(SessionError) -> ControlLine {
        do throws(SystemError) {
            return ControlLine(try LocalSocket.connect(to: places.controlSocket(index)))
        } catch {
            // Nobody listens; whatever else it is, says nothing of the server.
            if [ENOENT, ECONNREFUSED].contains(error.errno) { throw lost(guest, index, "its server is gone") }
            throw SessionError(.system, "a disk of \(guest.vm) that was left served: \(error)")
        }
    }

    /// This host has the guest alone: what waits is done, and the disks can be turned back.
    package func goAlone() throws(SessionError) {
        for (index, line) in lines {
            for order in [ServedOrder.alone, .unlock] {
                guard line.send(order), line.nextAnswer()?.failure == nil else {
                    throw Self.lost(guest, index, "its server does not answer")
                }
            }
        }
    }

    /// The disks were turned back.
    package func end() { for (_, line) in lines { line.send(ServedOrder.end) } }

    /// An agent that died within a change of level may have left a server that is no disk of the guest's yet, or any more.
    private static func endIdle(_ guest: any Guest, _ places: ServingPlaces, besides left: [UInt16]) {
        for disk in guest.offeredDisks where !left.contains(disk.index) {
            guard let connection = try? LocalSocket.connect(to: places.controlSocket(disk.index)) else { continue }
            ControlLine(connection).send(ServedOrder.end)
        }
    }

    private static func lost(_ guest: any Guest, _ index: UInt16, _ why: String) -> SessionError {
        let name = guest.offeredDisks.first { $0.index == index }?.id ?? "\(index)"
        return SessionError(
            .storage,
            "disk \(name) of \(guest.vm) is not known to be whole at this host (\(why)), as the standby's copy is")
    }
}
