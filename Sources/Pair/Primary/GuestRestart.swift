import Hypervisor
import LinuxSystem
import Messages
import Model
import Protocol

/// Starting a guest on the host where it died, in two steps: its QEMU is made, which stands still, while the standby could still
/// start the guest in its place; and it runs once this host alone has the guest. Used by the session's thread.
final class GuestRestart {
    private unowned let shell: PrimaryShell
    private var ready: (any ReadyGuest)?

    init(_ shell: PrimaryShell) { self.shell = shell }

    /// A QEMU that is being killed counts as lost some time before its process has ended, of which this is the descriptor.
    static func isGone(_ exitDescriptor: Int32) -> Bool {
        var poller = Poller(capacity: 1)
        let exit = poller.add(exitDescriptor)
        _ = try? poller.wait(timeout: 0)
        return poller.isReadable(exit)
    }

    /// A QEMU that does not answer is waited for less long than this, in nanoseconds.
    private static let patience: UInt64 = 60_000_000_000

    /// The guest's QEMU is gone: can it be started here?
    func tryStart() {
        guard let starter = shell.starter, let description = shell.guest else { return shell.handle(.startable) }
        shell.expectBack(after: Self.patience)
        do throws(SessionError) {
            ready = try starter.makeReady(description)
            shell.handle(.startable)
        } catch {
            // One that is to stay down is told of when that is certain.
            if error.code != .refused { shell.report(.failure(error)) }
            // What is told is written down first.
            let starts = starter.startsToTell()
            shell.tell { $0.failToStart(error, starts: starts) }
        }
    }

    /// This host alone has the guest.
    func run(_ starter: any GuestStarter, _ description: GuestDescription) throws(SessionError) -> StartedGuest {
        if let ready = ready.take() { return try ready.run() }
        return try starter.makeReady(description).run()
    }

    func discard() { ready.take()?.discard() }
}

extension PrimaryDuty {
    /// What came of `PrimaryOrder.tryStart`. `starts`: as often it was started, where another host may start it.
    package mutating func failToStart(_ error: SessionError, starts: Int?) -> [Output] {
        if error.code == .refused, starts == nil { afterDeath = (LossWords.staysDown(names.vm, error.message), false) }
        return handle(.unstartable(error.message, starts: starts))
    }

    /// The standby is to start the guest.
    mutating func give(_ term: Term, _ starts: Int, because reason: String, _ outputs: inout [Output]) {
        send(.takeOver(term, guestStands: false, starts: starts), &outputs)
        let text = "the QEMU of \(names.vm) died, and \(choice.current) is to start it: \(reason)"
        (lastError, afterDeath) = (text, (text, true))
        outputs.append(.report(.event(.handedOver, text)))
    }

    /// What the standby hears that is not needed any more.
    var dismissal: GoodbyeMessage {
        GoodbyeMessage(
            kind: failure == nil ? .unprotected : .failed,
            reason: failure?.message ?? afterDeath?.text ?? "protection was ended",
            staysDown: afterDeath == nil ? nil : true)
    }
}
