import Agent
import Fakes
import Foundation
import Model
import Pair
import RomulusAPI
import Synchronization
import Telemetry
import Testing

/// Which VMs an agent knows, who has one in hand, and what of that is news.
@Suite(.timeLimit(.minutes(1))) struct RosterTests {
    private let roster = Roster(node: "alpha", registry: Registry()) { _ in DesiredReport(protect: .manual) }
    private let web = VMName(unchecked: "web")

    private func record(_ vm: VMName, _ part: VMRecord.Part = .none, state: ProtectionState = .failed) -> VMRecord {
        VMRecord(
            name: vm, part: part, role: .primary, peer: "beta", level: .system, term: Term(1),
            tuning: EpochTuning(epochMilliseconds: 20), metrics: roster.metrics(of: vm, peer: "beta"), qmp: "/q",
            pid: nil, state: state)
    }

    /// Whether `body` is news.
    private func isNews(_ body: () throws -> Void) rethrows -> Bool {
        let seen = roster.changes.version
        try body()
        return roster.changes.version > seen
    }

    @Test func aVMThatIsNotKnownIsNamed() {
        let error = #expect(throws: APIError.self) { try roster.record(of: web) }
        #expect(error?.code == .noSuchVM)
        #expect(error?.message == "alpha knows no VM “web”: “romulus list” shows those it knows")
    }

    @Test func ofOneVMThereIsOneSession() async throws {
        try await PrimaryScene.with { scene in
            let vm = scene.vm
            #expect(try isNews { try roster.takeUp(record(vm, .primary(scene.shell))) })
            #expect(roster.isInHand(vm) && roster.hasGuests)
            let error = #expect(throws: APIError.self) { try roster.takeUp(record(vm, .primary(scene.shell))) }
            #expect(error?.message.hasPrefix("\(vm) is already primary here (") == true, "\(error?.message ?? "")")
            try await scene.waitUntilProtected()
            #expect(try roster.record(of: vm).state == .protected)
            roster.end(vm)
            #expect(!roster.isInHand(vm) && !roster.hasGuests)
            // What was last known stays.
            #expect(roster[vm]?.state == .protected)
            try roster.takeUp(record(vm, .primary(scene.shell)))
            roster.remove(vm)
        }
    }

    @Test func aReplicaThatIsMadeKeepsOthersOut() throws {
        #expect(roster.beginPreparing(web))
        #expect(!roster.beginPreparing(web))
        #expect(roster.isInHand(web))
        let error = #expect(throws: APIError.self) { try roster.takeUp(record(web)) }
        #expect(error?.message == "a replica of web is being made here")
        roster.endPreparing(web)
        try roster.takeUp(record(web))
    }

    @Test func theNewestOfferCounts() {
        #expect(roster.isNewest(2, of: web))
        #expect(!roster.isNewest(1, of: web) && !roster.isNewest(2, of: web))
        #expect(roster.isNewest(1, of: VMName(unchecked: "mail")))
        #expect(roster.isNewest(3, of: web))
    }

    @Test func aForecastHasItsVMInHand() {
        #expect(roster.beginWatching(web))
        #expect(!roster.beginWatching(web) && roster.isInHand(web))
        roster.endWatching(web)
        #expect(!roster.isInHand(web))
    }

    @Test func changesAreNewsAndRunningFiguresAreNot() {
        #expect(isNews { roster.install(record(web)) })
        #expect(isNews { roster.change(web) { $0.tuning = EpochTuning(epochMilliseconds: 50) } })
        #expect(roster[web]?.tuning.epochMilliseconds == 50)
        #expect(!isNews { roster.acknowledge(Epoch(7), of: web) })
        #expect(roster[web]?.acknowledged == Epoch(7))
        #expect(!isNews { roster.add(EpochTimings(), to: web) })
        #expect(roster[web]?.recent.timings.count == 1)
        #expect(!isNews { roster.remove(web) { $0.state == .waiting } })
        #expect(isNews { roster.remove(web) })
        #expect(roster[web] == nil && !isNews { roster.remove(web) })
    }

    @Test func aRowIsMadeOnceAndIsNewsWhereItDiffers() {
        func fail(_ reason: String) -> Bool {
            isNews {
                roster.changeRow(web, make: { record(web, state: .unprotected) }) { record in
                    record.state = .failed
                    record.lastError = reason
                }
            }
        }
        #expect(fail("no QEMU"))
        #expect(roster[web]?.state == .failed)
        #expect(!fail("no QEMU"))
        #expect(fail("no disk"))
        // What is in hand is not changed from outside.
        _ = roster.beginPreparing(web)
        #expect(!fail("no NIC"))
        #expect(roster[web]?.lastError == "no disk")
    }

    /// Whoever waits for the end of a session may read in the journal why.
    @Test func theEndIsToldBeforeItIsNews() async {
        roster.install(record(web))
        let isTold = Mutex(false)
        let seen = roster.changes.version
        async let news: Void = roster.changes.next(after: seen, until: .now + .seconds(30))
        roster.end(web) {
            #expect(roster.changes.version == seen)
            isTold.withLock { $0 = true }
        }
        await news
        #expect(isTold.withLock { $0 })
    }
}
