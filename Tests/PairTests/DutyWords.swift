import Model
import Pair
import Wire

/// What a duty wants, in a word or two each, without reports.
func words(_ outputs: [StandbyDuty.Output]) -> [String] {
    outputs.compactMap { output in
        switch output {
        case .send(.acknowledge(let epoch, _)): "acknowledge \(epoch)"
        case .send(.goodbye(let message)): "goodbye \(message.kind.rawValue)"
        case .send(let message): "send \("\(message)".prefix { $0 != "(" })"
        case .closeLink: "closeLink"
        case .enqueue(.apply(let epoch)): "apply \(epoch)"
        case .enqueue(.load(let epoch)): "load \(epoch)"
        case .enqueue(.resume(let epoch)): "resume \(epoch)"
        case .enqueue(.boot(let epoch)): "boot \(epoch)"
        case .enqueue(.startFromDisk): "startFromDisk"
        case .enqueue(.endReplica): "endReplica"
        case .enqueue(.dismantle): "dismantle"
        case .discard(let epoch): "discard \(epoch)"
        case .ask(.compareAndSet(_, let new, _)): "ask for \(new.owner) \(new.mode.rawValue)"
        case .ask(.read(let limit)): limit == nil ? "read" : "read at once"
        case .stopAsking: "stopAsking"
        case .persist(let record): "persist \(record.seen)"
        case .fence(let peer, _, _): "fence \(peer)"
        case .stopFencing: "stopFencing"
        case .lease(let event): "lease \("\(event)".prefix { $0 != "(" })"
        case .note(let note): "note disk \(note.disk)"
        case .settle(let outcome): if case .success = outcome { "settle" } else { "settle with a failure" }
        case .answer: "answer"
        case .report: nil
        }
    }
}

func words(_ outputs: [PrimaryDuty.Output]) -> [String] {
    outputs.compactMap { output in
        switch output {
        case .hold: "hold"
        case .release(let epoch): "release \(epoch)"
        case .releaseEverything: "releaseEverything"
        case .dropHeld: "dropHeld"
        case .send(.goodbye(let message)): "goodbye \(message.kind.rawValue)"
        case .send(let message): "send \("\(message)".prefix { $0 != "(" })"
        case .closeLink: "closeLink"
        case .startCopy: "startCopy"
        case .order(let order): "\("\(order)".prefix { $0 != "(" })"
        case .ask(.compareAndSet(_, let new, _)): "ask for \(new.owner) \(new.mode.rawValue)"
        case .ask(.read): "read"
        case .persist(let record): "persist \(record.seen)"
        case .fence(let peer, _, _): "fence \(peer)"
        case .stopFencing: "stopFencing"
        case .attach(let part): "attach \(part.rawValue)"
        case .detach(let part): "detach \(part.rawValue)"
        case .lease(let event): "lease \("\(event)".prefix { $0 != "(" })"
        case .noted(let noted): "noted disk \(noted.disk)"
        case .account(let timings): "account for \(timings.epoch)"
        case .report: nil
        }
    }
}

extension CheckpointDigest {
    /// One that is all of this byte.
    static func of(_ byte: UInt8) -> CheckpointDigest {
        [UInt8](repeating: byte, count: CheckpointDigest.size).withUnsafeBytes { CheckpointDigest($0) }
    }
}
