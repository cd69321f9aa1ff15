import Model
import Protocol
import Storage
import Wire

/// This host's copies of the disks of a guest at level `component`, as the processes that serve them say.
package struct CopiesHere: Sendable {
    /// What follows from a report.
    struct News {
        /// For the standby.
        var notes: [DiskNote] = []
        var reports: [SessionReport] = []
    }

    private var reports: [UInt16: ServedReport] = [:]
    package private(set) var losses: [UInt16: LostDisk] = [:]

    /// Why the guest cannot do without them being served; nil when it can.
    var livesBy: String? { losses.first.map { "disk \($0.value.disk) is lost here: \($0.value.reason)" } }

    /// The server of the disk of that name told how its copy at `host` stands.
    /// - Parameter standby: whose copy the guest may go on with; nil where nobody's.
    mutating func take(
        _ report: ServedReport, of index: UInt16, _ name: String, at host: NodeName, standby: NodeName?
    ) -> News {
        var news = News()
        let before = reports.updateValue(report, forKey: index)
        let known = losses[index]
        if report.isWhole {
            losses[index] = nil
        } else {
            losses[index] = LostDisk(
                disk: name, reason: report.lost ?? known?.reason ?? "it was lost", since: report.lostAt,
                isNoted: report.isNoted, isRejoining: report.isRejoining,
                staleBytes: UInt64(report.staleChunks) << 16)
        }
        // Each loss is told once; a server that was started anew counts them anew, or has forgotten that one is known.
        if standby != nil, !report.isWhole, !report.isNoted,
            known == nil || report.loss != before?.loss ?? 0 || before?.isNoted == true
        {
            news.notes.append(DiskNote(disk: index, loss: report.loss))
        }
        if let lost = report.lost, known == nil || known?.isRejoining == true {
            let follows =
                standby.map { "the guest goes on with the copy of \($0)" }
                ?? "no standby may answer for it now, so the guest waits until it is certain who goes on, and sees the error"
                + " if that is \(host)"
            let text = "disk \(name) is lost at \(host): \(follows) (\(lost))"
            news.reports += [.event(.diskFault, text), .diskFault(isFailover: standby != nil)]
        }
        if report.isWhole, known != nil {
            news.notes.append(DiskNote(disk: index, loss: 0))
            let text =
                "disk \(name) of \(host) has what it lacked: \(report.bytesCopied) bytes differed and were copied"
            news.reports.append(.event(.diskRejoined, text))
        }
        return news
    }
}

extension PrimaryDuty {
    /// The server of the disk of that name told how its copy here stands.
    package mutating func hear(disk index: UInt16, _ name: String, _ report: ServedReport) -> [Output] {
        var outputs: [Output] = []
        let standby = machine.mayLiveByStandby ? names.standby : nil
        let news = copies.take(report, of: index, name, at: machine.node, standby: standby)
        let isLost = !copies.losses.isEmpty
        if machine.isCopyLost != isLost { feed(.copyLost(isLost), &outputs) }
        outputs += hear(.livesBy(.served, copies.livesBy))
        for note in news.notes { send(.note(note), &outputs) }
        return outputs + news.reports.map { .report($0) }
    }
}
