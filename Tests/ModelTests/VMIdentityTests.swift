import Foundation
import Model
import Testing

struct VMIdentityTests {
    private let one = "5F0C9A52-0b1d-4c8e-9d5e-0123456789ab"

    @Test func aUUIDOfQEMUIsTakenAsItIs() {
        #expect(VMIdentity(qemu: one)?.uuid == "5f0c9a52-0b1d-4c8e-9d5e-0123456789ab")
        #expect(VMIdentity(qemu: one)?.isMade == false)
    }

    @Test(arguments: [
        "00000000-0000-0000-0000-000000000000", "", "5f0c9a52", "5f0c9a520b1d4c8e9d5e0123456789ab",
        "5f0c9a52-0b1d-4c8e-9d5e-0123456789ag", "5f0c9a52-0b1d-4c8e-9d5e-0123456789ab ",
    ])
    func whatSaysNothingIsNone(_ text: String) {
        #expect(VMIdentity(qemu: text) == nil)
    }

    @Test func onlyTwoThatQEMUGaveTellVMsApart() throws {
        let a = try #require(VMIdentity(qemu: one))
        let b = try #require(VMIdentity(qemu: "11111111-0b1d-4c8e-9d5e-0123456789ab"))
        #expect(a.isAnother(than: b) && b.isAnother(than: a))
        #expect(!a.isAnother(than: a))
        #expect(!VMIdentity.made().isAnother(than: a) && !a.isAnother(than: .made()))
        #expect(!VMIdentity.made().isAnother(than: .made()))
    }

    @Test func whatIsMadeIsAUUIDAndNeverTheSame() throws {
        let made = (0..<100).map { _ in VMIdentity.made() }
        #expect(Set(made).count == 100)
        for identity in made {
            #expect(UUID(uuidString: identity.uuid) != nil, "\(identity)")
            #expect(identity.uuid.dropFirst(14).first == "4" && identity.isMade)
        }
        let data = try JSONEncoder().encode(made)
        #expect(try JSONDecoder().decode([VMIdentity].self, from: data) == made)
    }
}
