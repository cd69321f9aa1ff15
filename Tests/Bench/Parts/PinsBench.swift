import Foundation
import TestBed

/// What it costs that pages which disks may write unseen are copied only once these are drained, which `cache=none` asks for,
/// and that there is such a mechanism at all: against an agent that forgets it, by many short rounds of both in turns.
enum PinsBench {
    static let about =
        "pause with some 300 dirty pages, with a disk that pins memory and with one that does not, beside an agent that"
        + " does not mind reads in flight"

    static let rounds = 10
    private static let epochs = Rig.Epochs.fixed(milliseconds: 20)

    static func measure(_ image: GuestImage) async throws -> Measured {
        Measured(
            figures: try await measure(image, cache: ["cache=none", "aio=native"], goal: 1.1)
                + measure(image, cache: ["cache=writeback"], goal: 1.02))
    }

    /// One guest, which is protected by one agent and the other; who begins changes with every round.
    private static func measure(_ image: GuestImage, cache: [String], goal: Double) async throws -> [Figure] {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.driveOptions = cache
            wishes.epochs = epochs
            let rig = try await Rig(bed, image, wishes)
            let observer = try PauseObserver(rig.guest)
            try rig.dirtySome()
            var (minding, forgetting) = (Samples(), Samples())
            var ratios: [Double] = []
            for round in 1...rounds {
                var pauses: [Bool: [Double]] = [:]
                for forgets in round.isMultiple(of: 2) ? [true, false] : [false, true] {
                    try await rig.setEpochs(epochs, fault: forgets ? "forget-pins" : nil)
                    try await rig.protect()
                    pauses[forgets] = try observer.pauses(during: 3)
                    _ = try rig.status()
                    try await rig.unprotect()
                }
                minding.append(pauses[false] ?? [])
                forgetting.append(pauses[true] ?? [])
                let (ours, theirs) = (minding.medians.last ?? .nan, forgetting.medians.last ?? .nan)
                ratios.append(ours / theirs)
                Bench.say(
                    "  \(cache[0]), round \(round), ms: minding \(Table.number(ours)), forgetting \(Table.number(theirs))"
                )
            }
            return [
                Figure("pause, \(cache[0])", minding, "ms", over: forgetting, "forgetting"),
                Figure("median of the rounds' ratios, \(cache[0])", ratios, "", goal: goal),
            ]
        }
    }
}
