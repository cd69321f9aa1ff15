import Foundation
import Model
import Pair
import RomulusAPI
import Synchronization

/// What is done for each VM that should be protected, how that went so far, and what stands in the way.
package final class Pursuits: Sendable {
    private struct Pursuit {
        var backOff = BackOff(first: 2_000_000_000, most: 300_000_000_000)
        var nextTry: ContinuousClock.Instant?
        /// What stands in the way.
        var reason: String?
        /// There was nothing to protect at the last look.
        var isWaiting = false
        /// Another host that has the VM's guest, and what it says of it.
        var holder: (node: NodeName, says: String)?
        /// The register that stands against it, as the last try learnt it.
        var contested: Register?
        /// The monitor that the failures are of.
        var monitor: MonitorFile?
        /// A look at the monitor, or a session that began by itself, is under way.
        var isTrying = false
        var protectedSince: ContinuousClock.Instant?
        /// What the journal has of the tries so far.
        var told: Set<String> = []

        mutating func beginAnew() {
            backOff.reset()
            nextTry = nil
            told = []
        }
    }

    /// What was protected for so long failed for a reason of its own.
    private static let lasting = Duration.seconds(60)
    private static let toldMax = 64

    private let pursuits = Mutex<[VMName: Pursuit]>([:])

    package init() {}

    // MARK: - What is tried

    /// Nobody wants the VM protected any more.
    func drop(_ vm: VMName) { pursuits.withLock { $0[vm] = nil } }

    /// True when it is to be tried now, with the monitor that is there.
    func begin(_ vm: VMName, _ file: MonitorFile) -> Bool {
        pursuits.withLock { pursuits in
            var pursuit = pursuits[vm] ?? Pursuit()
            defer { pursuits[vm] = pursuit }
            guard !pursuit.isTrying else { return false }
            if pursuit.monitor != file { pursuit.beginAnew() }
            pursuit.monitor = file
            pursuit.isWaiting = false
            pursuit.holder = nil
            if let next = pursuit.nextTry, next > .now { return false }
            pursuit.isTrying = true
            return true
        }
    }

    /// The try is over before there was a session.
    func giveUpTry(_ vm: VMName) { pursuits.withLock { $0[vm]?.isTrying = false } }

    /// There is nothing to protect now, and that is no failure. Returns whether that is news.
    func wait(_ vm: VMName, _ reason: String) -> Bool {
        pursuits.withLock { pursuits in
            defer {
                pursuits[vm, default: Pursuit()].reason = reason
                pursuits[vm]?.isWaiting = true
            }
            return pursuits[vm]?.reason != reason
        }
    }

    /// It was tried, or cannot be, before there was a session. Returns whether that is news.
    func fail(_ vm: VMName, _ reason: String) -> Bool {
        pursuits.withLock { pursuits in
            var pursuit = pursuits[vm] ?? Pursuit()
            defer { pursuits[vm] = pursuit }
            pursuit.isTrying = false
            defer { pursuit.reason = reason }
            if let next = pursuit.nextTry, next > .now { return false }
            pursuit.nextTry = .now + .nanoseconds(Int64(pursuit.backOff.fail()))
            return pursuit.reason != reason
        }
    }

    /// VMs of which nothing was there to protect at the last look.
    var waiting: Set<VMName> { pursuits.withLock { Set($0.filter(\.value.isWaiting).keys) } }

    /// Who has the guest of a VM that waits; nil when nobody says so.
    func noteHolder(_ vm: VMName, _ holder: (node: NodeName, says: String)?) {
        pursuits.withLock { pursuits in
            guard pursuits[vm]?.isWaiting == true else { return }
            pursuits[vm]?.holder = holder
        }
    }

    /// The register that the last try was refused for.
    package func contested(_ vm: VMName) -> Register? { pursuits.withLock { $0[vm]?.contested } }

    // MARK: - What sessions tell

    /// The VM's session reached what is wanted.
    func noteProtected(_ vm: VMName) {
        pursuits.withLock { pursuits in
            pursuits[vm, default: Pursuit()].protectedSince = .now
            pursuits[vm]?.reason = nil
            pursuits[vm]?.contested = nil
            pursuits[vm]?.told = []
        }
    }

    /// The VM's session is over. `failure` says why, when that was not in order; `qmp` is its monitor.
    func noteEnded(_ vm: VMName, _ failure: String?, qmp: String) {
        let file = MonitorFile(qmp)
        pursuits.withLock { pursuits in
            var pursuit = pursuits[vm] ?? Pursuit()
            defer { pursuits[vm] = pursuit }
            pursuit.isTrying = false
            pursuit.reason = failure
            let lasted = pursuit.protectedSince.map { ContinuousClock.now - $0 } ?? .zero
            pursuit.protectedSince = nil
            if pursuit.monitor != file || lasted > Self.lasting || failure == nil { pursuit.beginAnew() }
            pursuit.monitor = file
            if failure != nil { pursuit.nextTry = .now + .nanoseconds(Int64(pursuit.backOff.fail())) }
        }
    }

    /// The VM's session was refused, because that register gives the VM to others.
    func noteContested(_ vm: VMName, _ register: Register) {
        pursuits.withLock { $0[vm, default: Pursuit()].contested = register }
    }

    // MARK: - What is told of it

    /// Whether the journal does not have it yet: what each try says alike is told once.
    func isNews(_ vm: VMName, _ message: String) -> Bool {
        pursuits.withLock { pursuits in
            guard let pursuit = pursuits[vm], pursuit.isTrying, pursuit.told.count < Self.toldMax else { return true }
            return pursuits[vm]?.told.insert(message).inserted ?? true
        }
    }

    /// Whether a session of the VM, should there be one, began by itself.
    package func isPursuing(_ vm: VMName) -> Bool { pursuits.withLock { $0[vm]?.isTrying ?? false } }

    /// What is done for a VM that should be protected, and what stands in the way.
    package func report(_ vm: VMName) -> DesiredReport {
        pursuits.withLock { pursuits in
            guard let pursuit = pursuits[vm] else { return DesiredReport(protect: .always) }
            let left = pursuit.nextTry.map { $0 - .now }
            let next = left.flatMap { $0 > .zero ? Date() + Double($0.components.seconds) : nil }
            let reason = pursuit.holder.map { "its guest is at \($0.node): \($0.says)" } ?? pursuit.reason
            return DesiredReport(
                protect: .always, reason: reason, nextTry: next, failures: pursuit.backOff.failures,
                elsewhere: pursuit.holder?.node)
        }
    }
}
