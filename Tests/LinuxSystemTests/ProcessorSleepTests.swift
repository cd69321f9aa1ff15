import Foundation
import LinuxSystem
import Testing

@Suite struct ProcessorSleepTests {
    /// The kernel's word is the smallest request of all processes.
    private func kernelLimit() throws -> Int32 {
        let descriptor = open("/dev/cpu_dma_latency", O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var value: Int32 = 0
        #expect(read(descriptor, &value, 4) == 4)
        return value
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: /dev/cpu_dma_latency")) func theKernelHearsOfIt() throws {
        let sleep = try ProcessorSleep()
        sleep.hold()
        #expect(try kernelLimit() <= sleep.limit)
        sleep.release()
    }

    /// `cpuidle` with a driver and states that take so long to wake from, and a file for a device.
    private func limit(driver: String, latencies: [Int]) throws -> (limit: Int32, requests: [Int32]) {
        let root = FileManager.default.temporaryDirectory.appending(path: "sleep-\(UUID())").path
        defer { try? FileManager.default.removeItem(atPath: root) }
        for (index, latency) in latencies.enumerated() {
            let state = "\(root)/cpu0/cpuidle/state\(index)"
            try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
            try "\(latency)\n".write(toFile: state + "/latency", atomically: false, encoding: .utf8)
        }
        try FileManager.default.createDirectory(atPath: root + "/cpuidle", withIntermediateDirectories: true)
        try "\(driver)\n".write(toFile: root + "/cpuidle/current_driver", atomically: false, encoding: .utf8)
        try Data().write(to: URL(fileURLWithPath: root + "/device"))
        let sleep = try ProcessorSleep(device: root + "/device", states: root)
        sleep.hold()
        sleep.hold()
        sleep.release()
        sleep.hold()
        sleep.release()
        sleep.release()
        sleep.hold()
        let written = try Data(contentsOf: URL(fileURLWithPath: root + "/device"))
        let requests = stride(from: 0, to: written.count, by: 4).map { start in
            written[start..<start + 4].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
        return (sleep.limit, requests.map { Int32(bitPattern: $0) })
    }

    /// The first holder asks, the last one that releases takes it back.
    @Test(arguments: [
        ("intel_idle", [0, 2, 10, 133], 2), ("acpi_idle", [0, 1, 18, 350], 1), ("psci_idle", [1, 250], 1),
        ("intel_idle", [0, 40], 0), ("haltpoll", [0, 1], 0), ("none", [], 0),
    ])
    func lightSleepIsAllowed(driver: String, latencies: [Int], limit: Int32) throws {
        let seen = try self.limit(driver: driver, latencies: latencies)
        #expect(seen.limit == limit)
        #expect(seen.requests == [limit, -1, limit])
    }

    @Test func withoutTheDevice() {
        #expect { try ProcessorSleep(device: "/dev/no_such_device") } throws: { error in
            "\(error)".contains("/dev/no_such_device") && "\(error)".contains("defaults.awake")
        }
    }
}
