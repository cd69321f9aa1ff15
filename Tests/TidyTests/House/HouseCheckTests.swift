import Testing

/// The counting itself, on small houses: what is there is found, what only looks like it is not.
@Suite struct HouseCheckTests {
    @Test func commentsAndLiteralsAreNoCode() {
        let text = """
            let a = "Ghost \\(Real.value + "Ghost") Ghost" // Ghost
            /* Ghost /* Ghost */ Ghost */ let b = #"Ghost " Ghost"# + Real.b
            let c = \"\"\"
                Ghost " // Ghost
                \\(Real.c) Ghost
                \"\"\"
            let d = Real.d
            """
        let code = SourceText.code(text)
        #expect(!code.contains("Ghost"))
        #expect(code.split { !$0.isLetter }.filter { $0 == "Real" }.count == 4)
        #expect(code.split(separator: "\n", omittingEmptySubsequences: false).count == 7)
        #expect(code.hasSuffix("let d = Real.d"))
    }

    @Test func declarationsAreRead() {
        let file = House.File(
            path: "T/A/One.swift",
            text: """
                public final class One { struct Inner {} }
                extension Two.Three: Sendable {}
                private enum Four {}
                typealias Five = Int
                let protocolName = 1
                """)
        #expect(file.declared == ["One", "Four", "Five"])
        #expect(file.extended == ["Three"])
        #expect((file.target, file.folder, file.lines) == ("T", "A", 5))
    }

    @Test func functionsAreMeasured() {
        let file = House.File(
            path: "T/One.swift",
            text: """
                protocol P { func none() }
                struct One {
                    init?(
                        body: () -> Void = { print(1) }
                    ) {
                        func inner() {
                        }
                    }
                    deinit {}
                    @inlinable public mutating func long<T>(_ a: T) where T: Sendable {
                        self.init()
                        map { $0 }
                    }
                }
                """)
        let found = Dictionary(uniqueKeysWithValues: file.functions.map { ($0.name, $0.lines) })
        #expect(found == ["init": 6, "inner": 2, "deinit": 1, "long": 4])
        #expect(House(files: [file]).functions(over: 4) == ["T/One.swift init"])
        #expect(House(files: [file]).functions(over: 6) == [])
    }

    private func pairs(_ texts: [String: String]) -> [String] {
        House(files: texts.map { House.File(path: $0.key, text: $0.value) }).twoWayPairs()
    }

    @Test func twoFoldersThatNameEachOtherAreFound() {
        #expect(pairs(["T/A/X.swift": "struct X {}", "T/B/Y.swift": "struct Y { var x: X }"]) == [])
        #expect(
            pairs(["T/A/X.swift": "struct X { var y: Y }", "T/B/Y.swift": "struct Y { var x: X }"]) == ["T: A <-> B"])
        #expect(
            pairs(["T/X.swift": "struct X { var y: Y }", "T/B/Y.swift": "extension X {}\nenum Y {}"]) == ["T: . <-> B"])
        // Another target's folders, a comment and a nested type of the same name lean on nobody.
        #expect(pairs(["T/A/X.swift": "struct X { var y: Y }", "U/B/Y.swift": "struct Y { var x: X }"]) == [])
        #expect(pairs(["T/A/X.swift": "struct X {} // Y", "T/B/Y.swift": "struct Y { var x: X }"]) == [])
        #expect(
            pairs(["T/A/X.swift": "struct X { struct Y {} }", "T/B/Z.swift": "struct Z { struct Y {}; var x: X }"])
                == [])
    }

    @Test func aTypesFilesAreSummed() {
        let house = House(files: [
            House.File(path: "T/A/X.swift", text: "struct X {}\n\n"),
            House.File(path: "T/B/X+More.swift", text: "extension X {}\n"),
            House.File(path: "T/B/Lines.swift", text: "struct Other {}\n"),
            House.File(path: "U/X.swift", text: "struct X {}\n"),
        ])
        #expect(house.typeSums() == ["T.X": 3, "U.X": 1])
        #expect(house.longestFile?.path == "T/A/X.swift")
    }

    @Test func importersAreCounted() {
        let house = House(files: [
            House.File(path: "T/A.swift", text: "import QEMU"), House.File(path: "T/B.swift", text: "// import QEMU"),
            House.File(path: "QEMU/C.swift", text: "import QEMU"),
        ])
        #expect(house.importers(of: "QEMU") == ["T": 1])
    }

    @Test func aRatchetTurnsOneWayOnly() {
        #expect(Ratchet.finding("x", 100, limit: 100, step: 50) == nil)
        #expect(Ratchet.finding("x", 51, limit: 100, step: 50) == nil)
        #expect(Ratchet.finding("x", 101, limit: 100, step: 50)?.contains("at most 100") == true)
        #expect(Ratchet.finding("x", 50, limit: 100, step: 50)?.contains("from 100 to 50") == true)
        #expect(Ratchet.findings("x", ["a"], listed: ["a"]) == [])
        #expect(
            Ratchet.findings("x", ["a"], listed: ["b"]) == [
                "x: a is new", "x: b is gone: take it out of HouseLimits.swift",
            ])
        #expect(Ratchet.findings("x", ["a": 3], limits: ["a": 3]) == [])
        #expect(Ratchet.findings("x", ["a": 4, "b": 1], limits: ["a": 3]).count == 2)
    }
}
