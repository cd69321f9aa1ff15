import Foundation
import TestBed

/// The pause of a checkpoint beside those of what else QEMU can do: same guest, same load, in turns.
enum PeersBench {
    static let about =
        "pause of a checkpoint of ~300 dirty pages beside QEMU's own means; 256 MiB of shared memory, 2 vCPUs"

    static let rounds = 4

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.isShared = true
            // This guest works so little that its epochs would be long ones, of many more pages.
            wishes.epochs = .fixed(milliseconds: 20)
            let rig = try await Rig(bed, image, wishes)
            let observer = try PauseObserver(rig.guest)
            try rig.dirtySome()
            var ours = Samples()
            var (pages, bytes) = ([Double](), [Double]())
            var peers: [Peer: Samples] = [:]
            for round in 1...rounds {
                for peer in Peer.allCases {
                    peers[peer, default: Samples()].append(
                        try peer.measure(observer, directory: bed.a.shmDirectory))
                }
                try await rig.protect(epochMilliseconds: 20)
                let before = try await rig.counters()
                ours.append(try observer.pauses(during: 5))
                let passed = try await rig.counters() - before
                pages.append(passed.dirtyPages / passed.epochs)
                bytes.append(passed.sentBytes / passed.epochs / 1000)
                _ = try rig.status()
                try await rig.unprotect()
                let medians = Peer.allCases.map { "\($0.rawValue) \(Table.number(peers[$0]?.medians.last ?? .nan))" }
                Bench.say(
                    "  round \(round), ms: ours \(Table.number(ours.medians.last ?? .nan)), \(medians.joined(separator: ", "))"
                )
            }
            return Measured(
                figures: figures(ours, peers) + [
                    Figure("dirty pages of a checkpoint", pages, "pages"),
                    Figure("bytes of a checkpoint on the link", bytes, "KB"),
                ],
                charts: [
                    Chart.bars(
                        "pause-of-peers", "Pause of one checkpoint, ~300 dirty pages, guest of 256 MiB",
                        yLabel: "ms", isLogarithmic: true, ours: ["romulus"],
                        [("romulus", ours)] + Peer.allCases.map { ($0.rawValue, peers[$0] ?? Samples()) })
                ])
        }
    }

    private static func figures(_ ours: Samples, _ peers: [Peer: Samples]) -> [Figure] {
        let goals: [Peer: Double] = [.bare: 1.3, .ignoreShared: 0.5, .background: 0.15]
        return Peer.allCases.map { peer in
            Figure("pause, ~300 dirty pages", ours, "ms", over: peers[peer], peer.rawValue, goal: goals[peer])
        } + Peer.allCases.map { Figure("pause of \($0.rawValue)", peers[$0] ?? Samples(), "ms") }
    }
}
