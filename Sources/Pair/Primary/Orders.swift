import Model
import Protocol

/// What was decided and the session's thread has to carry out.
struct Orders: Sendable {
    var offer: SessionOffer?
    var detach = false
    /// An earlier run, or a switchover, may have stopped the guest.
    var resumeGuest = false
    var stopGuest = false
    var killGuest = false
    /// The next checkpoint is the last of this session: the guest goes on standing still.
    var sealLast = false
    /// The guest is gone, and it is to be found out whether it could start here again.
    var tryStart = false
    /// The guest is gone, and may start here again.
    var startGuest = false
    /// What the dial wants of the session.
    var dial: DialStep?
    /// The guest is gone from this host for good.
    var standby: LocalRecord?
    var end = false

    mutating func add(_ order: PrimaryDuty.Order) {
        switch order {
        case .offer(let offer): self.offer = offer
        case .detach: detach = true
        case .resumeGuest: resumeGuest = true
        case .stopGuest: stopGuest = true
        case .killGuest: killGuest = true
        case .sealLast: sealLast = true
        case .tryStart: tryStart = true
        case .startGuest: startGuest = true
        case .becomeStandby(let record): standby = record
        case .end: end = true
        }
    }

    /// Hands out what is to be done once; what holds from then on stays.
    mutating func take() -> Orders {
        defer {
            let (standby, end) = (standby, end)
            self = Orders()
            (self.standby, self.end) = (standby, end)
        }
        return self
    }
}

/// A part of a level that a session attaches or detaches.
enum DialStep: Sendable {
    case attach(DialMachine.Part)
    case detach(DialMachine.Part)
}
