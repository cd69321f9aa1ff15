import RomulusAPI
import Synchronization

/// A verification that was asked for over HTTP. It ends with this object: when the client goes away.
final class VerificationRun: Sendable {
    private struct State: Sendable {
        var latest: Verification?
        var outcome: Result<Verification, APIError>?
    }

    private final class Box: Sendable {
        let state = Mutex(State())
        let changes = ChangeFeed()

        func change(_ body: (inout State) -> Void) {
            state.withLock { body(&$0) }
            changes.publish()
        }
    }

    private let box = Box()
    private let task: Task<Void, Never>

    /// How often something is told while it goes on.
    private static let period = Duration.seconds(1)

    init(_ service: any AgentService, _ request: VerifyRequest) {
        task = Task { [box] in
            let outcome: Result<Verification, APIError>
            do throws(APIError) {
                outcome = .success(
                    try await service.verify(request) { result in box.change { $0.latest = result } })
            } catch {
                outcome = .failure(error)
            }
            box.change { $0.outcome = outcome }
        }
    }

    deinit { task.cancel() }

    /// What is known after a while, or at once when it is over; `isOver` is true of the last.
    func next() async throws -> Verification {
        let box = box
        _ = await box.changes.wait(until: .now + Self.period) { box.state.withLock { $0.outcome != nil } }
        while true {
            let seen = box.changes.version
            let (latest, outcome) = box.state.withLock { ($0.latest, $0.outcome) }
            if let outcome { return try outcome.get() }
            try Task.checkCancellation()
            if let latest { return latest }
            await box.changes.next(after: seen, until: .now + Self.period)
        }
    }
}
