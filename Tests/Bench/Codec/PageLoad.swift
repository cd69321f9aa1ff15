import Foundation
import TestBed

/// What a guest does while its pages are recorded.
enum PageLoad: String, CaseIterable {
    case idle, shell, database, sort, random

    var description: String {
        switch self {
        case .idle: "idle"
        case .shell: "busy shell (md5sum in a loop)"
        case .database: "Redis, hashes of 50,000 accounts updated at random"
        case .sort: "sort and gzip of a text file"
        case .random: "random data written to files"
        }
    }

    /// The shell command that the guest repeats; nil where it rests or the load comes from outside.
    private var command: String? {
        switch self {
        case .idle, .database: nil
        case .shell: "md5sum /bin/redis-server"
        case .sort: "sort /tmp/text | gzip > /tmp/text.gz"
        case .random: "dd if=/dev/urandom of=/tmp/random bs=64k count=256 2>&-"
        }
    }

    private static let words =
        "awk 'BEGIN { srand(7); for (i = 0; i < 150000; i++) print int(rand() * 1000000), \"line\", i, \"of a text\" }'"

    /// Keeps the guest at it while `body` runs.
    func run(on bed: Bed, _ control: GuestControl, _ body: () async throws -> Void) async throws {
        switch self {
        case .idle: try await body()
        case .database:
            let client = try bed.client.spawn(
                ["redis-benchmark", "-h", control.address, "-r", "50000", "-c", "4", "-n", "100000000", "-q"]
                    + ["HSET", "account:__rand_int__", "balance", "__rand_int__", "seen", "__rand_int__"]
                    + ["owner", "customer-__rand_int__"])
            // It first fills the memory; what is wanted is the run of the thing.
            try await Task.sleep(for: .seconds(8))
            guard client.isRunning else { throw BedError("redis-benchmark ended: \(client.output)\(client.errors)") }
            try await body()
            try await client.killAndWait()
        case .shell, .sort, .random:
            if self == .sort { try control.shell("\(Self.words) > /tmp/text") }
            try control.shell(
                "setsid sh -c 'while :; do \(command ?? ""); done' > /dev/null 2>&1 & echo $! > /tmp/load")
            try await Task.sleep(for: .seconds(2))
            try await body()
            try control.shell("kill -9 -$(cat /tmp/load); rm -f /tmp/text* /tmp/random")
        }
    }
}

/// The recordings of all loads, made once and kept beside the build.
enum PageRecordings {
    /// Raise this when what is recorded changes.
    private static let recipe = 1
    static let pagesMax = 8192

    static func path(of load: PageLoad) -> String {
        "\(FileManager.default.currentDirectoryPath)/.build/bench-pages-\(recipe)/\(load.rawValue)"
    }

    /// Records what is not there yet, from one guest of 256 MiB with two emulated CPUs, and reads all.
    static func make(_ image: GuestImage) async throws -> [PageLoad: PageRecording] {
        let files = FileManager.default
        let missing = PageLoad.allCases.filter { !files.fileExists(atPath: path(of: $0)) }
        if !missing.isEmpty { try await record(missing, image) }
        return try Dictionary(
            uniqueKeysWithValues: PageLoad.allCases.map { ($0, try PageRecording(reading: path(of: $0))) })
    }

    private static func record(_ loads: [PageLoad], _ image: GuestImage) async throws {
        try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.hasTestMonitor = true
            let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
            let control = GuestControl(client: bed.client, address: guest.configuration.address)
            try await Task.sleep(for: .seconds(5))
            for load in loads {
                let path = path(of: load)
                Bench.say("recording pages of a guest: \(load.description)")
                try FileManager.default.createDirectory(
                    atPath: URL(fileURLWithPath: path).deletingLastPathComponent().path,
                    withIntermediateDirectories: true)
                try await load.run(on: bed, control) {
                    Bench.say(
                        try Child.run([CommandLine.arguments[0], PageRecorder.order, guest.testMonitorPath, path])
                            .trimmingCharacters(in: .newlines))
                }
            }
        }
    }
}
