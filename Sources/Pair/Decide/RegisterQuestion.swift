import Model
import Registers

/// What a machine asks of the arbiter.
package enum RegisterQuestion: Sendable {
    case compareAndSet(expecting: Register?, to: Register, nonce: Nonce)
    /// Where a limit is given, an answer that takes longer is none.
    case read(within: Duration?)
}

/// What came of a question.
package enum RegisterFinding: Sendable {
    case answered(Nonce, RegisterAnswer)
    case read(Register?)
    /// The register could not be read, for this reason.
    case unreadable(String)

    init(_ reading: RegisterReading) {
        switch reading {
        case .value(let register): self = .read(register)
        case .unknown(let reason): self = .unreadable(reason)
        }
    }
}
