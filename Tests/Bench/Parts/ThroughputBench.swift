import Foundation
import TestBed

/// How much one TCP connection carries out of a protected guest and into it.
enum ThroughputBench {
    static let about = "one TCP connection in bulk, out of the guest and into it: unprotected, held, gated, carried"

    static let rounds = 3

    private enum Way: String, CaseIterable {
        case free = "unprotected"
        case held = "level system"
        case gated = "level component"
        case carried = "level component, carried"
    }

    private typealias Rates = [BulkProbe.Direction: Samples]

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            // Linux bounds the window of a connection by the memory of the machine: below 768 MiB it is less than usual.
            var wishes = Rig.Wishes()
            wishes.mebibytes = 1024
            wishes.hasArbiter = true
            let rig = try await Rig(bed, image, wishes)
            var rates: [Way: Rates] = [:]
            for round in 1...rounds {
                for way in Way.allCases {
                    try await begin(way, rig)
                    for direction in BulkProbe.Direction.allCases {
                        rates[way, default: [:]][direction, default: Samples()].append(
                            try BulkProbe.rates(rig, direction, seconds: way == .free ? 4 : 5))
                    }
                    try await end(way, rig)
                }
                let words = Way.allCases.map { way in
                    let medians = BulkProbe.Direction.allCases.map { rates[way]?[$0]?.medians.last ?? .nan }
                    return "\(way.rawValue) \(medians.map(Table.number).joined(separator: " out, ")) in"
                }
                Bench.say("  round \(round), MB/s: \(words.joined(separator: "; "))")
            }
            return Measured(
                figures: [(.held, 0.7), (.gated, 0.85), (Way.carried, nil)].flatMap { way, floor in
                    BulkProbe.Direction.allCases.map { direction in
                        Figure(
                            "TCP \(direction == .out ? "out of" : "into") the guest, \(way.rawValue)",
                            rates[way]?[direction] ?? Samples(), "MB/s", over: rates[.free]?[direction], "unprotected",
                            floor: floor)
                    }
                })
        }
    }

    private static func begin(_ way: Way, _ rig: Rig) async throws {
        switch way {
        case .free: break
        case .held: try await rig.protect(epochMilliseconds: 20)
        case .gated: try await rig.protect(["--level", "component"])
        case .carried:
            try rig.bed.lan.setLink("port-a", up: false)
            try await wait(rig, untilCarried: true)
        }
    }

    /// What is gated goes on to be carried.
    private static func end(_ way: Way, _ rig: Rig) async throws {
        if way == .carried {
            try rig.bed.lan.setLink("port-a", up: true)
            try await wait(rig, untilCarried: false)
        }
        guard way == .held || way == .carried else { return }
        _ = try rig.status()
        try await rig.unprotect()
    }

    private static func wait(_ rig: Rig, untilCarried isCarried: Bool) async throws {
        try await eventually(isCarried ? "its frames are carried" : "they are no more", within: .seconds(30)) {
            try rig.pair.romulus(rig.bed.a, ["status", Rig.vm]).output.contains("carried") == isCarried ? true : nil
        }
    }
}
