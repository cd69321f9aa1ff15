import Journal
import Logging
import Model

/// Notes what happens: in the log, and in the journal, where it follows from the VM's last decision.
package struct Chronicle: Sendable {
    let log: Logger
    let journal: EventJournal
    let roster: Roster

    package init(log: Logger, journal: EventJournal, roster: Roster) {
        self.log = log
        self.journal = journal
        self.roster = roster
    }

    /// What is not given of term and epoch is what the VM's record has.
    package func note(
        _ vm: VMName?, _ kind: EventKind, _ message: String, epoch: Epoch? = nil, term: Term? = nil
    ) {
        log.info("\(message)", metadata: ["vm": "\(vm?.description ?? "-")", "kind": "\(kind.rawValue)"])
        let record = vm.flatMap { roster[$0] }
        journal.append(
            kind, vm: vm, term: term ?? record?.term, epoch: epoch ?? record?.acknowledged, message)
    }
}

/// As notes say it, with one decimal.
func milliseconds(_ nanoseconds: UInt64) -> String {
    let tenths = nanoseconds / 100_000
    return "\(tenths / 10).\(tenths % 10)"
}
