import Fencing
import Foundation
import LinuxSystem
import TestBed
import Testing

/// The watchdog's driver against a file that answers as a driver does.
@Suite(.timeLimit(.minutes(1))) struct WatchdogDeviceTests {
    private func wait(_ what: String, _ isSo: () -> Bool) async throws {
        for _ in 0..<1000 {
            if isSo() { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw NotSo(what: what)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting with FUSE"))
    func theTimeoutIsSetAndPetsArrive() async throws {
        let file = try WatchdogFile(timeoutMax: 60)
        defer { file.remove() }
        let device = try WatchdogDevice(path: file.path, timeoutSeconds: 90)
        #expect(device.timeoutSeconds == 60, "what the device made of it")
        #expect(file.seen.timeouts == [90])
        for _ in 0..<3 { device.pet() }
        #expect(file.seen.pets == 3)
        device.disarm()
        try await wait("the magic close") { file.seen.disarmed == 1 }
        #expect(file.seen.abandoned == 0)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting with FUSE")) func onlyTheMagicCloseStopsIt() async throws {
        let file = try WatchdogFile()
        defer { file.remove() }
        do {
            let device = try WatchdogDevice(path: file.path, timeoutSeconds: 10)
            device.pet()
        }
        try await wait("the close") { file.seen.abandoned == 1 }
        #expect(file.seen.disarmed == 0)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting with FUSE"))
    func aDeviceWithoutTimeoutIsDisarmedAndRefused() async throws {
        let file = try WatchdogFile(refusesTimeout: true)
        defer { file.remove() }
        #expect {
            _ = try WatchdogDevice(path: file.path, timeoutSeconds: 10)
        } throws: { error in
            "\(error)".contains("set the timeout of \(file.path)")
        }
        try await wait("the magic close") { file.seen.disarmed == 1 }
    }

    @Test func aDeviceThatIsNotThereIsNamed() {
        #expect {
            _ = try WatchdogDevice(path: "/dev/no-such-watchdog", timeoutSeconds: 10)
        } throws: { error in
            "\(error)".contains("/dev/no-such-watchdog")
        }
    }
}
