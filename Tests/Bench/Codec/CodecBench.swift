import Foundation
import TestBed

/// The page codec against its peers, on pages that real guests changed: all on the same recordings, in turns, 512 pages at
/// once, on one core. Speeds are of CPU time, per byte of the raw pages.
enum CodecBench {
    static let about = "the page codec and its peers on pages that real guests changed, under five loads"

    private static let rounds = 5
    /// The agent's choice is measured for a link of 1 Gbit/s.
    private static let linkBytesPerSecond = 125e6

    /// What one codec made of one load.
    struct Result {
        /// Of the raw pages.
        var size = 0.0
        /// Nanoseconds for a page, by round.
        var encode: [Double] = []
        var decode: [Double] = []
    }

    static func measure(_ recordings: [PageLoad: PageRecording]) throws -> Measured {
        var contenders: [any CodecContender] = [
            OurCodec("ours, stage 1", .fixed(.none)), OurCodec("ours, LZ4", .fixed(.lz4)),
            OurCodec("ours, zstd", .fixed(.zstd)), OurCodec("ours, chosen", .chosen(link: linkBytesPerSecond)),
            CopyOnly(), RawCodec("LZ4 on pages", .lz4), RawCodec("zstd-1 on pages", .zstd(level: 1)),
        ]
        do {
            let xbzrle = try Xbzrle.load()
            Bench.say("xbzrle: from the source of Debian's QEMU \(xbzrle.version)")
            contenders.append(XbzrleCodec(xbzrle))
        } catch {
            Bench.say("xbzrle is left out, QEMU's source cannot be had or compiled: \(error)")
        }
        var table: [PageLoad: [String: Result]] = [:]
        for load in PageLoad.allCases {
            guard let recording = recordings[load] else { continue }
            let arena = try CodecArena(recording)
            table[load] = try measure(contenders, arena)
            Bench.say(describe(load, recording, contenders, table[load] ?? [:]))
        }
        return Measured(figures: figures(table))
    }

    private static func measure(
        _ contenders: [any CodecContender], _ arena: CodecArena
    ) throws -> [String: Result] {
        var results: [String: Result] = [:]
        let perPage = 1e9 / Double(arena.pages)
        for round in 0...rounds {
            for contender in contenders {
                var result = results[contender.name] ?? Result()
                arena.restore()
                // The first round warms up and keeps the bodies.
                let isFirst = round == 0
                var bytes = 0
                let encoding = CodecArena.seconds { bytes = contender.encode(arena, keeping: isFirst) }
                result.size = Double(bytes) / Double(arena.rawBytes)
                if !isFirst { result.encode.append(encoding * perPage) }
                results[contender.name] = result
            }
        }
        for contender in contenders {
            arena.restore()
            _ = contender.encode(arena, keeping: true)
        }
        for _ in 1...rounds {
            for contender in contenders {
                arena.restore()
                let decoding = try CodecArena.seconds { try contender.decode(arena) }
                guard arena.isApplied else { throw BedError("\(contender.name) does not give back the pages.") }
                results[contender.name]?.decode.append(decoding * perPage)
            }
        }
        return results
    }

    private static func describe(
        _ load: PageLoad, _ recording: PageRecording, _ contenders: [any CodecContender], _ results: [String: Result]
    ) -> String {
        func speed(_ nanoseconds: [Double]) -> String { String(format: "%.2f", 4096 / median(nanoseconds)) }
        let head = "\(load.description): \(recording.pages) pages of \(recording.epochs) epochs"
        return
            ([head]
            + contenders.compactMap { contender in
                guard let result = results[contender.name] else { return nil }
                let name = contender.name.padding(toLength: 18, withPad: " ", startingAt: 0)
                return "  \(name)\(String(format: "%7.2f", result.size * 100)) % of raw, "
                    + "encodes \(speed(result.encode)) GB/s, decodes \(speed(result.decode)) GB/s"
            }).joined(separator: "\n")
    }

    // MARK: - Figures

    private static func figures(_ table: [PageLoad: [String: Result]]) -> [Figure] {
        let loads = PageLoad.allCases
        let (stageOne, zstd, zstdRaw) = ("ours, stage 1", "ours, zstd", "zstd-1 on pages")
        func sizes(_ name: String) -> [Double] { loads.compactMap { table[$0]?[name].map { $0.size * 100 } } }
        /// The geometric means over the loads, by round, in GB/s.
        func speeds(_ name: String) -> [Double] {
            let results = loads.compactMap { table[$0]?[name] }
            guard results.count == loads.count else { return [] }
            return (0..<rounds).map { round in mean(results.map { 4096 / $0.encode[round] }) }
        }
        let size = mean(sizes(zstd))
        let worstSize = [stageOne, "ours, LZ4", zstd, "ours, chosen"].flatMap { sizes($0) }.max() ?? .nan
        var figures = [
            Figure("size with zstd, mean", [size], "%", over: [mean(sizes(zstdRaw))], zstdRaw, goal: 0.2),
            Figure("size, worst load and stage", [worstSize], "%", over: [100], "raw", goal: 1.02),
            Figure(
                "speed of stage 1, mean", speeds(stageOne), "GB/s", over: speeds("memcpy"), "memcpy over the old page",
                floor: 0.9),
        ]
        // The load on which zstd gains least over zstd on pages.
        let worst = loads.max {
            ratio(table[$0]?[zstd], table[$0]?[zstdRaw]) < ratio(table[$1]?[zstd], table[$1]?[zstdRaw])
        }
        if let worst, let ours = table[worst]?[zstd], let raw = table[worst]?[zstdRaw] {
            figures.append(
                Figure(
                    "speed with zstd, worst load: \(worst)", ours.encode.map { 4096 / $0 }, "GB/s",
                    over: raw.encode.map { 4096 / $0 }, zstdRaw, floor: 2))
        }
        if !sizes("xbzrle").isEmpty {
            figures += [
                Figure("size with zstd, mean", [size], "%", over: [mean(sizes("xbzrle"))], "xbzrle", goal: 0.5),
                Figure("speed of stage 1, mean", speeds(stageOne), "GB/s", over: speeds("xbzrle"), "xbzrle", floor: 3),
                Figure(
                    "speed with LZ4, mean", speeds("ours, LZ4"), "GB/s", over: speeds("xbzrle"), "xbzrle", floor: 1),
            ]
        }
        for load in loads {
            for peer in [zstdRaw, "xbzrle"] {
                guard let ours = table[load]?[zstd], let other = table[load]?[peer] else { continue }
                figures.append(
                    Figure("size with zstd, \(load)", [ours.size * 100], "%", over: [other.size * 100], peer))
            }
        }
        return figures
    }

    private static func ratio(_ ours: Result?, _ peer: Result?) -> Double {
        median(ours?.encode ?? []) / median(peer?.encode ?? [])
    }

    /// The geometric mean.
    private static func mean(_ values: [Double]) -> Double {
        exp(values.map { log($0) }.reduce(0, +) / Double(values.count))
    }
}
