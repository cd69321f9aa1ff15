import Foundation
import Model
import Registers
import TestBed
import Testing

/// What a node remembers of its arbiter, and what it therefore does not believe.
@Suite struct ArbiterMemoryTests {
    /// In memory: what the disk does is not the question.
    static func with(_ body: (String) async throws -> Void) async throws {
        let directory = try TemporaryDirectory("memory", under: "/dev/shm")
        defer { directory.remove() }
        try await body(directory.path)
    }

    static func refusal(
        _ body: () async throws(ArbiterMemoryError) -> Void
    ) async -> ArbiterMemoryError? {
        do throws(ArbiterMemoryError) {
            try await body()
            return nil
        } catch {
            return error
        }
    }

    @Test func theFirstStoreIsEnrolledAndKept() async throws {
        try await Self.with { directory in
            try await ArbiterMemory(directory: directory).accept(
                store: "one", vm: vm("web"), term: Term(0), since: Term(0))
            let memory = try ArbiterMemory(directory: directory)
            let refusal = await Self.refusal { () throws(ArbiterMemoryError) in
                try await memory.accept(store: "two", vm: vm("web"), term: Term(9), since: Term(0))
            }
            #expect(refusal == .otherStore(enrolled: "one", found: "two", path: memory.path))
            #expect(memory.seen(vm("web")) == Term(0))
        }
    }

    @Test func termsOnlyRiseAndOutliveARestart() async throws {
        try await Self.with { directory in
            do {
                let memory = try ArbiterMemory(directory: directory)
                try await memory.accept(store: "one", vm: vm("web"), term: Term(5), since: Term(0))
                // An answer to an earlier question comes late: no news, no harm.
                try await memory.accept(store: "one", vm: vm("web"), term: Term(3), since: Term(2))
                try await memory.note(Term(7), of: vm("web"))
                try await memory.note(Term(6), of: vm("web"))
            }
            let memory = try ArbiterMemory(directory: directory)
            #expect(memory.seen(vm("web")) == Term(7) && memory.seen(vm("db")) == Term(0))
            let refusal = await Self.refusal { () throws(ArbiterMemoryError) in
                try await memory.accept(store: "one", vm: vm("web"), term: Term(6), since: memory.seen(vm("web")))
            }
            #expect(refusal == .forgot(vm: vm("web"), seen: Term(7), found: Term(6), path: memory.path))
        }
    }

    @Test func aTermFromElsewhereEnrolsNothing() async throws {
        try await Self.with { directory in
            let memory = try ArbiterMemory(directory: directory)
            try await memory.note(Term(7), of: vm("web"))
            #expect(memory.seen(vm("web")) == Term(0))
            #expect(!FileManager.default.fileExists(atPath: memory.path))
        }
    }

    /// Cut anywhere behind its first line, the file holds the terms of its whole lines.
    @Test func aTornLastLineIsForgotten() async throws {
        try await Self.with { directory in
            let path: String
            do {
                let memory = try ArbiterMemory(directory: directory)
                path = memory.path
                for term in UInt64(1)...3 {
                    try await memory.accept(store: "one", vm: vm("web"), term: Term(term), since: Term(term - 1))
                }
            }
            let whole = try Data(contentsOf: URL(fileURLWithPath: path))
            let ends = whole.indices.filter { whole[$0] == UInt8(ascii: "\n") }.map { $0 + 1 }
            #expect(ends.count == 4 && ends[3] == whole.count)
            for length in ends[0]...whole.count {
                try whole.prefix(length).write(to: URL(fileURLWithPath: path))
                let memory = try ArbiterMemory(directory: directory)
                let term = UInt64(ends.count { $0 <= length } - 1)
                #expect(memory.seen(vm("web")) == Term(term), "\(length) bytes")
                // It goes on behind what was torn.
                try await memory.accept(store: "one", vm: vm("web"), term: Term(9), since: Term(term))
                #expect(try ArbiterMemory(directory: directory).seen(vm("web")) == Term(9))
            }
        }
    }

    @Test func aLongFileIsWrittenAnew() async throws {
        try await Self.with { directory in
            let memory = try ArbiterMemory(directory: directory)
            let last = UInt64(10_100)
            for term in 1...last {
                try await memory.accept(store: "one", vm: vm("web"), term: Term(term), since: Term(term - 1))
            }
            let text = try String(contentsOfFile: memory.path, encoding: .utf8)
            #expect(text.split(separator: "\n").count < 200)
            #expect(try ArbiterMemory(directory: directory).seen(vm("web")) == Term(last))
        }
    }

    @Test(arguments: [
        "", "{\"store\":\"one\"}", "{\n", "[]\n", "{\"term\":5,\"vm\":\"web\"}\n", "{\"store\":\"one\"}\nx\n",
        "{\"store\":\"one\"}\n{\"store\":\"two\"}\n", "{\"store\":\"one\"}\n{\"term\":-5,\"vm\":\"web\"}\n",
        "{\"store\":\"one\"}\n{\"vm\":\"web\"}\n", "{\"store\":\"one\"}\n\n",
    ])
    func aDamagedFileIsRefused(text: String) async throws {
        try await Self.with { directory in
            let path = "\(directory)/arbiter.jsonl"
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            #expect(throws: ArbiterMemoryError.damaged(path: path)) { try ArbiterMemory(directory: directory) }
        }
    }

    /// What cannot be kept is not used.
    @Test func aMemoryThatCannotBeWrittenRefuses() async throws {
        try await Self.with { directory in
            let memory = try ArbiterMemory(directory: directory)
            // A directory where the new file would be written.
            try FileManager.default.createDirectory(atPath: memory.path + ".new", withIntermediateDirectories: false)
            let refusal = await Self.refusal { () throws(ArbiterMemoryError) in
                try await memory.accept(store: "one", vm: vm("web"), term: Term(1), since: Term(0))
            }
            guard case .system? = refusal else {
                Issue.record("\(String(describing: refusal))")
                return
            }
            #expect(memory.seen(vm("web")) == Term(0))
        }
    }
}
