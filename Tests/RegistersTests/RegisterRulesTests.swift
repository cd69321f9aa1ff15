import Foundation
import Model
import Registers
import Testing

/// What a compare-and-set does, by the register, the expectation and the nonce.
@Suite struct RegisterRulesTests {
    static func record(_ register: Register, _ nonce: UInt64) -> RegisterRecord {
        RegisterRecord(register: register, nonce: Nonce(nonce))
    }

    struct Case: Sendable {
        var current: RegisterRecord?
        var expected: Register?
        var new: Register
        var nonce: UInt64
        var verdict: RegisterRules.Verdict
    }

    static let cases: [Case] = [
        // First claims.
        Case(current: nil, expected: nil, new: register(1), nonce: 1, verdict: .change),
        Case(current: nil, expected: register(1), new: register(2), nonce: 1, verdict: .conflict),
        Case(current: record(register(1), 1), expected: nil, new: register(2), nonce: 2, verdict: .conflict),
        // The term decides, and only upwards.
        Case(current: record(register(1), 1), expected: register(1), new: register(2), nonce: 2, verdict: .change),
        Case(current: record(register(1), 1), expected: register(1), new: register(1001), nonce: 2, verdict: .change),
        Case(current: record(register(5), 1), expected: register(5), new: register(5), nonce: 2, verdict: .conflict),
        Case(current: record(register(5), 1), expected: register(5), new: register(4), nonce: 2, verdict: .conflict),
        Case(current: nil, expected: nil, new: register(0), nonce: 1, verdict: .conflict),
        Case(current: record(register(2), 1), expected: register(1), new: register(2), nonce: 2, verdict: .conflict),
        Case(current: record(register(2), 1), expected: register(1), new: register(3), nonce: 2, verdict: .conflict),
        // One owner or one term with other contents is another history.
        Case(
            current: record(register(3), 1), expected: register(3, owner: "beta"), new: register(4), nonce: 2,
            verdict: .conflict),
        Case(
            current: record(register(3, standby: "beta"), 1), expected: register(3, standby: "gamma"),
            new: register(4), nonce: 2, verdict: .conflict),
        // Replays.
        Case(current: record(register(2), 7), expected: register(1), new: register(2), nonce: 7, verdict: .replay),
        Case(current: record(register(1), 7), expected: nil, new: register(1), nonce: 7, verdict: .replay),
        Case(current: record(register(2), 7), expected: register(2), new: register(3), nonce: 7, verdict: .conflict),
        Case(
            current: record(register(2), 7), expected: register(1), new: register(2, owner: "beta"), nonce: 7,
            verdict: .conflict),
    ]

    @Test(arguments: cases.indices) func judged(index: Int) {
        let one = Self.cases[index]
        #expect(
            RegisterRules.judge(one.current, expecting: one.expected, to: one.new, nonce: Nonce(one.nonce))
                == one.verdict)
    }

    /// The form in which witnesses and etcd keep registers; those that are kept must be readable by later releases.
    @Test func theStoredFormIsFixed() throws {
        let text =
            #"{"nonce":{"number":18446744073709551615},"register":{"level":"system","lineage":{"number":5},"#
            + #""mode":"paired","owner":"alpha","session":{"number":18446744073709551614},"#
            + #""standby":{"incarnation":7,"node":"beta"},"term":{"number":3}}}"#
        var paired = register(3, standby: "beta")
        paired.session = SessionID(.max - 1)
        paired.standby?.incarnation = 7
        paired.lineage = Lineage(5)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        #expect(String(decoding: try encoder.encode(Self.record(paired, .max)), as: UTF8.self) == text)
        #expect(try JSONDecoder().decode(RegisterRecord.self, from: Data(text.utf8)) == Self.record(paired, .max))
    }
}
