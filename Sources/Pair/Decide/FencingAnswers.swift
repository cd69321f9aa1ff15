import Fencing
import Model
import Protocol

/// What a fence command says, to either machine.
protocol FencingEvent {
    static func peerFenced(_ nonce: Nonce) -> Self
    static func fencingFailed(_ nonce: Nonce, _ reason: String) -> Self
    static func peerHeard(_ peer: NodeName) -> Self
}

extension PrimaryMachine.Event: FencingEvent {}
extension StandbyMachine.Event: FencingEvent {}

extension FencingEvent {
    init(_ ending: PeerFence.Ending, of peer: NodeName, _ nonce: Nonce) {
        switch ending {
        case .confirmed: self = .peerFenced(nonce)
        case .heard: self = .peerHeard(peer)
        case .failed(let reason): self = .fencingFailed(nonce, reason)
        case .tookTooLong: self = .fencingFailed(nonce, "its fence command took too long")
        }
    }
}
