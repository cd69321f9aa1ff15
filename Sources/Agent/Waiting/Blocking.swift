import LinuxSystem
import RomulusAPI

/// Runs `body` to its end from a thread that may block; never from one of the cooperative pool's.
func blocking<Value: Sendable, Failure: Error>(
    _ body: @escaping @Sendable () async throws(Failure) -> Value
) throws(Failure) -> Value {
    let outcome = Monitor<Result<Value, Failure>?>(nil)
    Task.detached {
        let result: Result<Value, Failure>
        do throws(Failure) {
            result = .success(try await body())
        } catch {
            result = .failure(error)
        }
        outcome.change { $0 = result }
    }
    return try outcome.wait { $0 }.get()
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
