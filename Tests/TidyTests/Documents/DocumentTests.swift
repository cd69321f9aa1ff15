import Foundation
import Testing

/// The pages as they are, held against the sources as they are.
@Suite struct DocumentTests {
    /// By path: the front pages and all of `docs`. Read once for all tests, as are the words of the sources.
    static func documents() throws -> [String: Document] { try pages.get() }
    static func vocabulary() throws -> Vocabulary { try words.get() }

    private static let pages = Result { try readPages() }
    private static let words = Result { try readWords() }

    private static func readPages() throws -> [String: Document] {
        let pages = try FileManager.default.subpathsOfDirectory(atPath: SourceTests.root.appending(path: "docs").path)
            .filter { $0.hasSuffix(".md") }.map { "docs/\($0)" }
        return try Dictionary(
            uniqueKeysWithValues: (pages + ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]).map { path in
                (path, Document(path: path, text: try text(path)))
            })
    }

    static func text(_ path: String) throws -> String {
        try String(contentsOf: SourceTests.root.appending(path: path), encoding: .utf8)
    }

    private static func readWords() throws -> Vocabulary {
        let sources = try SourceTests.sources()
        func texts(_ folder: String) -> [String] { sources.filter { $0.path.hasPrefix(folder) }.map(\.text) }
        let headers = try FileManager.default.subpathsOfDirectory(
            atPath: SourceTests.root.appending(path: "Sources").path
        )
        .filter { $0.hasSuffix(".h") || $0.hasSuffix(".c") }.map { try text("Sources/\($0)") }
        return Vocabulary(
            programs: [
                "romulus": Program(
                    sources: texts("Sources/romulus/"), root: "RomulusCommand",
                    shared: ["AgentOptions", "OutputOptions"]),
                "romulusd": Program(sources: texts("Sources/romulusd/"), root: "Romulusd"),
            ],
            keys: Vocabulary.keys(texts("Sources/Agent/Configuration/")),
            metrics: Vocabulary.metrics(texts("Sources/Telemetry/")),
            words: Vocabulary.words(sources.map(\.text) + headers + [try text("deploy/romulus.rules.yaml")]),
            makeTargets: Vocabulary.makeTargets(try text("Makefile")), exists: exists)
    }

    /// `*` in the last part of a path stands for anything.
    @Sendable static func exists(_ path: String) -> Bool {
        let whole = SourceTests.root.appending(path: path)
        guard whole.lastPathComponent.contains("*") else { return FileManager.default.fileExists(atPath: whole.path) }
        let parts = whole.lastPathComponent.split(separator: "*", omittingEmptySubsequences: false)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: whole.deletingLastPathComponent().path)) ?? []
        return names.contains { $0.hasPrefix(parts[0]) && $0.hasSuffix(parts[parts.count - 1]) }
    }

    @Test func theSourcesAreRead() throws {
        let vocabulary = try Self.vocabulary()
        let romulus = try #require(vocabulary.programs["romulus"])
        #expect(romulus.verbs.count > 20)
        #expect(romulus.verbs[["events"]]?.isSuperset(of: ["--follow", "-f", "--since"]) == true)
        #expect(romulus.common.isSuperset(of: ["--output", "-o", "--socket"]))
        #expect(vocabulary.programs["romulusd"]?.verbs[[]]?.contains("--check-config") == true)
        #expect(vocabulary.keys.count > 60)
        #expect(vocabulary.keys.isSuperset(of: ["node", "epoch_ms", "certificate", "remove", "target_latency_ms"]))
        #expect(vocabulary.metrics.count > 40)
        #expect(vocabulary.makeTargets.isSuperset(of: ["check", "ci", "demo"]))
    }

    @Test func whatPagesNameIsThere() throws {
        let checks = DocumentChecks(vocabulary: try Self.vocabulary())
        // The change log tells of the past too.
        for document in try Self.documents().values where document.path != "CHANGELOG.md" {
            for finding in checks.findings(document) { Issue.record("\(finding)") }
        }
    }

    @Test func linksLeadSomewhere() throws {
        let checks = DocumentChecks(vocabulary: try Self.vocabulary())
        let documents = try Self.documents()
        for document in documents.values {
            for finding in checks.links(document, others: documents) { Issue.record("\(finding)") }
        }
    }

    @Test func whatIsThereIsDocumented() throws {
        let checks = DocumentChecks(vocabulary: try Self.vocabulary())
        let documents = try Self.documents()
        let commands = try #require(documents["docs/CLI.md"])
        let metrics = try #require(documents["docs/METRICS.md"])
        let pages = documents.values.map { $0.lines.map(\.text).joined(separator: "\n") }
        let all = pages + [try Self.text("deploy/romulusd.yaml"), try Self.text("deploy/romulusd-witness.yaml")]
        for finding in checks.undocumented(commands: commands, metrics: metrics, all: all) {
            Issue.record("\(finding)")
        }
    }

    /// Each page below `docs` stands in the table of contents.
    @Test func theBookIsComplete() throws {
        let documents = try Self.documents()
        let contents = try #require(documents["docs/README.md"])
        let linked = Set(contents.links.map { "docs/" + $0.target.prefix { $0 != "#" } })
        for path in documents.keys.sorted() where path.hasPrefix("docs/") && path != contents.path {
            #expect(linked.contains(path), "docs/README.md does not lead to \(path)")
        }
    }

    /// The page of the sources tells of each target, and of nothing that is not there.
    @Test func whereCodeLivesIsTrue() throws {
        let page = try #require(try Self.documents()["docs/CODE.md"])
        let targets = Set(try SourceTests.manifest().targets.keys)
        for finding in CodePage.findings(page, targets: targets, exists: Self.exists) { Issue.record("\(finding)") }
    }

    /// What CI calls is what the README tells to call.
    @Test func continuousIntegrationCallsWhatTheReadmeSays() throws {
        let called = try Self.text(".ci/run").matches(of: #/make ([a-z]+)/#).map { String($0.1) }
        #expect(!called.isEmpty)
        let readme = try Self.text("README.md")
        for target in called { #expect(readme.contains("make \(target)"), "README.md does not tell of make \(target)") }
    }

    /// The figures of the README are those that were measured last.
    @Test func theReadmesFiguresWereMeasured() throws {
        let figures = try Self.text("README.md").matches(of: #/\d+\.\d+ ms/#).map { String($0.0) }
        #expect(figures.count >= 2)
        let measured = try Self.text("docs/BENCHMARKS.md")
        for figure in figures { #expect(measured.contains(" \(figure) "), "docs/BENCHMARKS.md has no \(figure)") }
    }

    /// Alerting rules ask for metrics that are there.
    @Test func rulesNameMetrics() throws {
        let checks = DocumentChecks(vocabulary: try Self.vocabulary())
        let path = "deploy/romulus.rules.yaml"
        for finding in checks.metrics(Document(path: path, text: try Self.text(path))) { Issue.record("\(finding)") }
    }
}
