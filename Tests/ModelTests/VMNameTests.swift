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

    @Test func aDictionaryOfNamesIsAnObject() throws {
        let known = [NodeName(unchecked: "beta"): true]
        #expect(String(decoding: try JSONEncoder().encode(known), as: UTF8.self) == #"{"beta":true}"#)
        #expect(try JSONDecoder().decode([NodeName: Bool].self, from: Data(#"{"beta":true}"#.utf8)) == known)
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([NodeName: Bool].self, from: Data(#"{"-x":true}"#.utf8))
        }
    }
}
