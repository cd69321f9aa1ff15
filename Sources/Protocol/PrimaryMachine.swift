/// The decisions of a session, without I/O: events in, actions out.
///
/// Owns what may be released, acknowledged, applied and resumed, and when. May call Model only: no clock, no socket,
/// no thread. The shells in Pipeline carry the actions out. Upholds the rule of output commit: *output leaves only
/// when its epoch is acknowledged in this session, or after protection was given up deliberately.*

import Model

/// What the primary side of one session decides.
///
///     copying --sealed(1)--> protecting --ack--> protecting ...
///        |                       |
///        |                       +-- guestLost --------> ended   (asks the standby to take over)
///        |                       +-- guestEnded -------> ended   (an orderly shutdown is not a failure)
///        +-----------------------+-- standbyLost ------> alone or frozen, by policy
///                                +-- unprotect --------> alone
public struct PrimaryMachine: Sendable, Equatable {
    /// What the operator wants when no standby acknowledges any more and no arbiter can be asked.
    public enum LonelyPolicy: String, Sendable, Codable {
        /// Release what is held and run on unprotected.
        case runAlone = "run-alone"
        /// Keep holding until the operator decides.
        case freeze
    }

    public enum State: Sendable, Equatable {
        /// The first copy travels; output flows freely because there is nothing to fall back to yet.
        case copying
        /// Output is held until its epoch is acknowledged.
        case protecting(sealed: Epoch, acknowledged: Epoch)
        /// Protection ended, the guest runs on here and its output flows.
        case alone
        /// The standby is gone and the operator wants output held.
        case frozen(sealed: Epoch, acknowledged: Epoch)
        /// The guest does not run here any more.
        case ended
    }

    public enum Event: Sendable, Equatable {
        /// The guest stands still and epoch `epoch` is cut: what it sends from here on belongs to the next one.
        case sealed(Epoch)
        /// The standby staged `epoch` whole; `digestMatches` tells whether it acknowledged what we sent.
        case acknowledged(Epoch, digestMatches: Bool)
        /// The link broke, fell silent or the standby refused to go on.
        case standbyLost
        /// The guest's QEMU is gone without having been asked to.
        case guestLost
        /// The guest was shut down, or its QEMU was told to quit.
        case guestEnded
        /// The operator wants no more protection.
        case unprotect
    }

    public enum Action: Sendable, Equatable {
        /// From here on, keep output back.
        case hold
        /// Let the output of all epochs up to and including this one leave, and tell the standby.
        case release(through: Epoch)
        /// Let everything leave, held or not, from now on.
        case releaseEverything
        /// Tell the standby to take over from its last committed checkpoint.
        case askTakeOver
        /// Tell the standby that it is not needed any more.
        case dismissStandby
        /// Take our parts out of QEMU and leave the guest running.
        case detach
        /// Drop what is held and end the session.
        case end
        /// The peer broke the protocol: an error for the operator, then `standbyLost` has been acted on.
        case reportProtocolError(String)
    }

    public private(set) var state = State.copying
    public let policy: LonelyPolicy

    public init(policy: LonelyPolicy) { self.policy = policy }

    public mutating func handle(_ event: Event) -> [Action] {
        var actions: [Action] = []
        switch (state, event) {
        case (.copying, .sealed(let epoch)):
            guard epoch == Epoch(1) else { return outOfOrder(epoch, after: .firstCopy) }
            actions.append(.hold)
            state = .protecting(sealed: epoch, acknowledged: .firstCopy)

        case (.protecting(let sealed, let acknowledged), .sealed(let epoch)):
            guard epoch == sealed.next else { return outOfOrder(epoch, after: sealed) }
            state = .protecting(sealed: epoch, acknowledged: acknowledged)

        case (.protecting(let sealed, let acknowledged), .acknowledged(let epoch, let digestMatches)):
            guard digestMatches, epoch == acknowledged.next, epoch <= sealed else {
                actions.append(
                    .reportProtocolError(
                        "the standby acknowledged epoch \(epoch) \(digestMatches ? "out of order" : "with another digest")"
                            + " while \(acknowledged.next)...\(sealed) were expected; its copy cannot be trusted"))
                actions.append(contentsOf: loseStandby(sealed: sealed, acknowledged: acknowledged))
                return actions
            }
            state = .protecting(sealed: sealed, acknowledged: epoch)
            actions.append(.release(through: epoch))

        case (.copying, .standbyLost):
            state = .alone
            actions += [.releaseEverything, .detach]

        case (.protecting(let sealed, let acknowledged), .standbyLost):
            actions += loseStandby(sealed: sealed, acknowledged: acknowledged)

        case (.copying, .unprotect), (.protecting, .unprotect), (.frozen, .unprotect):
            // The standby is dismissed first: it must not be able to take over once output flows freely.
            state = .alone
            actions += [.dismissStandby, .releaseEverything, .detach]

        case (.protecting, .guestLost):
            state = .ended
            actions += [.askTakeOver, .end]

        case (.copying, .guestLost), (.frozen, .guestLost), (.alone, .guestLost):
            // Nothing complete is at the standby, or it cannot be reached: there is nobody to ask.
            state = .ended
            actions += [.dismissStandby, .end]

        case (.copying, .guestEnded), (.protecting, .guestEnded), (.frozen, .guestEnded), (.alone, .guestEnded):
            state = .ended
            actions += [.dismissStandby, .end]

        case (.alone, _), (.ended, _), (.frozen, _), (.copying, .acknowledged):
            // Late events of a session that was given up, or an acknowledgement that nothing asked for: no effect.
            break
        }
        return actions
    }

    /// The newest epoch whose output may have left.
    public var acknowledged: Epoch {
        switch state {
        case .protecting(_, let acknowledged), .frozen(_, let acknowledged): acknowledged
        case .copying, .alone, .ended: .firstCopy
        }
    }

    private mutating func loseStandby(sealed: Epoch, acknowledged: Epoch) -> [Action] {
        switch policy {
        case .runAlone:
            state = .alone
            return [.releaseEverything, .detach]
        case .freeze:
            state = .frozen(sealed: sealed, acknowledged: acknowledged)
            return []
        }
    }

    private func outOfOrder(_ epoch: Epoch, after sealed: Epoch) -> [Action] {
        preconditionFailure("epoch \(epoch) was sealed after \(sealed)")
    }
}
