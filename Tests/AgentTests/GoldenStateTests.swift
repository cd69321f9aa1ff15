import Agent
import Foundation
import Testing

/// What an agent remembers of its VMs must be read by the next build, and written so that the one before can read it. A file
/// in `Golden` is what lies in some state directory: change none of them; add one for each new member.
@Suite struct GoldenStateTests {
    @Test(arguments: ["vm", "vm-with-a-dated-word", "vm-that-was-started-again", "vm-of-an-older-agent"])
    func aVMsMemoryIsWrittenAsItWasRead(name: String) throws {
        let golden = try String(
            contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("Golden/\(name).json"), encoding: .utf8)
        let directory = "\(NSTemporaryDirectory())/romulus-golden-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try golden.write(toFile: "\(directory)/web.json", atomically: true, encoding: .utf8)

        let store = try VMStore(directory)
        let vm = try #require(store.vms.first)
        try store.update(vm) { _ in }
        let written = try String(contentsOfFile: "\(directory)/web.json", encoding: .utf8)
        #expect(written.contains("\"value\":\(golden.dropLast())}"), "written: \(written)")
    }
}
