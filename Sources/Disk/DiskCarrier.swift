import Carriers
import Hypervisor
import LinuxSystem
import Logging
import Model
import Shipping

/// A guest's disks, each by its mirror. They travel by themselves, at any time: a cut says to which epoch their writes belong
/// from then on.
package final class DiskCarrier: Carrier {
    package let kind = CarrierKind.disks
    package private(set) var progress = 0.0
    private var mirrors: [DiskMirror] = []
    private let guest: any Guest
    private let answers: DiskAnswers
    private let sender: FrameSender
    private let log: Logger
    private let tell: (String) -> Void
    private let loses: (@Sendable (Int) -> Bool)?

    /// - Parameters:
    ///   - tell: takes one sentence for the operator.
    ///   - loses: for the test bed only: whether the write of that number of a disk is lost.
    package init(
        of guest: any Guest, answers: DiskAnswers, sender: FrameSender, log: Logger, tell: @escaping (String) -> Void,
        loses: (@Sendable (Int) -> Bool)? = nil
    ) {
        self.guest = guest
        self.answers = answers
        self.sender = sender
        self.log = log
        self.tell = tell
        self.loses = loses
    }

    /// Learns what the standby's images hold, which takes as long as reading them.
    package func prepare(_ look: Look) throws(SessionError) -> String? {
        let began = MonotonicClock.now()
        for disk in guest.offeredDisks {
            let mirror = DiskMirror(disk, of: guest, answers: answers, sender: sender, log: log, loses: loses)
            mirrors.append(mirror)
            if let ended = try mirror.learn(look: { () throws(SessionError) in try look(20) }) { return ended }
        }
        if !mirrors.isEmpty {
            tell(
                "the standby told in \((MonotonicClock.now() - began) / 1_000_000) ms what its images of"
                    + " \(mirrors.count) disks hold")
        }
        return nil
    }

    package func attach() throws(SessionError) {
        for mirror in mirrors { try mirror.start() }
    }

    package func catchUp() throws(SessionError) -> Rest {
        var isReady = true
        for mirror in mirrors where !(try mirror.isReady()) { isReady = false }
        progress = mirrors.isEmpty ? 1 : mirrors.reduce(0) { $0 + $1.progress } / Double(mirrors.count)
        return isReady ? .little : .coming
    }

    package func cut(_ epoch: Epoch, isFirst: Bool) { sender.advance(to: epoch.next) }

    package func endFirstCopy() { for mirror in mirrors { mirror.endFirstCopy() } }

    package func complete(_ epoch: Epoch, _ timings: inout EpochTimings) {
        timings.diskBytes = mirrors.reduce(0) { $0 + $1.takeShippedBytes() }
    }

    package func detach() { for mirror in mirrors { mirror.stop() } }

    /// The link is closed by then: a disk's server may wait for room on it.
    package func close() { for mirror in mirrors { mirror.close() } }
}
