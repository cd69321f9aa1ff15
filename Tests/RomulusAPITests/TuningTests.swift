import Foundation
import Model
import RomulusAPI
import Testing

@Suite struct TuningTests {
    private static let web = Samples.name("web")
    private static let before = EpochTuning(
        epochMilliseconds: 20, goal: .overhead(percent: 5), pauseBudget: 30, linkCapMegabits: 200)

    @Test func whatIsNotGivenStaysAsItIs() {
        #expect(TuneRequest(vm: Self.web).applied(to: Self.before) == Self.before)
        #expect(
            TuneRequest(vm: Self.web, epochMilliseconds: 7).applied(to: Self.before)
                == EpochTuning(epochMilliseconds: 7, goal: .overhead(percent: 5), pauseBudget: 30, linkCapMegabits: 200)
        )
        #expect(
            TuneRequest(vm: Self.web, targetLatency: 4).applied(to: Self.before)
                == EpochTuning(
                    epochMilliseconds: 20, goal: .latency(milliseconds: 4), pauseBudget: 30, linkCapMegabits: 200))
        #expect(
            TuneRequest(vm: Self.web, pauseBudget: 9, noTarget: true).applied(to: Self.before)
                == EpochTuning(epochMilliseconds: 20, pauseBudget: 9, linkCapMegabits: 200))
    }

    @Test func aPauseBudgetBesideATargetIsRefused() {
        let beside = TuneRequest(vm: Self.web, pauseBudget: 9)
        #expect(beside.reasonToRefuse(after: Self.before)?.contains("has no effect on web") == true)
        let targeted = TuneRequest(vm: Self.web, targetLatency: 4).applied(to: Self.before)
        #expect(beside.reasonToRefuse(after: targeted)?.contains("answers within 4.0 ms") == true)
        #expect(TuneRequest(vm: Self.web, pauseBudget: 9, noTarget: true).reasonToRefuse(after: targeted) == nil)
        #expect(TuneRequest(vm: Self.web, epochMilliseconds: 9).reasonToRefuse(after: targeted) == nil)
    }

    @Test func aCapOfNothingIsNone() {
        #expect(TuneRequest(vm: Self.web, linkCapMegabits: 10).applied(to: Self.before).linkCapMegabits == 10)
        #expect(TuneRequest(vm: Self.web, linkCapMegabits: 0).applied(to: Self.before).linkCapMegabits == nil)
        #expect(ProtectRequest(vm: Self.web, linkCapMegabits: 0).linkCap(unlessSaid: 200) == nil)
        #expect(ProtectRequest(vm: Self.web).linkCap(unlessSaid: 200) == 200)
    }

    @Test(arguments: [
        (#"{"vm":"web"}"#, "say what is to change"),
        (#"{"vm":"web","no_target":false}"#, "say what is to change"),
        (#"{"vm":"web","no_target":true,"target_latency_ms":5}"#, "“no_target” and a target exclude each other"),
        (#"{"vm":"web","target_overhead_percent":5,"target_latency_ms":5}"#, "exclude each other"),
        (#"{"vm":"web","target_latency_ms":0.5}"#, "“target_latency_ms” must be from 1.0 to 10000.0, not 0.5"),
        (#"{"vm":"web","target_overhead_percent":91}"#, "“target_overhead_percent” must be from 0.1 to 90.0, not 91.0"),
        (#"{"vm":"web","pause_budget_percent":0}"#, "“pause_budget_percent” must be from 1 to 90, not 0"),
        (#"{"vm":"web","link_cap_mbit":-1}"#, "“link_cap_mbit” must be from 0 to 1000000, not -1"),
        (#"{"vm":"web","epoch_ms":0}"#, "“epoch_ms” must be from 1 to 10000, not 0"),
    ])
    func whatCannotBeIsSaid(json: String, words: String) throws {
        let request = try JSONCoding.decode(TuneRequest.self, from: Data(json.utf8))
        do throws(APIError) {
            try request.check()
            Issue.record("was accepted")
        } catch {
            #expect(error.code == .badRequest && error.message.contains(words), "said: \(error.message)")
        }
    }

    @Test func aTuningComesBackAsItWas() throws {
        for goal: EpochGoal? in [nil, .latency(milliseconds: 2.5), .overhead(percent: 5)] {
            let tuning = EpochTuning(
                epochMilliseconds: 20, goal: goal, pauseBudget: goal == nil ? nil : 9,
                linkCapMegabits: goal == nil ? 100 : nil)
            #expect(try JSONDecoder().decode(EpochTuning.self, from: JSONEncoder().encode(tuning)) == tuning)
        }
    }
}
