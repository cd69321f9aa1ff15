import Foundation
import Testing

/// The rules, applied to the sources as they are.
@Suite struct SourceTests {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    struct Source {
        var path: String
        var target: String
        var text: String
    }

    /// Every Swift file below `Sources`.
    static func sources() throws -> [Source] {
        let folder = root.appending(path: "Sources")
        var sources: [Source] = []
        for target in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() {
            let files = FileManager.default.enumerator(atPath: folder.appending(path: target).path)
            while let file = files?.nextObject() as? String {
                guard file.hasSuffix(".swift") else { continue }
                let text = try String(contentsOf: folder.appending(path: "\(target)/\(file)"), encoding: .utf8)
                sources.append(Source(path: "Sources/\(target)/\(file)", target: target, text: text))
            }
        }
        return sources
    }

    static func manifest() throws -> Manifest {
        Manifest(try String(contentsOf: root.appending(path: "Package.swift"), encoding: .utf8))
    }

    @Test func theSourcesAreFound() throws {
        let sources = try Self.sources()
        #expect(sources.count > 20)
        #expect(Set(sources.map(\.target)).isSuperset(of: ["Model", "Wire", "Codec"]))
    }

    @Test func importsPointDownwards() throws {
        let manifest = try Self.manifest()
        for source in try Self.sources() {
            for finding in Checks.imports(of: source.text, path: source.path, target: source.target, in: manifest) {
                Issue.record("\(finding)")
            }
        }
    }

    @Test func noTargetIsTakenForAnotherSystemsModule() throws {
        #expect(Checks.probedNames(in: try Self.manifest()) == [])
    }

    @Test func theManifestIsInOrder() throws {
        let manifest = try Self.manifest()
        for target in manifest.targets.values {
            for dependency in target.dependencies {
                guard let other = manifest.targets[dependency] else { continue }
                #expect(other.rank < target.rank, "\(target.name) depends on \(dependency), which stands after it")
            }
        }
    }

    @Test func nothingBannedIsUsed() throws {
        for source in try Self.sources() {
            for finding in Checks.bannedText(in: source.text, path: source.path) { Issue.record("\(finding)") }
        }
    }

    @Test func sharingByHandIsExplained() throws {
        for source in try Self.sources() {
            for finding in Checks.unexplained(in: source.text, path: source.path) { Issue.record("\(finding)") }
        }
    }
}
