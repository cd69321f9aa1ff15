import Foundation
import Model
import Testing

@Suite struct VMNameTests {
    @Test(arguments: ["web", "a", "db-2.example", "A_b", String(repeating: "x", count: 64)])
    func goodNames(text: String) throws {
        let name = try #require(VMName(text))
        #expect(name.description == text)
        let coded = try JSONEncoder().encode([name])
        #expect(try JSONDecoder().decode([VMName].self, from: coded) == [name])
    }

    @Test(arguments: ["", ".hidden", "-x", "a/b", "a b", "ä", "a\n", "..", String(repeating: "x", count: 65)])
    func badNames(text: String) {
        #expect(VMName(text) == nil)
        let coded = try? JSONEncoder().encode([text])
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([VMName].self, from: coded ?? Data())
        }
    }

    @Test func epochsAreCountedFromTheFirstCopy() {
        #expect(Epoch.firstCopy.next == Epoch(1))
        #expect(Epoch(1) < Epoch(2))
    }
}
