import Foundation
import Hypervisor
import Logging
import Model
import Pair
import RomulusAPI
import Standby
import Telemetry

/// What sessions report, in the journal, the metrics and the roster. Called from any thread, also with a session's lock held.
package struct Reporter: Sendable {
    let roster: Roster
    let pursuits: Pursuits
    let guests: HeldGuests
    let chronicle: Chronicle
    private var log: Logger { chronicle.log }

    package init(roster: Roster, pursuits: Pursuits, guests: HeldGuests, chronicle: Chronicle) {
        self.roster = roster
        self.pursuits = pursuits
        self.guests = guests
        self.chronicle = chronicle
    }

    /// As `Chronicle.note`, where each try of what begins by itself may say the same.
    func tell(_ vm: VMName, _ kind: EventKind, _ message: String) {
        if pursuits.isNews(vm, message) { chronicle.note(vm, kind, message) }
    }

    // MARK: - A primary's session

    package func primary(_ options: PrimaryOptions, reported report: SessionReport) {
        let vm = options.vm
        let metrics = roster.metrics(of: vm)
        switch report {
        case .event(let kind, let message):
            tell(vm, kind, message)
            if kind == .degraded { metrics?.degrades.add() }
            if [.degraded, .climbed, .dialled].contains(kind) { guests.keepDegraded(vm) }
            if kind == .protected {
                pursuits.noteProtected(vm)
                guests.keepStandby(of: vm)
            }
            roster.changes.publish()
        case .moved: roster.changes.publish()
        case .failure(let error):
            metrics?.recordError(VMMetrics.Component(error.code))
            tell(vm, [.refused, .standbyRefused].contains(error.code) ? .refused : .error, error.message)
            if let register = error.knows { pursuits.noteContested(vm, register) }
            roster.changes.publish()
        case .acknowledged(let epoch): roster.acknowledge(epoch, of: vm)
        case .epoch(let timings):
            metrics?.record(timings)
            roster.add(timings, to: vm)
            log.debug("\(StatusText.epoch(EpochReport(timings)))", metadata: ["vm": "\(vm)"])
        case .released(let outputs):
            for output in outputs where output.frames > 0 {
                metrics?.recordHold(nanoseconds: output.held)
                metrics?.releasedFrames.add(UInt64(output.frames))
            }
        case .dropped(let frames): metrics?.droppedOutputFrames.add(UInt64(frames))
        case .diskFault(let isFailover): metrics?.recordDiskFault(isFailover ? .failover : .guest)
        case .guestHung(let hang): noteHang(vm, hang)
        case .found(let pid, let lineage):
            guests.remember(options, pid, lineage)
            roster.changes.publish()
        case .memoryCopied(let sent, let present): metrics?.recordFirstCopy(sentPages: sent, presentPages: present)
        case .stoodStill(let standstill): note(standstill, of: vm, metrics)
        case .gaveWay(let record):
            guests.giveAway(vm, record)
            roster.changes.publish()
        case .restarted(let started, _):
            noteRestart(vm, started.duration, reason: "its QEMU died")
            roster.changes.publish()
        case .tookOver, .becamePrimary: break
        case .ended(let reason): end(options, reason)
        }
    }

    private func note(_ standstill: Standstill, of vm: VMName, _ metrics: VMMetrics?) {
        metrics?.recordStandstill(standstill.cause.rawValue, nanoseconds: standstill.nanoseconds)
        let text =
            "\(vm) stood still for \(milliseconds(standstill.nanoseconds)) ms (\(standstill.cause.rawValue)),"
            + " \(milliseconds(standstill.waited)) ms of them waiting for \(standstill.longest)"
        if standstill.isToBeTold { chronicle.note(vm, .session, text) } else { log.debug("\(text)") }
    }

    private func end(_ options: PrimaryOptions, _ reason: String) {
        let vm = options.vm
        guests.forget(vm)
        roster.refresh(vm)
        let hasFailed = roster[vm]?.state == .failed
        roster.end(vm) {
            tell(vm, .ended, "the session of \(vm) ended: \(reason)")
            pursuits.noteEnded(vm, hasFailed ? reason : nil, qmp: options.qmpPath)
        }
    }

    // MARK: - A standby's session

    package func standby(_ vm: VMName, reported report: SessionReport) {
        let metrics = roster.metrics(of: vm)
        switch report {
        case .event(let kind, let message):
            chronicle.note(vm, kind, message)
            roster.changes.publish()
        case .moved: roster.changes.publish()
        case .failure(let error):
            metrics?.recordError(.apply)
            chronicle.note(vm, .error, error.message)
            roster.changes.publish()
        case .tookOver(let result, let cause, let reason):
            metrics?.recordFailover(VMMetrics.FailoverReason(cause), nanoseconds: result.decisionToRunning)
            // The takeover is of a term of its own.
            roster.refresh(vm)
            if result.isBooted {
                noteBoot(vm, result, reason)
            } else if result.isStarted {
                noteRestart(vm, result.decisionToRunning, reason: reason)
            } else {
                notePromotion(vm, result, reason)
            }
            if result.framesReleased > 0 {
                chronicle.note(
                    vm, .firstOutput,
                    "\(result.framesReleased) frames of committed epochs, which the primary had not let out, left here",
                    epoch: result.epoch)
            }
            roster.changes.publish()
        case .ended(let reason):
            chronicle.note(vm, .ended, "the replica of \(vm) was given up: \(reason)")
            roster.remove(vm)
        case .acknowledged, .epoch, .released, .dropped, .found, .gaveWay, .memoryCopied, .stoodStill, .becamePrimary,
            .restarted, .diskFault, .guestHung:
            break
        }
    }

    private func notePromotion(_ vm: VMName, _ result: TakeOverReport, _ reason: String) {
        chronicle.note(
            vm, .promoted,
            "\(vm) runs here from checkpoint \(result.epoch), \(milliseconds(result.decisionToRunning)) ms after the"
                + " decision (\(reason)); its state was loaded after \(milliseconds(result.decisionToLoaded)) ms, and"
                + " who may run it was durable after \(milliseconds(result.decisionToRecorded)) ms",
            epoch: result.epoch)
    }

    private func noteRestart(_ vm: VMName, _ duration: UInt64, reason: String) {
        roster.metrics(of: vm)?.restarts.add()
        let text =
            "\(vm) was started here from its disk, \(milliseconds(duration)) ms after the decision (\(reason)): nothing that"
            + " was written is lost, and its connections are"
        log.warning("\(text)", metadata: ["vm": "\(vm)"])
        chronicle.note(vm, .restarted, text)
    }

    private func noteHang(_ vm: VMName, _ hang: GuestHang) {
        roster.metrics(of: vm)?.hangs.add()
        let how =
            switch hang {
            case .watchdog(let action): "it did not feed its watchdog; QEMU's action for that is “\(action)”"
            case .agentSilent(let seconds): "its guest agent has not answered for \(seconds) s; it was reset"
            }
        let text = "\(vm) hangs: \(how)"
        log.warning("\(text)", metadata: ["vm": "\(vm)"])
        chronicle.note(vm, .guestHung, text)
        roster.changes.publish()
    }

    private func noteBoot(_ vm: VMName, _ result: TakeOverReport, _ reason: String) {
        roster.metrics(of: vm)?.coldBoots.add()
        roster.change(vm) { $0.coldBoot = ColdBootReport(epoch: result.epoch.number, at: Date()) }
        let text =
            "the memory of \(vm) was lost: it was booted here from its disk as of epoch \(result.epoch),"
            + " \(milliseconds(result.decisionToRunning)) ms after the decision (\(reason))"
        log.warning("\(text)", metadata: ["vm": "\(vm)"])
        chronicle.note(vm, .coldBoot, text, epoch: result.epoch)
    }
}

extension VMMetrics.FailoverReason {
    init(_ cause: TakeOverCause) {
        self =
            switch cause {
            case .guestDied: .qemuDied
            case .primaryLost: .primaryLost
            case .switchover: .switchover
            case .operator: .operator
            }
    }
}

extension VMMetrics.Component {
    init(_ code: SessionError.Code) {
        self =
            switch code {
            case .refused, .standbyRefused: .agent
            case .peerLost, .protocolBroken: .link
            case .qemu, .guestLost: .qemu
            case .system: .capture
            case .storage, .diskHangs: .disk
            }
    }
}
