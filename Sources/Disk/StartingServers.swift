import LinuxSystem
import Model

/// The processes of a guest's disks while they are started, by a thread of their own: epochs end meanwhile.
final class StartingServers: Sendable {
    private struct State {
        var outcome: Result<[DiskServing], SessionError>?
        var isAbandoned = false
    }

    private let state = Monitor(State())

    /// - Parameter ready: called on that thread when all were started, or one cannot be; then none is left.
    init(
        _ starts: [@Sendable () throws(SessionError) -> DiskServing], ready: @escaping @Sendable () -> Void
    ) throws(SessionError) {
        do throws(SystemError) {
            _ = try NamedThread.start("disk-start") { [self] in
                finish(Self.start(starts))
                ready()
            }
        } catch {
            throw SessionError(.system, "no process can be started for the disks: \(error)")
        }
    }

    private static func start(
        _ starts: [@Sendable () throws(SessionError) -> DiskServing]
    ) -> Result<[DiskServing], SessionError> {
        var started: [DiskServing] = []
        for start in starts {
            do throws(SessionError) {
                started.append(try start())
            } catch {
                for server in started { server.end() }
                return .failure(error)
            }
        }
        return .success(started)
    }

    private func finish(_ outcome: Result<[DiskServing], SessionError>) {
        let isAbandoned = state.change { state in
            state.outcome = outcome
            return state.isAbandoned
        }
        if isAbandoned { end(outcome) }
    }

    /// Nil until all are there. Throws when one cannot be started.
    func take(_ isOver: () -> Void) throws(SessionError) -> [DiskServing]? {
        guard let outcome = state.look(\.outcome) else { return nil }
        isOver()
        return try outcome.get()
    }

    /// Nobody takes them: they end, now or when they are there.
    func abandon() {
        let outcome = state.change { state in
            state.isAbandoned = true
            return state.outcome
        }
        if let outcome { end(outcome) }
    }

    private func end(_ outcome: Result<[DiskServing], SessionError>) {
        for server in (try? outcome.get()) ?? [] { server.end() }
    }
}
