import Agent
import Foundation
import LinuxSystem
import Testing

@Suite struct StateFileTests {
    private struct Value: Codable, Equatable {
        var word: String
    }
    private typealias File = StateFile<Value>

    private let path = "\(NSTemporaryDirectory())/romulus-state-\(UUID().uuidString)"

    /// Writes `words` one after the other, with the file opened anew after each where `reopening`, and gives its bytes.
    private func bytes(after words: [String], reopening: Bool = false) throws -> [UInt8] {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let directory = try DurableDirectory(path, exclusively: false)
        var file = File("value")
        for word in words {
            try file.write(Value(word: word), in: directory)
            if reopening { file = File("value", number: File.read(try contents())?.number ?? 0) }
        }
        return try contents()
    }

    private func contents() throws -> [UInt8] { try Files.contents(of: "\(path)/value") }

    @Test(arguments: [false, true]) func theNewestValueCounts(reopening: Bool) throws {
        for count in 1...5 {
            let words = (1...count).map { "value \($0)" }
            let found = File.read(try bytes(after: words, reopening: reopening))
            #expect(found?.value == Value(word: "value \(count)"))
            #expect(found?.number == UInt64(count))
            #expect(found?.isTorn == false)
        }
    }

    /// A write that is cut short anywhere leaves the value before it.
    @Test func aTornWriteLeavesTheValueBefore() throws {
        let before = try bytes(after: ["one", "two"])
        let after = try bytes(after: ["one", "two", "three"])
        let changed = before.indices.filter { before[$0] != after[$0] }
        let (first, last) = (try #require(changed.first), try #require(changed.last))
        for cut in first + 1...last {
            let found = File.read(Array(after[..<cut] + before[cut...]))
            #expect(found?.value == Value(word: "two"))
        }
        for damaged in changed {
            var bytes = after
            bytes[damaged] ^= 1
            #expect(File.read(bytes)?.value == Value(word: "two"))
            #expect(File.read(bytes)?.isTorn == true)
        }
    }

    @Test func aLargerValueMakesLargerPlaces() throws {
        let long = String(repeating: "long ", count: 5000)
        let found = File.read(try bytes(after: ["short", long, "short again"]))
        #expect(found?.value == Value(word: "short again"))
        #expect(try bytes(after: ["short", long]).count == 65536)
    }

    @Test func whatIsNoStateIsNone() {
        #expect(File.read([]) == nil)
        #expect(File.read(Array(#"{"word":"of an older form"}"#.utf8)) == nil)
        #expect(File.read([UInt8](repeating: 0x20, count: 16384)) == nil)
    }
}
