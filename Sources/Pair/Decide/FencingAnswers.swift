import Fencing
import Model
import Protocol

/// What a fence command says, to the machines.
extension PrimaryMachine.Event {
    init(_ ending: PeerFence.Ending, of peer: NodeName, _ nonce: Nonce) {
        switch ending {
        case .confirmed: self = .peerFenced(nonce)
        case .heard: self = .peerHeard(peer)
        case .failed(let reason): self = .fencingFailed(nonce, reason)
        case .tookTooLong: self = .fencingFailed(nonce, PeerFence.Ending.lateness)
        }
    }
}

extension StandbyMachine.Event {
    init(_ ending: PeerFence.Ending, of peer: NodeName, _ nonce: Nonce) {
        switch ending {
        case .confirmed: self = .peerFenced(nonce)
        case .heard: self = .peerHeard(peer)
        case .failed(let reason): self = .fencingFailed(nonce, reason)
        case .tookTooLong: self = .fencingFailed(nonce, PeerFence.Ending.lateness)
        }
    }
}

extension PeerFence.Ending {
    fileprivate static let lateness = "its fence command took too long"
}
