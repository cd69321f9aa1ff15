import Model
import Protocol

/// The dial, as the operator turns and sees it.
extension PrimaryShell {
    /// Returns why not, when that is known at once; else what comes of it shows in `isTurning` and `status`.
    public func dial(to level: Level) -> String? {
        if let guest, let obstacle = LevelParts.obstacle(to: level, guest, custody) { return obstacle }
        return ask { duty in
            switch duty.machine.state {
            case .solo, .paired: .done(duty.turn(to: level))
            default: .refused("its dial can be turned while it is protected, or runs alone")
            }
        }
    }

    /// A turn of the dial is under way.
    public var isTurning: Bool {
        state.withLock { $0.duty.dial?.step != nil || $0.duty.machine.isTurning }
    }
}
