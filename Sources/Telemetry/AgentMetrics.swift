import Glibc

/// The series of the agent's own process, read from `/proc/self` when they are scraped.
public struct AgentMetrics: Sendable {
    /// Puts `romulus_build_info`, `romulus_kept_memory_bytes` and the `process_` series into `registry`. `keptMemory` is asked
    /// at each scrape.
    public init(version: String, keptMemory: @escaping @Sendable () -> UInt64 = { 0 }, registry: Registry) {
        registry.gauge(Families.buildInfo, [Label("version", version)]).set(1)
        let kept = registry.gauge(Families.keptMemory)
        let cpu = registry.gauge(Families.processCPU)
        let memory = registry.gauge(Families.processMemory)
        let descriptors = registry.gauge(Families.processDescriptors)
        let start = registry.gauge(Families.processStart)
        registry.beforeScrape {
            kept.set(keptMemory())
            if let sample = ProcessSample.now() {
                cpu.set(sample.cpuSeconds)
                memory.set(sample.residentBytes)
                start.set(sample.startSeconds)
            }
            if let count = ProcessSample.openDescriptors() { descriptors.set(count) }
        }
    }
}

/// What `/proc/self/stat` says, in base units.
struct ProcessSample {
    let cpuSeconds: Double
    let residentBytes: UInt64
    let startSeconds: Double

    static func now() -> ProcessSample? {
        guard let stat = contents(of: "/proc/self/stat"), let boot = bootTime() else { return nil }
        // The second field is the program's name in parentheses and may hold anything, spaces too: count from behind
        // it. Field numbers are those of proc(5), from 1.
        guard let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        func field(_ number: Int) -> UInt64? { fields.count > number - 3 ? UInt64(fields[number - 3]) : nil }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        guard let user = field(14), let system = field(15), let start = field(22), let pages = field(24), ticks > 0
        else { return nil }
        return ProcessSample(
            cpuSeconds: Double(user + system) / ticks, residentBytes: pages * UInt64(sysconf(Int32(_SC_PAGESIZE))),
            startSeconds: Double(boot) + Double(start) / ticks)
    }

    static func openDescriptors() -> Int? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            // "." and ".." are no descriptors.
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
        }
        // The one that this function reads with is gone by the time anybody looks.
        return count - 1
    }

    private static func bootTime() -> UInt64? {
        guard let stat = contents(of: "/proc/stat") else { return nil }
        for line in stat.split(separator: "\n") where line.hasPrefix("btime ") {
            return UInt64(line.dropFirst("btime ".count))
        }
        return nil
    }

    private static func contents(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
