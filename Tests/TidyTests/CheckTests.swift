import Testing

/// Each rule, proven able to fail: a planted fault is found, its harmless neighbour is not.
@Suite struct CheckTests {
    let manifest = Manifest(
        """
        let nio: [Target.Dependency] = [
            .product(name: "NIOCore", package: "swift-nio"),
            .product(name: "NIOPosix", package: "swift-nio"),
        ]
        let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
        let package = Package(
            name: "example",
            targets: [
                .target(name: "CThing", cSettings: cSettings),
                .systemLibrary(name: "CZip", pkgConfig: "zip"),
                library("Model"),  // library("Ghost", ["CThing"])
                library("Wire", ["Model", "CThing"]),
                library("Transport", ["Wire", log, .product(name: "NIOSSL", package: "swift-nio-ssl")] + nio),
                .executableTarget(name: "tool", dependencies: ["Transport"], swiftSettings: settings),
                tests("WireTests", ["Wire"]),
            ])
        """)

    func findings(_ text: String, in target: String) -> [String] {
        Checks.imports(of: text, path: "x.swift", target: target, in: manifest).map { "\($0.line): \($0.message)" }
    }

    @Test func theManifestIsRead() {
        let ranked = manifest.targets.values.sorted { $0.rank < $1.rank }.map(\.name)
        #expect(ranked == ["CThing", "CZip", "Model", "Wire", "Transport", "tool", "WireTests"])
        #expect(manifest.targets["Wire"]?.dependencies == ["Model", "CThing"])
        #expect(
            manifest.targets["Transport"]?.dependencies.isSuperset(of: ["Wire", "Logging", "NIOSSL", "NIOCore"]) == true
        )
        #expect(manifest.targets["Wire"]?.dependencies.contains("NIOCore") == false)
        #expect(manifest.targets["tool"]?.dependencies.contains("Transport") == true)
    }

    @Test func aTargetWithTheNameOfAnotherSystemsModuleIsFound() {
        let manifest = Manifest(
            "let package = Package(\n    targets: [\n        library(\"Network\"),\n        library(\"Output\"),\n    ])"
        )
        #expect(Checks.probedNames(in: manifest) == ["Network"])
    }

    @Test func importsAreRead() {
        let text = """
            import Model
            // import Comment
            /* import Block
            import Block2 */
            public import struct Wire.FrameHeader
            @preconcurrency import Glibc
              import   NIOCore
            let text = "import String"
            importance()
            """
        #expect(Checks.imports(text).map(\.module) == ["Model", "Wire", "Glibc", "NIOCore"])
        #expect(Checks.imports(text).map(\.line) == [1, 5, 6, 7])
    }

    @Test func goodImportsPass() {
        #expect(findings("import Model\nimport CThing\nimport Glibc\nimport Synchronization", in: "Wire") == [])
        #expect(findings("import NIOCore\nimport Logging\nimport Foundation\nimport NIOSSL", in: "Transport") == [])
    }

    @Test func anImportUpwardsIsFound() {
        #expect(
            findings("import CThing\nimport Wire", in: "Model").contains(
                "2: Model imports Wire, which stands above it; imports point downwards only"))
    }

    @Test func anUndeclaredImportIsFound() {
        #expect(
            findings("import CZip", in: "Wire")
                == ["1: Wire imports CZip, which its target in Package.swift does not depend on"])
        #expect(findings("import NIOHTTP1", in: "Transport").count == 1)
        #expect(findings("import Model", in: "Transport").count == 1)
    }

    @Test func foundationInTheCoreIsFound() {
        #expect(findings("import Foundation", in: "Model").count == 1)
        #expect(findings("import FoundationEssentials", in: "Wire").count == 1)
    }

    @Test func aFolderWithoutATargetIsFound() {
        #expect(findings("", in: "Stray").count == 1)
    }

    @Test(arguments: [
        "let x = try! f()", "let y = x as! Int", "fatalError(\"no\")", "@testable import Model", "\"-Ounchecked\"",
        "// TODO: later", "/* FIXME */", "let HACK = 1", "/// XXX",
    ])
    func bannedTextIsFound(text: String) {
        let findings = Checks.bannedText(in: "let a = 1\n" + text, path: "x.swift")
        #expect(findings.map(\.line) == [2])
    }

    @Test(arguments: [
        "let x = try f()", "try? f()", "x as? Int", "preconditionFailure(\"no\")", "// a try! in a comment",
        "let name = \"TODOS\"", "has!", "let alias = x", "notFatalError()", "let url = \"http://a\" // as!",
    ])
    func harmlessTextPasses(text: String) {
        #expect(Checks.bannedText(in: text, path: "x.swift") == [])
    }

    @Test func trapsAreCounted() {
        func count(_ text: String, allowed: Int) -> Int {
            Checks.bannedText(in: text, path: "x.swift", mayTrap: ["x.swift": allowed]).count
        }
        #expect(count("fatalError(\"a\")\nfatalError(\"b\")", allowed: 2) == 0)
        #expect(count("fatalError(\"a\")\nfatalError(\"b\")", allowed: 1) == 1)
        #expect(count("fatalError(\"a\")", allowed: 2) == 1)
        #expect(Checks.bannedText(in: "fatalError(\"a\")", path: "y.swift", mayTrap: ["x.swift": 1]).count == 1)
    }

    @Test func unexplainedSharingIsFound() {
        let bare = "struct A: @unchecked Sendable {}"
        #expect(Checks.unexplained(in: bare, path: "x.swift").count == 1)
        #expect(Checks.unexplained(in: "// SAFETY: one owner.\n" + bare, path: "x.swift") == [])
        #expect(Checks.unexplained(in: bare + "\n    // SAFETY: one owner.", path: "x.swift") == [])
        #expect(Checks.unexplained(in: bare + "\n\n\n// SAFETY: of another.", path: "x.swift").count == 1)
        #expect(Checks.unexplained(in: "nonisolated(unsafe) var x = 1", path: "x.swift").count == 1)
        #expect(Checks.unexplained(in: "// @unchecked Sendable", path: "x.swift") == [])
    }
}
