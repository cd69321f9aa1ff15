import Dispatch
import LinuxSystem
import RomulusAPI
import Synchronization

/// Runs `body` to its end from a thread that may block; never from one of the cooperative pool's.
func blocking<Value: Sendable, Failure: Error>(
    _ body: @escaping @Sendable () async throws(Failure) -> Value
) throws(Failure) -> Value {
    let outcome = Mutex<Result<Value, Failure>?>(nil)
    let box = OutcomeBox(outcome: outcome)
    let done = DispatchSemaphore(value: 0)
    Task.detached {
        do throws(Failure) {
            let value = try await body()
            box.outcome.withLock { $0 = .success(value) }
        } catch {
            box.outcome.withLock { $0 = .failure(error) }
        }
        done.signal()
    }
    done.wait()
    guard let result = box.outcome.withLock({ $0 }) else { preconditionFailure("the task ended without an outcome") }
    return try result.get()
}

/// Runs something that may block on a thread of its own, not on one of the cooperative pool's.
func offPool<Value: Sendable>(
    _ body: @escaping @Sendable () throws(APIError) -> Value
) async throws(APIError) -> Value {
    let outcome: Result<Value, APIError> = await withCheckedContinuation { continuation in
        do throws(SystemError) {
            _ = try NamedThread.start("request") {
                do throws(APIError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        } catch {
            continuation.resume(returning: .failure(APIError(.failed, "no thread for the request: \(error)")))
        }
    }
    return try outcome.get()
}

private final class OutcomeBox<Value: Sendable, Failure: Error>: Sendable {
    let outcome: Mutex<Result<Value, Failure>?>
    init(outcome: consuming Mutex<Result<Value, Failure>?>) { self.outcome = outcome }
}
