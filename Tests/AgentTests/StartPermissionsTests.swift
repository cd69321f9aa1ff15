import Agent
import Literals
import Model
import Testing

/// Whom a register lets start a VM.
@Suite struct StartPermissionsTests {
    private func refusal(owner: NodeName, _ mode: Register.Mode) -> String? {
        let standby: NodeName = owner == "a" ? "b" : "a"
        let register = Register(
            term: Term(7), owner: owner, mode: mode, session: SessionID(mode == .solo ? 0 : 1),
            standby: mode == .solo ? nil : StandbyIdentity(node: standby, incarnation: 3), lineage: Lineage(1),
            level: .system)
        return StartPermissions.refusal(register, of: VMName("web")!, at: "a")
    }

    @Test func anOwnerThatWentOnAloneMay() {
        #expect(refusal(owner: "a", .solo) == nil)
        #expect(StartPermissions.refusal(nil, of: VMName("web")!, at: "a") == nil)
    }

    @Test(arguments: Register.Mode.allCases) func whoeverIsNotTheOwnerMayNot(mode: Register.Mode) {
        #expect(refusal(owner: "b", mode) == "the register of web names b (term 7), which runs it")
    }

    /// The standby may take over whenever it asks.
    @Test func anOwnerWhoseStandbyMayTakeOverMayNot() {
        #expect(refusal(owner: "a", .paired)?.hasPrefix("b was paired with a when web ran last (term 7)") == true)
    }
}
