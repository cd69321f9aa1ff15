import Model
import RomulusAPI

/// What only the operator can say of a guest, asked for on the terminal unless it was confirmed.
struct Decision {
    let vm: VMName
    let decision: DecisionRequest.Decision
    let isConfirmed: Bool
    let options: AgentOptions

    func run(_ question: (VMStatus) -> String) async throws {
        try await reportingErrors {
            let client = options.client
            let before = try await client.status(of: vm)
            try Terminal.confirm(question(before), isConfirmed: isConfirmed, what: "the decision about \(vm)")
            let status = try await client.decide(DecisionRequest(vm: vm, decision: decision))
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                Terminal.result("\(vm) is \(status.state.rawValue)\n")
                Terminal.remark("see “romulus why \(vm)”", options.printing)
            }
        }
    }
}
