import Pair

/// What a duty wants done. Words change nothing in this world.
protocol DutyOutput {
    var isWords: Bool { get }
}

extension PrimaryDuty.Output: DutyOutput {
    var isWords: Bool {
        switch self {
        case .report, .account: true
        default: false
        }
    }
}

extension StandbyDuty.Output: DutyOutput {
    var isWords: Bool {
        switch self {
        case .report, .settle: true
        default: false
        }
    }
}
