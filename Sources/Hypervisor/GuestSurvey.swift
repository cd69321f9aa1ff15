import Model

/// Looks at guests that no session has in hand, at the addresses that `GuestSource` opens. All of it blocks, for seconds where
/// somebody else holds the guest's monitor.
public protocol GuestSurvey: Sendable {
    /// A short look, before a session takes the guest in hand.
    func look(at address: String) -> GuestSight
    /// One sentence for an address where nothing is.
    func absence(at address: String) -> String
    /// Describes the guest, and says why it cannot be protected as it runs, one sentence each. No description when it could not
    /// be asked; throws when it cannot be reached.
    func examine(at address: String) throws(SessionError) -> (description: GuestDescription?, refusals: [String])
}

/// What a short look at a guest's address found.
public enum GuestSight: Sendable {
    case ready
    /// There is nothing to protect now; one sentence.
    case absent(String)
    /// There is something, and it cannot be protected as it is; one sentence.
    case unusable(String)
}
