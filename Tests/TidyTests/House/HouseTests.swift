import Testing

/// The house as it stands, held to `HouseLimits`.
@Suite struct HouseTests {
    /// Measured once for all tests.
    static let measured = Result {
        House(
            files: try SourceTests.sources().map {
                House.File(path: String($0.path.dropFirst("Sources/".count)), text: $0.text)
            })
    }

    let house: House

    init() throws { house = try Self.measured.get() }

    private func expectNothing(_ findings: [String]) {
        for finding in findings { Issue.record("\(finding)") }
    }

    @Test func noFileGrows() throws {
        let longest = try #require(house.longestFile)
        expectNothing(
            [
                Ratchet.finding(
                    "lines of the longest file, \(longest.path)", longest.lines, limit: HouseLimits.longestFile,
                    step: HouseLimits.step)
            ].compactMap { $0 })
        expectNothing(
            Ratchet.findings(
                "files over 400 lines", house.files.filter { $0.lines > 400 }.map(\.path),
                listed: HouseLimits.filesOver400Lines))
    }

    @Test func noFunctionOutgrowsAScreen() {
        expectNothing(
            Ratchet.findings(
                "functions over 70 lines", house.functions(over: 70), listed: HouseLimits.functionsOver70Lines))
    }

    @Test func noTypeGathersMoreFiles() {
        expectNothing(
            Ratchet.findings(
                "types over 600 lines", house.typeSums().filter { $0.value > 600 },
                limits: HouseLimits.typesOver600Lines, step: HouseLimits.step))
    }

    @Test func foldersDoNotLeanOnEachOther() {
        expectNothing(
            Ratchet.findings("two-way pairs of folders", house.twoWayPairs(), listed: HouseLimits.twoWayPairs))
    }

    @Test func fewReachForQEMU() {
        expectNothing(
            Ratchet.findings("files that import QEMU", house.importers(of: "QEMU"), limits: HouseLimits.importersOfQEMU)
        )
    }
}
