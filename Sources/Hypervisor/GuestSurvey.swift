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
    /// Where the guest of that name, or of that UUID, can be taken in hand. Looks only at guests in the calling thread's network
    /// namespace: those of another have other NICs.
    func search(for name: String, _ manager: GuestManager?) -> GuestSearch
}

/// What a search for a running guest found.
public enum GuestSearch: Hashable, Sendable {
    /// `name` is what it was started as.
    case found(address: String, name: String)
    /// No guest of that name runs here.
    case none
    /// It runs and cannot be taken in hand; one sentence, with the way out.
    case unusable(String)
}

/// What a short look at a guest's address found.
public enum GuestSight: Sendable {
    case ready
    /// There is nothing to protect now; one sentence.
    case absent(String)
    /// There is something, and it cannot be protected as it is; one sentence.
    case unusable(String)
}
