import LinuxSystem
import Model
import Synchronization

/// The processes of a guest's disks while they are started, by a thread of their own: epochs end meanwhile.
final class StartingServers: Sendable {
    private struct State {
        var outcome: Result<[DiskServing], SessionError>?
        var isAbandoned = false
    }

    private let state = Mutex(State())

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

    /// Nil until all are there, or one cannot be started.
    var outcome: Result<[DiskServing], SessionError>? { state.withLock(\.outcome) }

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
        let isAbandoned = state.withLock { state in
            state.outcome = outcome
            return state.isAbandoned
        }
        if isAbandoned { endAll() }
    }

    /// Nobody takes them: they end, now or when they are there.
    func abandon() {
        state.withLock { $0.isAbandoned = true }
        endAll()
    }

    private func endAll() { for server in (try? outcome?.get()) ?? [] { server.end() } }
}
