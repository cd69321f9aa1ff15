import Disk
import Dispatch
import Model

/// Where servers of disks are spoken to: one may have to wait for a disk that does not answer.
private let serverQueue = DispatchQueue(label: "romulus.disks", qos: .userInitiated, attributes: .concurrent)

func onServerQueue(_ body: @escaping @Sendable () -> Void) { serverQueue.async(execute: body) }

/// The disks of a guest whose copies at this host are lost.
public struct LostDisks: Sendable {
    private let shell: PrimaryShell

    public init(of shell: PrimaryShell) { self.shell = shell }

    /// What they lack is copied to them, once they can be opened and have their size. Blocks. Returns why that cannot begin.
    public func rejoin() -> String? {
        let (losses, servers) = shell.state.withLock { ($0.duty.copies.losses, $0.parts.servers) }
        guard !losses.isEmpty else { return "all of its disks are whole at \(shell.custody.node)" }
        guard losses.values.contains(where: { !$0.isRejoining }) else { return nil }
        return servers.rejoin().first
    }

    /// The standby is waited for no more: this host has the guest alone, and with it the disks as they are.
    static func release(_ parts: PrimaryShell.SessionParts) {
        parts.writes.release()
        let servers = parts.servers
        onServerQueue { servers.goAlone() }
    }

    /// The same by itself, for disks that were lost for a while.
    func rejoinByItself() {
        let losses = shell.state.withLock { $0.duty.copies.losses.values }
        guard losses.contains(where: { !$0.isRejoining && $0.isNoted }) else { return }
        onServerQueue { if let reason = rejoin() { shell.log.notice("\(shell.options.vm): \(reason)") } }
    }
}
